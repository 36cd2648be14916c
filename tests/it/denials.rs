//! Which requests are denied, and how the denial is rendered.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, HOST},
};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};
use tower_authz::{
    Access, ApiKey, AuthenticateLayer, Authz, Cause, ClientAddress, Denial, Digest, Dimension, Directory, Grant, Head,
    KeyFormats, KeyRecord, KeyRecordBuilder, PeerAddress, Permission, Policy, Principal, RequireLayer, Rule, Source,
    Sources, TenantHosts,
    check::{EntityRef, Kind, Origin, RestrictedNetworks},
    reject::Empty,
    store::{KeyStore, Lookup, MemoryStore},
};

use crate::support::{Handler, KEY, find, get, products_reader, send, store, store_of};

/// Returns a store with one key of each status.
fn keys() -> MemoryStore {
    let now = SystemTime::now();
    let minute = Duration::from_secs(60);
    let key = |id: &str| {
        KeyRecord::builder(id.parse().unwrap(), ApiKey::new(format!("{id}-0123456789")).digest())
            .grant(products_reader())
    };
    store_of(
        [
            key("active").build(),
            key("expired").expires_at(now - minute).build(),
            key("early").not_before(now + minute).build(),
            key("revoked").revoked_at(now - minute).build(),
        ],
        Directory::default(),
    )
}

#[tokio::test]
async fn every_401_is_byte_identical_and_the_denial_tells_them_apart() {
    let handler = Handler::default();
    let service = AuthenticateLayer::new(keys()).layer(handler.clone());
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[], "missing_credential"),
        (&[("authorization", "Bearer short")], "malformed_credential"),
        (&[("authorization", "Basic dXNlcjpwYXNz")], "malformed_credential"),
        (
            &[("authorization", "Bearer active-0123456789"), ("authorization", "Bearer active-0123456789")],
            "duplicate_credential",
        ),
        (&[("authorization", "Bearer active-0123456780")], "unknown_key"),
        (&[("authorization", "Bearer expired-0123456789")], "expired"),
        (&[("x-api-key", "early-0123456789")], "not_yet_valid"),
        (&[("x-access-token", "revoked-0123456789")], "revoked"),
        (&[("x-api-key", "nonsense"), ("x-access-token", "active-0123456789")], "malformed_credential"),
    ];
    let mut seen = Vec::new();
    for (headers, code) in cases {
        let mut request = Request::get("/products");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = service.clone().oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let denial = response.extensions().get::<Denial>().unwrap().clone();
        assert_eq!(denial.cause().code(), code, "{headers:?}");
        let (parts, body) = response.into_parts();
        assert!(parts.headers.contains_key("www-authenticate"));
        seen.push((parts.status, format!("{:?}", parts.headers), body.collect().await.unwrap().to_bytes()));
    }
    assert_eq!(seen[0].0, StatusCode::UNAUTHORIZED);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    assert_eq!(handler.calls(), 0);
}

#[tokio::test]
async fn each_check_works_as_a_layer_of_its_own() {
    async fn outcome(
        grant: Grant,
        check: impl tower_authz::Check + Clone,
        request: Request<Full<Bytes>>,
    ) -> StatusCode {
        let service = ServiceBuilder::new()
            .layer(AuthenticateLayer::new(store(grant)))
            .layer(RequireLayer::new(check))
            .service(Handler::default());
        send(service, request).await.0
    }
    let grant =
        || Grant::builder().read("products").from_networks(["192.0.2.0/24"]).from_origins(["https://a.example"]);
    let from = |ip: &str| {
        let mut request = get("/products");
        request.extensions_mut().insert(PeerAddress((ip.parse::<std::net::IpAddr>().unwrap(), 1).into()));
        request
    };
    let with_origin = |origins: &[&str]| {
        let mut request = from("192.0.2.7");
        for origin in origins {
            request.headers_mut().append("origin", origin.parse().unwrap());
        }
        request
    };
    let built = || grant().build().unwrap();
    assert_eq!(outcome(built(), Permission::read("products"), from("192.0.2.7")).await, 200);
    assert_eq!(outcome(built(), Permission::write("products"), from("192.0.2.7")).await, 403);
    assert_eq!(outcome(built(), Permission::read("products"), get("/")).await, 403, "the networks of a key are kept");
    assert_eq!(outcome(built(), Kind::new("admin"), from("192.0.2.7")).await, 403);
    assert_eq!(outcome(built(), RestrictedNetworks, from("192.0.2.7")).await, 200);
    assert_eq!(outcome(built(), RestrictedNetworks, from("198.51.100.7")).await, 403);
    assert_eq!(outcome(built(), RestrictedNetworks, get("/")).await, 403, "no address is known");
    assert_eq!(outcome(Grant::default(), RestrictedNetworks, from("192.0.2.7")).await, 403);
    assert_eq!(outcome(built(), Origin::exact(), with_origin(&["https://a.example"])).await, 200);
    for origins in [
        &[][..],
        &["https://b.example"],
        &["https://a.example", "https://a.example"],
        &["null"],
        &["https://a.example/"],
    ] {
        assert_eq!(outcome(built(), Origin::exact(), with_origin(origins)).await, 403, "{origins:?}");
    }
    assert_eq!(outcome(built(), |_: &Head<'_>| Err(Denial::refused("never")), get("/")).await, 403);
    assert_eq!(outcome(built(), Rule::resource("products").unscoped(), from("192.0.2.7")).await, 200);
    assert_eq!(outcome(built(), Rule::resource("products").unscoped(), get("/")).await, 403, "a rule keeps networks");
}

#[tokio::test]
async fn a_missing_principal_is_told_to_the_developer() {
    let handler = Handler::default();
    let service = RequireLayer::new(Permission::read("products")).layer(handler.clone());
    let (status, body) = send(service, get("/products")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.contains("put AuthenticateLayer outside"), "{body}");
    assert_eq!(handler.calls(), 0);
}

#[tokio::test]
async fn methods_are_read_or_write_or_refused() {
    let policy = || {
        Policy::builder()
            .route("/products", Rule::resource("products").unscoped())
            .route("/products/search", Rule::resource("products").unscoped().method(Method::POST, Access::Read))
            .method_route(Method::GET, "/shops", Rule::resource("products").unscoped())
            .route("/export", Rule::resource("products").unscoped().method(Method::GET, Access::Write))
            .public("/health")
            .build()
            .unwrap()
    };
    for (method, path, status) in [
        ("GET", "/products", 200),
        ("HEAD", "/products", 200),
        ("OPTIONS", "/products", 200),
        ("POST", "/products", 403),
        ("DELETE", "/products", 403),
        ("TRACE", "/products", 405),
        ("CONNECT", "/products", 405),
        ("get", "/products", 405),
        ("PROPFIND", "/products", 405),
        ("POST", "/products/search", 200),
        ("PUT", "/products/search", 403),
        ("HEAD", "/shops", 200),
        ("POST", "/shops", 405),
        ("GET", "/health", 200),
        ("BREW", "/health", 405),
        ("GET", "/elsewhere", 404),
        ("GET", "/products/", 404),
        ("GET", "/export", 403),
        ("HEAD", "/export", 403),
    ] {
        let service = Authz::new(store(products_reader()), policy()).layer(Handler::default());
        let mut request = get(path);
        *request.method_mut() = method.parse().unwrap();
        request.headers_mut().insert("x-http-method-override", "GET".parse().unwrap());
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers().contains_key("allow"), status != 200, "{method} {path}");
    }
}

#[tokio::test]
async fn public_routes_look_at_no_key() {
    let policy = Policy::builder().public("/health").build().unwrap();
    let service = Authz::new(store(products_reader()), policy).layer(Handler::default());
    let garbage =
        Request::get("/health").header(AUTHORIZATION, "Bearer garbage").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(send(service.clone(), garbage).await.0, StatusCode::OK);
    let elsewhere = Request::get("/healthy").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(send(service, elsewhere).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_principal_cannot_be_brought_along() {
    use std::sync::Arc;
    use tower_authz::{ClientAddress, Digest, Principal};

    let record = KeyRecord::builder("forged".parse().unwrap(), Digest::from_key(b"x")).grant(products_reader()).build();
    let forged = Principal::new(Arc::new(record), Directory::default(), ClientAddress::UNKNOWN);
    let policy = Policy::builder().public("/health").route("/p", Rule::authenticated()).build().unwrap();
    let service =
        Authz::new(store(products_reader()), policy).layer(tower::service_fn(async |request: Request<Full<Bytes>>| {
            let key = request.extensions().get::<Principal>().map(|principal| principal.key_id().to_string());
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(key.unwrap_or_default())))
        }));
    let with = |mut request: Request<Full<Bytes>>| {
        request.extensions_mut().insert(forged.clone());
        request
    };
    assert_eq!(send(service.clone(), with(get("/health"))).await.1, "");
    assert_eq!(send(service.clone(), with(get("/p"))).await.1, "test-key");
    let bare = with(Request::get("/p").body(Full::default()).unwrap());
    assert_eq!(send(service, bare).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_denial_names_every_cause() {
    let grant = Grant::builder().read("orders").only("shop", ["de"]).from_networks(["192.0.2.0/24"]).build().unwrap();
    let rule = Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop")).kind("admin");
    let policy = Policy::builder().route("/shops/{shop}/orders", rule).build().unwrap();
    let service = Authz::new(store(grant), policy).layer(Handler::default());
    let mut request = get("/shops/ch/orders");
    *request.method_mut() = Method::PUT;
    let response = service.oneshot(request).await.unwrap();
    let denial = response.extensions().get::<Denial>().unwrap();
    let codes: Vec<_> = denial.causes().map(Cause::code).collect();
    assert_eq!(codes, ["wrong_kind", "missing_permission", "unknown_address", "entity_not_allowed"]);
    assert_eq!(denial.key_id().unwrap().as_str(), "test-key");
    assert_eq!(denial.route(), Some("/shops/{shop}/orders"));
}

#[tokio::test]
async fn a_concealed_rule_looks_like_no_rule() {
    let rule = || Rule::resource("secrets").unscoped().concealed();
    let policy = Policy::builder().route("/secrets", rule()).build().unwrap();
    let service = Authz::new(store(products_reader()), policy).layer(Handler::default());
    let hidden = send(service.clone(), get("/secrets")).await;
    let missing = send(service, get("/nothing")).await;
    assert_eq!(hidden, missing);
    assert_eq!(hidden.0, StatusCode::NOT_FOUND);
}

/// A key without permission learns nothing of a concealed route, whichever other error the request has.
#[tokio::test]
async fn a_concealed_rule_tells_nothing_of_its_ids_and_methods() {
    let rule = || Rule::resource("secrets").scoped(EntityRef::from_path(Dimension::SHOP, "shop")).concealed();
    let policy = Policy::builder()
        .route("/secrets/{shop}", rule())
        .method_route(Method::GET, "/few/{shop}", rule())
        .method_route(Method::PUT, "/few/{shop}", Rule::resource("secrets").unscoped())
        .build()
        .unwrap();
    let service = Authz::new(store(products_reader()), policy).layer(Handler::default());
    let mut seen = std::collections::HashSet::new();
    for (method, path) in [
        ("GET", "/secrets/de"),
        ("GET", "/secrets/DE"),
        ("TRACE", "/secrets/de"),
        ("GET", "/few/de"),
        ("POST", "/few/de"),
        ("TRACE", "/few/de"),
        ("GET", "/nothing"),
        ("TRACE", "/nothing"),
    ] {
        let mut request = get(path);
        *request.method_mut() = method.parse().unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        seen.insert((response.status(), format!("{:?}", response.headers())));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen.iter().next().unwrap().0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_deprecated_source_answers_every_bad_key_alike() {
    let legacy = Source::header("x-api-key".parse().unwrap()).deprecated(std::time::UNIX_EPOCH);
    let service = AuthenticateLayer::new(keys()).with_sources([Source::bearer(), legacy]).layer(Handler::default());
    for key in ["short", "unknown-0123456789", "revoked-0123456789"] {
        let request = Request::get("/").header("x-api-key", key).body(Full::<Bytes>::default()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["deprecation"]),
            (StatusCode::UNAUTHORIZED, &"@0".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn networks_before_authentication_are_told_of_the_proxy() {
    use tower_authz::{Networks, TrustedProxies, check::WithinNetworks};

    let office = || WithinNetworks::new(Networks::parse(["192.0.2.0/24"]).unwrap());
    let proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    let ask = async |check: WithinNetworks, forwarded: &str| {
        let mut request = get("/");
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        request.extensions_mut().insert(PeerAddress(([10, 0, 0, 1], 1).into()));
        send(RequireLayer::new(check).layer(Handler::default()), request).await.0.as_u16()
    };
    assert_eq!(ask(office().with_trusted_proxies(proxies.clone()), "192.0.2.7").await, 200);
    assert_eq!(ask(office().with_trusted_proxies(proxies), "198.51.100.7").await, 403);
    assert_eq!(ask(office(), "192.0.2.7").await, 403, "a header that nobody vouches for");
}

#[tokio::test]
async fn origins_can_be_compared_as_browsers_write_them() {
    let ask = async |known: &str, sent: &str, check: Origin| {
        let grant = Grant::builder().from_origins([known]).build().unwrap();
        let service = ServiceBuilder::new()
            .layer(AuthenticateLayer::new(store(grant)))
            .layer(RequireLayer::new(check))
            .service(Handler::default());
        let mut request = get("/");
        request.headers_mut().insert("origin", sent.parse().unwrap());
        send(service, request).await.0 == 200
    };
    for (known, sent) in [
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example", "https://Shop.Example:443"),
        ("http://shop.example", "HTTP://shop.example:80"),
    ] {
        assert!(ask(known, sent, Origin::normalized()).await, "{known} {sent}");
        assert!(!ask(known, sent, Origin::exact()).await, "{known} {sent}");
    }
    for (known, sent) in [
        ("https://shop.example", "http://shop.example"),
        ("https://shop.example", "https://shop.example:80"),
        ("https://shop.example", "https://shop.example.evil.com"),
        ("https://shop.example", "https://evil.com@shop.example"),
        ("https://shop.example", "https://shop.example/x"),
        ("https://shop.example", "null"),
    ] {
        assert!(!ask(known, sent, Origin::normalized()).await, "{known} {sent}");
    }
}

#[tokio::test]
async fn credentials_are_hidden_from_the_handler_or_taken_away() {
    let echo = || {
        tower::service_fn(async |request: Request<Full<Bytes>>| {
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(format!("{:?}", request.headers()))))
        })
    };
    let request = || {
        let mut request = get("/");
        request.headers_mut().insert("x-api-key", "another-secret-key".parse().unwrap());
        request
    };
    let (_, shown) = send(AuthenticateLayer::new(store(products_reader())).layer(echo()), request()).await;
    assert!(shown.contains("Sensitive") && !shown.contains(KEY) && !shown.contains("another-secret-key"), "{shown}");
    let layer = AuthenticateLayer::new(store(products_reader())).remove_credential();
    assert_eq!(send(layer.layer(echo()), request()).await.1, "{}");
}

#[tokio::test]
async fn a_public_route_hides_credentials_too() {
    let policy = Policy::builder().public("/").build().unwrap();
    let echo = tower::service_fn(async |request: Request<Full<Bytes>>| {
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(format!("{:?}", request.headers()))))
    });
    let authz = Authz::new(store(products_reader()), policy);
    // The host may be any on a public route, including one that names no tenant.
    let tenants = authz.clone().with_tenant_hosts(TenantHosts::new("{tenant}.example.com").unwrap());
    for host in [None, Some("10.0.0.5"), Some("a..b")] {
        for (authz, removed) in [(&authz, false), (&tenants, false), (&tenants.clone().remove_credential(), true)] {
            let mut request = get("/");
            request.headers_mut().extend(host.map(|host| (HOST, host.parse().unwrap())));
            let (status, shown) = send(authz.clone().layer(echo), request).await;
            assert_eq!(status, 200);
            assert!(!shown.contains(KEY) && shown.contains("authorization") != removed, "{host:?} {shown}");
        }
    }
    let request = get("/");
    assert!(!format!("{:?}", Head::new(&request)).contains(KEY));
}

/// The handler of a public route sees the client that the proxy names, and not the proxy.
#[tokio::test]
async fn a_public_route_knows_its_client_behind_a_proxy() {
    let policy = Policy::builder().public("/").build().unwrap();
    let message = tower::service_fn(async |request: Request<Full<Bytes>>| {
        let client = request.extensions().get::<ClientAddress>().copied();
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(format!("{client:?}"))))
    });
    let proxies = tower_authz::TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    let service = Authz::new(store(products_reader()), policy).with_trusted_proxies(proxies).layer(message);
    let mut request = get("/");
    request.extensions_mut().insert(PeerAddress(([10, 0, 0, 1], 4711).into()));
    request.headers_mut().insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
    let (_, shown) = send(service, request).await;
    assert!(shown.contains("192.0.2.7"), "{shown}");
}

/// A policy that is a check inside of a rule matches the path itself, independently of the route that the outer one
/// has matched.
#[tokio::test]
async fn a_policy_inside_of_a_rule_finds_its_own_routes() {
    let inner = Policy::builder()
        .route("/products", Rule::resource("products").unscoped())
        .route("/orders", Rule::resource("orders").unscoped())
        .build()
        .unwrap();
    let outer = Rule::authenticated().unscoped().check(inner);
    let policy = Policy::builder().route("/{*rest}", outer).build().unwrap();
    let service = Authz::new(store(products_reader()), policy).layer(Handler::default());
    for (path, status) in [("/products", 200), ("/orders", 403), ("/elsewhere", 404)] {
        assert_eq!(send(service.clone(), get(path)).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn a_rule_inside_of_a_rule_may_leave_no_duty() {
    let inner = Rule::authenticated().deferred(Dimension::SHOP);
    let policy = Policy::builder().route("/", Rule::authenticated().check(inner)).build().unwrap();
    let handler = Handler::default();
    let service = Authz::new(store(products_reader()), policy).layer(handler.clone());
    assert_eq!(send(service, get("/")).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(handler.calls(), 0);
}

#[tokio::test]
async fn a_challenge_of_ones_own_tells_no_more_than_the_default() {
    let own = Source::header("x-acme-key".parse().unwrap());
    let service = AuthenticateLayer::new(keys()).with_sources([own]).layer(Handler::default());
    let mut seen = std::collections::HashSet::new();
    for key in ["unknown-0123456789", "revoked-0123456789", "expired-0123456789", "early-0123456789", "short"] {
        let request = Request::get("/").header("x-acme-key", key).body(Full::<Bytes>::default()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        seen.insert(format!("{:?}", response.headers()));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test]
async fn sources_and_challenge_can_be_chosen() {
    let own = || Source::header("x-acme-key".parse().unwrap());
    let layer = AuthenticateLayer::new(store(products_reader())).with_sources([own()]).with_rejection(Empty);
    let service = layer.layer(Handler::default());
    let good = Request::get("/").header("x-acme-key", KEY).body(Full::<Bytes>::default()).unwrap();
    assert_eq!(send(service.clone(), good).await.0, StatusCode::OK);
    let response = service.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["www-authenticate"], r#"ApiKey realm="api", header="x-acme-key""#);
    drop(Sources::from(vec![own()]));
}

#[tokio::test]
async fn expiry_follows_the_clock_that_is_given() {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let key = KeyRecord::builder("k".parse().unwrap(), ApiKey::new(KEY).digest()).expires_at(end).build();
    let now = Arc::new(Mutex::new(end - Duration::from_nanos(1)));
    let clock = Arc::clone(&now);
    let layer =
        AuthenticateLayer::new(store_of([key], Directory::default())).with_clock(move || *clock.lock().unwrap());
    let service = layer.layer(Handler::default());
    assert_eq!(send(service.clone(), get("/")).await.0, StatusCode::OK);
    *now.lock().unwrap() = end;
    assert_eq!(send(service, get("/")).await.0, StatusCode::UNAUTHORIZED);
}

/// Every check of a request sees the time that the gate decides by: a clock of a test holds for the pre-check, for rules,
/// and for a layer further inside.
#[tokio::test]
async fn checks_see_the_time_that_the_gate_decides_by() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let seen = Arc::clone(&seen);
        move |head: &Head<'_>| {
            seen.lock().unwrap().push((name, head.now()));
            Ok(())
        }
    };
    let rule = || Rule::resource("products").unscoped().check(note("rule"));
    let policy = Policy::builder().route("/", rule()).build().unwrap();
    let one = Authz::new(store(products_reader()), policy).with_clock(move || time);
    let inside = RequireLayer::new(note("inside"));
    let service = one.layer(inside.layer(Handler::default()));
    assert_eq!(send(service, get_with_key("/")).await.0, StatusCode::OK);
    let outer =
        AuthenticateLayer::new(store(products_reader())).with_pre_check(note("before")).with_clock(move || time);
    let service = outer.layer(RequireLayer::new(rule()).layer(Handler::default()));
    assert_eq!(send(service, get_with_key("/")).await.0, StatusCode::OK);
    let all: Vec<_> = seen.lock().unwrap().drain(..).collect();
    assert_eq!(all, [("rule", time), ("inside", time), ("before", time), ("rule", time)]);

    // Without a clock of its own it is the time of the system, to the second.
    let before = SystemTime::now() - Duration::from_secs(1);
    let service =
        AuthenticateLayer::new(store(products_reader())).layer(RequireLayer::new(rule()).layer(Handler::default()));
    assert_eq!(send(service, get_with_key("/")).await.0, StatusCode::OK);
    let (_, at) = seen.lock().unwrap()[0];
    assert!(before <= at && at <= SystemTime::now(), "{at:?}");
    let now = Head::new(&get("/")).now();
    assert!(before <= now && now <= SystemTime::now(), "{now:?}");
}

/// An explanation is by the time that it was asked for, and an operation by the present: a principal may be kept for hours.
#[tokio::test]
async fn explanations_and_operations_have_their_own_time() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let rule = Rule::resource("products").unscoped().check(move |head: &Head<'_>| {
        note.lock().unwrap().push(head.now());
        Ok(())
    });
    let policy = Policy::builder().route("/", rule).build().unwrap();
    let kept = Arc::new(Mutex::new(None));
    let service = |authenticate: AuthenticateLayer| {
        let kept = Arc::clone(&kept);
        authenticate.layer(tower::service_fn(move |request: Request<Full<Bytes>>| {
            *kept.lock().unwrap() = request.extensions().get::<Principal>().cloned();
            std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default())))
        }))
    };
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let by_system = || AuthenticateLayer::new(store(products_reader()));
    for (layer, expected) in [(by_system(), None), (by_system().with_clock(move || time), Some(time))] {
        assert_eq!(send(service(layer), get_with_key("/")).await.0, StatusCode::OK);
        let principal = kept.lock().unwrap().take().unwrap();
        let asked = time + Duration::from_secs(7);
        assert!(policy.explain(&principal, &Head::new(&get("/")), asked).is_allowed());
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let before = SystemTime::now() - Duration::from_secs(1);
        policy.authorize_operation(&principal, &Method::GET, "/").unwrap();
        let all: Vec<_> = seen.lock().unwrap().drain(..).collect();
        assert_eq!(all[0], asked);
        match expected {
            Some(time) => assert_eq!(all[1], time),
            None => assert!(before <= all[1], "{:?}", all[1]),
        }
    }
}

fn get_with_key(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("x-api-key", KEY).body(Full::default()).unwrap()
}

/// A user check sees the authenticated principal, but no principal that an outer layer has inserted and no key in
/// anything that it may print. This holds for one service and for two.
#[tokio::test]
async fn checks_of_ones_own_see_the_caller_and_no_key() {
    let seen = Arc::new(Mutex::new(String::new()));
    let rule = || {
        let seen = Arc::clone(&seen);
        Rule::resource("products").unscoped().check(move |head: &Head<'_>| {
            let caller = head.extensions().get::<Principal>().map(|principal| principal.key_id().to_string());
            *seen.lock().unwrap() = format!("{caller:?} {:?} {:?}", head.principal().unwrap().key_id(), head.headers());
            Ok(())
        })
    };
    let planted = || {
        let record = KeyRecord::builder("planted".parse().unwrap(), Digest::from_key(b"x")).build();
        Principal::new(record.into(), Directory::default(), ClientAddress::UNKNOWN)
    };
    let policy = || Policy::builder().route("/products", rule()).build().unwrap();
    let one = Authz::new(store(products_reader()), policy()).layer(Handler::default());
    let removing = Authz::new(store(products_reader()), policy()).remove_credential().layer(Handler::default());
    let two = ServiceBuilder::new()
        .layer(AuthenticateLayer::new(store(products_reader())))
        .layer(RequireLayer::new(rule()))
        .service(Handler::default());
    let mut messages = Vec::new();
    for service in [BoxCloneSyncService::new(one), BoxCloneSyncService::new(removing), BoxCloneSyncService::new(two)] {
        let mut request = get("/products");
        request.extensions_mut().insert(planted());
        assert_eq!(send(service, request).await.0, 200);
        messages.push(seen.lock().unwrap().clone());
    }
    for message in &messages {
        assert!(message.starts_with(r#"Some("test-key") KeyId(test-key)"#), "{message}");
        assert!(!message.contains(KEY) && !message.contains("planted"), "{message}");
    }
    assert!(messages[0].contains("Sensitive") && !messages[1].contains("Sensitive"), "{messages:?}");
    // The pre-check sees no principal at all, and it sees that there is a key, even if that is removed later.
    let pre_check = |head: &Head<'_>| {
        let somebody = head.principal().is_some() || head.extensions().get::<Principal>().is_some();
        match (somebody, head.headers().get("authorization")) {
            (false, Some(key)) if key.is_sensitive() => Ok(()),
            _ => Err(Denial::refused("somebody, or no key")),
        }
    };
    let mut request = get("/products");
    request.extensions_mut().insert(planted());
    let layer = AuthenticateLayer::new(store(products_reader())).remove_credential().with_pre_check(pre_check);
    assert_eq!(send(layer.layer(Handler::default()), request).await.0, 200);
}

/// All user code that inspects a request finds the principal where handlers do, and a principal that is missing leads
/// to a denial.
#[tokio::test]
async fn functions_and_shadows_find_the_caller_too() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = |head: &Head<'_>, seen: &Mutex<Vec<Option<String>>>| {
        let caller = head.extensions().get::<Principal>();
        seen.lock().unwrap().push(caller.map(|principal| principal.key_id().to_string()));
    };
    let rule = || Rule::resource("products").unscoped();
    let policy = |rule| Policy::builder().route("/products", rule).build().unwrap();
    let (own, others) = (Arc::clone(&seen), Arc::clone(&seen));
    let tie = EntityRef::from_fn(Dimension::SHOP, move |head| {
        look(head, &own);
        vec!["de".to_owned()]
    });
    let candidate = rule().check(move |head: &Head<'_>| {
        look(head, &others);
        Ok(())
    });
    for policy in [policy(rule().scoped(tie)), policy(rule()).with_shadow(policy(candidate), |_| {})] {
        let service = Authz::new(store(products_reader()), policy).layer(Handler::default());
        assert_eq!(send(service, get("/products")).await.0, 200);
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [Some("test-key".to_owned())]);
    }
    let none = policy(rule().scoped(EntityRef::from_fn(Dimension::SHOP, |_| Vec::new())));
    let service = Authz::new(store(products_reader()), none).layer(Handler::default());
    assert_eq!(send(service, get("/products")).await.0, 400);
}

/// The coarse clock suffices for most requests, but not for those in the second in which a key becomes valid or
/// expires.
#[tokio::test]
async fn a_key_ends_and_begins_at_its_moment_by_the_clock_of_the_system() {
    let moment = SystemTime::now() + Duration::from_millis(300);
    let of = |change: fn(KeyRecordBuilder, SystemTime) -> KeyRecordBuilder| {
        let key = KeyRecord::builder("k".parse().unwrap(), ApiKey::new(KEY).digest());
        let store = store_of([change(key, moment).build()], Directory::default());
        AuthenticateLayer::new(store).layer(Handler::default())
    };
    let ends = of(|key, moment| key.expires_at(moment));
    let begins = of(|key, moment| key.not_before(moment));
    let both = async || {
        let (ends, begins) = (send(ends.clone(), get("/")).await.0, send(begins.clone(), get("/")).await.0);
        [ends.as_u16(), begins.as_u16()]
    };
    let before = both().await;
    if SystemTime::now() < moment {
        assert_eq!(before, [200, 401]);
    }
    tokio::time::sleep(moment.duration_since(SystemTime::now()).unwrap_or_default()).await;
    assert_eq!(both().await, [401, 200], "not a millisecond late");
}

/// The handler gets no principal, not even one of an outer layer, and the rules are enforced as usual.
#[tokio::test]
async fn without_a_principal_the_rules_hold_and_the_handler_hears_of_nobody() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = tower::service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<Full<Bytes>>| {
            seen.lock().unwrap().push(request.extensions().get::<Principal>().is_some());
            std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Full::<Bytes>::default())))
        }
    });
    let caller = Arc::new(Mutex::new(String::new()));
    let asks = {
        let caller = Arc::clone(&caller);
        move |head: &Head<'_>| {
            *caller.lock().unwrap() = head.principal().unwrap().key_id().to_string();
            Ok(())
        }
    };
    let policy = Policy::builder()
        .route("/products", Rule::resource("products").unscoped().check(asks))
        .route("/orders", Rule::resource("orders").unscoped())
        .route("/shops", Rule::resource("products").filtered(Dimension::SHOP))
        .build()
        .unwrap();
    let service = Authz::new(store(products_reader()), policy).without_principal().layer(handler);
    for (path, status) in [("/products", 200), ("/orders", 403), ("/shops", 500)] {
        let mut request = get(path);
        let planted = KeyRecord::builder("planted".parse().unwrap(), Digest::from_key(b"x")).build();
        request.extensions_mut().insert(Principal::new(planted.into(), Directory::default(), ClientAddress::UNKNOWN));
        assert_eq!(send(service.clone(), request).await.0, status, "{path}");
    }
    let refused = service.oneshot(get("/shops")).await.unwrap();
    let denial = refused.extensions().get::<Denial>().unwrap();
    assert_eq!(denial.key_id().unwrap().as_str(), "test-key", "the log knows whose it was");
    assert_eq!(*seen.lock().unwrap(), [false], "only what was admitted, and told of nobody");
    assert_eq!(*caller.lock().unwrap(), "test-key");
}

/// A denial that a handler returns is rendered like one of the layer: with the key id, with a challenge for a bearer,
/// and without a body for HEAD.
#[tokio::test]
async fn a_raised_denial_is_said_in_full_by_one_service_and_by_two() {
    let handler = tower::service_fn(async |_: Request<Full<Bytes>>| {
        Ok::<_, std::convert::Infallible>(axum::response::IntoResponse::into_response(Denial::refused("no")))
    });
    let policy = Policy::builder().route("/products", Rule::resource("products").unscoped()).build().unwrap();
    let one = Authz::new(store(products_reader()), Arc::new(policy)).layer(handler);
    let finishing = Policy::builder().finish_in_flight().route("/products", Rule::resource("products").unscoped());
    let finishing = Authz::new(store(products_reader()), finishing.build().unwrap()).layer(handler);
    let two = ServiceBuilder::new()
        .layer(AuthenticateLayer::new(store(products_reader())))
        .layer(RequireLayer::new(Rule::resource("products").unscoped()))
        .service(handler);
    for service in [BoxCloneSyncService::new(one), BoxCloneSyncService::new(finishing), BoxCloneSyncService::new(two)] {
        let request = Request::head("/products").header(AUTHORIZATION, format!("Bearer {KEY}"));
        let response = service.oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 403);
        assert!(response.headers()["www-authenticate"].to_str().unwrap().contains("insufficient_scope"));
        assert_eq!(response.extensions().get::<Denial>().unwrap().key_id().unwrap().as_str(), "test-key");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

/// A credential that is removed is gone before the rule looks for an entity, wherever the keys are.
#[tokio::test]
async fn a_removed_credential_is_no_entity() {
    let header = || http::HeaderName::from_static("x-api-key");
    let keys = || store(Grant::builder().read("products").only("shop", [KEY]).build().unwrap());
    let rule = || Rule::resource("products").scoped(EntityRef::from_header(Dimension::SHOP, header()));
    let policy = || Policy::builder().route("/products", rule()).build().unwrap();
    let asked = || Request::get("/products").header(header(), KEY).body(Full::<Bytes>::default()).unwrap();
    let (memory, other) = (Authz::new(keys(), policy()), Authz::new(Yielding(keys()), policy()));
    for (authz, status) in [
        (memory.clone(), 200),
        (other.clone(), 200),
        (memory.remove_credential(), 400),
        (other.remove_credential(), 400),
    ] {
        assert_eq!(send(authz.layer(Handler::default()), asked()).await.0, status);
    }
}

/// A store that answers later.
struct Yielding(MemoryStore);

impl KeyStore for Yielding {
    fn lookup(&self, digest: &Digest) -> Lookup {
        Lookup::pending(find(&self.0, digest))
    }

    fn formats(&self) -> KeyFormats {
        self.0.formats()
    }
}
