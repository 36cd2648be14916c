use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    Denial, Reject,
    authenticate::layer::{Config, Presented},
    credential::Notice,
    denial, in_flight,
    key::{End, Watch},
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
        Lookup { answer: BoxFuture<'static, Found>, held: Option<Box<Held<S, ReqB, R>>> },
        Forward { #[pin] future: S::Future, notice: Option<Notice>, guard: Option<Guard<R>> },
        Denied { response: Option<Response<ResB>> },
    }
}

/// Sees to it that a request in flight does not outlive its key.
pub(crate) struct Guard<R> {
    watch: Watch,
    config: Arc<Config<R>>,
    bearer: bool,
    is_head: bool,
}

impl<R> Guard<R> {
    pub(crate) fn new(watch: Watch, config: &Arc<Config<R>>, bearer: bool, is_head: bool) -> Self {
        Self { watch, config: Arc::clone(config), bearer, is_head }
    }

    fn refuse<B>(&self, end: End) -> Response<B>
    where
        R: Reject<B>,
    {
        let key = Some(self.watch.record().id().clone());
        let context = denial::Context { key, bearer: self.bearer, ..denial::Context::default() };
        self.config.refuse(Denial::from(end.cause()).in_context(context), self.is_head)
    }
}

/// What waits for the store's answer.
pub(crate) struct Held<S, ReqB, R> {
    pub(crate) inner: S,
    pub(crate) request: Request<ReqB>,
    pub(crate) presented: Presented,
    pub(crate) config: Arc<Config<R>>,
}

impl<S, ReqB, ResB, R> ResponseFuture<S, ReqB, ResB, R>
where
    S: Service<Request<ReqB>>,
{
    pub(crate) fn lookup(answer: BoxFuture<'static, Found>, held: Held<S, ReqB, R>) -> Self {
        // Boxed, so that a request whose look-up is ready does not carry its size through every move.
        Self { state: State::Lookup { answer, held: Some(Box::new(held)) } }
    }

    pub(crate) const fn forward(future: S::Future, notice: Option<Notice>, guard: Option<Guard<R>>) -> Self {
        Self { state: State::Forward { future, notice, guard } }
    }

    pub(crate) fn denied(response: Response<ResB>, notice: Option<Notice>) -> Self {
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
                StateProj::Lookup { answer, held } => {
                    let found = ready!(answer.as_mut().poll(cx));
                    let Some(held) = held.take() else {
                        return Poll::Pending; // polled again after it was done
                    };
                    let Held { mut inner, mut request, presented, config } = *held;
                    let is_head = *request.method() == Method::HEAD;
                    let admitted = config.admit(&presented, found, &mut request);
                    let notice = presented.notice;
                    match admitted {
                        Ok(watch) => {
                            let guard = watch.map(|watch| Guard::new(watch, &config, presented.bearer, is_head));
                            State::Forward { future: inner.call(request), notice, guard }
                        }
                        Err(denial) => {
                            State::Denied { response: Some(with_notice(config.refuse(denial, is_head), notice)) }
                        }
                    }
                }
                StateProj::Forward { future, notice, guard: None } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(with_notice(response, notice.take())));
                }
                StateProj::Forward { future, notice, guard: Some(guard) } => {
                    // Before the handler goes on, when it waits, and once more when it is done: what it has done
                    // by then is done, but its answer is not for a key that is gone.
                    let ended = match guard.watch.end() {
                        Some(end) => end,
                        None => match future.poll(cx) {
                            Poll::Pending => ready!(guard.watch.poll_end(cx)),
                            Poll::Ready(response) => {
                                let response = response?;
                                match guard.watch.end() {
                                    Some(end) => end,
                                    None => {
                                        let response = in_flight::end_stream(response, guard.watch.record());
                                        return Poll::Ready(Ok(with_notice(response, notice.take())));
                                    }
                                }
                            }
                        },
                    };
                    State::Denied { response: Some(with_notice(guard.refuse(ended), notice.take())) }
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

/// Tells a client that its way to send a key is on the way out.
fn with_notice<B>(mut response: Response<B>, notice: Option<Notice>) -> Response<B> {
    if let Some(notice) = notice {
        notice.write(response.headers_mut());
    }
    response
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
