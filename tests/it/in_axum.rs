//! Tests the layers inside of axum: the matched route decides, and handlers take part.

use axum::{
    Json, Router,
    body::Body,
    extract::Path,
    routing::{any, get, post},
};
use http::{Request, StatusCode};
use tower::ServiceExt as _;
use tower_authz::{
    Authz, Denial, Dimension, Directory, Filter, Grant, Head, KeyRecord, Policy, Principal, Rule, Scope,
    check::EntityRef, reject::Empty,
};

use crate::support::{KEY, Mood, MoodyStore, record, send, store, store_of};

fn request(path: &str) -> Request<Body> {
    Request::get(path).header("x-api-key", KEY).body(Body::empty()).unwrap()
}

fn clerk() -> Grant {
    Grant::builder().write("orders").write("shops").only("shop", ["de"]).build().unwrap()
}

fn shop() -> EntityRef {
    EntityRef::from_path(Dimension::SHOP, "shop")
}

#[tokio::test]
async fn nested_routers_are_judged_by_the_whole_pattern() {
    let policy = || {
        Policy::builder()
            .route("/api/{version}/shops/{shop}/orders/{id}", Rule::resource("orders").scoped(shop()))
            .build()
            .unwrap()
    };
    let echo = get(async |Path(all): Path<Vec<(String, String)>>| Json(all));
    let inner = || Router::new().route("/orders/{id}", echo.clone());
    // The layer may be applied to any router of the nest.
    let outside: Router = Router::new()
        .nest("/api/{version}", Router::new().nest("/shops/{shop}", inner()))
        .layer(Authz::new(store(clerk()), policy()));
    let inside: Router = Router::new().nest(
        "/api/{version}",
        Router::new().nest("/shops/{shop}", inner().layer(Authz::new(store(clerk()), policy()))),
    );
    for app in [outside, inside] {
        for (path, status) in [
            ("/api/v1/shops/de/orders/7", 200),
            ("/api/v1/shops/d%65/orders/7", 200),
            ("/api/v1/shops/ch/orders/7", 403),
            ("/api/v1/shops/DE/orders/7", 400),
            ("/api/de/shops/ch/orders/de", 403),
            ("/api/v1/shops/d%2565/orders/7", 400),
            ("/api/v1/shops/d%FFe/orders/7", 400),
            ("/api/v1/shops/de/orders/7?shop=ch", 200),
        ] {
            assert_eq!(send(app.clone(), request(path)).await.0, status, "{path}");
        }
    }
}

#[tokio::test]
async fn what_axum_matched_to_no_route_has_no_rule() {
    let policy = || Policy::builder().public("/health").public("/ghost");
    let app = |policy: tower_authz::PolicyBuilder| -> Router {
        Router::new()
            .route("/health", get(async || "healthy"))
            .route("/unlisted", any(async || "must not run"))
            .fallback(async || "fallback")
            .layer(Authz::new(store(clerk()), policy.build().unwrap()))
    };
    let strict = app(policy());
    assert_eq!(send(strict.clone(), request("/health")).await.0, 200);
    for path in ["/ghost", "/unlisted", "/nowhere", "/health/"] {
        let (status, body) = send(strict.clone(), request(path)).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: the policy's own idea of the path does not count");
        assert!(!body.contains("fallback"));
    }
    assert_eq!(send(strict.clone(), request("//health")).await.0, 400);
    let keyless = Request::get("/nowhere").body(Body::empty()).unwrap();
    assert_eq!(send(strict, keyless).await.0, 401, "who has no key does not learn which routes exist");
    let open = app(policy().fallback(Rule::authenticated().unscoped()));
    assert_eq!(send(open.clone(), request("/nowhere")).await.1, "fallback");
    assert_eq!(send(open, request("/unlisted")).await.0, 404, "a route without a rule is not the fallback");
}

/// axum reports no pattern for a nested service: a `{*rest}` pattern covers it, and takes precedence over the
/// fallback.
#[tokio::test]
async fn nested_services_are_covered_by_a_rest_pattern() {
    let files = || {
        tower::service_fn(async |_: Request<Body>| {
            Ok::<_, std::convert::Infallible>(axum::response::Response::new(Body::from("file")))
        })
    };
    let policy = Policy::builder()
        .public("/assets/{*rest}")
        .route("/admin/{*rest}", Rule::resource("admin").unscoped())
        .public_fallback()
        .build()
        .unwrap();
    let app: Router = Router::new()
        .nest_service("/assets", files())
        .nest_service("/admin", files())
        .layer(Authz::new(store(clerk()), policy));
    let keyless = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(send(app.clone(), keyless("/assets/a.css")).await.0, 200);
    assert_eq!(send(app.clone(), keyless("/admin/users")).await.0, 401, "not public, whatever the fallback is");
    assert_eq!(send(app.clone(), request("/admin/users")).await.0, 403);
    assert_eq!(send(app, keyless("/admin")).await.0, 401, "a route of its own, without a rule");
}

/// A user check in the rule of the fallback finds the principal where handlers do.
#[tokio::test]
async fn a_check_of_the_fallback_finds_the_caller() {
    let rule = Rule::resource("orders").unscoped().check(|head: &Head<'_>| {
        head.extensions().get::<Principal>().map(drop).ok_or_else(|| Denial::refused("nobody"))
    });
    let policy = Policy::builder().fallback(rule).build().unwrap();
    let app: Router = Router::new().fallback(async || "anything").layer(Authz::new(store(clerk()), policy));
    assert_eq!(send(app, request("/anywhere")).await.0, 200);
}

/// A service that is nested under a prefix may decode paths before it reads them: an escape must not turn a path into
/// that of another rule, and must not make a path skip the rule of its route and reach the fallback.
#[tokio::test]
async fn nested_services_are_judged_as_they_may_read_the_path() {
    let files = tower::service_fn(async |_: Request<Body>| {
        Ok::<_, std::convert::Infallible>(axum::response::Response::new(Body::from("file")))
    });
    let policy = Policy::builder()
        .public("/files/{*rest}")
        .route("/files/private/{*rest}", Rule::resource("orders").unscoped())
        .route("/files/secret", Rule::resource("orders").unscoped())
        .public_fallback()
        .build()
        .unwrap();
    let app: Router = Router::new().nest_service("/files", files).layer(Authz::new(store(clerk()), policy));
    let keyless = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    for (path, public) in [
        ("/files/a.css", true),
        ("/files/caf%C3%A9", true),
        ("/files/private/x", false),
        ("/files/priv%61te/x", false),
        ("/files/secret", false),
        ("/files/s%65cret", false),
    ] {
        assert_eq!(send(app.clone(), keyless(path)).await.0 == 200, public, "{path}");
    }
    assert_eq!(send(app.clone(), request("/files/private/x")).await.0, 200);
    assert_eq!(send(app, request("/files/secret")).await.0, 404, "the rule of a route, and there is none");
}

#[tokio::test]
async fn a_fallback_is_for_routers_only() {
    let policy = Policy::builder().public_fallback().build().unwrap();
    let service = tower::ServiceBuilder::new()
        .layer(Authz::new(store(clerk()), policy))
        .service(Router::new().route("/unlisted", get(async || "never")));
    assert_eq!(send(service, Request::get("/unlisted").body(Body::empty()).unwrap()).await.0, 401);
}

/// Middleware rewrites the path between two routers, so the handler sees a different path than the one that arrived.
#[tokio::test]
async fn a_path_that_was_rewritten_is_refused() {
    let policy =
        Policy::builder().route("/shops/{shop}/orders", Rule::resource("orders").scoped(shop())).build().unwrap();
    let api: Router = Router::new()
        .route("/shops/{shop}/orders", get(async |Path(shop): Path<String>| shop))
        .layer(Authz::new(store(Grant::builder().read("orders").except("shop", ["de"]).build().unwrap()), policy));
    let rewrite = tower::util::MapRequest::new(api, |mut request: Request<Body>| {
        let path = request.uri().path().replace("/me/", "/de/");
        *request.uri_mut() = path.parse().unwrap();
        request
    });
    let app: Router = Router::new().fallback_service(rewrite);
    assert_eq!(send(app.clone(), request("/shops/me/orders")).await.0, 400);
    assert_eq!(send(app, request("/shops/ch/orders")).await.0, 200);
}

/// The original and the remaining path both match the route: the rule would evaluate one shop, and the handler would
/// serve another.
#[tokio::test]
async fn a_prefix_that_was_cut_off_by_hand_is_refused() {
    let policy = Policy::builder().route("/shops/{shop}", Rule::resource("orders").scoped(shop())).build().unwrap();
    let api: Router = Router::new()
        .route("/shops/{shop}", get(async |Path(shop): Path<String>| shop))
        .layer(Authz::new(store(Grant::builder().read("orders").except("shop", ["de"]).build().unwrap()), policy));
    let cut = tower::util::MapRequest::new(api, |mut request: Request<Body>| {
        let path = request.uri().path().replacen("/shops/ch/", "/", 1);
        *request.uri_mut() = path.parse().unwrap();
        request
    });
    let app: Router = Router::new().fallback_service(cut);
    assert_eq!(send(app.clone(), request("/shops/ch/shops/de")).await.0, 400);
    assert_eq!(send(app, request("/shops/ch")).await.0, 200);
}

#[tokio::test]
async fn around_a_whole_router_the_raw_path_decides() {
    let router = Router::new().route("/shops/{shop}/orders", get(async || "orders"));
    let policy =
        Policy::builder().route("/shops/{shop}/orders", Rule::resource("orders").scoped(shop())).build().unwrap();
    let service = tower::ServiceBuilder::new().layer(Authz::new(store(clerk()), policy)).service(router);
    assert_eq!(send(service.clone(), request("/shops/de/orders")).await.0, 200);
    assert_eq!(send(service.clone(), request("/shops/ch/orders")).await.0, 403);
    assert_eq!(send(service, request("/shops/de/orders/")).await.0, 404);
}

/// axum lists the methods of a route in `Allow` if another one is used. Our refusals must not.
#[tokio::test]
async fn refusals_do_not_give_routes_away() {
    let policy = Policy::builder().route("/hidden/{shop}", Rule::resource("orders").scoped(shop()).concealed());
    let app: Router = Router::new()
        .route("/hidden/{shop}", post(async || "never"))
        .layer(Authz::new(store(clerk()), policy.build().unwrap()));
    let headers = async |method: &str, path: &str, key: bool| {
        let mut request = if key { request(path) } else { Request::get(path).body(Body::empty()).unwrap() };
        *request.method_mut() = method.parse().unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        format!("{} {:?}", response.status(), response.headers())
    };
    for method in ["GET", "HEAD", "DELETE", "PURGE"] {
        assert_eq!(headers(method, "/hidden/de", false).await, headers(method, "/nowhere", false).await, "{method}");
        assert_eq!(headers(method, "/hidden/ch", true).await, headers(method, "/nowhere", true).await, "{method}");
    }
}

fn body_app(reject_empty: bool) -> Router {
    let policy = Policy::builder()
        .route("/shipments", Rule::resource("orders").deferred(Dimension::SHOP))
        .route("/forgetful", Rule::resource("orders").deferred(Dimension::SHOP))
        .route("/shops", Rule::resource("shops").filtered(Dimension::SHOP))
        .route("/leaky", Rule::resource("shops").filtered(Dimension::SHOP))
        .route("/plain", Rule::resource("shops").unscoped())
        .public("/public")
        .build()
        .unwrap();
    let router = Router::new()
        .route(
            "/shipments",
            post(async |principal: Principal, shop: String| {
                principal.require(Dimension::SHOP, &shop)?;
                Ok::<_, Denial>("shipped")
            }),
        )
        .route("/forgetful", post(async || "shipped to anywhere"))
        .route("/shops", get(async |scope: Scope| format!("{:?}", scope.filter())))
        .route("/leaky", get(async || "all shops there are"))
        .route("/plain", get(async |scope: Scope| format!("{:?}", scope.filter())))
        .route("/public", get(async |principal: Option<Principal>| format!("{}", principal.is_none())));
    let authz = Authz::new(store(clerk()), policy);
    if reject_empty { router.layer(authz.with_rejection(Empty)) } else { router.layer(authz) }
}

fn ship(path: &str, shop: &'static str) -> Request<Body> {
    Request::post(path).header("x-api-key", KEY).body(Body::from(shop)).unwrap()
}

#[tokio::test]
async fn a_handler_can_ask_for_what_stands_in_the_body() {
    let app = body_app(false);
    assert_eq!(send(app.clone(), ship("/shipments", "de")).await, (StatusCode::OK, "shipped".to_owned()));
    let response = app.clone().oneshot(ship("/shipments", "ch")).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.extensions().get::<Denial>().unwrap().key_id().unwrap().as_str(), "test-key");
    assert_eq!(send(app.clone(), ship("/shipments", "DE")).await.0, 400);
    // The refusal is the same as if the shop had been in the path, and in the dialect of the layer.
    assert_eq!(send(body_app(true), ship("/shipments", "ch")).await, (StatusCode::FORBIDDEN, String::new()));
}

#[tokio::test]
async fn a_handler_that_forgets_to_ask_is_not_heard() {
    let app = body_app(false);
    for forgetful in [ship("/forgetful", "ch"), request("/leaky")] {
        let (status, body) = send(app.clone(), forgetful).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains("\"obligation_unmet\"") && !body.contains("shops there are"), "{body}");
    }
}

#[tokio::test]
async fn extractors_say_what_is_missing() {
    let app = body_app(false);
    let only_de = format!("{:?}", Filter::Only(vec!["de".to_owned()]));
    assert_eq!(send(app.clone(), request("/shops")).await, (StatusCode::OK, only_de));
    let (status, body) = send(app.clone(), request("/plain")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("filtered"), "{body}");
    assert_eq!(send(app, request("/public")).await.1, "true");

    let bare: Router = Router::new().route("/", get(async |_: Principal| "never"));
    let (status, body) = send(bare, request("/")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("Authz around it"), "{body}");
}

#[tokio::test]
async fn filters_work_companies_in() {
    let directory =
        || Directory::builder().shop("de", Some("1")).shop("ch", Some("1")).shop("us", Some("3")).shop("xx", None);
    let filter = async |grant: tower_authz::GrantBuilder, rule: Rule| {
        let records = [record("k", KEY, grant.read("shops").build().unwrap())];
        let policy = Policy::builder().route("/", rule).build().unwrap();
        let app: Router = Router::new()
            .route("/", get(async |principal: Principal| format!("{:?}", principal.scope(Dimension::SHOP).filter())))
            .layer(Authz::new(store_of(records, directory().build().unwrap()), policy));
        send(app, request("/")).await.1
    };
    let strict = || Rule::resource("shops").filtered(Dimension::SHOP);
    let lenient = || strict().unscoped_for(Dimension::COMPANY);
    let grant = Grant::builder;
    assert_eq!(filter(grant(), strict()).await, "All");
    assert_eq!(filter(grant().only("shop", ["us", "de"]), strict()).await, r#"Only(["de", "us"])"#);
    assert_eq!(filter(grant().except("shop", ["de"]), strict()).await, r#"Except(["de"])"#);
    assert_eq!(filter(grant().except("company", [3]), strict()).await, r#"Only(["ch", "de"])"#);
    // A shop whose company is unknown is refused, whatever the rule says.
    assert_eq!(filter(grant().except("company", [3]), lenient()).await, r#"Only(["ch", "de"])"#);
    assert_eq!(filter(grant().only("company", [3]).except("shop", ["de"]), lenient()).await, r#"Only(["us"])"#);
    assert_eq!(filter(grant().only("company", [3]).only("shop", ["de", "us"]), strict()).await, r#"Only(["us"])"#);
}

/// With nested gates, one check by the handler meets the obligations of both rules.
#[tokio::test]
async fn a_gate_that_is_applied_twice_asks_the_handler_once() {
    let grant = Grant::builder().read("shops").only("shop", ["de"]).build().unwrap();
    let policy = Policy::builder()
        .route("/shops", Rule::resource("shops").filtered(Dimension::SHOP))
        .route("/orders", Rule::resource("shops").deferred(Dimension::SHOP))
        .build()
        .unwrap();
    let authz = || Authz::new(store(grant.clone()), policy.clone());
    let app = Router::new()
        .route("/shops", axum::routing::get(async |scope: tower_authz::Scope| scope.allows("de").to_string()))
        .route("/orders", axum::routing::get(async |principal: Principal| principal.require(Dimension::SHOP, "de")))
        .layer(authz())
        .layer(authz());
    for path in ["/shops", "/orders"] {
        let request = Request::get(path).header("x-api-key", KEY).body(axum::body::Body::empty()).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test]
async fn a_mocked_connection_counts_where_there_is_no_real_one() {
    use axum::extract::{ConnectInfo, connect_info::MockConnectInfo};
    let grant = Grant::builder().read("shops").from_networks(["192.0.2.0/24"]).build().unwrap();
    let policy = Policy::builder().route("/", Rule::resource("shops").unscoped()).build().unwrap();
    let address = |last: u8| std::net::SocketAddr::from(([192, 0, 2, last], 1));
    let elsewhere = std::net::SocketAddr::from(([198, 51, 100, 1], 1));
    let app = Router::new().route("/", axum::routing::get(async || "")).layer(Authz::new(store(grant), policy));
    for (mock, real, status) in [
        (None, None, 403),
        (Some(address(1)), None, 200),
        (Some(elsewhere), None, 403),
        (Some(address(1)), Some(elsewhere), 403),
    ] {
        let mut request = Request::get("/").header("x-api-key", KEY).body(axum::body::Body::empty()).unwrap();
        mock.map(|mock| request.extensions_mut().insert(MockConnectInfo(mock)));
        real.map(|real| request.extensions_mut().insert(ConnectInfo(real)));
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), status, "{mock:?} {real:?}");
    }
}

/// Every refusal names the route of the rule, or the one that axum has matched, and for want of a rule points out one that lacks
/// only the prefix of a nested router. The client sees none of it.
#[tokio::test]
async fn a_refusal_names_its_route_in_the_log() {
    let policy = Policy::builder()
        .route("/orders", Rule::authenticated())
        .method_route(http::Method::GET, "/api/products", Rule::authenticated().unscoped())
        .build()
        .unwrap();
    let inner = || Router::new().route("/orders", get(async || "")).route("/products", any(async || ""));
    let expired = KeyRecord::builder("old".parse().unwrap(), tower_authz::ApiKey::new("a-key-that-is-over").digest())
        .grant(clerk())
        .expires_at(std::time::UNIX_EPOCH)
        .build();
    let unavailable = MoodyStore { mood: Mood::Unavailable, keys: store(clerk()) };
    let later =
        MoodyStore { mood: Mood::Later, keys: store_of([record("k", KEY, clerk()), expired], Directory::default()) };
    for (keys, method, path, key, status, route, hint) in [
        (&later, "GET", "/api/orders", KEY, 404, Some("/api/orders"), Some("/orders")),
        (&later, "POST", "/api/products", KEY, 405, Some("/api/products"), None),
        (&later, "GET", "/nowhere", KEY, 404, None, None),
        (&later, "GET", "/api/products", "a-key-that-is-over", 401, Some("/api/products"), None),
        (&later, "GET", "/api/products", "a-key-of-nobody-else", 401, Some("/api/products"), None),
        (&later, "GET", "/api/products", "short", 401, Some("/api/products"), None),
        (&later, "GET", "/api/products", "", 401, Some("/api/products"), None),
        (&later, "GET", "/api/orders", "short", 401, Some("/api/orders"), None),
        (&unavailable, "GET", "/api/products", KEY, 503, Some("/api/products"), None),
    ] {
        for ready in [false, true] {
            // The same twice: the second of the constant refusals is a copy.
            let keys = MoodyStore {
                mood: if ready && keys.mood == Mood::Later { Mood::AtOnce } else { keys.mood },
                ..keys.clone()
            };
            let authz = match keys.mood {
                // Keys in memory are judged where they stand.
                Mood::AtOnce => Authz::new(keys.keys, policy.clone()),
                _ => Authz::new(keys, policy.clone()),
            };
            let app = Router::new().nest("/api", inner()).layer(authz);
            for path in ["/api/orders", path, path] {
                let request = Request::builder().method(method).uri(path).header("x-api-key", key);
                let mut request = request.body(Body::empty()).unwrap();
                if key.is_empty() {
                    request.headers_mut().clear();
                }
                let response = app.clone().oneshot(request).await.unwrap();
                let denial = response.extensions().get::<Denial>().unwrap().clone();
                let log = denial.to_string();
                let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
                assert!(!String::from_utf8_lossy(&body).contains("/api"), "{body:?}");
                if path == "/api/orders" && route != Some("/api/orders") {
                    continue;
                }
                assert_eq!(denial.status(), status, "{method} {path} {key}");
                assert_eq!(denial.route(), route, "{method} {path} {key}");
                assert_eq!(log.contains("prefix of a nested router"), hint.is_some(), "{log}");
                assert!(hint.is_none_or(|hint| log.contains(&format!("one for {hint}:"))), "{log}");
            }
        }
    }
}
