//! A guarded router: routes and rules of one list, with the gate outside.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    middleware::map_response,
    response::Response,
    routing::{any, get, post},
};
use http::{Method, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Service, ServiceExt as _};
use tower_authz::{
    AuthenticateLayer, Authz, ClientAddress, Denial, Digest, Dimension, Directory, Grant, GuardedRouter, Head,
    IdGrammar, KeyRecord, Policy, Principal, RequireLayer, RouteRules, Rule,
    check::EntityRef,
    reject::Logic64,
    store::{MemoryStore, StoreSettings},
    testing::assert_guarded_at,
};

use crate::support::{KEY, record, store, store_of};

fn shop() -> EntityRef {
    EntityRef::from_path(Dimension::SHOP, "shop")
}

/// Of shop `de` only; it may write orders, and read products.
fn keys() -> MemoryStore {
    store(Grant::builder().read("products").write("orders").only("shop", ["de"]).build().unwrap())
}

/// Every way to add a route.
fn routes() -> GuardedRouter {
    let orders = GuardedRouter::new()
        .route("/", Rule::resource("orders").scoped(shop()), get(async || "orders").post(async || "created"))
        .route(
            "/{id}",
            Rule::resource("orders").scoped(shop()),
            get(async |State(prefix): State<&'static str>, Path(all): Path<HashMap<String, String>>| {
                format!("{prefix} {} of {}", all["id"], all["shop"])
            }),
        );
    let merged = GuardedRouter::new().route(
        "/products",
        RouteRules::new().public_on(Method::GET).on(Method::POST, Rule::resource("products").unscoped()),
        get(async || "products").post(async || "created"),
    );
    let files = Router::new().fallback(async |uri: http::Uri| format!("file {uri}"));
    GuardedRouter::<&'static str>::new()
        .public("/health", get(async |caller: Option<Principal>| format!("ok {}", caller.is_some())))
        .nest("/shops/{shop}/orders", orders)
        .merge(merged)
        .public_tree("/assets", files.clone())
        .tree("/reports", Rule::resource("products").unscoped(), files)
        .fallback(Rule::resource("products").unscoped(), async || "the fallback")
        .with_state("order")
}

async fn ask<S>(app: &S, method: &str, path: &str, key: &str) -> (u16, String)
where
    S: Service<Request<Body>, Response = Response, Error = std::convert::Infallible> + Clone,
{
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if !key.is_empty() {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

const TABLE: [(&str, &str, &str, u16, &str); 23] = [
    ("GET", "/health", "", 200, "ok false"),
    ("GET", "/health", "wrong", 200, "ok false"),
    ("GET", "/products", "", 200, "products"),
    ("POST", "/products", "", 401, ""),
    ("POST", "/products", KEY, 403, ""),
    ("PUT", "/products", KEY, 405, ""),
    ("GET", "/shops/de/orders", KEY, 200, "orders"),
    ("POST", "/shops/de/orders", KEY, 200, "created"),
    ("GET", "/shops/de/orders/7", KEY, 200, "order 7 of de"),
    ("GET", "/shops/de/orders/7", "", 401, ""),
    ("GET", "/shops/ch/orders/7", KEY, 403, ""),
    ("GET", "/shops/de/orders/", KEY, 403, ""),
    ("GET", "/assets/logo.png", "", 200, "file /logo.png"),
    ("GET", "/assets", "", 200, "file /"),
    ("GET", "/assets/", "", 200, "file /"),
    ("GET", "/assets/%2e%2e/shops", "", 400, ""),
    ("GET", "/reports/2026/q1", KEY, 200, "file /2026/q1"),
    ("GET", "/reports", "", 401, ""),
    ("POST", "/reports/2026", KEY, 403, ""),
    ("GET", "/other", "", 401, ""),
    ("GET", "/other", KEY, 200, "the fallback"),
    ("GET", "/%61ssets/logo.png", KEY, 404, ""),
    ("GET", "//health", "", 400, ""),
];

#[tokio::test]
async fn routes_are_served_by_their_rules_wherever_the_router_stands() {
    // A trailing slash is no route: the fallback, whose rule says `unscoped`, gets it.
    let expected = |path: &str, status: u16| if path == "/shops/de/orders/" { 200 } else { status };
    let app = routes().guard(Authz::from_store(keys())).unwrap();
    let nested = Router::new().nest_service("/api", app.clone());
    let deeper = Router::new().nest("/v1/{tenant}", nested.clone());
    let behind = Router::new().fallback_service(app.clone());
    for (method, path, key, status, body) in TABLE {
        let status = expected(path, status);
        let all = [
            ("alone", ask(&app, method, path, key).await),
            ("nested", ask(&nested, method, &format!("/api{path}"), key).await),
            ("deeper", ask(&deeper, method, &format!("/v1/acme/api{path}"), key).await),
            ("behind", ask(&behind, method, path, key).await),
        ];
        for (place, (got, text)) in all {
            assert_eq!(got, status, "{place}: {method} {path} {key:?}: {text}");
            assert!(body.is_empty() || text == body, "{place}: {method} {path}: {text:?}");
        }
    }
}

#[tokio::test]
async fn no_route_answers_without_a_key() {
    let routes = routes();
    let policy = routes.policy().unwrap();
    let app = routes.guard(Authz::from_store(keys())).unwrap();
    let patterns: Vec<String> = policy.patterns().map(str::to_owned).collect();
    assert_eq!(patterns.len(), 10, "{patterns:?}");
    assert_guarded_at(&policy, app, patterns).await;
}

/// A layer of the router sees what was admitted; one around the gate sees refusals, too.
#[tokio::test]
async fn layers_stand_inside_or_outside() {
    let count = || Arc::new(AtomicUsize::new(0));
    let (inside, outside) = (count(), count());
    let counting = |count: &Arc<AtomicUsize>| {
        let count = Arc::clone(count);
        map_response(move |response: Response| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(response)
        })
    };
    let app = routes().layer(counting(&inside)).guard(Authz::from_store(keys())).unwrap().layer(counting(&outside));
    for (path, key) in [("/health", ""), ("/reports", KEY), ("/reports", ""), ("/shops/ch/orders", KEY)] {
        ask(&app, "GET", path, key).await;
    }
    assert_eq!((inside.load(Ordering::Relaxed), outside.load(Ordering::Relaxed)), (2, 4));
}

/// What the policy is made of is judged when the router is guarded, and a denial of a handler is rendered in the dialect.
#[tokio::test]
async fn mistakes_are_told_by_guard() {
    let handler = || any(async || "");
    let rule = || Rule::resource("orders").unscoped();
    let guard = |routes: GuardedRouter| routes.guard(Authz::from_store(keys())).map(drop).map_err(|it| it.to_string());
    assert_eq!(guard(GuardedRouter::new().route("/a", rule(), handler())), Ok(()));
    for (broken, message) in [
        (GuardedRouter::new().route("/a;b", rule(), handler()), "visible ASCII"),
        (GuardedRouter::new().route("/orders", rule().scoped(shop()), handler()), "\"shop\""),
        (GuardedRouter::new().nest("/x", GuardedRouter::new().fallback(rule(), async || "")), "outermost"),
        (
            GuardedRouter::new().route("/a", RouteRules::new(), handler()).public_fallback(async || ""),
            "\"/a\": it has no rule",
        ),
        (GuardedRouter::new().tree("/a", RouteRules::new(), handler()).public("/{page}", handler()), "it has no rule"),
        (GuardedRouter::new().route("/a", rule().optional().concealed(), handler()), "optional and concealed"),
        (GuardedRouter::new().route("/a", RouteRules::new().on("PURGE".parse().unwrap(), rule()), handler()), "PURGE"),
    ] {
        let error = guard(broken).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    for policy in [Policy::builder().route("/mine", rule()), Policy::builder().fallback(rule())] {
        let error = GuardedRouter::new().guard(Authz::new(keys(), policy.build().unwrap())).unwrap_err().to_string();
        assert!(error.contains("Authz::from_store"), "{error}");
    }
    let project = Dimension::new("project", IdGrammar::Number);
    let slugs = MemoryStore::with_settings(StoreSettings::new().with_dimension(Dimension::named("project")));
    let routes = GuardedRouter::new().route("/projects", Rule::resource("projects").filtered(project), handler());
    assert!(routes.guard(Authz::from_store(slugs)).unwrap_err().to_string().contains("project"));

    let refusing = post(async |principal: Principal| Err::<(), Denial>(principal.refuse("not today")));
    let app = GuardedRouter::new().route("/orders", rule(), refusing);
    let app = app.guard(Authz::from_store(keys()).with_rejection(Logic64)).unwrap();
    assert_eq!(ask(&app, "POST", "/orders", KEY).await, (403, r#"{"code":"FORBIDDEN","hint":"not today"}"#.to_owned()));
}

/// A router that was not guarded, and an `Authz` that was given to none, let nobody in.
#[tokio::test]
async fn an_authz_without_a_policy_refuses_everything() {
    let app: Router = Router::new().route("/a", get(async || "")).layer(Authz::from_store(keys()));
    assert_eq!(ask(&app, "GET", "/a", KEY).await.0, 404);
    assert_eq!(ask(&app, "GET", "/a", "").await.0, 401);
    let empty = GuardedRouter::new().guard(Authz::from_store(keys())).unwrap();
    assert_eq!(ask(&empty, "GET", "/a", KEY).await.0, 404);
}

/// Served by axum, with the address of the peer: a key that is bound to networks gets in.
#[tokio::test]
async fn it_is_served_with_the_address_of_the_peer() {
    let grant = Grant::builder().read("products").from_networks(["127.0.0.0/8"]).build().unwrap();
    let routes =
        || GuardedRouter::new().route("/products", Rule::resource("products").unscoped(), get(async || "there"));
    let app = || routes().guard(Authz::from_store(store(grant.clone()))).unwrap();
    for (with_peer, status) in [(true, "200 OK"), (false, "403 Forbidden")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app();
        tokio::spawn(async move {
            match with_peer {
                true => axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap(),
                false => axum::serve(listener, app.into_make_service()).await.unwrap(),
            }
        });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET /products HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

/// A route whose key is optional: without one, or with one that meets the whole rule.
#[tokio::test]
async fn a_key_can_be_optional() {
    let rule = || Rule::resource("products").kind("admin").scoped(shop()).optional();
    let who = async |caller: Option<Principal>| caller.map_or("anybody".to_owned(), |it| it.key_id().to_string());
    let routes = || {
        GuardedRouter::new()
            .route(
                "/shops/{shop}/prices",
                rule().check(|head: &Head<'_>| match head.headers().contains_key("x-closed") {
                    true => Err(Denial::refused("closed")),
                    false => Ok(()),
                }),
                any(who),
            )
            .route("/plain/{shop}", rule(), any(who))
    };
    let grant = Grant::builder().read("products").only("shop", ["de"]).build().unwrap();
    let admin = KeyRecord::builder("admin".parse().unwrap(), Digest::from_key(b"an-admin-key-of-the-shop"))
        .grant(grant.clone())
        .kind("admin".to_owned())
        .build();
    let revoked = KeyRecord::builder("gone".parse().unwrap(), Digest::from_key(b"a-key-that-was-revoked"))
        .grant(grant.clone())
        .kind("admin".to_owned())
        .revoked_at(SystemTime::now())
        .build();
    let store = store_of([record("clerk", KEY, grant), admin, revoked], Directory::default());
    let app = routes().guard(Authz::from_store(store)).unwrap();
    for path in ["/shops/{}/prices", "/plain/{}"] {
        for (method, shop, key, status, body) in [
            ("GET", "de", "", 200, "anybody"),
            ("GET", "ch", "", 200, "anybody"),
            ("POST", "de", "", 200, "anybody"),
            ("PURGE", "de", "", 405, ""),
            ("GET", "de", "an-admin-key-of-the-shop", 200, "admin"),
            ("GET", "ch", "an-admin-key-of-the-shop", 403, ""),
            ("POST", "de", "an-admin-key-of-the-shop", 403, ""),
            ("GET", "de", KEY, 403, ""),
            ("GET", "de", "short", 401, ""),
            ("GET", "de", "nobodys-key-that-looks-fine", 401, ""),
            ("GET", "de", "a-key-that-was-revoked", 401, ""),
        ] {
            let path = path.replace("{}", shop);
            let (got, text) = ask(&app, method, &path, key).await;
            assert_eq!(got, status, "{method} {path} {key:?}: {text}");
            assert!(body.is_empty() || text == body, "{method} {path} {key:?}: {text}");
        }
        // Another scheme, an empty header and two credentials are credentials.
        let path = path.replace("{}", "de");
        for headers in [&["Basic dTpw"][..], &[""], &["Bearer a", "Bearer b"]] {
            let mut request = Request::get(&path).body(Body::empty()).unwrap();
            for line in headers {
                request.headers_mut().append("authorization", line.parse().unwrap());
            }
            assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 401, "{headers:?}");
        }
    }
    // A cache tells the answer with a key from the one without.
    let response = app.clone().oneshot(Request::get("/plain/de").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["vary"], "authorization, x-api-key, x-access-token");
    assert_eq!(response.headers().get("cache-control"), None);
    let closed = Request::get("/shops/de/prices").header("x-closed", "1").body(Body::empty()).unwrap();
    assert_eq!(app.clone().oneshot(closed).await.unwrap().status(), 403);
    // What an outer layer has put in the principal's place is not taken for the caller.
    let mut forged = Request::get("/plain/de").body(Body::empty()).unwrap();
    let forged_record = KeyRecord::builder("forged".parse().unwrap(), Digest::from_key(b"x")).build();
    forged.extensions_mut().insert(Principal::new(forged_record.into(), Directory::default(), ClientAddress::UNKNOWN));
    let response = app.clone().oneshot(forged).await.unwrap();
    assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), "anybody");
    // A policy file says it, too, and the layers alone agree.
    let plain = GuardedRouter::<()>::new().route("/plain/{shop}", rule(), any(who)).policy().unwrap();
    let text = plain.export().unwrap();
    assert!(text.contains("\"optional\": true"), "{text}");
    let read = Policy::parse(&text, "policy.json").unwrap();
    let (store, read) = (store_of([record("clerk", KEY, Grant::default())], Directory::default()), Arc::new(read));
    let layers = Router::new()
        .route("/plain/{shop}", any(who))
        .layer(RequireLayer::new(Arc::clone(&read)))
        .layer(AuthenticateLayer::new(store.clone()).with_public_routes(Arc::clone(&read)));
    let whole = Router::new().route("/plain/{shop}", any(who)).layer(Authz::new(store, read));
    for (key, status) in [("", 200), (KEY, 403), ("nobodys-key-that-looks-fine", 401)] {
        assert_eq!(ask(&layers, "GET", "/plain/de", key).await.0, status, "{key}");
        assert_eq!(ask(&whole, "GET", "/plain/de", key).await.0, status, "{key}");
    }
}

/// What serves a tree may decode the path that it gets, as `ServeDir` does: a tree within it is not reached by another
/// spelling.
#[tokio::test]
async fn no_spelling_reaches_a_tree_through_a_wider_one() {
    let files = Router::new().fallback(async |uri: http::Uri| {
        percent_encoding::percent_decode_str(uri.path()).decode_utf8_lossy().into_owned()
    });
    let rule = || Rule::resource("products").unscoped();
    let app = GuardedRouter::new()
        .public_tree("/assets", files.clone())
        .tree("/assets/private", rule(), files.clone())
        .route("/assets/list/{id}", rule(), get(async || "one"))
        .tree("/{rest}/reports", rule(), files)
        .guard(Authz::from_store(keys()))
        .unwrap();
    for (path, key, status) in [
        ("/assets/logo.png", "", 200),
        ("/assets/a%20b.png", "", 200),
        ("/assets/private/report.pdf", "", 401),
        ("/assets/private/report.pdf", KEY, 200),
        ("/assets/%70rivate/report.pdf", "", 401),
        ("/assets/%70rivate/report.pdf", KEY, 404),
        ("/assets/privat%65", KEY, 404),
        ("/assets/%6cist/7", KEY, 404),
        ("/assets/list/%37", KEY, 200),
        ("/acme/reports/q1", "", 401),
        ("/acme/reports/q1", KEY, 200),
    ] {
        assert_eq!(ask(&app, "GET", path, key).await.0, status, "{path} {key:?}");
    }
}

/// A layer inside of the router may change the type of the body, as compression does.
#[tokio::test]
async fn a_layer_inside_may_change_the_body() {
    let changing = || {
        let change = |response: Response| response.map(|body| http_body_util::Limited::new(body, 1000));
        tower::util::MapResponseLayer::new(change)
    };
    let routes = GuardedRouter::new()
        .route("/products", Rule::resource("products"), get(async || "products"))
        .layer(changing())
        .route_layer(changing());
    let app = routes.guard(Authz::from_store(store(Grant::builder().read("products").build().unwrap()))).unwrap();
    for (key, status) in [(KEY, 200), ("a-key-of-nobody-else", 401)] {
        let request = Request::get("/products").header("x-api-key", key).body(Body::empty()).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), status);
    }
}
