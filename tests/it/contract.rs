//! Both layers keep the contract of a tower service, for every way in which a store can answer.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, limit::ConcurrencyLimit, service_fn};
use tower_authz::{AuthenticateLayer, Authz, Denial, Head, Permission, Policy, RequireLayer, Rule, reject::Empty};

use crate::support::{Handler, KEY, Mood, MoodyStore, get, products_reader, send, store};

fn moody(mood: Mood) -> MoodyStore {
    MoodyStore { mood, keys: store(products_reader()) }
}

/// Panics if it is called before it was polled ready. A clone is not ready.
#[derive(Default)]
struct OnlyIfReady {
    ready: bool,
}

impl Clone for OnlyIfReady {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<B> Service<Request<B>> for OnlyIfReady {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        std::future::ready(Ok(Response::new(Full::default())))
    }
}

async fn call<S>(service: &mut S) -> Response<Full<Bytes>>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    service.ready().await.unwrap().call(get("/products")).await.unwrap()
}

#[tokio::test]
async fn the_inner_service_is_called_only_when_it_was_ready() {
    for mood in [Mood::AtOnce, Mood::Later] {
        let mut service = AuthenticateLayer::new(moody(mood)).layer(OnlyIfReady::default());
        for _ in 0..3 {
            let response = call(&mut service).await;
            assert_eq!(response.status(), StatusCode::OK, "{mood:?}");
        }
        let policy = Policy::builder().route("/products", Rule::resource("products").unscoped()).build().unwrap();
        let mut service = Authz::new(moody(mood), policy).layer(OnlyIfReady::default());
        for _ in 0..3 {
            let response = call(&mut service).await;
            assert_eq!(response.status(), StatusCode::OK, "{mood:?}");
        }
    }
}

#[tokio::test]
async fn a_permit_that_was_reserved_is_used() {
    for mood in [Mood::AtOnce, Mood::Later] {
        let inner = ConcurrencyLimit::new(
            service_fn(async |_: Request<Full<Bytes>>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))),
            1,
        );
        let mut service = AuthenticateLayer::new(moody(mood)).layer(inner);
        for _ in 0..3 {
            let response = call(&mut service).await;
            assert_eq!(response.status(), StatusCode::OK, "{mood:?}");
        }
    }
}

/// The service is not `Clone`, so this compiles only if `require` and an immediate look-up need no clone.
struct NotClone(Handler);

impl<B> Service<Request<B>> for NotClone {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request)
    }
}

#[tokio::test]
async fn require_needs_no_clone() {
    let handler = Handler::default();
    let service = RequireLayer::new(|_: &Head<'_>| Ok::<(), Denial>(())).layer(NotClone(handler.clone()));
    assert_eq!(send(service, get("/")).await.0, StatusCode::OK);
    assert_eq!(handler.calls(), 1);
}

/// Panics when it is cloned.
#[derive(Default)]
struct CloneBomb(OnlyIfReady);

impl Clone for CloneBomb {
    fn clone(&self) -> Self {
        panic!("cloned")
    }
}

impl<B> Service<Request<B>> for CloneBomb {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request)
    }
}

#[tokio::test]
async fn a_look_up_that_is_ready_clones_nothing() {
    let policy = Policy::builder().route("/products", Rule::resource("products").unscoped()).build().unwrap();
    let service = Authz::new(moody(Mood::AtOnce), policy).layer(CloneBomb::default());
    assert_eq!(send(service, get("/products")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn every_doubt_of_the_store_denies() {
    for (mood, status) in [
        (Mood::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        (Mood::UnavailableLater, StatusCode::SERVICE_UNAVAILABLE),
        (Mood::Unreadable, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let handler = Handler::default();
        let service = AuthenticateLayer::new(moody(mood)).layer(handler.clone());
        let response = service.oneshot(get("/products")).await.unwrap();
        assert_eq!(response.status(), status, "{mood:?}");
        assert_eq!(response.headers().contains_key("retry-after"), status == StatusCode::SERVICE_UNAVAILABLE);
        assert!(!response.headers().contains_key("www-authenticate"), "a good key must not be thrown away");
        assert_eq!(handler.calls(), 0);
    }
}

#[tokio::test]
async fn a_record_that_was_not_asked_for_admits_nobody() {
    let handler = Handler::default();
    let service = AuthenticateLayer::new(moody(Mood::Lies)).layer(handler.clone());
    let other = Request::get("/").header("x-api-key", "another-key-altogether").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(send(service, other).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(handler.calls(), 0);
}

#[tokio::test]
async fn a_store_that_panics_admits_nobody() {
    for mood in [Mood::Panics, Mood::PanicsLater] {
        let handler = Handler::default();
        let service = AuthenticateLayer::new(moody(mood)).layer(handler.clone());
        let outcome = AssertUnwindSafe(service.oneshot(get("/products"))).catch_unwind().await;
        assert!(outcome.is_err(), "{mood:?}: the panic goes to whoever runs the server");
        assert_eq!(handler.calls(), 0);
    }
}

#[tokio::test]
async fn inner_errors_come_through_as_they_are() {
    #[derive(Debug, PartialEq)]
    struct Own(u8);
    let failing = service_fn(async |_: Request<Full<Bytes>>| Err::<Response<Full<Bytes>>, _>(Own(7)));
    for mood in [Mood::AtOnce, Mood::Later] {
        let service = ServiceBuilder::new()
            .layer(AuthenticateLayer::new(moody(mood)))
            .layer(RequireLayer::new(Permission::read("products")))
            .service(failing);
        assert_eq!(service.oneshot(get("/products")).await.unwrap_err(), Own(7));
    }
}

#[tokio::test]
async fn any_request_body_and_any_response_body_will_do() {
    // The request has no body, and the response body can only be built by `Default`.
    let service = AuthenticateLayer::new(moody(Mood::AtOnce))
        .with_rejection(Empty)
        .layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))));
    let response = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let request = Request::get("/").header("x-access-token", KEY).body(()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), StatusCode::OK);

    // The bodies are those of axum.
    let service =
        AuthenticateLayer::new(moody(Mood::Later)).layer(service_fn(async |request: Request<axum::body::Body>| {
            Ok::<_, Infallible>(Response::new(request.into_body()))
        }));
    let request = Request::get("/").header("x-api-key", KEY).body(axum::body::Body::from("through")).unwrap();
    assert_eq!(send(service, request).await, (StatusCode::OK, "through".to_owned()));
}

#[tokio::test]
async fn a_finished_future_that_is_polled_again_does_not_panic() {
    let mut service = AuthenticateLayer::new(moody(Mood::AtOnce)).layer(Handler::default());
    let mut refused = Box::pin(service.call(Request::new(Full::<Bytes>::default())));
    assert_eq!(refused.as_mut().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert!(futures::poll!(refused.as_mut()).is_pending());
}

#[test]
fn auto_traits_and_sizes_are_pinned() {
    fn layer<T: Send + Sync + Clone + std::fmt::Debug + 'static>() {}
    fn data<T: Send + Sync + Clone + std::fmt::Debug + 'static>() {}
    layer::<AuthenticateLayer>();
    layer::<RequireLayer<Permission>>();
    layer::<Authz<Empty>>();
    data::<Denial>();
    data::<tower_authz::Principal>();
    data::<tower_authz::Scope>();
    data::<Policy>();
    data::<tower_authz::KeyRecord>();
    fn future<T: Send>(_: T) {}
    let mut service = AuthenticateLayer::new(moody(Mood::Later)).layer(Handler::default());
    future(service.call(get("/")));
    assert_eq!(size_of::<AuthenticateLayer>(), size_of::<usize>(), "a clone of a layer is one reference count");
    assert_eq!(size_of::<RequireLayer<Permission>>(), size_of::<usize>());
}
