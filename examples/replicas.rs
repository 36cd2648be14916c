//! Runs one of several servers that share their keys in PostgreSQL. Start any number of them; once one of them has
//! answered a revocation, the key is revoked on all of them.
//!
//! It is configured by `DATABASE_URL` (a database in which `authz init` has created the tables) and `LISTEN`.

#[path = "common/answer.rs"]
mod answer;
mod common;

use std::{env, error::Error, process::ExitCode, time::Duration};

use answer::{Seen, answer};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    middleware::map_response,
    routing::{get, post},
};
use serde_json::Value;
use tower_authz::{
    Authz, ConfigError, KeyId, Policy, Principal, Rule,
    store::{KeyAdmin as _, PostgresStore, StoreErrorKind},
};

fn policy() -> Result<Policy, ConfigError> {
    Policy::builder()
        .public("/ready")
        .route("/products", Rule::resource("products").unscoped())
        .route("/slow", Rule::resource("products").unscoped())
        .route("/admin/keys/{id}/revoke", Rule::authenticated().kind("admin"))
        .build()
}

/// The routes, with the gate around them.
fn app(store: PostgresStore) -> Result<Router, ConfigError> {
    Ok(Router::new()
        .route("/ready", get(ready))
        .route("/products", get(answer))
        .route("/slow", get(slow))
        .route("/admin/keys/{id}/revoke", post(revoke))
        .with_state(store.clone())
        .layer(Authz::new(store, policy()?))
        .layer(map_response(async |response: axum::response::Response| common::log(response))))
}

/// The health check for a load balancer: a replica without a lease refuses all requests.
async fn ready(State(store): State<PostgresStore>) -> (StatusCode, String) {
    let left = store.lease_left();
    let status = if left.is_zero() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, format!("{{\"lease_left_ms\":{}}}\n", left.as_millis()))
}

/// Runs long enough for its key to be revoked meanwhile. The response is then a 401.
async fn slow(seen: Seen) -> Json<Value> {
    tokio::time::sleep(Duration::from_secs(10)).await;
    seen.json()
}

/// Once this handler has answered, no replica admits the key any more. The response says how long that took, and which
/// replicas did not acknowledge.
async fn revoke(
    seen: Seen,
    principal: Principal,
    Path(id): Path<String>,
    State(store): State<PostgresStore>,
) -> Result<Json<Value>, StatusCode> {
    let id: KeyId = id.parse().map_err(|_| StatusCode::NOT_FOUND)?;
    match store.as_actor(principal.key_id().as_str()).revoke(&id, "by the example").await {
        Ok(changed) => {
            let waited = u64::try_from(changed.propagation.waited.as_millis()).unwrap_or(u64::MAX);
            Ok(seen
                .with("revoked", id.as_str())
                .with("waited_ms", waited)
                .with("silent", changed.propagation.unacknowledged)
                .json())
        }
        Err(error) if error.kind() == StoreErrorKind::NotFound => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL: write postgres://user@host/database")?;
    let store = PostgresStore::connect(&url).await?;
    answer::serve(app(store)?, "").await
}

#[tokio::main]
async fn main() -> ExitCode {
    common::finish(run().await)
}
