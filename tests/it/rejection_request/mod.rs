//! Tests what a rejection sees of the request: as much as it asks for, at every stage, and no credential.

mod credentials;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use tower::{Service, ServiceExt as _};
use tower_authz::{
    Access, AuthenticateLayer, Authz, Denial, Dimension, GuardedRouter, Head, Policy, Principal, Reject, RequireLayer,
    Rule,
    reject::{Grpc, Problem, WithRequest},
    store::{KeyAdmin as _, MemoryStore},
};

use crate::support::{Mood, MoodyStore, products_reader, store};

/// Repeats the id of the request and its URI, or says that it sees no request.
fn repeat(denial: &Denial) -> Response<Body> {
    let seen = denial.request().map(|request| {
        let id = request.headers().get("x-request-id").map_or("none", |id| id.to_str().unwrap());
        format!("{} {} {id}", request.method(), request.uri())
    });
    let mut response = Response::new(Body::from(seen.unwrap_or_else(|| "no request".to_owned())));
    *response.status_mut() = denial.status();
    response
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().method(method).uri(uri).header("host", "localhost").header("x-request-id", "r-7");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Body::empty()).unwrap()
}

/// Sends a request. A denial in the extensions has no request, whether the rejection has seen it or not.
async fn ask<S>(app: &S, request: Request<Body>) -> (u16, HeaderMap, String)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    if let Some(denial) = parts.extensions.get::<Denial>() {
        assert!(denial.request().is_none());
        assert!(!format!("{denial} {denial:?}").contains("r-7"));
    }
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// The rules for the routes of [`handlers`].
fn policy() -> Policy {
    let rule = || Rule::resource("products").unscoped();
    Policy::builder()
        .route("/products", rule())
        .route("/refused", rule())
        .route("/not-found", rule().concealed())
        .route("/deferred", Rule::resource("products").deferred(Dimension::SHOP))
        .route("/checked", rule().check(|_: &Head<'_>| Err(Denial::refused("never"))))
        .method_route(Method::GET, "/read", rule())
        .public("/open")
        .build()
        .unwrap()
}

fn handlers() -> Router {
    Router::new()
        .route("/products", get(async || "products"))
        .route("/refused", get(async |principal: Principal| principal.refuse("a handler says no")))
        .route("/not-found", get(async |principal: Principal| principal.not_found()))
        .route("/deferred", get(async || "never asked"))
        .route("/checked", get(async || "never reached"))
        .route("/read", get(async || "read").post(async || "never reached"))
        .route("/ghost", get(async || "no rule"))
        .route("/open", get(async || Denial::not_found()))
}

/// The same routes and rules as one list.
fn guarded() -> GuardedRouter {
    let rule = || Rule::resource("products").unscoped();
    GuardedRouter::new()
        .route("/products", rule(), get(async || "products"))
        .route("/refused", rule(), get(async |principal: Principal| principal.refuse("a handler says no")))
        .route("/not-found", rule().concealed(), get(async |principal: Principal| principal.not_found()))
        .route("/deferred", Rule::resource("products").deferred(Dimension::SHOP), get(async || "never asked"))
        .route("/checked", rule().check(|_: &Head<'_>| Err(Denial::refused("never"))), get(async || "never reached"))
        .route("/read", tower_authz::RouteRules::new().on(Method::GET, rule()), get(async || "read"))
        .public("/open", get(async || Denial::not_found()))
}

const BEARER: (&str, &str) = ("authorization", "Bearer a-key-that-was-issued");
const UNKNOWN: (&str, &str) = ("authorization", "Bearer a-key-that-nobody-issued");

/// Status, method, path and headers of a request that is refused.
type Stage = (u16, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const STAGES: [Stage; 15] = [
    (400, "GET", "//products", &[BEARER]),
    (401, "GET", "/products", &[]),
    (401, "GET", "/products", &[("x-api-key", "short")]),
    (401, "GET", "/products", &[BEARER, BEARER]),
    (401, "GET", "/products", &[UNKNOWN]),
    (401, "GET", "/ghost", &[]),
    (403, "POST", "/products", &[BEARER]),
    (403, "GET", "/checked", &[BEARER]),
    (403, "GET", "/refused", &[BEARER]),
    (404, "GET", "/not-found", &[BEARER]),
    (404, "GET", "/ghost", &[BEARER]),
    (404, "GET", "/open", &[]),
    (405, "POST", "/read", &[BEARER]),
    (405, "BREW", "/products", &[BEARER]),
    (500, "GET", "/deferred", &[BEARER]),
];

async fn check_stages<S>(app: &S, what: &str, sees: bool)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    // Twice, because some refusals are copied from the second on.
    for (status, method, uri, headers) in STAGES.into_iter().chain(STAGES) {
        let expected = if sees { format!("{method} {uri} r-7") } else { "no request".to_owned() };
        let (found, headers, body) = ask(app, request(method, uri, headers)).await;
        assert_eq!((found, body), (status, expected), "{what}: {method} {uri}");
        assert_eq!(headers["cache-control"], "no-store", "{what}: {method} {uri}");
    }
    let (status, _, body) = ask(app, request("GET", "/products", &[BEARER])).await;
    assert_eq!((status, body.as_str()), (200, "products"), "{what}");
}

/// Every way to put the gate around handlers, by a store that answers at once or later.
#[tokio::test]
async fn each_stage_sees_the_request_that_asks_for_it_and_no_other() {
    async fn check<R: Reject<Body> + Clone>(reject: R, sees: bool) {
        for mood in [Mood::AtOnce, Mood::Later] {
            let keys = || MoodyStore { mood, keys: store(products_reader()) };
            let layered = handlers().layer(Authz::new(keys(), policy()).with_rejection(reject.clone()));
            check_stages(&layered, "Authz", sees).await;

            let removing = Authz::new(keys(), policy()).remove_credential().with_rejection(reject.clone());
            check_stages(&handlers().layer(removing), "without credential", sees).await;

            let authz = Authz::from_store(keys()).with_rejection(reject.clone());
            check_stages(&guarded().guard(authz).unwrap(), "GuardedRouter", sees).await;

            let policy = Arc::new(policy());
            let clean = tower_authz::CleanPath::new();
            let authenticate = AuthenticateLayer::new(keys()).with_public_routes(Arc::clone(&policy));
            let stacked = handlers()
                .layer(RequireLayer::new(policy).with_rejection(reject.clone()))
                .layer(authenticate.with_pre_check(clean).with_rejection(reject.clone()));
            check_stages(&stacked, "stacked", sees).await;
        }
    }
    check(WithRequest::new(repeat), true).await;
    check(repeat, false).await;
    check(Grpc::new().otherwise(WithRequest::new(repeat)), true).await;
    check(Grpc::new().otherwise(repeat), false).await;
}

#[tokio::test]
async fn plain_http_and_stores_that_fail_see_it_too() {
    for mood in [Mood::Unavailable, Mood::UnavailableLater, Mood::Unreadable] {
        let keys = MoodyStore { mood, keys: store(products_reader()) };
        let app = handlers().layer(Authz::new(keys, policy()).with_rejection(WithRequest::new(repeat)));
        let (status, _, body) = ask(&app, request("GET", "/products", &[BEARER])).await;
        assert_eq!(body, "GET /products r-7", "{mood:?}");
        assert!(status >= 500, "{mood:?}: {status}");
    }
    let authz = Authz::new(store(products_reader()), policy()).https_only();
    let app = handlers().layer(authz.with_rejection(WithRequest::new(repeat)));
    let (status, _, body) = ask(&app, request("GET", "/products", &[BEARER])).await;
    assert_eq!((status, body.as_str()), (403, "GET /products r-7"));
}

/// The handler has consumed the request long before the key is revoked.
#[tokio::test]
async fn a_revocation_in_flight_sees_it_too() {
    for waits in [true, false] {
        let keys = store(products_reader());
        let begun = Arc::new(tokio::sync::Notify::new());
        let (revoked, begins) = (keys.clone(), Arc::clone(&begun));
        let app = Router::new()
            .route(
                "/products",
                get(async move || {
                    begins.notify_one();
                    if waits {
                        std::future::pending::<()>().await;
                    }
                    // Otherwise the handler answers, and its answer is withheld.
                    revoked.as_actor("test").revoke(&"test-key".parse().unwrap(), "").await.unwrap();
                    "products"
                }),
            )
            .layer(Authz::new(keys.clone(), policy()).with_rejection(WithRequest::new(repeat)));
        let revoke = async {
            begun.notified().await;
            if waits {
                keys.as_actor("test").revoke(&"test-key".parse().unwrap(), "").await.unwrap();
            }
        };
        let ((status, _, body), ()) = tokio::join!(ask(&app, request("GET", "/products", &[BEARER])), revoke);
        assert_eq!((status, body.as_str()), (401, "GET /products r-7"), "{waits}");
    }
}

/// The path is that which the client has sent, wherever a router stands around the gate.
#[tokio::test]
async fn no_prefix_is_stripped() {
    let authz = || Authz::from_store(store(products_reader())).with_rejection(WithRequest::new(repeat));
    let inner = guarded().guard(authz()).unwrap();
    let app = Router::new().nest("/v1", Router::new().nest_service("/api", inner));
    for path in ["/v1/api/products?page=2", "/v1/api/nothing"] {
        assert_eq!(ask(&app, request("GET", path, &[])).await.2, format!("GET {path} r-7"));
    }
}

/// A page in the language of the client for a browser, and a problem with the id of the request for a program.
fn negotiated(denial: &Denial) -> Response<Body> {
    let header = |name: &str| denial.request()?.headers().get(name)?.to_str().ok();
    if !header("accept").is_some_and(|accept| accept.contains("text/html")) {
        let instance = denial.request().map(|request| request.uri().path());
        let id = header("x-request-id");
        let body = serde_json::json!({ "code": denial.public_code(), "instance": instance, "request_id": id });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = denial.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        return response;
    }
    let is_german = header("accept-language").is_some_and(|languages| languages.starts_with("de"));
    let title = if is_german { "Kein Zugriff" } else { "No access" };
    let mut response = Response::new(Body::from(format!("<h1>{title}</h1>")));
    *response.status_mut() = denial.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
}

#[tokio::test]
async fn a_browser_gets_a_page_and_a_program_a_problem() {
    let app = guarded()
        .guard(Authz::from_store(store(products_reader())).with_rejection(WithRequest::new(negotiated)))
        .unwrap();
    let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let problem = r#"{"code":"invalid_api_key","instance":"/products","request_id":"r-7"}"#;
    for (method, path, headers, status, kind, expected) in [
        ("GET", "/products", &[browser][..], 401, "text/html", "<h1>No access</h1>"),
        ("GET", "/products", &[browser, ("accept-language", "de-AT,en")], 401, "text/html", "<h1>Kein Zugriff</h1>"),
        ("GET", "/products", &[("accept", "*/*")], 401, "application/problem+json", problem),
        ("GET", "/refused", &[browser, BEARER], 403, "text/html", "<h1>No access</h1>"),
        ("HEAD", "/products", &[browser], 401, "text/html", ""),
        ("HEAD", "/products", &[], 401, "application/problem+json", ""),
    ] {
        let (found, headers, body) = ask(&app, request(method, path, headers)).await;
        assert_eq!((found, body.as_str()), (status, expected), "{method} {path}");
        assert_eq!(headers["content-type"], kind, "{method} {path}");
        // For a `HEAD` it is that of the `GET`.
        let length = if kind == "text/html" { expected.len().max(18) } else { problem.len() };
        assert_eq!(headers["content-length"], length.to_string().as_str(), "{method} {path}");
    }
}

/// A rejection of a type of its own, which claims that its body is always the same.
#[derive(Clone)]
struct Own {
    sees: bool,
    rendered: Arc<AtomicUsize>,
}

impl Reject<Body> for Own {
    fn reject(&self, denial: &Denial) -> Response<Body> {
        self.rendered.fetch_add(1, Ordering::Relaxed);
        repeat(denial)
    }

    fn sees_request(&self) -> bool {
        self.sees
    }

    fn constant_body(&self, _: &Denial) -> Option<Body> {
        Some(Body::from("a copy"))
    }
}

/// A copy would repeat the id of another request.
#[tokio::test]
async fn constant_refusals_are_copied_only_for_those_that_do_not_ask() {
    for (sees, rendered, second) in [(true, 4, "GET /products r-7"), (false, 1, "a copy")] {
        let own = Own { sees, rendered: Arc::default() };
        let authz = Authz::new(MemoryStore::new(), policy()).with_rejection(own.clone());
        let app = handlers().layer(authz);
        for body in ["GET /products r-7", second, second, second] {
            let body = if sees || body == second { body } else { "no request" };
            assert_eq!(ask(&app, request("GET", "/products", &[])).await.2, body);
        }
        assert_eq!(own.rendered.load(Ordering::Relaxed), rendered);
    }
    // A dialect whose copies are used otherwise renders the same bytes each time.
    let copied = handlers().layer(Authz::new(MemoryStore::new(), policy()));
    let seen = handlers().layer(Authz::new(MemoryStore::new(), policy()).with_rejection(WithRequest::new(Problem)));
    for _ in 0..2 {
        let bare = || request("GET", "/", &[]);
        assert_eq!(ask(&copied, bare()).await, ask(&seen, bare()).await);
    }
}

/// A gRPC call is answered by gRPC, and its rejection may see the metadata of the call.
#[tokio::test]
async fn a_grpc_call_is_refused_as_one() {
    fn with_id(denial: &Denial) -> Response<Body> {
        let mut response: Response<Body> = Grpc::new().reject(denial);
        if let Some(id) = denial.request().and_then(|request| request.headers().get("x-request-id")) {
            response.headers_mut().insert("x-request-id", id.clone());
        }
        response
    }
    let rule = Rule::resource("products").unscoped().method(Method::POST, Access::Read);
    let policy = Policy::builder().route("/shop.Orders/Create", rule).build().unwrap();
    let authz = Authz::new(store(products_reader()), policy).with_rejection(WithRequest::new(with_id));
    let app = Router::new()
        .route("/shop.Orders/Create", post(async |principal: Principal| principal.refuse("no")))
        .layer(authz);
    let kind = ("content-type", "application/grpc");
    for (headers, status) in [(&[kind][..], "16"), (&[kind, BEARER], "7")] {
        let (http, headers, body) = ask(&app, request("POST", "/shop.Orders/Create", headers)).await;
        assert_eq!((http, body.as_str()), (200, ""));
        assert_eq!(
            (headers["grpc-status"].to_str().unwrap(), headers["x-request-id"].to_str().unwrap()),
            (status, "r-7")
        );
    }
    let (http, headers, _) = ask(&app, request("POST", "/shop.Orders/Create", &[])).await;
    assert_eq!((http, headers["x-request-id"].to_str().unwrap()), (401, "r-7"));
}
