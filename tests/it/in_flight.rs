//! Tests what happens to requests in flight when their key is revoked (S19).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
    routing::{any, get, post},
};
use futures::{StreamExt as _, stream};
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_authz::{
    AuthenticateLayer, Authz, Cause, Denial, Grant, Policy, Principal, RequireLayer, RevocableBody, RevocableBodyError,
    RevocableBodyLayer, Rule,
    store::{IssuedKey, KeyAdmin, MemoryStore, NewKey},
};

/// Synchronizes the handlers of these tests with the tests.
#[derive(Clone, Default)]
struct Meeting {
    /// Signals that a handler has begun.
    begun: Arc<Notify>,
    /// Lets a handler continue.
    go_on: Arc<Notify>,
    finished: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

/// Counts the handlers that were dropped before they were done.
struct Running(Meeting);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

async fn slow(State(meeting): State<Meeting>) -> &'static str {
    let running = Running(meeting.clone());
    meeting.begun.notify_one();
    meeting.go_on.notified().await;
    std::mem::forget(running);
    meeting.finished.fetch_add(1, Ordering::SeqCst);
    "done"
}

/// Returns a body that sends one chunk and never ends.
async fn endless() -> Body {
    Body::from_stream(stream::once(async { Ok::<_, std::io::Error>("first") }).chain(stream::pending()))
}

/// Reads a body to its end.
async fn upload(State(meeting): State<Meeting>, body: Body) -> String {
    let running = Running(meeting.clone());
    meeting.begun.notify_one();
    let length = body.collect().await.map_or(0, |whole| whole.to_bytes().len());
    std::mem::forget(running);
    length.to_string()
}

struct Gate {
    store: MemoryStore,
    key: IssuedKey,
    meeting: Meeting,
    app: Router,
}

/// Returns a key that may write, and an application whose handlers wait.
async fn gate(finish: bool) -> Gate {
    let store = MemoryStore::new();
    let grant = Grant::builder().write("orders").build().unwrap();
    let key = store.as_actor("test").issue(NewKey::new("k", grant)).await.unwrap();
    let rule = || Rule::resource("orders").unscoped();
    let mut policy = Policy::builder().route("/slow", rule()).route("/endless", rule()).route("/upload", rule());
    if finish {
        policy = policy.finish_in_flight();
    }
    let meeting = Meeting::default();
    let app = Router::new()
        .route("/slow", any(slow))
        .route("/endless", get(endless))
        .route("/upload", post(upload))
        .with_state(meeting.clone())
        .layer(Authz::new(store.clone(), policy.build().unwrap()));
    Gate { store, key, meeting, app }
}

impl Gate {
    fn request(&self, path: &str) -> Request<Body> {
        Request::get(path).header("x-api-key", self.key.api_key.expose()).body(Body::empty()).unwrap()
    }

    /// Sends a request, and returns when its handler has begun.
    async fn begin(&self) -> tokio::task::JoinHandle<Response> {
        let (app, request) = (self.app.clone(), self.request("/slow"));
        let response = tokio::spawn(async move { app.oneshot(request).await.unwrap() });
        soon(self.meeting.begun.notified()).await;
        response
    }

    fn counts(&self) -> (usize, usize) {
        (self.meeting.finished.load(Ordering::SeqCst), self.meeting.dropped.load(Ordering::SeqCst))
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(5), future).await.expect("nobody woke the request")
}

#[tokio::test]
async fn a_revoked_key_takes_its_requests_along() {
    let gate = gate(false).await;
    let in_flight = [gate.begin().await, gate.begin().await];
    gate.store.as_actor("test").revoke(gate.key.record.id(), "").await.unwrap();
    for response in in_flight {
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key("www-authenticate"), "as every other 401");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let denial = response.extensions().get::<Denial>().unwrap();
        assert_eq!((denial.cause(), denial.key_id()), (&Cause::Revoked, Some(gate.key.record.id())));
    }
    assert_eq!(gate.counts(), (0, 2), "the handlers are dropped, as when a client hangs up");
}

#[tokio::test]
async fn so_does_a_deleted_one_and_one_that_may_do_less() {
    let gate_1 = gate(false).await;
    let response = gate_1.begin().await;
    gate_1.store.as_actor("test").delete(gate_1.key.record.id()).await.unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 401);

    let gate_2 = gate(false).await;
    let response = gate_2.begin().await;
    let less = Grant::builder().read("orders").build().unwrap();
    gate_2.store.as_actor("test").set_grant(gate_2.key.record.id(), less).await.unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 403, "the key is good: a client must not throw it away");
}

#[tokio::test]
async fn what_takes_nothing_away_disturbs_nobody_and_a_revocation_afterwards_still_arrives() {
    let gate = gate(false).await;
    let (id, by) = (gate.key.record.id(), gate.store.as_actor("test"));
    let first = gate.begin().await;
    by.rename(id, "another").await.unwrap();
    let more = Grant::builder().write("orders").write("products").build().unwrap();
    by.set_grant(id, more).await.unwrap();
    gate.meeting.go_on.notify_one();
    assert_eq!(soon(first).await.unwrap().status(), 200);

    // This request is in flight during two changes, of which only the second ends it.
    let second = gate.begin().await;
    by.rename(id, "a third").await.unwrap();
    by.revoke(id, "").await.unwrap();
    assert_eq!(soon(second).await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_policy_can_let_requests_finish() {
    let gate = gate(true).await;
    let response = gate.begin().await;
    gate.store.as_actor("test").revoke(gate.key.record.id(), "").await.unwrap();
    gate.meeting.go_on.notify_one();
    assert_eq!(soon(response).await.unwrap().status(), 200);
    assert_eq!(gate.counts(), (1, 0));
    let later = gate.app.clone().oneshot(gate.request("/slow")).await.unwrap();
    assert_eq!(later.status(), 401);
}

/// The behaviour is the same if the two layers are applied separately.
#[tokio::test]
async fn a_policy_outside_of_authz_lets_requests_finish_too() {
    for finish in [false, true] {
        let gate = gate(false).await;
        let policy = Policy::builder().route("/slow", Rule::resource("orders").unscoped());
        let policy = Arc::new(if finish { policy.finish_in_flight() } else { policy }.build().unwrap());
        let app = Router::new()
            .route("/slow", any(slow))
            .with_state(gate.meeting.clone())
            .layer(RequireLayer::new(Arc::clone(&policy)))
            .layer(AuthenticateLayer::new(gate.store.clone()).with_public_routes(policy));
        let gate = Gate { app, ..gate };
        let response = gate.begin().await;
        gate.store.as_actor("test").revoke(gate.key.record.id(), "").await.unwrap();
        gate.meeting.go_on.notify_one();
        assert_eq!(soon(response).await.unwrap().status(), if finish { 200 } else { 401 });
    }
}

#[tokio::test]
async fn a_stream_is_ended_with_an_error() {
    for finish in [false, true] {
        let gate = gate(finish).await;
        let response = gate.app.clone().oneshot(gate.request("/endless")).await.unwrap();
        let mut body = response.into_body();
        let first = soon(body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first");
        let next = tokio::spawn(async move { body.frame().await });
        gate.store.as_actor("test").revoke(gate.key.record.id(), "").await.unwrap();
        if finish {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!next.is_finished(), "the stream goes on");
        } else {
            let error = soon(next).await.unwrap().unwrap().unwrap_err().to_string();
            assert!(error.contains("revoked"), "{error}");
        }
    }
}

/// Over a real connection, a client that reads a stream sees that it was aborted, and not that it ended.
#[tokio::test]
async fn a_client_sees_a_broken_stream() {
    let gate = gate(false).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = gate.app.clone();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let key = gate.key.api_key.expose();
    let request = format!("GET /endless HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"5\r\nfirst\r\n") {
        assert_ne!(soon(client.read_buf(&mut read)).await.unwrap(), 0, "{}", String::from_utf8_lossy(&read));
    }
    gate.store.as_actor("test").revoke(gate.key.record.id(), "").await.unwrap();
    let rest = soon(client.read_to_end(&mut read)).await;
    assert!(!read.ends_with(b"0\r\n\r\n") || rest.is_err(), "the last chunk would say that all was well");
    server.abort();
}

#[tokio::test]
async fn an_upload_is_cut_off() {
    let gate = gate(false).await;
    let (parts, _) = gate.request("/upload").into_parts();
    let chunks = stream::repeat(Bytes::from_static(b"chunk")).then(async |chunk| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, std::io::Error>(chunk)
    });
    let mut request = Request::from_parts(parts, Body::from_stream(chunks));
    *request.method_mut() = http::Method::POST;
    let app = gate.app.clone();
    let response = tokio::spawn(async move { app.oneshot(request).await.unwrap() });
    soon(gate.meeting.begun.notified()).await;
    gate.store.as_actor("test").revoke(gate.key.record.id(), "").await.unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 401);
    assert_eq!(gate.counts(), (0, 1));
}

/// The handler alone controls an upgraded connection: it awaits the end of the key beside the messages, and checks
/// the key again before it commits.
#[tokio::test]
async fn a_handler_can_watch_and_ask() {
    let store = MemoryStore::new();
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
    let app = service_fn(move |request: Request<Body>| {
        let principal = request.extensions().get::<Principal>().unwrap().clone();
        sender.lock().unwrap().take().unwrap().send(principal).unwrap();
        async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) }
    });
    let request = Request::get("/").header("x-api-key", key.api_key.expose()).body(Body::empty()).unwrap();
    let response = Authz::new(store.clone(), policy).layer(app).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let principal = receiver.await.unwrap();

    assert!(principal.ensure_live().await.is_ok());
    let ended = tokio::spawn(principal.ended());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!ended.is_finished());
    store.as_actor("test").set_grant(key.record.id(), Grant::builder().read("a").build().unwrap()).await.unwrap();
    assert!(principal.ensure_live().await.is_ok(), "it may do more");
    store.as_actor("test").revoke(key.record.id(), "").await.unwrap();
    soon(ended).await.unwrap();
    assert_eq!(principal.ensure_live().await.unwrap_err().status(), 401);
    soon(principal.ended()).await;
}

/// The layer ends the stream for any type of body.
#[tokio::test]
async fn bodies_of_hyper_are_ended_by_a_layer() {
    type Frames = futures::stream::BoxStream<'static, Result<Frame<Bytes>, std::convert::Infallible>>;
    let store = MemoryStore::new();
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).public("/open").build().unwrap();
    let inner = service_fn(async |_: Request<Body>| {
        let first = stream::once(async { Ok(Frame::data(Bytes::from_static(b"first"))) });
        Ok::<_, std::convert::Infallible>(Response::new(StreamBody::new(
            first.chain(stream::pending()).boxed() as Frames
        )))
    });
    let service = Authz::new(store.clone(), policy)
        .with_rejection(|_: &Denial| {
            Response::new(RevocableBody::unwatched(StreamBody::new(stream::pending().boxed() as Frames)))
        })
        .layer(RevocableBodyLayer::new().layer(inner));
    let request = Request::get("/").header("x-api-key", key.api_key.expose()).body(Body::empty()).unwrap();
    let mut body = service.oneshot(request).await.unwrap().into_body();
    assert!(soon(body.frame()).await.unwrap().is_ok());
    store.as_actor("test").revoke(key.record.id(), "").await.unwrap();
    let error = soon(body.frame()).await.unwrap().unwrap_err();
    assert!(matches!(error, RevocableBodyError::KeyEnded));
}

/// Serves an upgraded connection: the handler has returned, so the task that continues must watch the key.
async fn socket(principal: Principal, request: Request<Body>) -> Response {
    tokio::spawn(async move {
        let mut lines = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut ended = std::pin::pin!(principal.ended());
        let mut buffer = [0; 64];
        loop {
            let length = tokio::select! {
                biased;
                () = &mut ended => break,
                length = lines.read(&mut buffer) => length.unwrap_or(0),
            };
            if length == 0 || lines.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    });
    let upgrade = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "lines");
    upgrade.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn an_upgraded_connection_ends_with_its_key() {
    let store = MemoryStore::new();
    let policy = Policy::builder().route("/socket", Rule::resource("lines").unscoped()).build().unwrap();
    let app = Router::new().route("/socket", any(socket)).layer(Authz::new(store.clone(), policy));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    for narrowed in [false, true] {
        let grant = Grant::builder().write("lines").build().unwrap();
        let key = store.as_actor("test").issue(NewKey::new("k", grant)).await.unwrap();
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /socket HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n",
            key.api_key.expose()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon(client.read_u8()).await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        client.write_all(b"!").await.unwrap();
        assert_eq!(soon(client.read_u8()).await.unwrap(), b'!');
        if narrowed {
            let grant = Grant::builder().read("lines").build().unwrap();
            store.as_actor("test").set_grant(key.record.id(), grant).await.unwrap();
        } else {
            store.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
        }
        assert!(soon(client.read_u8()).await.is_err(), "nothing is heard any more");
    }
}
