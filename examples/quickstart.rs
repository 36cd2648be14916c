//! Runs a server that shows every kind of response. Start it, and paste the `curl` lines that it prints.
//!
//! `LISTEN` is the address that it listens on; the default is `127.0.0.1:3000`, and port 0 selects a free one. With
//! `--features sqlite`, `STORE=keys.sqlite` keeps the keys in that file: a second run finds them. While the server
//! runs, `authz --store keys.sqlite` changes them.

use std::{
    env,
    error::Error,
    io::Write as _,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    extract::{MatchedPath, Path},
    http::Method,
    middleware::map_response,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_authz::{
    Authz, Denial, Dimension, Directory, Grant, Policy, Principal, Rule, Scope,
    check::EntityRef,
    store::{KeyAdmin, KeyQuery, KeyStore, MemoryStore, NewKey, StoreSettings},
};

/// The policy has one rule for each route.
fn policy() -> Result<Policy, tower_authz::ConfigError> {
    let shop = || EntityRef::from_path(Dimension::SHOP, "shop");
    let company = || EntityRef::from_path(Dimension::COMPANY, "company");
    Policy::builder()
        .public("/health")
        .route("/products", Rule::resource("products").unscoped())
        .route("/shops/{shop}/countries/{country}/orders/{id}", Rule::resource("orders").scoped(shop()))
        .route("/shops", Rule::resource("shops").filtered(Dimension::SHOP))
        .route("/companies/{company}", Rule::resource("companies").scoped(company()).unscoped_for(Dimension::SHOP))
        .route("/shipments", Rule::resource("orders").deferred(Dimension::SHOP))
        // The ledger is about all companies, and its rule declares no dimension: a restricted key is refused.
        .route("/ledger", Rule::resource("ledger").require_networks())
        .build()
}

/// The routes, with the gate around them.
pub fn app(store: impl KeyStore) -> Result<Router, tower_authz::ConfigError> {
    Ok(Router::new()
        .route("/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/products", get(answer).post(answer))
        .route("/shops/{shop}/countries/{country}/orders/{id}", get(answer_about).put(answer_about))
        .route("/shops", get(list_shops))
        .route("/companies/{company}", get(answer_about).patch(answer_about))
        .route("/shipments", post(ship))
        .route("/ledger", get(answer))
        // This route has no rule, so every request to it is refused.
        .route("/unlisted", get(answer))
        .layer(Authz::new(store, policy()?))
        .layer(map_response(log)))
}

/// Logs all causes of a denial, and the key id: the response shows only the first cause.
async fn log(response: Response) -> Response {
    if let Some(denial) = response.extensions().get::<Denial>() {
        let route = denial.route().unwrap_or("-");
        let _ = writeln!(std::io::stderr(), "{} {route}: {denial}", denial.status().as_u16());
    }
    response
}

async fn answer(route: MatchedPath, method: Method, principal: Principal) -> Json<Value> {
    Json(json!({
        "route": route.as_str(),
        "method": method.as_str(),
        "key": principal.key_id().as_str(),
        "entities": {},
    }))
}

async fn answer_about(
    route: MatchedPath,
    method: Method,
    principal: Principal,
    Path(entities): Path<serde_json::Map<String, Value>>,
) -> Json<Value> {
    Json(json!({
        "route": route.as_str(),
        "method": method.as_str(),
        "key": principal.key_id().as_str(),
        "entities": entities,
    }))
}

/// The list contains only the shops that the key may see.
async fn list_shops(route: MatchedPath, method: Method, principal: Principal, scope: Scope) -> Json<Value> {
    let seen: Vec<&str> = ["de", "ch", "us"].into_iter().filter(|shop| scope.allows(shop)).collect();
    Json(json!({
        "route": route.as_str(),
        "method": method.as_str(),
        "key": principal.key_id().as_str(),
        "entities": { "shops": seen },
    }))
}

#[derive(Deserialize)]
struct Shipment {
    shop: String,
}

/// The shop is in the body, so the handler checks it. Its denial is rendered like any other.
async fn ship(route: MatchedPath, principal: Principal, Json(shipment): Json<Shipment>) -> Result<Json<Value>, Denial> {
    principal.require(Dimension::SHOP, &shipment.shop)?;
    Ok(Json(json!({
        "route": route.as_str(),
        "method": "POST",
        "key": principal.key_id().as_str(),
        "entities": { "shop": shipment.shop },
    })))
}

/// Issues demo keys in a store without keys, and returns their names and the keys. A durable store has keys from an
/// earlier run, or its own, which cannot be shown again.
pub async fn issue_keys(store: &dyn KeyAdmin) -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    if !store.list(&KeyQuery::new().limit(1)).await?.records.is_empty() {
        return Ok(Vec::new());
    }
    let past = SystemTime::now() - Duration::from_secs(60);
    let products = || Grant::builder().read("products").build();
    let keys = [
        NewKey::new("reader", products()?),
        NewKey::new(
            "clerk",
            Grant::builder().write("products").write("orders").read("shops").only(Dimension::SHOP, ["de"]).build()?,
        ),
        NewKey::new(
            "partner",
            Grant::builder()
                .read("orders")
                .read("shops")
                .write("companies")
                .except(Dimension::SHOP, ["de"])
                .except(Dimension::COMPANY, [3])
                .build()?,
        ),
        NewKey::new(
            "office",
            Grant::builder().read("ledger").read("companies").from_networks(["127.0.0.0/8", "::1/128"]).build()?,
        ),
        NewKey::new("remote", Grant::builder().read("ledger").from_networks(["203.0.113.0/24"]).build()?),
        NewKey::new("roaming", Grant::builder().read("ledger").build()?),
        NewKey::new("expired", products()?).expires_at(past),
        NewKey::new("revoked", products()?),
    ];
    let names = ["reader", "clerk", "partner", "office", "remote", "roaming", "expired", "revoked"];
    let mut issued = Vec::new();
    for (name, key) in names.into_iter().zip(keys) {
        let key = store.as_actor("quickstart").issue(key).await?;
        if name == "revoked" {
            store.as_actor("quickstart").revoke(key.record.id(), "to show what a revoked key gets").await?;
        }
        issued.push((name, key.api_key.expose().to_owned()));
    }
    Ok(issued)
}

/// The directory says which company each shop belongs to, so that lists of companies apply to shops as well. The
/// ledger requires keys with networks, so that issuing a key without networks causes a warning.
pub fn settings() -> Result<StoreSettings, tower_authz::ConfigError> {
    let directory = Directory::builder().shop("de", Some("1")).shop("ch", Some("1")).shop("us", Some("2"));
    Ok(StoreSettings::new().with_directory(directory.build()?).with_networks_required_for(["ledger"]))
}

/// The text that the server prints: its address, the keys, and requests to try.
fn tour(address: SocketAddr, keys: &[(&'static str, String)]) -> String {
    let mut text = format!("READY http://{address}\n");
    for (name, key) in keys {
        text += &format!("KEY {name} {key}\n");
    }
    let tour = [
        ("401", "", "GET", "/products", ""),
        ("200", "reader", "GET", "/products", ""),
        ("403", "reader", "POST", "/products", ""),
        ("200", "clerk", "GET", "/shops/de/countries/at/orders/7", ""),
        ("403", "clerk", "GET", "/shops/ch/countries/de/orders/7", ""),
        ("200, de only", "clerk", "GET", "/shops", ""),
        ("200, ch and us", "partner", "GET", "/shops", ""),
        ("403", "partner", "GET", "/companies/3", ""),
        ("400", "partner", "GET", "/companies/03", ""),
        ("200", "clerk", "POST", "/shipments", r#"{"shop":"de"}"#),
        ("403", "clerk", "POST", "/shipments", r#"{"shop":"ch"}"#),
        ("200", "office", "GET", "/ledger", ""),
        ("403", "remote", "GET", "/ledger", ""),
        ("403", "roaming", "GET", "/ledger", ""),
        ("401", "expired", "GET", "/products", ""),
        ("401", "revoked", "GET", "/products", ""),
        ("404", "reader", "GET", "/unlisted", ""),
        ("200", "", "GET", "/health", ""),
    ];
    for (outcome, name, method, path, body) in tour {
        let key = match keys.iter().find(|(known, _)| *known == name) {
            _ if name.is_empty() => String::new(),
            Some((_, key)) => format!(" -H 'Authorization: Bearer {key}'"),
            // The key was shown when an earlier run issued it.
            None => format!(" -H \"Authorization: Bearer ${name}\""),
        };
        let body = match body {
            "" => String::new(),
            body => format!(" -H 'Content-Type: application/json' -d '{body}'"),
        };
        text += &format!("curl -i -X {method}{key}{body} http://{address}{path}  # {name} {outcome}\n");
    }
    text
}

/// Listens, prints the tour, and serves.
async fn serve(store: impl KeyStore + KeyAdmin) -> Result<(), Box<dyn Error>> {
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let keys = issue_keys(&store).await?;
    let listener = tokio::net::TcpListener::bind(&listen).await.map_err(|error| format!("LISTEN={listen}: {error}"))?;
    // If the pipe is closed, the server goes on.
    let _ = std::io::stdout().write_all(tour(listener.local_addr()?, &keys).as_bytes());
    // Networks are checked against the address of the peer, which is unknown without `connect_info`.
    let app = app(store)?.into_make_service_with_connect_info::<SocketAddr>();
    // Shut down gracefully, so that the store is dropped with the application and writes when keys were last used. If
    // the process is killed, that is lost.
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(asked_to_stop()) => served?,
        () = async { asked_to_stop().await; tokio::time::sleep(SHUTDOWN_GRACE).await } => {}
    }
    Ok(())
}

/// The time in which requests in flight must finish when the server is asked to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Waits for Ctrl-C, or for SIGTERM, which supervisors send.
async fn asked_to_stop() {
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending();
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

#[cfg(feature = "sqlite")]
async fn serve_from(path: &str) -> Result<(), Box<dyn Error>> {
    let (store, own) = (tower_authz::store::SqliteStore::open_or_create(path, settings()?)?, settings()?);
    // A store that `authz init` has created has no directory yet. Settings are written only if they differ, because
    // each change is published to every process that has the store open.
    let known = store.settings().await?;
    let wanted = known.clone().with_directory(own.directory().clone()).with_networks_required_for(["ledger"]);
    if known.to_json()? != wanted.to_json()? {
        store.as_actor("quickstart").set_settings(wanted).await?;
    }
    serve(store).await
}

#[cfg(not(feature = "sqlite"))]
async fn serve_from(path: &str) -> Result<(), Box<dyn Error>> {
    Err(format!("STORE={path}: run it with --features sqlite to keep keys in a file").into())
}

async fn run() -> Result<(), Box<dyn Error>> {
    match env::var("STORE").ok().filter(|path| !path.is_empty()) {
        Some(path) => serve_from(&path).await,
        None => serve(MemoryStore::with_settings(settings()?)).await,
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
