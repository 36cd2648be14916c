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
        future::{Held, ResponseFuture},
        shared::Shared,
    },
    head::Head,
    reject::{Problem, Reject},
    route::Values,
    store::Answer,
};

/// The service of an [`AuthenticateLayer`](crate::AuthenticateLayer).
pub struct Authenticate<S, R = Problem> {
    pub(crate) inner: S,
    pub(crate) shared: Arc<Shared<R>>,
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
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
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
        let config = self.shared.own();
        // Whose key it is matters last, but a processor goes on to what follows while the hash is still being worked out.
        let identified = config.identify(&mut request);
        let head = Head::of(&request);
        if let Err(denial) = config.enter(&head) {
            return ResponseFuture::denied(config.refuse(denial, Form::of(&request)), None);
        }
        let mut values = Values::default();
        let sought = config.seek(&head, &mut values);
        if let Some(sought) = sought.as_ref().filter(|sought| sought.is_public()) {
            return match config.pass(&mut request, (sought, &values)) {
                Ok(passage) => ResponseFuture::forward(self.inner.call(request), passage),
                Err(denial) => ResponseFuture::denied(config.refuse(denial, Form::of(&request)), None),
            };
        }
        let mut presented = match identified {
            Ok(presented) => presented,
            Err(denial) => {
                let notice = config.sources.notice(request.headers());
                return ResponseFuture::denied(config.refuse(denial, Form::of(&request)), notice.map(|it| &**it));
            }
        };
        match config.store.lookup(&presented.digest).0 {
            Answer::Ready(found, directory) => {
                let sought = sought.as_ref().map(|sought| (sought, &values));
                match config.admit(&mut presented, (found, directory), &mut request, sought) {
                    Ok(passage) => ResponseFuture::forward(self.inner.call(request), passage),
                    Err(denial) => {
                        ResponseFuture::denied(config.refuse(denial, Form::of(&request)), presented.notice.as_deref())
                    }
                }
            }
            Answer::Pending(answer) => {
                // `poll_ready` reserved capacity on this very service: it goes, the clone stays.
                let spare = self.inner.clone();
                let inner = mem::replace(&mut self.inner, spare);
                let config = Arc::clone(config);
                ResponseFuture::lookup(answer, Held { inner, request, presented, config })
            }
        }
    }
}
