use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::Service;

use crate::{
    gate::{
        future::{PendingRequest, ResponseFuture},
        in_flight::InFlight,
        sharded::Sharded,
    },
    reject::{Problem, Reject},
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
        let shard = self.sharded.local();
        let mut in_flight = InFlight::new(&request, shard.rejected_request::<_, ResB>(&request));
        match shard.decide(&mut request, &mut in_flight) {
            Ok(None) => {
                shard.tell_allowed(&request, &in_flight);
                let shard = Arc::clone(shard);
                ResponseFuture::forward(self.inner.call(request), in_flight, shard)
            }
            Ok(Some(undecided)) => {
                // `poll_ready` reserved capacity on this very service: it goes into the future, the clone stays.
                let spare = self.inner.clone();
                let inner = mem::replace(&mut self.inner, spare);
                let shard = Arc::clone(shard);
                ResponseFuture::lookup(PendingRequest { inner, request, undecided, in_flight, shard })
            }
            Err(refused) => {
                shard.tell_refused(&request, &refused);
                ResponseFuture::denied(in_flight.refuse_undecided(shard, refused))
            }
        }
    }
}
