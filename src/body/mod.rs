//! Response bodies that end when the key of their request ends.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;
use tower_layer::Layer;

use crate::{key::RevocationWatch, principal::Principal};

pin_project! {
    /// A response body that ends with an error when the key of its request expires, is revoked or deleted, or loses a
    /// part of its grant.
    ///
    /// [`Authz`](crate::Authz) wraps bodies of axum in it, unless they are empty. Use [`RevocableBodyLayer`] for
    /// bodies of other types.
    pub struct RevocableBody<B> {
        #[pin]
        body: B,
        watch: Option<RevocationWatch>,
    }
}

impl<B> RevocableBody<B> {
    /// Wraps a body that ends with the key of this principal.
    pub fn new(body: B, principal: &Principal) -> Self {
        Self { body, watch: Some(principal.watch()) }
    }

    /// Wraps a body that no key ends.
    pub const fn unwatched(body: B) -> Self {
        Self { body, watch: None }
    }
}

/// A refusal belongs to no key, so nothing can revoke it.
impl<B: From<Bytes>> From<Bytes> for RevocableBody<B> {
    fn from(body: Bytes) -> Self {
        Self::unwatched(body.into())
    }
}

impl<B: Default> Default for RevocableBody<B> {
    fn default() -> Self {
        Self::unwatched(B::default())
    }
}

impl<B: Body> Body for RevocableBody<B> {
    type Data = B::Data;
    type Error = RevocableBodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = self.project();
        let Some(watch) = this.watch else {
            return this.body.poll_frame(cx).map_err(RevocableBodyError::Body);
        };
        if watch.end().is_none() {
            if let Poll::Ready(frame) = this.body.poll_frame(cx) {
                return Poll::Ready(frame.map(|frame| frame.map_err(RevocableBodyError::Body)));
            }
            ready!(watch.poll_end(cx));
        }
        Poll::Ready(Some(Err(RevocableBodyError::KeyEnded)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: fmt::Debug> fmt::Debug for RevocableBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocableBody").field("body", &self.body).finish_non_exhaustive()
    }
}

/// The error with which a [`RevocableBody`] ends early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocableBodyError<E> {
    /// The key has expired, was revoked or deleted, or may do less than when the request was admitted.
    #[error("the key was revoked, or its grant was narrowed")]
    KeyEnded,
    /// The body itself failed.
    #[error(transparent)]
    Body(E),
}

/// Wraps response bodies of any type in [`RevocableBody`], for hyper and tonic. Put it inside of
/// [`Authz`](crate::Authz), closer to the handler. With axum it is not needed.
///
/// # Example
/// ```
/// use tower::ServiceBuilder;
/// use tower_authz::{Authz, RevocableBodyLayer, Policy, store::MemoryStore};
///
/// let stack = ServiceBuilder::new()
///     .layer(Authz::new(MemoryStore::new(), Policy::builder().build()?))
///     .layer(RevocableBodyLayer::new());
/// # drop(stack);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a layer does nothing until it is applied"]
#[non_exhaustive]
pub struct RevocableBodyLayer;

impl RevocableBodyLayer {
    /// Creates the layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for RevocableBodyLayer {
    type Service = RevocableBodyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RevocableBodyService { inner }
    }
}

/// The service of a [`RevocableBodyLayer`].
#[derive(Clone, Copy, Debug)]
pub struct RevocableBodyService<S> {
    inner: S,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for RevocableBodyService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
{
    type Response = Response<RevocableBody<ResB>>;
    type Error = S::Error;
    type Future = RevocableBodyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let watch = request.extensions().get::<Principal>().map(Principal::watch);
        RevocableBodyFuture { future: self.inner.call(request), watch }
    }
}

pin_project! {
    /// The response of [`RevocableBodyService`].
    #[derive(Debug)]
    pub struct RevocableBodyFuture<F> {
        #[pin]
        future: F,
        watch: Option<RevocationWatch>,
    }
}

impl<F, B, E> Future for RevocableBodyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<RevocableBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| RevocableBody { body, watch: this.watch.take() })))
    }
}

/// Wraps the body if it is a body of axum and not empty. Bodies with an exact length are wrapped too: the length does
/// not reveal whether the rest is in memory or arrives over time.
#[cfg(feature = "axum")]
pub(crate) fn end_stream<B: 'static>(response: &mut Response<B>, watch: &mut Option<RevocationWatch>) {
    let body: &mut dyn std::any::Any = response.body_mut();
    if let Some(body) = body.downcast_mut::<axum::body::Body>()
        && !body.is_end_stream()
        && watch.is_some()
    {
        let stream = std::mem::take(body);
        *body = axum::body::Body::new(RevocableBody { body: stream, watch: watch.take() });
    }
}

#[cfg(not(feature = "axum"))]
pub(crate) const fn end_stream<B>(_: &mut Response<B>, _: &mut Option<RevocationWatch>) {}
