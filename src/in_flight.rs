//! Response bodies that end with their key.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::Service;
use tower_layer::Layer;

use crate::{KeyRecord, Principal, key::Watch};

pin_project! {
    /// A response body that is ended with an error when the key of its request is revoked or deleted, or
    /// something is taken away from what it may do.
    ///
    /// Bodies of axum are wrapped in one by [`Authz`](crate::Authz), if they are streams. For other types
    /// of bodies there is [`LiveBodyLayer`].
    pub struct LiveBody<B> {
        #[pin]
        body: B,
        watch: Option<Watch>,
    }
}

impl<B> LiveBody<B> {
    /// A body for the bearer of this principal.
    pub fn new(body: B, principal: &Principal) -> Self {
        Self::of_record(body, principal.shared_record())
    }

    /// A body that no key ends.
    pub const fn unwatched(body: B) -> Self {
        Self { body, watch: None }
    }

    fn of_record(body: B, record: &Arc<KeyRecord>) -> Self {
        Self { body, watch: Some(Watch::new(Arc::clone(record))) }
    }
}

/// A refusal, which is for nobody.
impl<B: From<Bytes>> From<Bytes> for LiveBody<B> {
    fn from(body: Bytes) -> Self {
        Self::unwatched(body.into())
    }
}

impl<B: Default> Default for LiveBody<B> {
    fn default() -> Self {
        Self::unwatched(B::default())
    }
}

impl<B: Body> Body for LiveBody<B> {
    type Data = B::Data;
    type Error = LiveBodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = self.project();
        let Some(watch) = this.watch else {
            return this.body.poll_frame(cx).map_err(LiveBodyError::Body);
        };
        if watch.end().is_none() {
            if let Poll::Ready(frame) = this.body.poll_frame(cx) {
                return Poll::Ready(frame.map(|frame| frame.map_err(LiveBodyError::Body)));
            }
            ready!(watch.poll_end(cx));
        }
        Poll::Ready(Some(Err(LiveBodyError::KeyEnded)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: fmt::Debug> fmt::Debug for LiveBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveBody").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Why a [`LiveBody`] broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveBodyError<E> {
    /// The key is no longer what it was when the request was admitted.
    #[error("the key was revoked, or may do less than before")]
    KeyEnded,
    /// The body itself failed.
    #[error(transparent)]
    Body(E),
}

/// Wraps response bodies in [`LiveBody`], whatever their type: for hyper and tonic. Put it inside of
/// [`Authz`](crate::Authz), closer to the handler. axum has no need of it.
///
/// # Example
/// ```
/// use tower::ServiceBuilder;
/// use tower_authz::{Authz, LiveBodyLayer, Policy, store::MemoryStore};
///
/// let stack = ServiceBuilder::new()
///     .layer(Authz::new(MemoryStore::new(), Policy::builder().build()?))
///     .layer(LiveBodyLayer::new());
/// # drop(stack);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a layer does nothing until it is applied"]
#[non_exhaustive]
pub struct LiveBodyLayer;

impl LiveBodyLayer {
    /// The layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for LiveBodyLayer {
    type Service = LiveBodies<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LiveBodies { inner }
    }
}

/// The service that [`LiveBodyLayer`] makes.
#[derive(Clone, Copy, Debug)]
pub struct LiveBodies<S> {
    inner: S,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for LiveBodies<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
{
    type Response = Response<LiveBody<ResB>>;
    type Error = S::Error;
    type Future = LiveBodyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let record = request.extensions().get::<Principal>().map(|principal| Arc::clone(principal.shared_record()));
        LiveBodyFuture { future: self.inner.call(request), record }
    }
}

pin_project! {
    /// The response of [`LiveBodies`].
    #[derive(Debug)]
    pub struct LiveBodyFuture<F> {
        #[pin]
        future: F,
        record: Option<Arc<KeyRecord>>,
    }
}

impl<F, B, E> Future for LiveBodyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<LiveBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| match this.record {
            Some(record) => LiveBody::of_record(body, record),
            None => LiveBody::unwatched(body),
        })))
    }
}

/// Wraps the body if it is one of axum and a stream: all else is sent before anybody could revoke.
#[cfg(feature = "axum")]
pub(crate) fn end_stream<B: 'static>(response: &mut Response<B>, record: &Arc<KeyRecord>) {
    /// Bodies up to this length, in bytes, are in memory already.
    const SHORT: u64 = 64 * 1024;
    let body: &mut dyn std::any::Any = response.body_mut();
    if let Some(body) = body.downcast_mut::<axum::body::Body>()
        && body.size_hint().upper().is_none_or(|length| length > SHORT)
    {
        let stream = std::mem::take(body);
        *body = axum::body::Body::new(LiveBody::of_record(stream, record));
    }
}

#[cfg(not(feature = "axum"))]
pub(crate) const fn end_stream<B>(_: &mut Response<B>, _: &Arc<KeyRecord>) {}
