use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    denial::Cause,
    gate::{apply::Undecided, decide::Target, in_flight::InFlight, sharded::Shard},
    reject::Reject,
};

pin_project! {
    /// The response of [`Authenticate`](crate::Authenticate).
    pub struct ResponseFuture<S, ReqB, ResB, R>
    where
        S: Service<Request<ReqB>>,
    {
        #[pin]
        state: State<S, ReqB, ResB, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqB, ResB, R>
    where
        S: Service<Request<ReqB>>,
    {
        Lookup { pending: Option<Box<PendingRequest<S, ReqB, R>>> },
        Forward { #[pin] future: S::Future, in_flight: InFlight, shard: Arc<Shard<R>> },
        Denied { response: Option<Response<ResB>> },
    }
}

/// A request that waits for the answer of the store.
pub(super) struct PendingRequest<S, ReqB, R> {
    pub(super) inner: S,
    pub(super) request: Request<ReqB>,
    pub(super) undecided: Box<Undecided>,
    pub(super) in_flight: InFlight,
    pub(super) shard: Arc<Shard<R>>,
}

impl<S, ReqB, ResB, R> ResponseFuture<S, ReqB, ResB, R>
where
    S: Service<Request<ReqB>>,
{
    #[cold]
    pub(super) fn lookup(pending: PendingRequest<S, ReqB, R>) -> Self {
        // Boxed, so that the future of a request whose look-up is ready stays small: it is moved several times.
        Self { state: State::Lookup { pending: Some(Box::new(pending)) } }
    }

    #[inline]
    pub(super) const fn forward(future: S::Future, in_flight: InFlight, shard: Arc<Shard<R>>) -> Self {
        Self { state: State::Forward { future, in_flight, shard } }
    }

    #[cold]
    pub(super) const fn denied(response: Response<ResB>) -> Self {
        Self { state: State::Denied { response: Some(response) } }
    }
}

impl<S, ReqB, ResB, R> Future for ResponseFuture<S, ReqB, ResB, R>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    R: Reject<ResB>,
    ResB: 'static,
{
    type Output = Result<Response<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Forward { future, in_flight, shard } => {
                    // Checked before the handler continues, while it waits, and again when it is done, in
                    // `finish_response`.
                    let end = match in_flight.end(shard) {
                        Some(end) => end,
                        None => {
                            let mut polled = future.poll(cx);
                            if let Poll::Ready(answer) = &mut polled {
                                // Changed in place: moving a response costs as much as inspecting it.
                                if let Ok(response) = answer {
                                    in_flight.finish_response(shard, response);
                                }
                                return polled;
                            }
                            match in_flight.watch() {
                                Some(watch) => ready!(watch.poll_end(cx)),
                                None => return Poll::Pending,
                            }
                        }
                    };
                    State::Denied { response: Some(in_flight.refuse(shard, Cause::from(end).into())) }
                }
                StateProj::Lookup { pending } => {
                    let Some(waiting) = pending else {
                        return Poll::Pending; // polled again after it was done
                    };
                    let found = ready!(waiting.undecided.answer.as_mut().poll(cx));
                    let Some(waiting) = pending.take() else { return Poll::Pending };
                    let PendingRequest { mut inner, mut request, undecided, mut in_flight, shard } = *waiting;
                    let mut target = Target::default();
                    target.find(&shard.head(&request), shard.policy_of(undecided.policy.as_ref()));
                    let credential = (&undecided.digest, &undecided.presented);
                    match shard.admit_found(credential, found, &mut request, &target, &mut in_flight) {
                        Ok(()) => {
                            shard.tell_allowed(&request, &in_flight);
                            State::Forward { future: inner.call(request), in_flight, shard }
                        }
                        Err(refused) => {
                            shard.tell_refused(&request, &refused);
                            State::Denied { response: Some(in_flight.refuse_undecided(&shard, refused)) }
                        }
                    }
                }
                StateProj::Denied { response } => {
                    return match response.take() {
                        Some(response) => Poll::Ready(Ok(response)),
                        None => Poll::Pending, // polled again after it was done
                    };
                }
            };
            this.state.set(next);
        }
    }
}

impl<S, ReqB, ResB, R> fmt::Debug for ResponseFuture<S, ReqB, ResB, R>
where
    S: Service<Request<ReqB>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Lookup { .. } => "Lookup",
            State::Forward { .. } => "Forward",
            State::Denied { .. } => "Denied",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
