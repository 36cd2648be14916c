//! Tests ends that are not caused by a revocation of the key: an expiry, the end of an overlap, a change of the
//! directory; and bodies whose length is known (S19).

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    response::Response,
    routing::get,
};
use futures::{StreamExt as _, future::BoxFuture, stream};
use http::Request;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_authz::{
    Authz, Cause, Denial, Digest, Dimension, Directory, Grant, GrantBuilder, KeyRecord, Policy, Principal, Rule,
    check::EntityRef,
    store::{IssuedKey, KeyAdmin, KeyStore, Lookup, MemoryStore, NewKey, Overlap, StoreSettings},
};

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(5), future).await.expect("nobody woke the request")
}

/// Returns an application whose handlers never answer, and whose streams never end.
fn app(store: &MemoryStore) -> Router {
    let policy = Policy::builder()
        .route("/wait", Rule::authenticated().unscoped())
        .route("/stream", Rule::authenticated().unscoped())
        .build()
        .unwrap();
    let endless =
        async || Body::from_stream(stream::once(async { Ok::<_, Infallible>("first") }).chain(stream::pending()));
    Router::new()
        .route("/wait", get(async || std::future::pending::<()>().await))
        .route("/stream", get(endless))
        .layer(Authz::new(store.clone(), policy))
}

fn request(path: &str, key: &IssuedKey) -> Request<Body> {
    Request::get(path).header("x-api-key", key.api_key.expose()).body(Body::empty()).unwrap()
}

/// Checks that a waiting handler is dropped with a 401 and that a stream is aborted, both when the key ends and not
/// long before.
async fn both_end_by(app: Router, key: &IssuedKey, end: SystemTime) {
    let mut body = app.clone().oneshot(request("/stream", key)).await.unwrap().into_body();
    assert_eq!(soon(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
    let streamed = tokio::spawn(async move { (body.frame().await, SystemTime::now()) });
    let response = soon(app.oneshot(request("/wait", key))).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.extensions().get::<Denial>().unwrap().cause(), &Cause::Expired);
    let (frame, at) = soon(streamed).await.unwrap();
    assert!(frame.unwrap().is_err(), "broken off, not ended");
    for ended in [at, SystemTime::now()] {
        assert!(end <= ended && ended < end + Duration::from_secs(2));
    }
}

#[tokio::test]
async fn expiry_ends_what_is_in_flight() {
    let store = MemoryStore::new();
    let end = SystemTime::now() + Duration::from_millis(700);
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default()).expires_at(end)).await.unwrap();
    both_end_by(app(&store), &key, key.record.expires_at().unwrap()).await;
}

#[tokio::test]
async fn so_does_the_end_of_an_overlap() {
    let store = MemoryStore::new();
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    let app = app(&store);
    // These requests began when the key had no expiry.
    let mut body = app.clone().oneshot(request("/stream", &key)).await.unwrap().into_body();
    soon(body.frame()).await.unwrap().unwrap();
    let streamed = tokio::spawn(async move { body.frame().await });
    let waiting = tokio::spawn(app.clone().oneshot(request("/wait", &key)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.as_actor("test").rotate(key.record.id(), Overlap::For(Duration::from_millis(700))).await.unwrap();
    let end = store.show(key.record.id()).await.unwrap().expires_at().unwrap();
    both_end_by(app, &key, end).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap().status(), 401);
    assert!(soon(streamed).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_key_without_an_end_and_a_layer_with_a_clock_of_its_own_are_left_alone() {
    let store = MemoryStore::new();
    let free = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    let end = SystemTime::now() + Duration::from_millis(300);
    let short = store.as_actor("test").issue(NewKey::new("s", Grant::default()).expires_at(end)).await.unwrap();
    let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap();
    let authz = Authz::new(store.clone(), policy);
    let slow = service_fn(|request: Request<Body>| {
        let principal = request.extensions().get::<Principal>().unwrap().clone();
        async move {
            tokio::time::sleep(Duration::from_millis(900)).await;
            assert!(futures::FutureExt::now_or_never(principal.ended()).is_none());
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let of_today = authz.clone().layer(slow).oneshot(request("/", &free));
    let stopped = SystemTime::now();
    let of_yesterday = authz.with_clock(move || stopped).layer(slow).oneshot(request("/", &short));
    let (today, yesterday) = tokio::join!(of_today, of_yesterday);
    assert_eq!((today.unwrap().status().as_u16(), yesterday.unwrap().status().as_u16()), (200, 200));
}

/// A custom clock of the layer also applies to requests in flight.
#[tokio::test]
async fn a_clock_that_goes_on_while_a_handler_runs_is_asked_again() {
    let store = MemoryStore::new();
    let now = SystemTime::now();
    let key = NewKey::new("k", Grant::default()).expires_at(now + Duration::from_secs(3600));
    let key = store.as_actor("test").issue(key).await.unwrap();
    let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap();
    let shown = std::sync::Arc::new(std::sync::Mutex::new(now));
    let clock = std::sync::Arc::clone(&shown);
    let authz = Authz::new(store, policy).with_clock(move || *clock.lock().unwrap());
    let handler = service_fn(move |_: Request<Body>| {
        let shown = std::sync::Arc::clone(&shown);
        async move {
            *shown.lock().unwrap() += Duration::from_secs(3600);
            Ok::<_, Infallible>(Response::new(Body::from("done")))
        }
    });
    assert_eq!(authz.layer(handler).oneshot(request("/", &key)).await.unwrap().status(), 401);
}

/// A rotation sets an expiry on a key that had none. It ends requests that have found the key before, by the clock of the
/// layer as well.
#[tokio::test]
async fn an_overlap_ends_a_request_that_has_found_the_key_without_an_expiry() {
    let store = MemoryStore::new();
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap();
    let shown = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&shown);
    let authz = Authz::new(store.clone(), policy).with_clock(move || *clock.lock().unwrap());
    let handler = service_fn(move |request: Request<Body>| {
        let (shown, store) = (Arc::clone(&shown), store.clone());
        let id = request.extensions().get::<Principal>().unwrap().key_id().clone();
        async move {
            tokio::task::yield_now().await;
            store.as_actor("test").rotate(&id, Overlap::For(Duration::from_secs(3600))).await.unwrap();
            *shown.lock().unwrap() += Duration::from_secs(3700);
            Ok::<_, Infallible>(Response::new(Body::from("done")))
        }
    });
    assert_eq!(authz.layer(handler).oneshot(request("/", &key)).await.unwrap().status(), 401);
}

#[tokio::test]
async fn whoever_waits_for_the_end_hears_of_an_expiry() {
    let store = MemoryStore::new();
    let end = SystemTime::now() + Duration::from_millis(300);
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default()).expires_at(end)).await.unwrap();
    let principal = principal_of(&store, &key).await;
    soon(principal.ended()).await;
    assert!(SystemTime::now() >= key.record.expires_at().unwrap());
    assert_eq!(principal.ensure_live().await.unwrap_err().status(), 401);
}

/// Returns the principal that a handler gets.
async fn principal_of(store: &MemoryStore, key: &IssuedKey) -> Principal {
    let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap();
    let keep = service_fn(|mut request: Request<Body>| async move {
        Ok::<_, Infallible>(Response::new(request.extensions_mut().remove::<Principal>().map(Box::new)))
    });
    let gate = Authz::new(store.clone(), policy).with_rejection(|_: &Denial| Response::new(None)).layer(keep);
    *gate.oneshot(request("/", key)).await.unwrap().into_body().unwrap()
}

/// A body whose length is known in advance, and whose data arrive in pieces.
struct Trickle {
    left: usize,
    next: BoxFuture<'static, ()>,
}

impl http_body::Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return std::task::Poll::Ready(None);
        }
        std::task::ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(tokio::time::sleep(Duration::from_millis(1)));
        self.left -= 1;
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[tokio::test]
async fn a_body_of_known_length_is_ended_as_any_other() {
    for length in [2_000, 60_000, 1 << 20] {
        let store = MemoryStore::new();
        let key = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
        let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap();
        let trickle = move || async move { Body::new(Trickle { left: length, next: Box::pin(async {}) }) };
        let app = Router::new().route("/", get(trickle)).layer(Authz::new(store.clone(), policy));
        let response = app.oneshot(request("/", &key)).await.unwrap();
        assert_eq!(response.headers()["content-length"], length.to_string(), "its length is said as before");
        let mut body = response.into_body();
        assert!(soon(body.frame()).await.unwrap().is_ok());
        store.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
        let begin = Instant::now();
        assert!(soon(body.frame()).await.unwrap().is_err(), "nothing more of {length} bytes");
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
}

fn shop_of(company: &str) -> StoreSettings {
    let directory = Directory::builder().shop("de", Some(company)).country("de", "at", Some("1001"));
    StoreSettings::new().with_directory(directory.shop("ch", Some("1")).build().unwrap())
}

/// A change of the directory ends the requests in flight of those keys that it takes access away from, and of no
/// others.
#[tokio::test]
async fn a_directory_that_takes_something_away_ends_what_is_in_flight() {
    let store = MemoryStore::with_settings(shop_of("1"));
    let issue = async |grant: tower_authz::GrantBuilder| {
        store.as_actor("test").issue(NewKey::new("k", grant.build().unwrap())).await.unwrap()
    };
    let of_1 = issue(Grant::builder().only(Dimension::COMPANY, [1])).await;
    let not_2 = issue(Grant::builder().except(Dimension::COMPANY, [2])).await;
    let of_2 = issue(Grant::builder().only(Dimension::COMPANY, [2])).await;
    let of_shop = issue(Grant::builder().only(Dimension::SHOP, ["de"])).await;
    let free = issue(Grant::builder()).await;
    let keys = [(&of_1, true), (&not_2, true), (&of_2, false), (&of_shop, false), (&free, false)];
    let app = app(&store);
    let mut begun = Vec::new();
    for (key, ends) in keys {
        let principal = principal_of(&store, key).await;
        let mut body = app.clone().oneshot(request("/stream", key)).await.unwrap().into_body();
        soon(body.frame()).await.unwrap().unwrap();
        let waiting = tokio::spawn(app.clone().oneshot(request("/wait", key)));
        begun.push((key, ends, principal, body, waiting));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Settings that are equal to the current ones end no request.
    store.as_actor("test").set_settings(shop_of("1")).await.unwrap();
    for (_, _, principal, ..) in &begun {
        assert!(principal.ensure_live().await.is_ok());
    }
    store.as_actor("test").set_settings(shop_of("2")).await.unwrap();
    for (key, ends, principal, mut body, waiting) in begun {
        let id = key.record.id();
        if ends {
            assert_eq!(principal.ensure_live().await.unwrap_err().cause(), &Cause::GrantNarrowed, "{id}");
            assert!(soon(body.frame()).await.unwrap().is_err(), "{id}");
            assert_eq!(soon(waiting).await.unwrap().unwrap().status(), 403, "{id}");
        } else {
            assert!(principal.ensure_live().await.is_ok(), "{id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(futures::FutureExt::now_or_never(body.frame()).is_none() && !waiting.is_finished(), "{id}");
        }
        // A request that begins now is checked against the new directory.
        assert!(principal_of(&store, key).await.ensure_live().await.is_ok(), "{id}");
    }
}

/// A handler that has begun keeps the directory with which its request was checked.
#[tokio::test]
async fn a_principal_sees_its_record_and_its_directory_at_one_moment() {
    let store = MemoryStore::with_settings(shop_of("1"));
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    let policy = Policy::builder()
        .route("/{shop}", Rule::authenticated().scoped(EntityRef::from_path("shop", "shop")))
        .build()
        .unwrap();
    let (report, mut told) = mpsc::channel(1);
    let handler = async move |Extension(principal): Extension<Principal>| {
        report.send(principal).await.unwrap();
    };
    let app = Router::new().route("/{shop}", get(handler)).layer(Authz::new(store.clone(), policy));
    app.oneshot(request("/de", &key)).await.unwrap();
    let principal = soon(told.recv()).await.unwrap();
    store.as_actor("test").set_settings(shop_of("2")).await.unwrap();
    assert_eq!(principal.directory().company_of("de"), Some("1"), "asked for the first time, and late");
    assert_eq!(principal.clone().directory().company_of("de"), Some("1"));
    assert_eq!(principal_of(&store, &key).await.directory().company_of("de"), Some("2"));
}

/// A remote store, each of whose look-ups returns a new record, so that no signal reports that access was taken away.
#[derive(Clone)]
struct Remote(Arc<Mutex<(Option<KeyRecord>, Directory)>>);

impl KeyStore for Remote {
    fn lookup(&self, _: &Digest) -> Lookup {
        let (record, directory) = self.0.lock().unwrap().clone();
        Lookup::pending_with_directory(async move { (Ok(record.map(Arc::new)), directory) })
    }
}

#[tokio::test]
async fn ensure_live_asks_a_store_that_tells_nobody() {
    let key = MemoryStore::new().as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    let shops = |company: &str| Directory::builder().shop("de", Some(company)).build().unwrap();
    let record = |grant: GrantBuilder, revoked: bool| {
        let builder = KeyRecord::builder(key.record.id().clone(), *key.record.digest()).grant(grant.build().unwrap());
        if revoked { builder.revoked_at(SystemTime::now()) } else { builder }.build()
    };
    let grant = || Grant::builder().read("orders").only("company", [1]);
    let store = Remote(Arc::new(Mutex::new((Some(record(grant(), false)), shops("1")))));
    let app = Router::new().route("/", get(async |principal: Principal| Extension(principal))).layer(Authz::new(
        store.clone(),
        Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap(),
    ));
    let answer: Response = app.oneshot(request("/", &key)).await.unwrap();
    let principal = answer.extensions().get::<Principal>().unwrap().clone();
    for (now, cause) in [
        ((Some(record(grant(), false)), shops("1")), None),
        ((Some(record(grant().write("products"), false)), shops("1")), None),
        ((Some(record(Grant::builder().only("company", [1]), false)), shops("1")), Some(Cause::GrantNarrowed)),
        ((Some(record(grant(), false)), shops("2")), Some(Cause::GrantNarrowed)),
        ((Some(record(grant(), true)), shops("1")), Some(Cause::Revoked)),
        ((None, shops("1")), Some(Cause::UnknownKey)),
    ] {
        *store.0.lock().unwrap() = now;
        let live = principal.ensure_live().await;
        assert_eq!(live.as_ref().err().map(Denial::cause), cause.as_ref());
    }
}
