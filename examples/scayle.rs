//! Models the authorization of the SCAYLE Admin API: resources with read and write, keys restricted to companies,
//! shops and networks, shop countries that inherit from their shop, and refusals in its style.
//!
//! It is configured by `LISTEN`, `KEYS`, `TRUSTED_PROXIES` (for `X-Forwarded-For` and `-Proto`) and `REQUIRE_HTTPS=1`.

#[path = "common/answer.rs"]
mod answer;
mod common;

use std::{error::Error, process::ExitCode, sync::Arc};

use answer::{Seen, answer};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderName, Method},
    middleware::map_response,
    routing::{any, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_authz::{
    Access, Authz, ConfigError, Denial, Dimension, KeyFile, KeyFormat, Policy, Principal, Rule, Scope, Source,
    TrustedProxies, check::EntityRef, reject::Scayle,
};

const BASE: &str = "/api/admin/v1";
const DEMO: common::Demo =
    common::Demo { file: include_str!("data/scayle.json"), keys: include_str!("data/scayle.keys.txt") };

/// The policy is also in `data/scayle.policy.json`, and a test compares the two.
pub fn policy() -> Result<Policy, ConfigError> {
    let at = |path: &str| format!("{BASE}{path}");
    let products = || Rule::resource("products").unscoped();
    let shop = || EntityRef::from_path(Dimension::SHOP, "shopKey");
    let company_header = HeaderName::from_static("x-company-id");
    Policy::builder()
        .public("/health")
        .public("/public/{*rest}")
        .route(&at("/products"), products())
        .route(&at("/products/{id}"), products())
        .route(&at("/products/search"), products().method(Method::POST, Access::Read))
        .route(&at("/products/bulk-requests"), products())
        .route(&at("/variants/{id}"), products())
        .route(&at("/shops"), Rule::resource("shops").filtered(Dimension::SHOP))
        .route(&at("/shops/{shopKey}"), Rule::resource("shops").scoped(shop()))
        .route(&at("/shops/{shopKey}/countries/{countryCode}/orders/{id}"), Rule::resource("orders").scoped(shop()))
        .route(
            &at("/shop-countries/{id}"),
            Rule::resource("shops").scoped(EntityRef::from_path(Dimension::SHOP_COUNTRY, "id")),
        )
        .route(
            &at("/companies"),
            Rule::resource("companies").filtered(Dimension::COMPANY).unscoped_for(Dimension::SHOP),
        )
        .route(
            &at("/companies/{id}"),
            Rule::resource("companies")
                .scoped(EntityRef::from_path(Dimension::COMPANY, "id"))
                .unscoped_for(Dimension::SHOP),
        )
        .route(
            &at("/fulfillment/shipments"),
            Rule::resource("fulfillment")
                .scoped(EntityRef::from_header(Dimension::COMPANY, company_header))
                .deferred(Dimension::SHOP),
        )
        // Customers belong to shops, and reports are about all of them. The rules declare no dimension, so that
        // restricted keys are refused.
        .route(&at("/customers/{id}/password-hash"), Rule::resource("customers").require_networks())
        .route(&at("/reports/run"), Rule::resource("reports"))
        .build()
}

/// The routes, without the gate.
fn routes(policy: Arc<Policy>) -> Router {
    let base = Router::new()
        .route("/products", get(answer).post(answer))
        .route("/products/{id}", get(answer).put(answer).patch(answer).delete(answer))
        .route("/products/search", post(answer))
        .route("/products/bulk-requests", post(bulk))
        .route("/variants/{id}", get(answer).patch(answer))
        .route("/shops", get(list_shops))
        .route("/shops/{shopKey}", get(answer).patch(answer))
        .route("/shops/{shopKey}/countries/{countryCode}/orders/{id}", get(answer).put(answer))
        .route("/shop-countries/{id}", get(answer))
        .route("/companies", get(list_companies))
        .route("/companies/{id}", get(answer).patch(answer))
        .route("/fulfillment/shipments", post(ship))
        .route("/customers/{id}/password-hash", get(answer))
        .route("/reports/run", any(answer));
    Router::new()
        .route("/health", get(answer))
        .route("/public/{*rest}", get(answer))
        .nest(BASE, base)
        .with_state(policy)
}

/// The routes, with the gate around them.
pub fn app(file: KeyFile, proxies: Option<TrustedProxies>, https: bool) -> Result<Router, ConfigError> {
    let policy = Arc::new(policy()?);
    let routes = routes(Arc::clone(&policy));
    // Report a route without a rule at start-up, before a customer finds it.
    let audit = policy.audit(tower_authz::testing::routes_of(&routes));
    if !audit.is_complete() {
        return Err(ConfigError::new(audit.to_string()));
    }
    let store = common::store(file, KeyFormat::opaque(8, 512)?)?;
    let access_token = Source::header(HeaderName::from_static("x-access-token"));
    let mut authz = Authz::new(store, policy).with_sources([Source::bearer(), access_token]).with_rejection(Scayle);
    if let Some(proxies) = proxies {
        authz = authz.with_trusted_proxies(proxies);
    }
    if https {
        authz = authz.https_only();
    }
    Ok(routes.layer(authz).layer(map_response(async |response: axum::response::Response| common::log(response))))
}

async fn list_shops(seen: Seen, principal: Principal, scope: Scope) -> Json<Value> {
    let mut shops: Vec<&str> = principal.directory().shops().filter(|shop| scope.allows(shop)).collect();
    shops.sort_unstable();
    seen.with("shops", shops).json()
}

async fn list_companies(seen: Seen, principal: Principal, scope: Scope) -> Json<Value> {
    let mut companies: Vec<&str> = principal.directory().companies().filter(|company| scope.allows(company)).collect();
    companies.sort_unstable();
    seen.with("companies", companies).json()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shipment {
    shop_key: String,
}

/// The company is in a header, which the rule has checked. The shop is only in the body, so the handler checks it.
async fn ship(
    seen: Seen,
    principal: Principal,
    headers: HeaderMap,
    Json(shipment): Json<Shipment>,
) -> Result<Json<Value>, Denial> {
    principal.require(Dimension::SHOP, &shipment.shop_key)?;
    let company = headers.get("x-company-id").and_then(|id| id.to_str().ok());
    Ok(seen.with("companyId", company).with("shopKey", shipment.shop_key).json())
}

#[derive(Deserialize)]
struct Operation {
    key: String,
    method: String,
    url: String,
}

/// Each operation is authorized by the same rules as if it were a request of its own.
async fn bulk(
    seen: Seen,
    principal: Principal,
    State(policy): State<Arc<Policy>>,
    Json(operations): Json<Vec<Operation>>,
) -> Json<Value> {
    let verdicts = operations.into_iter().map(|operation| {
        let url = match operation.url.starts_with(BASE) {
            true => operation.url,
            false => format!("{BASE}{}", operation.url),
        };
        let outcome = match operation.method.parse::<Method>() {
            Ok(method) => policy.authorize_operation(&principal, &method, &url),
            Err(_) => Err(Denial::refused("the method is not one")),
        };
        match outcome {
            Ok(()) => json!({ "key": operation.key, "status": 200, "allowed": true }),
            Err(denial) => json!({
                "key": operation.key,
                "status": denial.status().as_u16(),
                "allowed": false,
                "message": denial.public_message(),
            }),
        }
    });
    let verdicts: Vec<Value> = verdicts.collect();
    seen.with("operations", verdicts).json()
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (file, shown) = common::keys(&DEMO)?;
    let app = app(file, common::proxies()?, common::switch("REQUIRE_HTTPS")?)?;
    answer::serve(app, &shown).await
}

#[tokio::main]
async fn main() -> ExitCode {
    common::finish(run().await)
}
