//! Models the authentication of the Logik.io API: the host names the tenant, runtime keys and admin keys are not
//! interchangeable, runtime keys are bound to web origins, and 401 and 403 are empty.
//!
//! It is configured by `LISTEN`, `KEYS` and `TRUSTED_PROXIES`. Hosts are `{tenant}.{sector}.localhost`: with curl, use
//! `curl -H 'Host: acme.test.localhost' …`, or `http://acme.test.localhost:3000`.

#[path = "common/answer.rs"]
mod answer;
mod common;

use std::{error::Error, process::ExitCode};

use answer::answer;
use axum::{
    Router,
    middleware::map_response,
    routing::{get, post},
};
use tower_authz::{
    Authz, ConfigError, KeyFile, KeyFormat, Policy, Rule, Source, TenantHosts, TrustedProxies, reject::Logik,
};

const DEMO: common::Demo =
    common::Demo { file: include_str!("data/logik.json"), keys: include_str!("data/logik.keys.txt") };

fn policy() -> Result<Policy, ConfigError> {
    // Keys of this API are bound to a tenant and to nothing within it, so the rules refuse keys that are restricted
    // further.
    let runtime = |resource: &'static str| Rule::resource(resource).kind("runtime").require_origin();
    let admin = |resource: &'static str| Rule::resource(resource).kind("admin");
    Policy::builder()
        .route("/api", runtime("configuration"))
        // The matched route decides: `/api/managedTables/…` does not name a configuration.
        .route("/api/{uuid}", runtime("configuration"))
        .route("/api/{uuid}/bom", runtime("bom"))
        .route("/api/admin/v2/blueprints", admin("blueprints"))
        .route("/api/admin/v2/fields", admin("fields"))
        .route("/api/admin/v2/rules", admin("rules"))
        .route("/api/managedTables/v1/tables", admin("managed-tables"))
        .build()
}

/// The routes, with the gate around them.
pub fn app(file: KeyFile, proxies: Option<TrustedProxies>) -> Result<Router, ConfigError> {
    let tenants: Vec<String> = file.records().iter().filter_map(|record| record.tenant().map(str::to_owned)).collect();
    let hosts = TenantHosts::new("{tenant}.{sector}.localhost")?.known(tenants);
    let store = common::store(file, KeyFormat::opaque(8, 512)?)?;
    let mut authz =
        Authz::new(store, policy()?).with_sources([Source::bearer()]).with_tenant_hosts(hosts).with_rejection(Logik);
    if let Some(proxies) = proxies {
        authz = authz.with_trusted_proxies(proxies);
    }
    Ok(Router::new()
        .route("/api", post(answer))
        .route("/api/{uuid}", get(answer).patch(answer))
        .route("/api/{uuid}/bom", get(answer))
        .route("/api/admin/v2/blueprints", get(answer).post(answer))
        .route("/api/admin/v2/fields", get(answer).post(answer))
        .route("/api/admin/v2/rules", get(answer).post(answer))
        .route("/api/managedTables/v1/tables", get(answer).post(answer))
        .layer(authz)
        .layer(map_response(async |response: axum::response::Response| common::log(response))))
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
