//! Tests the other features of a policy: it explains, audits, authorizes operations in a body, evaluates a candidate
//! in its shadow, and lets preflight requests through.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tower::{Layer as _, ServiceExt as _};
use tower_authz::{
    Access, Authz, CleanPath, ClientAddress, Denial, Digest, Dimension, Directory, Grant, Head, IdGrammar, KeyFile,
    KeyRecord, Permission, Policy, Principal, Rule,
    check::EntityRef,
    store::{MemoryStore, StoreSettings},
};

use crate::support::{Handler, KEY, format, get, products_reader, record, send, store};

fn policy() -> Policy {
    let shop = || EntityRef::from_path(Dimension::SHOP, "shop");
    Policy::builder()
        .public("/health")
        .route("/products", Rule::resource("products").unscoped())
        .route("/shops/{shop}", Rule::resource("shops").scoped(shop()).kind("admin"))
        .route("/shops", Rule::resource("shops").filtered(Dimension::SHOP))
        .build()
        .unwrap()
}

fn principal(grant: Grant, expires_at: Option<SystemTime>) -> Principal {
    let record =
        KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant).expires_at(expires_at).build();
    Principal::new(Arc::new(record), Directory::default(), ClientAddress::UNKNOWN)
}

#[test]
fn an_explanation_has_every_check_with_its_verdict() {
    let grant = Grant::builder().read("shops").only("shop", ["de"]).only("company", [1]).build().unwrap();
    let expired = SystemTime::now() - Duration::from_secs(1);
    let request = Request::get("/shops/ch").body(()).unwrap();
    let explanation = policy().explain(&principal(grant, Some(expired)), &Head::new(&request), SystemTime::now());
    assert!(!explanation.is_allowed());
    assert_eq!(
        explanation.to_string(),
        "denied by the rule of /shops/{shop}
  DENY  status: the key is expired
  ok    permission shops:read
  DENY  kind: a key of kind admin is required
  DENY  this shop: the key has no access to this shop
  ok    shop declared
  ok    company declared
  ok    networks"
    );
    let nowhere = Request::get("/nowhere").body(()).unwrap();
    let explanation = policy().explain(&principal(Grant::default(), None), &Head::new(&nowhere), SystemTime::now());
    assert_eq!(explanation.findings()[1].verdict().unwrap_err().code(), "no_rule");
}

/// The explanation must come from the code that enforces, so that the two cannot differ.
#[tokio::test]
async fn an_explanation_agrees_with_what_is_enforced() {
    let grants = [
        products_reader(),
        Grant::builder().write("products").read("shops").build().unwrap(),
        Grant::builder().read("shops").only("shop", ["de"]).build().unwrap(),
        Grant::builder().read("products").from_networks(["192.0.2.0/24"]).build().unwrap(),
    ];
    for grant in grants {
        for (method, path) in
            [("GET", "/products"), ("POST", "/products"), ("TRACE", "/products"), ("GET", "/x"), ("GET", "/shops/de")]
        {
            let mut request = get(path);
            *request.method_mut() = method.parse().unwrap();
            let explained =
                policy().explain(&principal(grant.clone(), None), &Head::new(&request), SystemTime::now()).is_allowed();
            let service = Authz::new(store(grant.clone()), policy()).layer(Handler::default());
            assert_eq!(send(service, request).await.0 == StatusCode::OK, explained, "{method} {path} {grant:?}");
        }
    }
}

#[test]
fn carried_operations_are_decided_by_the_same_rules() {
    let clerk = principal(Grant::builder().write("products").read("shops").only("shop", ["de"]).build().unwrap(), None);
    let anyone = principal(Grant::builder().read("shops").build().unwrap(), None);
    let status = |principal: &Principal, method: &Method, path: &str| {
        policy().authorize_operation(principal, method, path).map_or_else(|denial| denial.status().as_u16(), |()| 200)
    };
    for (method, path, expected) in [
        (Method::POST, "/products", 200),
        (Method::POST, "/products?dry=1", 200),
        (Method::GET, "/shops/ch", 403),
        (Method::GET, "/shops", 403),
        (Method::TRACE, "/products", 405),
        (Method::GET, "/nowhere", 404),
        (Method::GET, "/health", 200),
        (Method::GET, "products", 400),
        (Method::GET, "//products", 400),
        (Method::GET, "/shops/%2e%2e", 400),
        (Method::GET, "http://evil.example/products", 400),
        (Method::GET, "", 400),
        (Method::POST, "/products#/../shops/ch", 400),
        (Method::GET, "*", 400),
    ] {
        assert_eq!(status(&clerk, &method, path), expected, "{method} {path}");
    }
    assert_eq!(status(&anyone, &Method::GET, "/shops"), 200, "who sees everything needs no filter");
    // A list of companies applies to shops, too.
    let company = principal(Grant::builder().read("shops").only("company", [1]).build().unwrap(), None);
    assert_eq!(status(&company, &Method::GET, "/shops"), 403);
}

#[tokio::test]
async fn a_shadow_reports_and_enforces_nothing() {
    let candidate = Policy::builder()
        .route("/products", Rule::resource("goods").unscoped())
        .route("/new", Rule::authenticated())
        .build()
        .unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reports);
    let policy = policy().with_shadow(candidate, move |difference| {
        let status = |denial: Option<&tower_authz::Denial>| denial.map_or(200, |denial| denial.status().as_u16());
        let line = (difference.head.path().to_owned(), status(difference.enforced), status(difference.candidate));
        sink.lock().unwrap().push(line);
    });
    let service = Authz::new(store(products_reader()), policy).layer(Handler::default());
    assert_eq!(send(service.clone(), get("/products")).await.0, 200);
    assert_eq!(send(service.clone(), get("/new")).await.0, 404);
    assert_eq!(send(service, get("/nowhere")).await.0, 404);
    assert_eq!(*reports.lock().unwrap(), [("/products".to_owned(), 200, 403), ("/new".to_owned(), 404, 200)]);
}

#[tokio::test]
async fn only_a_real_preflight_passes_and_only_if_switched_on() {
    let policy = |on: bool| {
        let builder = Policy::builder().route("/products", Rule::resource("products").unscoped());
        if on { builder.allow_preflight().build().unwrap() } else { builder.build().unwrap() }
    };
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
    for (on, method, headers, status) in [
        (false, "OPTIONS", &preflight[..], 401),
        (true, "OPTIONS", &preflight[..], 200),
        (true, "GET", &preflight[..], 401),
        (true, "OPTIONS", &preflight[..1], 401),
        (true, "OPTIONS", &preflight[1..], 401),
        (true, "OPTIONS", &[preflight[0], preflight[0], preflight[1]], 401),
        (true, "OPTIONS", &[preflight[0], ("access-control-request-method", "no method")], 401),
    ] {
        let mut request = Request::builder().method(method).uri("/products");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let service = Authz::new(store(products_reader()), policy(on)).layer(Handler::default());
        let request = request.body(Full::<Bytes>::default()).unwrap();
        assert_eq!(send(service, request).await.0, status, "{on} {method} {headers:?}");
    }
    let service = Authz::new(store(products_reader()), policy(true)).layer(Handler::default());
    let nowhere = Request::options("/nowhere").header("origin", "a").header("access-control-request-method", "GET");
    assert_eq!(send(service, nowhere.body(Full::<Bytes>::default()).unwrap()).await.0, 401, "about no route");
}

#[test]
fn what_could_never_match_is_refused_when_the_policy_is_built() {
    let rule = Rule::authenticated;
    let shop = || EntityRef::from_path(Dimension::SHOP, "shop");
    let scoped = || rule().scoped(shop());
    let purge = || "PURGE".parse::<Method>().unwrap();
    let numbered = Dimension::new("shop", IdGrammar::Number);
    for (broken, message) in [
        (Policy::builder().route("/shops/:shop", rule()), "write {shop}"),
        (Policy::builder().route("shops", rule()), "begins with a slash"),
        (Policy::builder().route("/a", rule()).route("/a", rule()), "two rules for all methods"),
        (Policy::builder().public("/a").route("/a", rule()), "two rules for all methods"),
        (
            Policy::builder().method_route(Method::GET, "/a", rule()).method_public(Method::GET, "/a"),
            "two rules for GET",
        ),
        (Policy::builder().route("/{a}", rule()).route("/{b}", rule()), "conflict"),
        (Policy::builder().route("/shops/{id}", scoped()), "parameter \"shop\", which it does not have"),
        (Policy::builder().fallback(scoped()), "fallback"),
        (Policy::builder().route("/a", Rule::resource("Products ")), "no key has a resource"),
        (Policy::builder().route("/a", rule().kind("")), "no key has a kind named"),
        (Policy::builder().fallback(rule()).public_fallback(), "fallback: it has two rules"),
        (
            Policy::builder().route("/a", rule().deferred("shop").unscoped_for("shop")),
            "says two things about the dimension shop",
        ),
        (Policy::builder().route("/a/{shop}", scoped().filtered("shop")), "says two things about the dimension shop"),
        (Policy::builder().route("/a/{shop}", scoped().deferred("shop")), "says two things about the dimension shop"),
        (Policy::builder().route("/a/{shop}", rule().unscoped_for("shop").scoped(shop())), "says two things"),
        (
            Policy::builder().fallback(rule().scoped(EntityRef::from_fn("shop", |_| Vec::new())).filtered("shop")),
            "fallback: its rule says two things about the dimension shop",
        ),
        (Policy::builder().method_public(purge(), "/a"), "PURGE is neither a reading nor a writing method"),
        (Policy::builder().method_public(Method::CONNECT, "/a"), "CONNECT is neither a reading nor a writing method"),
        (Policy::builder().method_route(purge(), "/a", rule()), "say what it does in a rule, with `Rule::method`"),
        (
            Policy::builder().route("/a/{shop}", scoped()).route("/b", rule().filtered(numbered)),
            "the rule of /b reads ids of the dimension shop by another grammar than that of /a/{shop}",
        ),
        (Policy::builder().method_route("get".parse().unwrap(), "/a", rule()), "write GET"),
        (Policy::builder().method_public("Put".parse().unwrap(), "/a"), "write PUT"),
        (Policy::builder().route("/a", rule().method("Post".parse().unwrap(), Access::Read)), "write POST"),
        (Policy::builder().fallback(rule().method("Post".parse().unwrap(), Access::Read)), "write POST"),
    ] {
        let error = broken.build().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// An operation is refused as its own request would be: a concealed rule shows no 403, whatever it leaves to its handler.
#[test]
fn an_operation_of_a_concealed_rule_is_not_found() {
    let project = || Rule::authenticated().unscoped().concealed();
    let policy = Policy::builder()
        .route("/filtered", project().filtered("project"))
        .route("/deferred", project().deferred("project"))
        .route("/kind", project().kind("admin"))
        .route("/shown", Rule::authenticated().unscoped().filtered("project"))
        .build()
        .unwrap();
    let grant = Grant::builder().only("project", ["a"]).build().unwrap();
    let caller = principal(grant, None);
    for (path, status) in [("/filtered", 404), ("/deferred", 404), ("/kind", 404), ("/shown", 403)] {
        let denial = policy.authorize_operation(&caller, &Method::GET, path).unwrap_err();
        assert_eq!(denial.status().as_u16(), status, "{path}: {denial}");
    }
}

/// A preflight carries no key, so its response must not disclose a concealed route.
#[tokio::test]
async fn a_preflight_learns_nothing_of_a_concealed_route() {
    let rule = || Rule::resource("products").unscoped();
    let policy = Policy::builder()
        .allow_preflight()
        .route("/products", rule())
        .route("/secrets", rule().concealed())
        .method_route(Method::GET, "/few", rule())
        .method_route(Method::PUT, "/few", rule().concealed());
    let service = Authz::new(store(products_reader()), policy.build().unwrap()).layer(Handler::default());
    for (path, method, status) in [
        ("/products", "PUT", 200),
        ("/secrets", "PUT", 401),
        ("/few", "GET", 200),
        ("/few", "PUT", 401),
        ("/few", "POST", 401),
        ("/nowhere", "PUT", 401),
    ] {
        let request = Request::options(path).header("origin", "https://shop.example");
        let request = request.header("access-control-request-method", method).body(Full::<Bytes>::default()).unwrap();
        assert_eq!(send(service.clone(), request).await.0, status, "{path} {method}");
    }
}

/// A preflight of an exempt route is a request for that route.
#[tokio::test]
async fn a_preflight_of_an_exempt_route_is_exempt_from_https() {
    let policy = Policy::builder()
        .public("/health")
        .public("/open")
        .route("/orders", Rule::resource("products").unscoped())
        .allow_preflight()
        .build()
        .unwrap();
    let authz = Authz::new(store(products_reader()), policy).https_only_except(["/health", "/orders"]);
    let service = authz.layer(Handler::default());
    for (path, status) in [("/health", 200), ("/open", 403), ("/orders", 403), ("/none", 403)] {
        let request = Request::options(path)
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "GET")
            .body(Full::<Bytes>::default());
        assert_eq!(send(service.clone(), request.unwrap()).await.0, status, "{path}");
    }
}

/// Only the probe of a load balancer may arrive by plain HTTP.
#[tokio::test]
async fn a_public_probe_can_be_exempt_from_https() {
    let policy = Policy::builder()
        .public("/health")
        .public("/status/{*rest}")
        .public("/open")
        .route("/orders", Rule::resource("products").unscoped())
        .build()
        .unwrap();
    let authz = Authz::new(store(products_reader()), policy).https_only_except([
        "/health",
        "/status/{*rest}",
        "/orders",
        "/none",
    ]);
    let service = authz.layer(Handler::default());
    for (path, status) in [
        ("/health", 200),
        ("/status/a/b", 200),
        ("/open", 403),
        ("/orders", 403),
        ("/none", 403),
        ("/health/", 403),
        ("/healthy", 403),
        ("/%68ealth", 403),
        ("//health", 400),
    ] {
        assert_eq!(send(service.clone(), get(path)).await.0, status, "{path}");
        let mut secure = get(path);
        secure.extensions_mut().insert(tower_authz::SecureConnection);
        assert_ne!(send(service.clone(), secure).await.0, 403, "{path}");
    }
    // In an axum router, the matched route decides.
    let app = axum::Router::new()
        .route("/health", axum::routing::get(async || "ok"))
        .route("/{name}", axum::routing::get(async || "ok"))
        .layer(authz);
    for (path, status) in [("/health", 200), ("/open", 403)] {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        assert_eq!(tower::ServiceExt::oneshot(app.clone(), request).await.unwrap().status(), status, "{path}");
    }
}

/// These rules do not conflict: two sources for one dimension agree, and a rule for a method may map that method.
#[test]
fn what_says_one_thing_is_built() {
    let scoped = Rule::authenticated().scoped(EntityRef::from_path(Dimension::SHOP, "shop"));
    let twice = scoped.clone().scoped(EntityRef::from_header(Dimension::SHOP, http::HeaderName::from_static("x-shop")));
    let purging = Rule::resource("cache").unscoped().method("PURGE".parse().unwrap(), Access::Write);
    let policy = Policy::builder()
        .route("/a/{shop}", twice)
        .route("/b/{shop}", scoped.unscoped().deferred(Dimension::SHOP_COUNTRY))
        .method_route("PURGE".parse().unwrap(), "/cache", purging);
    assert!(policy.build().is_ok());
}

/// If store and policy disagree on the spelling of ids, an exclude list could not be enforced: every request is
/// refused, and the error names the cause.
#[tokio::test]
async fn a_store_and_a_policy_that_spell_ids_differently_admit_nobody() {
    let project = |ids| Dimension::new("project", ids);
    let settings = |own: Option<Dimension>| match own {
        Some(own) => StoreSettings::new().with_format(format()).with_dimension(own),
        None => StoreSettings::new().with_format(format()),
    };
    let key = |grant: Grant| KeyFile::new([record("test-key", KEY, grant)], Directory::default());
    let plain = || Grant::builder().read("products").build().unwrap();
    let opaque_shops = Dimension::new("shop", IdGrammar::Opaque);
    for (own, read, fits) in [
        (Some(project(IdGrammar::Slug)), project(IdGrammar::Opaque), false),
        (Some(project(IdGrammar::Opaque)), project(IdGrammar::Slug), false),
        (Some(project(IdGrammar::Custom(|id| id.len() == 2))), project(IdGrammar::Opaque), false),
        (None, opaque_shops.clone(), false),
        (Some(opaque_shops.clone()), Dimension::SHOP, false),
        (Some(opaque_shops.clone()), opaque_shops, true),
        (Some(project(IdGrammar::Number)), project(IdGrammar::Number), true),
        (None, project(IdGrammar::Number), true),
        (None, Dimension::SHOP, true),
    ] {
        let policy = Policy::builder()
            .public("/health")
            .route("/products", Rule::resource("products").unscoped())
            .route("/listed", Rule::resource("products").filtered(read.clone()))
            .build()
            .unwrap();
        let keys = || MemoryStore::from_file(key(plain()), settings(own.clone())).unwrap();
        assert_eq!(Authz::try_new(keys(), policy.clone()).is_ok(), fits, "{own:?} {read}");
        // The error goes before all other settings.
        let authz = Authz::new(keys(), policy).with_clean_path(CleanPath::new().allow_semicolon());
        for path in ["/products", "/health"] {
            let (status, body) = send(authz.clone().layer(Handler::default()), get(path)).await;
            assert_eq!(status, if fits { 200 } else { 500 }, "{own:?} {read}");
            assert!(fits || body.contains("different grammars"), "{body}");
        }
    }
    // A grammar that the key file has brought along is compared as well.
    let grant = Grant::builder().read("products").except(project(IdGrammar::Slug), ["apollo"]).build().unwrap();
    let policy = Policy::builder().route("/listed", Rule::resource("products").filtered(project(IdGrammar::Opaque)));
    let store = MemoryStore::from_file(key(grant), format()).unwrap();
    let error = Authz::try_new(store, policy.build().unwrap()).unwrap_err().to_string();
    assert!(error.contains("the rule of /listed reads ids of the dimension project as opaque"), "{error}");
}

/// One of several permissions will do, each with the access that the method needs, or with its own. The explanation names all of
/// them, and the file says so and is read back.
#[tokio::test]
async fn one_of_several_permissions_will_do() {
    let rule = || Rule::resource("orders").or_resource("shipments").or_permission(Permission::read("audit")).unscoped();
    let policy = Policy::builder().route("/a", rule()).build().unwrap();
    let text = policy.export().unwrap();
    assert!(text.contains(r#""or":"#), "{text}");
    let policy = Policy::parse(&text, "policy.json").unwrap();
    assert_eq!(policy.export().unwrap(), text);
    for (grant, reading, writing) in [
        (Grant::builder().read("orders"), 200, 403),
        (Grant::builder().write("orders"), 200, 200),
        (Grant::builder().read("shipments"), 200, 403),
        (Grant::builder().write("shipments").read("orders"), 200, 200),
        (Grant::builder().read("audit"), 200, 200),
        (Grant::builder().write("audit"), 200, 200),
        (Grant::builder().write("order").write("products"), 403, 403),
        (Grant::builder(), 403, 403),
    ] {
        let grant = grant.build().unwrap();
        for (method, expected) in
            [(Method::GET, reading), (Method::POST, writing), (Method::from_bytes(b"BREW").unwrap(), 405)]
        {
            let app = Authz::new(store(grant.clone()), policy.clone()).layer(Handler::default());
            let mut request = get("/a");
            *request.method_mut() = method.clone();
            let response = app.oneshot(request).await.unwrap();
            assert_eq!(response.status(), expected, "{method} {grant:?}");
            if expected == 403 {
                let denial = response.extensions().get::<Denial>().unwrap();
                let access = if method == Method::GET { "read" } else { "write" };
                let lacks = format!("every permission that would do: orders:{access}, shipments:{access}, audit:read");
                assert!(denial.to_string().contains(&lacks), "{denial}");
                assert_eq!(denial.cause().code(), "missing_permission");
            }
        }
    }
    for (rule, wrong) in [
        (Rule::authenticated().or_resource("orders"), "demands no permission"),
        (Rule::resource("orders").or_resource("two words"), "no key has a resource"),
        (Rule::resource("orders").or_resource(""), "no key has a resource"),
    ] {
        let error = Policy::builder().route("/a", rule).build().unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
    for (field, wrong) in [
        (r#""or": [{}]"#, "resource"),
        (r#""or": [{"resource": "a", "access": null}]"#, "access"),
        (r#""or": [{"resource": "a", "acess": "read"}]"#, "acess"),
        (r#""or": "a""#, "or"),
        (r#""authenticated": true, "or": [{"resource": "a"}]"#, "exactly one of"),
    ] {
        let text = format!(r#"{{"routes": [{{"path": "/a", "resource": "orders", {field}}}]}}"#);
        let error = Policy::parse(&text, "policy.json").unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}
