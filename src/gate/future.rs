use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    credential::Notice,
    denial::{Cause, Denial, Form},
    directory::Directory,
    gate::{
        apply::PresentedCredential,
        in_flight::{InFlight, with_notice},
        sharded::Shard,
    },
    reject::Reject,
    route::PathParams,
    store::Found,
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
        Lookup { answer: BoxFuture<'static, (Found, Option<Directory>)>, pending: Option<Box<PendingRequest<S, ReqB, R>>> },
        Forward { #[pin] future: S::Future, in_flight: InFlight<R> },
        Denied { response: Option<Response<ResB>> },
    }
}

/// A request that waits for the answer of the store.
pub(crate) struct PendingRequest<S, ReqB, R> {
    pub(crate) inner: S,
    pub(crate) request: Request<ReqB>,
    pub(crate) presented: PresentedCredential,
    pub(crate) config: Arc<Shard<R>>,
}

impl<S, ReqB, ResB, R> ResponseFuture<S, ReqB, ResB, R>
where
    S: Service<Request<ReqB>>,
{
    #[cold]
    pub(crate) fn lookup(
        answer: BoxFuture<'static, (Found, Option<Directory>)>,
        pending: PendingRequest<S, ReqB, R>,
    ) -> Self {
        // Boxed, so that the future of a request whose look-up is ready stays small: it is moved several times.
        Self { state: State::Lookup { answer, pending: Some(Box::new(pending)) } }
    }

    /// Forwards the request to the inner service, or renders the denial.
    #[inline]
    pub(super) fn new(
        inner: &mut S,
        request: Request<ReqB>,
        config: &Shard<R>,
        admitted: Result<InFlight<R>, Denial>,
        notice: Option<&Notice>,
    ) -> Self
    where
        S: Service<Request<ReqB>, Response = Response<ResB>>,
        R: Reject<ResB>,
        ResB: 'static,
    {
        match admitted {
            Ok(in_flight) => Self { state: State::Forward { future: inner.call(request), in_flight } },
            Err(denial) => Self::denied(config.refuse(denial, Form::from_request(&request)), notice),
        }
    }

    #[cold]
    pub(crate) fn denied(response: Response<ResB>, notice: Option<&Notice>) -> Self {
        Self { state: State::Denied { response: Some(with_notice(response, notice)) } }
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
                StateProj::Forward { future, in_flight } => {
                    // Checked before the handler continues, while it waits, and again when it is done, in
                    // `finish_response`.
                    let end = match in_flight.end() {
                        Some(end) => end,
                        None => {
                            let mut polled = future.poll(cx);
                            if let Poll::Ready(answer) = &mut polled {
                                // Changed in place: moving a response costs as much as inspecting it.
                                if let Ok(response) = answer {
                                    in_flight.finish_response(response);
                                }
                                return polled;
                            }
                            match in_flight.watch() {
                                Some(watch) => ready!(watch.poll_end(cx)),
                                None => return Poll::Pending,
                            }
                        }
                    };
                    State::Denied { response: Some(in_flight.refuse(Cause::from(end).into())) }
                }
                StateProj::Lookup { answer, pending } => {
                    let found = ready!(answer.as_mut().poll(cx));
                    let Some(pending) = pending.take() else {
                        return Poll::Pending; // polled again after it was done
                    };
                    let PendingRequest { mut inner, mut request, mut presented, config } = *pending;
                    let mut params = PathParams::default();
                    let route = config.match_route(&config.head(&request), &mut params);
                    let route = route.as_ref().map(|route| (route, &params));
                    let admitted = config.admit(&mut presented, found, &mut request, route);
                    Self::new(&mut inner, request, &config, admitted, presented.notice.as_deref()).state
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
