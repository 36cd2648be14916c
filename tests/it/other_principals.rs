//! A principal of other middleware (a session, a JWT) stands in for a missing credential, where the gate is told so.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, routing::get};
use http::{Request, Response};
use tower::{Layer as _, Service, ServiceExt as _, util::BoxCloneSyncService};
use tower_authz::{
    AuthenticateLayer, Authz, ClientAddress, Denial, Digest, Dimension, Directory, Grant, GuardedRouter, Head,
    KeyRecord, Policy, Principal, Rule, TenantHosts, check::EntityRef, store::KeyAdmin as _,
};

use crate::support::{KEY, Mood, MoodyStore, store};

fn user(change: impl FnOnce(tower_authz::KeyRecordBuilder) -> tower_authz::KeyRecordBuilder) -> Principal {
    let grant = Grant::builder().read("orders").only("shop", ["de"]).build().unwrap();
    let record = KeyRecord::builder("user-7".parse().unwrap(), Digest::from_key(b"")).grant(grant);
    Principal::new(change(record).build().into(), Directory::default(), ClientAddress::UNKNOWN)
}

async fn who(caller: Option<Principal>) -> String {
    caller.map_or("nobody".to_owned(), |caller| caller.key_id().to_string())
}

fn policy() -> Policy {
    let rule = || Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop"));
    Policy::builder()
        .public("/health")
        .route("/shops/{shop}", rule())
        .route(
            "/checked/{shop}",
            rule().check(|head: &Head<'_>| match head.principal() {
                Some(principal) if principal.key_id().as_str() == "user-7" => Ok(()),
                _ => Err(Denial::refused("another")),
            }),
        )
        .route("/optional/{shop}", rule().optional())
        .build()
        .unwrap()
}

fn router() -> Router {
    ["/health", "/shops/{shop}", "/checked/{shop}", "/optional/{shop}"]
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, get(who)))
}

/// Sends a request with this principal in its extensions, and returns the status and who the handler thinks has called.
async fn send<S>(app: S, path: &str, key: Option<&str>, other: Option<Principal>) -> (u16, String)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible>,
{
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    if let Some(key) = key {
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
    }
    other.map(|other| request.extensions_mut().insert(other));
    let response = app.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    (status, if status == 200 { String::from_utf8(body.to_vec()).unwrap() } else { String::new() })
}

#[tokio::test]
async fn a_principal_stands_in_for_a_missing_credential_only_where_the_gate_is_told_so() {
    let keys = || store(Grant::builder().read("orders").build().unwrap());
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    for mood in [Mood::AtOnce, Mood::Later, Mood::Unavailable] {
        let keys = MoodyStore { mood, keys: keys() };
        let down = mood == Mood::Unavailable;
        let told = || Authz::new(keys.clone(), policy()).keep_principal_without_credential();
        let outside = BoxCloneSyncService::new(told().layer(router()));
        let inside = BoxCloneSyncService::new(router().layer(told()));
        for app in [outside, inside] {
            let known = if down { (503, "") } else { (200, "test-key") };
            for (path, key, other, expected) in [
                ("/shops/de", None, Some(user(|it| it)), (200, "user-7")),
                ("/shops/ch", None, Some(user(|it| it)), (403, "")),
                ("/checked/de", None, Some(user(|it| it)), (200, "user-7")),
                ("/optional/de", None, Some(user(|it| it)), (200, "user-7")),
                ("/optional/ch", None, Some(user(|it| it)), (403, "")),
                ("/optional/ch", None, None, (200, "nobody")),
                ("/health", None, Some(user(|it| it)), (200, "user-7")),
                ("/health", Some(KEY), Some(user(|it| it)), (200, "nobody")),
                ("/nowhere", None, Some(user(|it| it)), (404, "")),
                // A credential that is there decides.
                ("/shops/de", Some(KEY), Some(user(|it| it)), known),
                ("/shops/ch", Some(KEY), Some(user(|it| it)), known),
                ("/shops/de", Some("an-unknown-credential"), Some(user(|it| it)), (if down { 503 } else { 401 }, "")),
                ("/shops/de", Some("short"), Some(user(|it| it)), (401, "")),
                // A principal whose time is over is no principal.
                ("/shops/de", None, Some(user(|it| it.expires_at(long_ago))), (401, "")),
                ("/shops/de", None, Some(user(|it| it.revoked_at(long_ago))), (401, "")),
                ("/shops/de", None, None, (401, "")),
            ] {
                let (status, caller) = send(app.clone(), path, key, other).await;
                assert_eq!((status, &*caller), expected, "{mood:?} {path} {key:?}");
            }
        }
        // Who is not told drops it.
        for (path, expected) in
            [("/shops/de", (401, "")), ("/optional/de", (200, "nobody")), ("/health", (200, "nobody"))]
        {
            let app = router().layer(Authz::new(keys.clone(), policy()));
            let (status, caller) = send(app, path, None, Some(user(|it| it))).await;
            assert_eq!((status, &*caller), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_policy_is_authenticated_by_it_as_well() {
    let layer = || AuthenticateLayer::new(store(Grant::default()));
    let told = router().layer(layer().keep_principal_without_credential());
    assert_eq!(send(told, "/shops/de", None, Some(user(|it| it))).await, (200, "user-7".to_owned()));
    assert_eq!(send(router().layer(layer()), "/shops/de", None, Some(user(|it| it))).await.0, 401);
}

/// The handler owes the principal's answer what it owes a key's.
#[tokio::test]
async fn its_obligations_are_the_handlers() {
    let routes = GuardedRouter::new()
        .route("/forgets", Rule::resource("orders").filtered(Dimension::SHOP), get(async || "all"))
        .route(
            "/filters",
            Rule::resource("orders").filtered(Dimension::SHOP),
            get(async |scope: tower_authz::Scope| format!("{:?}", scope.filter())),
        );
    let gate = Authz::from_store(store(Grant::default())).keep_principal_without_credential();
    let app = routes.guard(gate).unwrap();
    assert_eq!(send(app.clone(), "/forgets", None, Some(user(|it| it))).await.0, 500);
    assert_eq!(send(app, "/filters", None, Some(user(|it| it))).await, (200, r#"Only(["de"])"#.to_owned()));
}

/// Its request ends with its record, as that of a key does.
#[tokio::test]
async fn a_handler_ends_when_the_record_expires() {
    let soon = SystemTime::now() + Duration::from_millis(300);
    let slow = Router::new().route("/shops/{shop}", get(async || std::future::pending::<String>().await));
    let app = slow.layer(Authz::new(store(Grant::default()), policy()).keep_principal_without_credential());
    let other = Arc::new(user(|it| it.expires_at(soon)));
    let (status, _) = send(app, "/shops/de", None, Some(Principal::clone(&other))).await;
    assert_eq!(status, 401);
}

/// A handler trusts a principal, on a public route as well: one that is over, or of another tenant, does not get there.
#[tokio::test]
async fn a_principal_that_is_over_or_of_another_tenant_is_none() {
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    let hosts = || TenantHosts::new("{tenant}.example.com").unwrap();
    let gate = || Authz::new(store(Grant::default()), policy()).keep_principal_without_credential();
    for (other, tenants, public, ruled) in [
        (user(|it| it), false, "user-7", 200),
        (user(|it| it.revoked_at(long_ago)), false, "nobody", 401),
        (user(|it| it.expires_at(long_ago)), false, "nobody", 401),
        (user(|it| it), true, "nobody", 401),
        (user(|it| it.tenant("umbrella".to_owned())), true, "nobody", 401),
        (user(|it| it.tenant("acme".to_owned())), true, "user-7", 200),
    ] {
        let gate = if tenants { gate().with_tenant_hosts(hosts()) } else { gate() };
        for (path, expected) in
            [("/health", (200, public)), ("/shops/de", (ruled, if ruled == 200 { "user-7" } else { "" }))]
        {
            let mut request = Request::get(path).header("host", "acme.example.com").body(Body::empty()).unwrap();
            request.extensions_mut().insert(other.clone());
            let (status, caller) = crate::support::send(router().layer(gate.clone()), request).await;
            let caller = if status == 200 { caller } else { String::new() };
            assert_eq!((status.as_u16(), &*caller), expected, "{path} {other:?}");
        }
    }
    // Who publishes no principal publishes none that others have made.
    let silent = router().layer(gate().without_principal());
    assert_eq!(send(silent, "/health", None, Some(user(|it| it))).await, (200, "nobody".to_owned()));
}

/// A principal that was taken out of a request, and is shown again after its key was revoked, is the key's no more: also where
/// requests in flight may finish.
#[tokio::test]
async fn a_principal_of_a_revoked_key_is_not_kept() {
    let keys = store(Grant::builder().read("orders").build().unwrap());
    let (sender, receiver) = std::sync::mpsc::channel();
    let taken = Router::new().route(
        "/shops/{shop}",
        get(async move |caller: Principal| {
            sender.send(caller).unwrap();
            ""
        }),
    );
    let taken = taken.layer(Authz::new(keys.clone(), policy()));
    assert_eq!(send(taken, "/shops/de", Some(KEY), None).await.0, 200);
    let principal = receiver.recv().unwrap();
    for finishes in [false, true] {
        let policy = Policy::builder().route("/shops/{shop}", Rule::resource("orders").unscoped());
        let policy = if finishes { policy.finish_in_flight() } else { policy }.build().unwrap();
        let app = || router().layer(Authz::new(keys.clone(), policy.clone()).keep_principal_without_credential());
        if !finishes {
            assert_eq!(send(app(), "/shops/de", None, Some(principal.clone())).await.0, 200);
            keys.as_actor("test").revoke(principal.key_id(), "lost").await.unwrap();
        }
        assert_eq!(send(app(), "/shops/de", None, Some(principal.clone())).await.0, 401, "{finishes}");
    }
}

/// What a session was shown is kept from caches that do not know sessions.
#[tokio::test]
async fn caches_keep_no_answer_of_a_session() {
    let app = router().layer(Authz::new(store(Grant::default()), policy()).keep_principal_without_credential());
    for (path, other, is_kept) in [
        ("/shops/de", true, false),
        ("/optional/de", true, false),
        ("/health", true, false),
        ("/health", false, true),
        ("/optional/de", false, true),
    ] {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        if other {
            request.extensions_mut().insert(user(|it| it));
        }
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let vary: Vec<_> = response.headers().get_all("vary").iter().map(|line| line.to_str().unwrap()).collect();
        assert_eq!(response.headers().get("cache-control").is_none_or(|it| it != "private"), is_kept, "{path}");
        assert_eq!(vary.contains(&"*"), !is_kept, "{path} {vary:?}");
    }
}
