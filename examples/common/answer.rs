//! What the handlers of the axum examples answer.

#![allow(dead_code, reason = "each example uses a part of it")]
#![allow(unreachable_pub, missing_docs, reason = "it is a part of each example, not of a library")]

use std::{error::Error, future::pending, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRequestParts, MatchedPath, RawPathParams},
    http::{Method, request::Parts},
};
use serde_json::{Map, Value, json};
use tokio::{signal, time::sleep};
use tower_authz::{ClientAddress, Denial, Principal};

/// What every handler tells of a request: its route, method, key, client, and the entities that it saw.
pub struct Seen {
    route: String,
    method: Method,
    key: Option<String>,
    client: ClientAddress,
    entities: Map<String, Value>,
}

impl Seen {
    /// Adds an entity that the path does not name.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.entities.insert(name.to_owned(), value.into());
        self
    }

    pub fn json(self) -> Json<Value> {
        Json(json!({
            "route": self.route,
            "method": self.method.as_str(),
            "key": self.key,
            "client": self.client.ip().map(|address| address.to_string()),
            "entities": self.entities,
        }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Seen {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Denial> {
        let route = parts.extensions.get::<MatchedPath>().map(|route| route.as_str().to_owned());
        let parameters = RawPathParams::from_request_parts(parts, state).await;
        let parameters = parameters.map_err(|_| Denial::refused("the path cannot be read"))?;
        let Ok(client) = ClientAddress::from_request_parts(parts, state).await;
        Ok(Self {
            route: route.unwrap_or_default(),
            method: parts.method.clone(),
            key: parts.extensions.get::<Principal>().map(|principal| principal.key_id().to_string()),
            client,
            entities: parameters.iter().map(|(name, value)| (name.to_owned(), value.into())).collect(),
        })
    }
}

/// Requests in flight have so long when the server is asked to stop.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Serves an application until it is asked to stop. Each request learns its peer: networks are judged by it. What the
/// application holds is dropped then, a store among it: it writes down what it still has, and gives its lease back.
pub async fn serve(app: Router, keys: &str) -> Result<(), Box<dyn Error>> {
    let listener = super::common::listen().await?;
    super::common::announce(&listener, keys)?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(asked_to_stop()) => served?,
        () = async { asked_to_stop().await; sleep(LAST_WORDS).await } => {}
    }
    Ok(())
}

/// Ctrl-C, or the word of a supervisor.
async fn asked_to_stop() {
    #[cfg(unix)]
    let told = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => pending().await,
        }
    };
    #[cfg(not(unix))]
    let told = pending();
    tokio::select! {
        Ok(()) = signal::ctrl_c() => {}
        () = told => {}
    }
}

/// The handler for routes that have nothing of their own to do.
pub async fn answer(seen: Seen) -> Json<Value> {
    seen.json()
}
