use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::Service;

use crate::{
    denial::Form,
    gate::{
        decide::FirstStep,
        future::{PendingRequest, ResponseFuture},
        sharded::Sharded,
    },
    reject::{Problem, Reject},
    route::PathParams,
    store::Answer,
};

/// The service of an [`AuthenticateLayer`](crate::AuthenticateLayer).
pub struct Authenticate<S, R = Problem> {
    pub(crate) inner: S,
    pub(crate) sharded: Arc<Sharded<R>>,
}

impl<S, R> Authenticate<S, R> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, R> Clone for Authenticate<S, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), sharded: Arc::clone(&self.sharded) }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for Authenticate<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for Authenticate<S, R>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
    R: Reject<ResB>,
    ResB: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqB, ResB, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(never)] // what is returned is then written where the caller wants it, and not copied there
    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let config = self.sharded.local();
        // Start hashing first, although the digest is needed last: the CPU overlaps it with the path and route checks.
        let credential = config.extract_credential(&mut request);
        let mut params = PathParams::default();
        let route = match config.first_step(&config.head(&request), &mut params) {
            FirstStep::LookUp(route) => route,
            FirstStep::AdmitPublic(route) => {
                let admitted = config.admit_public(&mut request, (&route, &params));
                return ResponseFuture::new(&mut self.inner, request, config, admitted, None);
            }
            FirstStep::Deny(denial) => {
                return ResponseFuture::denied(config.refuse(denial, Form::from_request(&request)), None);
            }
        };
        let mut presented = match credential {
            Ok(presented) => presented,
            Err(denial) => {
                let notice = config.sources.notice(request.headers());
                let response = config.refuse(denial, Form::from_request(&request));
                return ResponseFuture::denied(response, notice.map(|notice| &**notice));
            }
        };
        match config.store.lookup(&presented.digest).0 {
            Answer::Ready(found, directory) => {
                let route = route.as_ref().map(|route| (route, &params));
                let admitted = config.admit(&mut presented, (found, directory), &mut request, route);
                ResponseFuture::new(&mut self.inner, request, config, admitted, presented.notice.as_deref())
            }
            Answer::Pending(answer) => {
                // `poll_ready` reserved capacity on this very service: it goes into the future, the clone stays.
                let spare = self.inner.clone();
                let inner = mem::replace(&mut self.inner, spare);
                let config = Arc::clone(config);
                ResponseFuture::lookup(answer, PendingRequest { inner, request, presented, config })
            }
        }
    }
}
