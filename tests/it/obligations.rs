//! Obligations that a rule leaves to its handler: each is met only by a check of its own kind, on its own dimension,
//! that was not denied.

use axum::{Router, body::Body, routing::get};
use http::{Request, StatusCode};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _, service_fn};
use tower_authz::{
    AuthenticateLayer, Authz, ClientAddress, Denial, Digest, Dimension, Directory, Grant, KeyRecord, Policy, Principal,
    RequireLayer, Rule, Scope,
};

use crate::support::{KEY, record, send, store_of};

const PROJECT: Dimension = Dimension::new("project", tower_authz::IdGrammar::Slug);

type Ask = fn(&Principal) -> Result<(), Denial>;

fn grant() -> Grant {
    Grant::builder().only("company", [1]).only("shop", ["de"]).only(PROJECT, ["apollo"]).build().unwrap()
}

fn keys() -> tower_authz::store::MemoryStore {
    let directory = Directory::builder().shop("de", Some("1")).country("de", "at", Some("1001")).build().unwrap();
    store_of([record("test-key", KEY, grant())], directory)
}

fn request() -> Request<Body> {
    Request::get("/").header("x-api-key", KEY).body(Body::empty()).unwrap()
}

/// Returns the status after a handler that succeeds. One service and two must not differ.
async fn outcome(rule: Rule, ask: Ask) -> u16 {
    let handler = || {
        get(async move |principal: Principal| {
            ask(&principal)?;
            Ok::<_, Denial>("done")
        })
    };
    let policy = Policy::builder().route("/", rule.clone()).build().unwrap();
    let one: Router = Router::new().route("/", handler()).layer(Authz::new(keys(), policy));
    let two: Router = Router::new()
        .route("/", handler())
        .layer(ServiceBuilder::new().layer(AuthenticateLayer::new(keys())).layer(RequireLayer::new(rule)));
    let (one, two) = (send(one, request()).await, send(two, request()).await);
    assert_eq!(one, two);
    assert!(one.0 != StatusCode::INTERNAL_SERVER_ERROR || one.1.contains("\"obligation_unmet\""), "{one:?}");
    one.0.as_u16()
}

fn rest() -> Rule {
    Rule::authenticated().unscoped()
}

/// Ignores the result of a check, so that the handler continues in any case.
fn ignored<T>(_: T) -> Result<(), Denial> {
    Ok(())
}

#[tokio::test]
async fn a_question_about_one_dimension_settles_no_other() {
    let pending: [(Dimension, Ask); 4] = [
        (Dimension::COMPANY, |it| it.require(Dimension::COMPANY, "1")),
        (Dimension::SHOP, |it| it.require(Dimension::SHOP, "de")),
        (Dimension::SHOP_COUNTRY, |it| it.require(Dimension::SHOP_COUNTRY, "1001")),
        (PROJECT, |it| it.require(PROJECT, "apollo")),
    ];
    let filtered: [(Dimension, Ask); 4] = [
        (Dimension::COMPANY, |it| ignored(it.scope(Dimension::COMPANY))),
        (Dimension::SHOP, |it| ignored(it.scope(Dimension::SHOP))),
        (Dimension::SHOP_COUNTRY, |it| ignored(it.scope(Dimension::SHOP_COUNTRY))),
        (PROJECT, |it| ignored(it.scope(PROJECT))),
    ];
    for (open, _) in &pending {
        for ((about, asks), (_, scopes)) in pending.iter().zip(&filtered) {
            // A check of a shop country includes a check of its shop.
            let inherits = *open == Dimension::SHOP && *about == Dimension::SHOP_COUNTRY;
            let expected = if open == about || inherits { 200 } else { 500 };
            assert_eq!(outcome(rest().deferred(open.clone()), *asks).await, expected, "{open} by {about}");
            assert_eq!(outcome(rest().filtered(open.clone()), *scopes).await, expected, "{open} by {about}");
        }
    }
    // If a rule leaves two obligations, both must be met.
    let both = || rest().deferred(Dimension::SHOP).deferred(PROJECT);
    assert_eq!(outcome(both(), |it| it.require(Dimension::SHOP, "de")).await, 500);
    assert_eq!(outcome(both(), |it| it.require(PROJECT, "apollo")).await, 500);
    let ask_both: Ask = |it| it.require(Dimension::SHOP, "de").and_then(|()| it.require(PROJECT, "apollo"));
    assert_eq!(outcome(both(), ask_both).await, 200);
}

#[tokio::test]
async fn an_obligation_is_met_by_a_question_of_its_own_kind() {
    let pending = || rest().deferred(Dimension::SHOP);
    let filtered = || rest().filtered(Dimension::SHOP);
    let cases: [(&str, Ask, u16, u16); 9] = [
        ("nothing", |_| Ok(()), 500, 500),
        ("a yes", |it| it.require(Dimension::SHOP, "de"), 200, 500),
        ("a no that is passed on", |it| it.require(Dimension::SHOP, "ch"), 403, 403),
        ("a no that is ignored", |it| ignored(it.require(Dimension::SHOP, "ch")), 500, 500),
        ("an id that is none, ignored", |it| ignored(it.require(Dimension::SHOP, "DE")), 500, 500),
        (
            "a yes beside a no",
            |it| ignored(it.require(Dimension::SHOP, "ch")).and_then(|()| it.require(Dimension::SHOP, "de")),
            200,
            500,
        ),
        ("a no that is reported", |it| ignored(it.require_or_report(Dimension::SHOP, "ch")), 200, 500),
        ("the scope", |it| ignored(it.scope(Dimension::SHOP).filter()), 500, 200),
        (
            "the scope, which allows",
            |it| match it.scope(Dimension::SHOP).allows("de") {
                true => Ok(()),
                false => Err(it.refuse("never")),
            },
            200,
            200,
        ),
    ];
    for (what, ask, as_pending, as_filtered) in cases {
        assert_eq!(outcome(pending(), ask).await, as_pending, "{what}, pending");
        assert_eq!(outcome(filtered(), ask).await, as_filtered, "{what}, filtered");
    }
    // A scope that answers `false` has denied; one that was created and not used has answered nothing.
    let denies: Ask = |it| ignored(it.scope(Dimension::SHOP).allows("ch"));
    assert_eq!(outcome(pending(), denies).await, 500);
}

/// The obligation also applies to a key without restrictions, because the next key may have some.
#[tokio::test]
async fn keys_without_restrictions_have_to_be_asked_about_too() {
    let store = || store_of([record("test-key", KEY, Grant::default())], Directory::default());
    for (rule, status) in [(rest().deferred("shop"), 500), (rest().filtered("shop"), 500), (rest(), 200)] {
        let policy = Policy::builder().route("/", rule).build().unwrap();
        let app: Router = Router::new().route("/", get(async || "done")).layer(Authz::new(store(), policy));
        assert_eq!(send(app, request()).await.0, status);
    }
}

/// An extractor's scope meets the obligation of a filter, and an error response of the handler is not a success, so
/// its obligations do not matter.
#[tokio::test]
async fn an_extractor_asks_for_the_scope_and_an_error_needs_no_question() {
    let app = |rule: Rule| -> Router {
        let policy = Policy::builder().route("/", rule.clone()).route("/broken", rule).build().unwrap();
        Router::new()
            .route("/", get(async |scope: Scope| format!("{:?}", scope.filter())))
            .route("/broken", get(async || StatusCode::BAD_GATEWAY))
            .layer(Authz::new(keys(), policy))
    };
    let (status, body) = send(app(rest().filtered(Dimension::SHOP)), request()).await;
    assert_eq!((status.as_u16(), &*body), (200, r#"Only(["de"])"#));
    let mut broken = request();
    *broken.uri_mut() = "/broken".parse().unwrap();
    assert_eq!(send(app(rest().filtered(Dimension::SHOP)), broken).await.0, 502);
    // No scope can be extracted, because there is not exactly one filtered dimension.
    for rule in [rest().deferred("shop"), rest(), rest().filtered("shop").filtered("company")] {
        assert_eq!(send(app(rule), request()).await.0, 500);
    }
}

/// Obligations also apply if the principal comes from another authentication, and each of several rules leaves its
/// own.
#[tokio::test]
async fn each_rule_on_the_way_leaves_its_own() {
    let caller = || {
        let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant()).build();
        Principal::new(record.into(), Directory::default(), ClientAddress::UNKNOWN)
    };
    for (asks, status) in [(&["de"][..], 500), (&["de", "apollo"][..], 200), (&[][..], 500)] {
        let handler = service_fn(move |request: Request<Body>| {
            let principal = request.extensions().get::<Principal>().unwrap();
            for id in asks {
                let over = if *id == "de" { Dimension::SHOP } else { PROJECT };
                principal.require(over, id).unwrap();
            }
            std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())))
        });
        let outer = rest().deferred(Dimension::SHOP).unscoped_for(Dimension::COMPANY);
        let inner = rest().deferred(PROJECT).unscoped_for(Dimension::COMPANY);
        let service = RequireLayer::new(outer).layer(RequireLayer::new(inner).layer(handler));
        let mut request = request();
        request.extensions_mut().insert(caller());
        assert_eq!(service.oneshot(request).await.unwrap().status(), status, "{asks:?}");
    }
}
