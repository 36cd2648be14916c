//! Models the authentication of the Logic64 API: `Authorization: Bearer` in exactly this spelling, the deprecated
//! header `X-API-Key`, keys of one strict format, and revocations that take effect at once. Bundles belong to projects,
//! and projects to workspaces: a key for one workspace reaches the projects in it and their bundles.
//!
//! It is configured by `LISTEN`, `KEYS` and `TRUSTED_PROXIES`.

#[path = "common/answer.rs"]
mod answer;
mod common;

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use answer::{Seen, answer};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderName, StatusCode},
    middleware::map_response,
    routing::{get, post},
};
use serde_json::Value;
use tower_authz::{
    Alphabet, Authz, ConfigError, Denial, KeyFile, KeyFormat, KeyId, Policy, Principal, Rule, Scope, Source,
    TrustedProxies,
    check::EntityRef,
    reject::Logic64,
    store::{KeyAdmin as _, MemoryStore, StoreErrorKind},
};

const DEMO: common::Demo =
    common::Demo { file: include_str!("data/logic64.json"), keys: include_str!("data/logic64.keys.txt") };

/// A key is `l64_`, eight characters that are safe to log, `_`, and 32 hex digits.
fn format() -> Result<KeyFormat, ConfigError> {
    KeyFormat::structured("l64").public_id(Alphabet::LowerAlphanumeric, 8).secret(Alphabet::LowerHex, 32).build()
}

fn policy() -> Result<Policy, ConfigError> {
    // A bundle belongs to a project, which only the handler can find. Bundles of other projects are concealed.
    let bundle = || Rule::resource("bundles").deferred(common::PROJECT).concealed();
    Policy::builder()
        .route("/bundles/latest", Rule::resource("bundles").filtered(common::PROJECT))
        .route("/bundles/{id}", bundle())
        .route("/bundles/{id}/download", bundle())
        .route("/bundles/{id}/ack", bundle())
        // Workspaces belong to nothing else. Of one, the handler lists the projects that the key may see.
        .route(
            "/workspaces/{workspace}/projects",
            Rule::resource("bundles")
                .scoped(EntityRef::from_path(common::WORKSPACE, "workspace"))
                .filtered(common::PROJECT),
        )
        // Other projects are concealed. The rule says nothing of workspaces: the directory knows which project is in
        // which, and a key for a workspace is refused if it does not.
        .route(
            "/projects/{project}/bundles/repackage",
            Rule::resource("bundles").scoped(EntityRef::from_path(common::PROJECT, "project")).concealed(),
        )
        // The rule declares no dimension: a key that is restricted to a project must not revoke other keys.
        .route("/admin/keys/{id}/revoke", Rule::authenticated().kind("admin"))
        .build()
}

/// The routes, with the gate around them.
pub fn app(file: KeyFile, proxies: Option<TrustedProxies>) -> Result<Router, ConfigError> {
    let store = common::store(file, format()?)?;
    // The header is deprecated since 2026-01-01, and is removed on 2027-07-01.
    let (since, until) = (Duration::from_secs(1_767_225_600), Duration::from_secs(1_814_400_000));
    let legacy =
        Source::header(HeaderName::from_static("x-api-key")).deprecated(UNIX_EPOCH + since).sunset(UNIX_EPOCH + until);
    let mut authz =
        Authz::new(store.clone(), policy()?).with_sources([Source::bearer_exact(), legacy]).with_rejection(Logic64);
    if let Some(proxies) = proxies {
        authz = authz.with_trusted_proxies(proxies);
    }
    Ok(Router::new()
        .route("/bundles/latest", get(latest))
        .route("/bundles/{id}", get(bundle))
        .route("/bundles/{id}/download", get(bundle))
        .route("/bundles/{id}/ack", post(bundle))
        .route("/workspaces/{workspace}/projects", get(projects))
        .route("/projects/{project}/bundles/repackage", post(answer))
        .route("/admin/keys/{id}/revoke", post(revoke))
        .with_state(store)
        .layer(authz)
        .layer(map_response(async |response: axum::response::Response| common::log(response))))
}

/// The bundles with their projects, the latest last.
const BUNDLES: [(&str, &str); 3] = [("6", "gemini"), ("7", "apollo"), ("8", "gemini")];

/// Answers with the latest bundle that the key may see.
async fn latest(seen: Seen, principal: Principal, scope: Scope) -> Result<Json<Value>, Denial> {
    let found = BUNDLES.into_iter().rev().find(|(_, project)| scope.allows(project));
    let (id, project) = found.ok_or_else(|| principal.refuse("there is no bundle that the key may see"))?;
    Ok(seen.with("bundle", id).with("project", project).json())
}

/// A bundle that does not exist is refused like one of another project, so that nobody learns which ids exist.
async fn bundle(seen: Seen, principal: Principal, Path(id): Path<String>) -> Result<Json<Value>, Denial> {
    let found = BUNDLES.into_iter().find(|(known, _)| *known == id);
    let (_, project) = found.ok_or_else(|| principal.refuse("there is no such bundle"))?;
    principal.require(common::PROJECT, project)?;
    Ok(seen.with("project", project).json())
}

/// Answers with the projects of a workspace that the key may see.
async fn projects(seen: Seen, principal: Principal, scope: Scope, Path(workspace): Path<String>) -> Json<Value> {
    let directory = principal.directory();
    let in_workspace = |project: &&str| directory.parent_of(&common::PROJECT, project) == Some(&*workspace);
    let shown: Vec<&str> =
        directory.entities(&common::PROJECT).filter(in_workspace).filter(|project| scope.allows(project)).collect();
    seen.with("projects", shown).json()
}

/// Once this handler has answered, no request with the key is admitted any more.
async fn revoke(
    seen: Seen,
    Path(id): Path<String>,
    State(store): State<MemoryStore>,
) -> Result<Json<Value>, StatusCode> {
    let id: KeyId = id.parse().map_err(|_| StatusCode::NOT_FOUND)?;
    match store.as_actor("admin").revoke(&id, "").await {
        Ok(_) => Ok(seen.with("revoked", id.as_str()).json()),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (file, shown) = common::keys(&DEMO)?;
    let app = app(file, common::proxies()?)?;
    answer::serve(app, &shown).await
}

#[tokio::main]
async fn main() -> ExitCode {
    common::finish(run().await)
}
