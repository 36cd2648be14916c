//! Tests who is told of decisions beside the log: a hook, and the response.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, routing::get};
use http::{Method, Request, StatusCode};
use tower::ServiceExt as _;
use tower_authz::{
    Authz, Decision, Denial, Digest, Grant, KeyId, PeerAddress, Policy, Rule,
    store::{IssuedKey, KeyAdmin, KeyStore, Lookup, MemoryStore, NewKey},
};

async fn key(store: &MemoryStore) -> IssuedKey {
    let grant = Grant::builder().read("orders").build().unwrap();
    store.as_actor("test").issue(NewKey::new("k", grant)).await.unwrap()
}

fn policy() -> Policy {
    let rule = Rule::resource("orders").unscoped();
    Policy::builder().public("/health").route("/orders/{id}", rule).build().unwrap()
}

/// What a test remembers of a decision: whether it was allowed, the key, the route, the method, and the cause.
type Heard = Vec<(bool, Option<String>, Option<String>, Method, Option<&'static str>)>;

fn hearing(heard: &Arc<Mutex<Heard>>) -> impl Fn(&Decision<'_>) + Send + Sync + 'static {
    let heard = Arc::clone(heard);
    move |decision| {
        assert_eq!(decision.record().is_some(), decision.is_allowed() && decision.key_id().is_some());
        assert_eq!(decision.client_address().ip(), Some([10, 0, 0, 7].into()));
        heard.lock().unwrap().push((
            decision.is_allowed(),
            decision.key_id().map(ToString::to_string),
            decision.route().map(str::to_owned),
            decision.method().clone(),
            decision.denial().map(|denial| denial.cause().code()),
        ));
    }
}

/// A store that answers later.
#[derive(Clone)]
struct Slow(MemoryStore);

impl KeyStore for Slow {
    fn lookup(&self, digest: &Digest) -> Lookup {
        let found = self.0.lookup(digest).found();
        Lookup::pending(async move {
            tokio::task::yield_now().await;
            found.await
        })
    }
}

async fn a_hook_hears_of_every_decision(store: impl KeyStore, key: &IssuedKey) {
    let heard = Arc::new(Mutex::new(Heard::new()));
    let authz = Authz::new(store, policy()).on_decision(hearing(&heard)).with_key_id_in_response();
    let app: Router = Router::new()
        .route("/health", get(|| async {}))
        .route("/orders/{id}", get(|| async {}).post(|| async {}))
        .layer(authz);
    let id = Some(key.record.id().to_string());
    let route = || Some("/orders/{id}".to_owned());
    let secret = key.api_key.expose();
    for (method, path, credential, expected) in [
        (Method::GET, "/orders/7", secret, (true, id.clone(), route(), Method::GET, None)),
        (Method::POST, "/orders/7", secret, (false, id.clone(), route(), Method::POST, Some("missing_permission"))),
        (Method::GET, "/orders/7", "short", (false, None, route(), Method::GET, Some("malformed_credential"))),
        (Method::GET, "/orders/7", "", (false, None, route(), Method::GET, Some("missing_credential"))),
        (Method::GET, "/health", "", (true, None, Some("/health".to_owned()), Method::GET, None)),
        (Method::GET, "/nowhere", secret, (false, id.clone(), None, Method::GET, Some("no_rule"))),
    ] {
        let mut request = Request::builder().method(method.clone()).uri(path).body(Body::empty()).unwrap();
        if !credential.is_empty() {
            request.headers_mut().insert("x-api-key", credential.parse().unwrap());
        }
        request.extensions_mut().insert(PeerAddress(([10, 0, 0, 7], 1).into()));
        let response = app.clone().oneshot(request).await.unwrap();
        let told = heard.lock().unwrap().pop().expect("each is told of");
        assert_eq!(told, expected, "{method} {path}");
        assert!(heard.lock().unwrap().is_empty(), "once");
        // The response names the key that was let through, or the denial names it.
        let named = response.extensions().get::<KeyId>().map(ToString::to_string);
        let denied = response.extensions().get::<Denial>().and_then(Denial::key_id).map(ToString::to_string);
        let (allowed, key, ..) = expected;
        assert_eq!((response.status() == StatusCode::OK, named.or(denied)), (allowed, key), "{method} {path}");
    }
}

#[tokio::test]
async fn a_hook_hears_of_every_decision_of_a_store_in_memory() {
    let store = MemoryStore::new();
    let key = key(&store).await;
    a_hook_hears_of_every_decision(store, &key).await;
}

#[tokio::test]
async fn a_hook_hears_of_every_decision_of_a_store_that_answers_later() {
    let store = MemoryStore::new();
    let key = key(&store).await;
    a_hook_hears_of_every_decision(Slow(store), &key).await;
}

#[tokio::test]
async fn without_asking_no_response_names_a_key() {
    let store = MemoryStore::new();
    let key = key(&store).await;
    let app: Router = Router::new().route("/orders/{id}", get(|| async {})).layer(Authz::new(store, policy()));
    let request = Request::get("/orders/7").header("x-api-key", key.api_key.expose()).body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!((response.status(), response.extensions().get::<KeyId>()), (StatusCode::OK, None));
}
