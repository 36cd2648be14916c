//! Uses the same layers with plain hyper, over HTTP/1 and HTTP/2, without axum. The policy matches paths itself.
//!
//! It is configured by `LISTEN`, `KEYS` and `TRUSTED_PROXIES`. Over HTTP/2, try `curl --http2-prior-knowledge …`.

mod common;

use std::{convert::Infallible, error::Error, process::ExitCode, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Layer as _, service_fn};
use tower_authz::{
    Authz, ConfigError, Dimension, Head, KeyFile, KeyFormat, PeerAddress, Policy, Principal, Rule, TrustedProxies,
    check::EntityRef,
};

const DEMO: common::Demo =
    common::Demo { file: include_str!("data/scayle.json"), keys: include_str!("data/scayle.keys.txt") };

/// The layer wraps any tower service. This one answers with the facts about the request that it received.
fn authz(file: KeyFile, proxies: Option<TrustedProxies>) -> Result<Authz, ConfigError> {
    let policy = Policy::builder()
        .public("/health")
        .route("/products", Rule::resource("products").unscoped())
        .route("/shops/{shop}", Rule::resource("shops").scoped(EntityRef::from_path(Dimension::SHOP, "shop")))
        .build()?;
    let authz = Authz::new(common::store(file, KeyFormat::opaque(8, 512)?)?, policy);
    Ok(match proxies {
        Some(proxies) => authz.with_trusted_proxies(proxies),
        None => authz,
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let head = Head::new(&request);
    let body = json!({
        "route": head.path(),
        "method": request.method().as_str(),
        "key": request.extensions().get::<Principal>().map(|principal| principal.key_id().as_str()),
        "client": head.client_address().ip().map(|address| address.to_string()),
        "version": format!("{:?}", request.version()),
    });
    // A response to HEAD has no content.
    let body = if request.method() == Method::HEAD { String::new() } else { body.to_string() };
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Serves connections until the listener fails.
pub async fn serve(
    listener: TcpListener,
    file: KeyFile,
    proxies: Option<TrustedProxies>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let service = authz(file, proxies)?.layer(service_fn(answer));
    loop {
        // A connection that fails (or too many open files) is no reason to stop serving.
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // hyper does not put the address of the peer into the request, and networks are checked against it.
        let with_peer = tower::util::MapRequest::new(service.clone(), move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddress(peer));
            request
        });
        let logged = tower::util::MapResponse::new(with_peer, common::log);
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A client may disconnect at any time, so the error is ignored.
            let _ = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(logged)).await;
        });
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (file, shown) = common::keys(&DEMO)?;
    let proxies = common::proxies()?;
    let listener = common::listen().await?;
    common::announce(&listener, &shown)?;
    serve(listener, file, proxies).await.map_err(|error| error.to_string().into())
}

#[tokio::main]
async fn main() -> ExitCode {
    common::finish(run().await)
}
