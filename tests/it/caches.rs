//! Tests the cache headers of responses and of refusals (S21).

use std::{convert::Infallible, future::ready};

use axum::{Router, body::Body, response::Response, routing::get};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use http_body_util::Full;
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_authz::{
    AuthenticateLayer, Authz, CleanPath, Denial, Dimension, FindCredential, Policy, Reject, RequireLayer, Rule, Source,
    reject::{Empty, Grpc, Logic64, Logik, Problem, Scayle},
};

use crate::support::{Handler, KEY, Mood, MoodyStore, products_reader, store};

type Answer = http::Response<Full<Bytes>>;

fn with(name: &str, value: &str) -> Request<Full<Bytes>> {
    Request::get("/").header(name, value).body(Full::default()).unwrap()
}

fn all(headers: &HeaderMap, name: &str) -> String {
    headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join("; ")
}

fn rule() -> Rule {
    Rule::resource("products").unscoped()
}

/// Tests a cookie, a scheme and a custom source through the whole gate: the response, its cache headers, and the
/// credentials that the handler still sees.
#[tokio::test]
async fn sources_of_the_users_own_are_read_told_of_and_taken_out() {
    #[derive(Debug)]
    struct AfterKey;

    impl FindCredential for AfterKey {
        fn header(&self) -> HeaderName {
            HeaderName::from_static("x-client")
        }

        fn find<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
            let at = value.windows(5).position(|window| window == b";key=")?;
            value.get(at + 5..)
        }

        fn strip(&self, value: &[u8]) -> Option<Vec<u8>> {
            let at = value.windows(5).position(|window| window == b";key=")?;
            value.get(..at).map(<[u8]>::to_vec)
        }
    }

    let seen = |headers: HeaderMap| async move {
        let all =
            |name: &str| headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join("|");
        assert!(!format!("{headers:?}").contains(KEY), "no Debug prints a key");
        format!("{};{};{}", all("authorization"), all("cookie"), all("x-client"))
    };
    let sources = || [Source::scheme("Token").unwrap(), Source::cookie("session").unwrap(), Source::custom(AfterKey)];
    let policy = || Policy::builder().route("/", rule()).build().unwrap();
    let gate = || Authz::new(store(products_reader()), policy()).with_sources(sources());
    let app = Router::new().route("/", get(seen));
    let (kept, removed) = (app.clone().layer(gate()), app.layer(gate().remove_credential()));
    let others = "cookie, x-client";
    for (name, line, status, vary, left) in [
        ("authorization", format!("token {KEY}"), 200, "", ";;"),
        ("cookie", format!("lang=de; session={KEY}; theme=dark"), 200, others, ";lang=de; theme=dark;"),
        ("x-client", format!("web;key={KEY}"), 200, others, ";;web"),
        ("authorization", format!("Bearer {KEY}"), 401, "", ""),
        ("cookie", format!("other={KEY}"), 401, "", ""),
        ("cookie", format!("session={KEY}; session={KEY}"), 401, "", ""),
        ("cookie", "session=".to_owned(), 401, "", ""),
        ("x-client", KEY.to_owned(), 401, "", ""),
    ] {
        for (app, is_removed) in [(&kept, false), (&removed, true)] {
            let request = Request::get("/").header(name, &line).body(Body::empty()).unwrap();
            let answer: Response = app.clone().oneshot(request).await.unwrap();
            let cache_headers = (answer.status().as_u16(), all(answer.headers(), "vary"));
            assert_eq!(cache_headers, (status, vary.to_owned()), "{name}: {line}");
            if status == 200 {
                let private = if vary.is_empty() { "" } else { "private" };
                assert_eq!(all(answer.headers(), "cache-control"), private, "{name}");
                let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
                let body = std::str::from_utf8(&body).unwrap();
                assert!(!is_removed || body == left, "{name}: {body}");
                assert!(is_removed || body.contains(KEY), "{name}: {body}");
            } else {
                assert_eq!(answer.headers()["www-authenticate"], r#"Token realm="api""#);
            }
        }
    }
}

/// The result is the same for one service or two, and whether the store answers at once or later.
#[tokio::test]
async fn an_answer_to_a_key_that_caches_do_not_know_is_private() {
    let handler = || {
        service_fn(|request: Request<Full<Bytes>>| {
            let mut answer = Answer::default();
            if request.headers().contains_key("if-none-match") {
                *answer.status_mut() = StatusCode::NOT_MODIFIED;
            }
            for (name, value) in request.headers() {
                if let Some(name) = name.as_str().strip_prefix("answer-") {
                    answer.headers_mut().append(http::HeaderName::try_from(name).unwrap(), value.clone());
                }
            }
            ready(Ok::<_, Infallible>(answer))
        })
    };
    let policy = || Policy::builder().route("/", rule()).build().unwrap();
    let moody = |mood| MoodyStore { mood, keys: store(products_reader()) };
    let two = ServiceBuilder::new()
        .layer(AuthenticateLayer::new(store(products_reader())))
        .layer(RequireLayer::new(rule()))
        .service(handler());
    for service in [
        BoxCloneSyncService::new(Authz::new(moody(Mood::AtOnce), policy()).layer(handler())),
        BoxCloneSyncService::new(Authz::new(moody(Mood::Later), policy()).layer(handler())),
        BoxCloneSyncService::new(two),
    ] {
        let cache_headers = async |request: Request<Full<Bytes>>| {
            let answer = service.clone().oneshot(request).await.unwrap();
            assert!(answer.status() == 200 || answer.status() == 304);
            (all(answer.headers(), "vary"), all(answer.headers(), "cache-control"))
        };
        let is = |vary: &str, control: &str| (vary.to_owned(), control.to_owned());
        let ours = "x-api-key, x-access-token";
        for name in ["x-api-key", "x-access-token"] {
            assert_eq!(cache_headers(with(name, KEY)).await, is(ours, "private"), "{name}");
            for method in [Method::HEAD, Method::OPTIONS] {
                let mut request = with(name, KEY);
                *request.method_mut() = method;
                assert_eq!(cache_headers(request).await, is(ours, "private"), "{name}");
            }
        }
        let mut not_modified = with("x-api-key", KEY);
        not_modified.headers_mut().insert("if-none-match", "*".parse().unwrap());
        assert_eq!(cache_headers(not_modified).await, is(ours, "private"));
        // Caches treat `Authorization` specially by themselves, and it takes precedence over the other header.
        let bearer = format!("Bearer {KEY}");
        assert_eq!(cache_headers(with("authorization", &bearer)).await, is("", ""));
        let mut both = with("authorization", &bearer);
        both.headers_mut().insert("x-api-key", KEY.parse().unwrap());
        assert_eq!(cache_headers(both).await, is("", ""));
        // Headers that the handler has set itself take precedence.
        let mut own = with("x-api-key", KEY);
        own.headers_mut().insert("answer-cache-control", "public, max-age=60".parse().unwrap());
        own.headers_mut().append("answer-vary", "accept".parse().unwrap());
        own.headers_mut().append("answer-vary", "accept-language".parse().unwrap());
        let vary = format!("accept; accept-language; {ours}");
        assert_eq!(cache_headers(own).await, is(&vary, "public, max-age=60"));
        let mut everything = with("x-api-key", KEY);
        everything.headers_mut().insert("answer-vary", "*".parse().unwrap());
        assert_eq!(cache_headers(everything).await, is("*", "private"));
    }
}

/// The response of a public route is the same with a key and without, so a shared cache may store it.
#[tokio::test]
async fn an_answer_of_a_public_route_is_for_all() {
    let policy = Policy::builder().public("/").build().unwrap();
    let service = Authz::new(store(products_reader()), policy).layer(Handler::default());
    for request in [with("x-api-key", KEY), with("x-api-key", "garbage"), with("accept", "*/*")] {
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().is_empty(), "{:?}", answer.headers());
    }
}

#[tokio::test]
async fn the_sources_of_ones_own_are_named() {
    let own = || Source::header("x-own".parse().unwrap());
    let policy = || Policy::builder().route("/", rule()).build().unwrap();
    let named = async |sources: Vec<Source>, request: Request<Full<Bytes>>| {
        let service = Authz::new(store(products_reader()), policy()).with_sources(sources).layer(Handler::default());
        let answer = service.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        all(answer.headers(), "vary")
    };
    assert_eq!(named(vec![own()], with("x-own", KEY)).await, "x-own");
    let old = own().deprecated(std::time::UNIX_EPOCH);
    assert_eq!(
        named(vec![Source::bearer(), old, Source::header("cookie".parse().unwrap())], with("x-own", KEY)).await,
        "x-own, cookie"
    );
    let whole = Source::header("authorization".parse().unwrap());
    assert_eq!(named(vec![whole, own()], with("authorization", KEY)).await, "");
}

/// Returns every status that the crate produces, from every check that refuses.
async fn refusals<R: Reject<Body> + Clone>(reject: R) -> Vec<(&'static str, u16, Response)> {
    let policy = Policy::builder()
        .route("/products", rule())
        .route("/orders", Rule::resource("orders").unscoped())
        .route("/secrets", Rule::resource("orders").unscoped().concealed())
        .method_route(Method::POST, "/few", rule())
        .route("/raised", rule())
        .route("/nothing", rule())
        .route("/forgotten", Rule::resource("products").filtered(Dimension::SHOP))
        .public("/public")
        .build()
        .unwrap();
    let policy = std::sync::Arc::new(policy);
    let app = |mood| -> Router {
        let keys = MoodyStore { mood, keys: store(products_reader()) };
        let handler = get(async || "handled");
        Router::new()
            .route("/products", handler.clone())
            .route("/orders", handler.clone())
            .route("/secrets", handler.clone())
            .route("/few", handler.clone())
            .route("/raised", get(async || Denial::refused("not on Sundays")))
            .route("/nothing", get(async || Denial::not_found()))
            .route("/forgotten", handler)
            .route("/public", get(async || Denial::refused("not on Sundays")))
            .layer(Authz::new(keys, std::sync::Arc::clone(&policy)).with_rejection(reject.clone()))
    };
    let mut seen = Vec::new();
    for (what, mood, path, key, status) in [
        ("no key", Mood::AtOnce, "/products", "", 401),
        ("a bad key", Mood::AtOnce, "/products", "garbage", 401),
        ("an unknown key", Mood::AtOnce, "/products", "a-key-that-was-not-issued", 401),
        ("an unknown key, later", Mood::Later, "/products", "a-key-that-was-not-issued", 401),
        ("an unclean path", Mood::AtOnce, "/products/;", KEY, 400),
        ("no permission", Mood::AtOnce, "/orders", KEY, 403),
        ("a concealed rule", Mood::AtOnce, "/secrets", KEY, 404),
        ("no rule", Mood::AtOnce, "/elsewhere", KEY, 404),
        ("another method", Mood::AtOnce, "/few", KEY, 405),
        ("the store is down", Mood::Unavailable, "/products", KEY, 503),
        ("the store is down, later", Mood::UnavailableLater, "/products", KEY, 503),
        ("an unreadable record", Mood::Unreadable, "/products", KEY, 500),
        ("a denial of the handler", Mood::AtOnce, "/raised", KEY, 403),
        ("nothing found", Mood::AtOnce, "/nothing", KEY, 404),
        ("an answer withheld", Mood::AtOnce, "/forgotten", KEY, 500),
        ("a denial on a public route", Mood::AtOnce, "/public", "", 403),
    ] {
        let mut request = Request::get(path);
        if !key.is_empty() {
            request = request.header("x-api-key", key);
        }
        seen.push((what, status, app(mood).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()));
    }
    let only: Router = Router::new().route("/", get(async || "handled"));
    let unclean = only.layer(RequireLayer::new(CleanPath::new()).with_rejection(reject));
    let request = Request::get("/a;b").body(Body::empty()).unwrap();
    seen.push(("a check alone", 400, unclean.oneshot(request).await.unwrap()));
    seen
}

#[tokio::test]
async fn no_refusal_is_kept_in_any_dialect() {
    let own = |denial: &Denial| {
        let mut response = Response::new(Body::from("no"));
        *response.status_mut() = denial.status();
        response.headers_mut().insert("cache-control", "max-age=3600".parse().unwrap());
        response
    };
    for (dialect, seen) in [
        ("problem", refusals(Problem).await),
        ("scayle", refusals(Scayle).await),
        ("logic64", refusals(Logic64).await),
        ("logik", refusals(Logik).await),
        ("empty", refusals(Empty).await),
        ("grpc", refusals(Grpc::new()).await),
        ("own", refusals(own).await),
    ] {
        for (what, status, response) in seen {
            assert_eq!(response.status(), status, "{dialect}: {what}");
            assert_eq!(all(response.headers(), "cache-control"), "no-store", "{dialect}: {what}");
        }
    }
}

#[tokio::test]
async fn a_refused_grpc_call_is_not_kept() {
    let policy = Policy::builder().route("/", rule()).build().unwrap();
    let service = Authz::new(store(products_reader()), policy).with_rejection(Grpc::new()).layer(Handler::default());
    let call = Request::post("/").header("content-type", "application/grpc").body(Full::<Bytes>::default()).unwrap();
    let answer = service.oneshot(call).await.unwrap();
    assert_eq!((answer.status(), &*all(answer.headers(), "grpc-status")), (StatusCode::OK, "16"));
    assert_eq!(all(answer.headers(), "cache-control"), "no-store");
}

/// A denial that a handler returns without any layer still carries `no-store`.
#[tokio::test]
async fn a_denial_as_a_response_is_not_kept() {
    let bare: Router = Router::new().route("/", get(async || Denial::refused("not on Sundays")));
    let answer = bare.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((answer.status(), &*all(answer.headers(), "cache-control")), (StatusCode::FORBIDDEN, "no-store"));
}
