//! The response of the handlers of the axum examples, and the server that runs them.

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

/// The facts about a request that every handler returns: its route, method, key, client, and the entities that it saw.
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

/// The time in which requests in flight must finish when the server is asked to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Serves an application until it is asked to stop. Each request gets the address of its peer, which networks are
/// checked against. When the application is dropped, so is its store, which then writes its pending data and releases
/// its lease.
pub async fn serve(app: Router, keys: &str) -> Result<(), Box<dyn Error>> {
    let listener = super::common::listen().await?;
    super::common::announce(&listener, keys)?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(asked_to_stop()) => served?,
        () = async { asked_to_stop().await; sleep(SHUTDOWN_GRACE).await } => {}
    }
    Ok(())
}

/// Waits for Ctrl-C, or for SIGTERM, which supervisors send.
async fn asked_to_stop() {
    #[cfg(unix)]
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = pending();
    tokio::select! {
        Ok(()) = signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// The handler of routes that need no handler of their own.
pub async fn answer(seen: Seen) -> Json<Value> {
    seen.json()
}
