//! Tests what a refusal discloses (S22): on the wire it is identical byte for byte wherever it was made, so that it
//! does not disclose which routes exist.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    extract::{Path, Request},
    response::Response,
    routing::{any, get, post},
};
use http_body_util::{BodyExt as _, Empty as NoBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower_authz::{
    Authz, Denial, Dimension, Grant, Policy, Principal, Reject, Rule, TenantHosts,
    check::EntityRef,
    reject::{Empty, Grpc, Logic64, Logik, Problem, Scayle},
    store::KeyStore,
};

use crate::support::{KEY, Mood, MoodyStore, serve, store};

fn policy() -> Policy {
    let shop = || EntityRef::from_path(Dimension::SHOP, "shop");
    let shops = || Rule::resource("shops").unscoped();
    let secrets = || Rule::resource("secrets").scoped(shop()).concealed();
    Policy::builder()
        .route("/shops/{shop}", Rule::resource("shops").scoped(shop()))
        .route("/any", shops())
        .route("/files/{*rest}", shops())
        .route("/nested/inner/{shop}", Rule::resource("shops").scoped(shop()))
        .route("/service/{*rest}", shops())
        .route("/secrets/{shop}", secrets())
        .method_route(http::Method::GET, "/few/{shop}", secrets())
        .route("/found/{shop}", shops().concealed())
        .route("/asked/{shop}", Rule::resource("shops").deferred(Dimension::SHOP).concealed())
        .public("/open")
        .fallback(Rule::authenticated().unscoped().concealed())
        .build()
        .unwrap()
}

async fn ask(principal: Principal, Path(shop): Path<String>) -> Result<(), Denial> {
    principal.require(Dimension::SHOP, &shop)?;
    Err(principal.not_found())
}

fn app<R: Reject<Body>>(keys: impl KeyStore, reject: R, change: impl FnOnce(Authz) -> Authz) -> Router {
    let files =
        tower::service_fn(async |_: Request| Ok::<_, std::convert::Infallible>(Response::new(Body::from("a file"))));
    let inner = Router::new()
        .route("/inner/{shop}", post(async || "an inner one"))
        .fallback(async |principal: Principal| principal.not_found());
    Router::new()
        .route("/shops/{shop}", get(async || "a shop").put(async || "changed"))
        .route("/any", any(async || "anything"))
        .route("/files/{*rest}", get(async || "a file"))
        .route("/ghost", get(async || "no rule has this route"))
        .route("/secrets/{shop}", get(async || "a secret"))
        .route("/few/{shop}", get(async || "a secret").post(async || "another"))
        .route("/found/{shop}", any(async |principal: Principal| principal.not_found()))
        .route("/asked/{shop}", any(ask))
        .route("/open", any(async || Denial::not_found()))
        .nest("/nested", inner)
        .nest_service("/service", files)
        .fallback(async || Denial::not_found())
        .layer(change(Authz::new(keys, policy())).with_rejection(reject))
}

/// Returns a store with one key, which may write shops and is restricted to the shop `de`.
fn keys() -> tower_authz::store::MemoryStore {
    store(Grant::builder().write("shops").only("shop", ["de"]).build().unwrap())
}

/// Returns the same application in each dialect.
fn apps() -> Vec<(&'static str, Router)> {
    let unchanged = |authz: Authz| authz;
    // This dialect sets no content length, and does not depend on the request.
    let own = |denial: &Denial| {
        let mut response = Response::new(Body::from(format!("refused: {}", denial.public_code())));
        *response.status_mut() = denial.status();
        response
    };
    vec![
        ("problem", app(keys(), Problem, unchanged)),
        ("scayle", app(keys(), Scayle, unchanged)),
        ("logic64", app(keys(), Logic64, unchanged)),
        ("logik", app(keys(), Logik, unchanged)),
        ("empty", app(keys(), Empty, unchanged)),
        ("grpc", app(keys(), Grpc::new(), unchanged)),
        ("own", app(keys(), own, unchanged)),
    ]
}

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PURGE"];
const NOWHERE: &str = "/nowhere";
/// These paths cover every kind of route. They are requested with every method.
const ROUTED: &[&str] = &[
    "/shops/de",
    "/any",
    "/files/a",
    "/nested/inner/de",
    "/nested/nowhere",
    "/service/a",
    "/secrets/de",
    "/few/de",
    "/found/de",
    "/asked/de",
    "/ghost",
    "/",
];
/// A key without access to these paths must get the same response as for an unknown path.
const CONCEALED: &[&str] = &[
    "/secrets/de",
    "/secrets/ch",
    "/secrets/DE",
    "/few/de",
    "/found/de",
    "/asked/de",
    "/asked/ch",
    "/nested/nowhere",
    "/ghost",
];

/// A version of HTTP/1, the `connection` header of the request, and a second request that is sent if the connection
/// is kept.
const CONNECTIONS: [(&str, &str, &str); 4] = [
    ("HTTP/1.1", "", "GET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    ("HTTP/1.1", "connection: close\r\n", ""),
    ("HTTP/1.0", "", ""),
    ("HTTP/1.0", "connection: keep-alive\r\n", "GET /nowhere HTTP/1.0\r\nhost: a\r\n\r\n"),
];

/// Returns all bytes that arrive until the server closes the connection.
async fn transcript(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    without_time(&String::from_utf8(answer).unwrap())
}

/// Removes the date of the response, and the timestamp in the body of one dialect, because they change from request
/// to request.
fn without_time(answer: &str) -> String {
    let lines = answer.split_inclusive('\n').filter(|line| !line.starts_with("date: "));
    let answer = lines.collect::<String>();
    let mut parts = answer.split(r#""timestamp":""#);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + &part["2026-01-01T00:00:00Z".len()..])
}

/// Requests each path in every way, and checks that every response equals that for an unknown path and has this
/// status.
async fn are_alike(name: &str, app: Router, paths: &[&str], headers: &str, status: &str) {
    let address = serve(app).await;
    for method in METHODS {
        for (version, connection, next) in CONNECTIONS {
            let request = |path: &str| {
                format!("{method} {path} {version}\r\nhost: a\r\n{connection}{headers}content-length: 0\r\n\r\n{next}")
            };
            let expected = transcript(address, &request(NOWHERE)).await;
            let known = expected.split_once(' ').unwrap().1.starts_with(status);
            assert!(known, "{name} {method} {version}: {expected}");
            for path in paths {
                let answer = transcript(address, &request(path)).await;
                assert_eq!(answer, expected, "{name} {method} {path} {version} {connection}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_key_every_path_is_alike() {
    for (name, app) in apps() {
        are_alike(name, app, ROUTED, "", "401").await;
    }
}

#[tokio::test]
async fn to_a_key_a_concealed_route_is_no_route() {
    for (name, app) in apps() {
        are_alike(name, app, CONCEALED, &format!("x-api-key: {KEY}\r\n"), "404").await;
    }
}

#[tokio::test]
async fn grpc_calls_learn_no_more() {
    let grpc = |key: &str| format!("{key}content-type: application/grpc\r\n");
    let address = serve(app(keys(), Grpc::new(), |authz| authz)).await;
    for (headers, paths) in [(grpc(""), ROUTED), (grpc(&format!("x-api-key: {KEY}\r\n")), CONCEALED)] {
        for (version, connection, next) in CONNECTIONS {
            let request = |path: &str| {
                format!("POST {path} {version}\r\nhost: a\r\n{connection}{headers}content-length: 0\r\n\r\n{next}")
            };
            let expected = transcript(address, &request(NOWHERE)).await;
            assert!(expected.contains("grpc-status: ") && expected.contains("cache-control: no-store"), "{expected}");
            for path in paths {
                assert_eq!(transcript(address, &request(path)).await, expected, "{path} {version} {connection}");
            }
        }
    }
}

/// Other refusals do not disclose routes either: those before authentication, and those because the store cannot
/// answer.
#[tokio::test]
async fn no_other_refusal_tells_of_routes_either() {
    let down = MoodyStore { mood: Mood::Unavailable, keys: keys() };
    let key = format!("x-api-key: {KEY}\r\n");
    are_alike("down", app(down, Problem, |authz| authz), ROUTED, &key, "503").await;
    let unreadable = MoodyStore { mood: Mood::Unreadable, keys: keys() };
    are_alike("unreadable", app(unreadable, Problem, |authz| authz), ROUTED, &key, "500").await;
    are_alike("plain", app(keys(), Problem, Authz::https_only), ROUTED, "", "403").await;
    let tenants = |authz: Authz| authz.with_tenant_hosts(TenantHosts::new("{tenant}.example.com").unwrap());
    are_alike("host", app(keys(), Problem, tenants), ROUTED, &key, "404").await;
    let unclean = ["/shops/d;e", "/files/a;b", "/few/a;b", "/nested/inner/;", "/service/a;b"];
    let address = serve(app(keys(), Problem, |authz| authz)).await;
    for method in METHODS {
        let request = |path: &str| format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let expected = transcript(address, &request("/nowhere;")).await;
        assert!(expected.starts_with("HTTP/1.1 400 "), "{expected}");
        for path in unclean {
            assert_eq!(transcript(address, &request(path)).await, expected, "{method} {path}");
        }
    }
}

/// The status, the headers in their order, and the body.
type Answer = (u16, Vec<(String, String)>, String);

async fn over_http2(address: SocketAddr, method: &str, path: &str, key: bool) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(format!("http://a{path}"));
    if key {
        request = request.header("x-api-key", KEY);
    }
    let response = sender.send_request(request.body(NoBody::<bytes::Bytes>::new()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, without_time(std::str::from_utf8(&body).unwrap()))
}

#[tokio::test]
async fn http2_tells_no_more() {
    for (name, app) in apps() {
        let address = serve(app).await;
        for method in METHODS {
            for (key, paths, status) in [(false, ROUTED, 401), (true, CONCEALED, 404)] {
                let expected = over_http2(address, method, NOWHERE, key).await;
                assert_eq!(expected.0, status, "{name} {method}");
                assert!(method != "HEAD" || expected.2.is_empty(), "{name}: {expected:?}");
                for path in paths {
                    assert_eq!(over_http2(address, method, path, key).await, expected, "{name} {method} {path}");
                }
            }
        }
    }
}

/// A HEAD gets the same response as the GET, except for the body.
#[tokio::test]
async fn a_head_has_the_headers_of_the_get() {
    for (name, app) in apps() {
        let address = serve(app).await;
        for path in [NOWHERE, "/shops/de"] {
            let (get, head) =
                (over_http2(address, "GET", path, false).await, over_http2(address, "HEAD", path, false).await);
            assert_eq!((get.0, &get.1), (head.0, &head.1), "{name} {path}");
            let length = ("content-length".to_owned(), get.2.len().to_string());
            assert!(get.1.contains(&length), "{name}: {get:?}");
        }
    }
}

/// A handler of a public route that finds nothing answers in the same words as the gate to a request for an unknown
/// path.
#[tokio::test]
async fn a_public_handler_finds_nothing_in_the_same_words() {
    for (name, app) in apps() {
        let address = serve(app).await;
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let request = |path: &str| {
                let key = format!("x-api-key: {KEY}\r\n");
                format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{key}\r\n")
            };
            let expected = transcript(address, &request("/ghost")).await;
            assert_eq!(transcript(address, &request("/open")).await, expected, "{name} {method}");
        }
    }
}
