use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::{
    denial::{Context, Denial},
    principal::Obligation,
    reject::{HandlerDenial, Reject},
    require::layer::Config,
};

pin_project! {
    /// The response of [`Require`](crate::Require).
    pub struct ResponseFuture<F, B, C, R> {
        #[pin]
        state: State<F, B, C, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, C, R> {
        Forward { #[pin] future: F, obligation: Option<Obligation>, context: Option<Context>, config: Arc<Config<C, R>> },
        Denied { response: Option<Response<B>> },
    }
}

impl<F, B, C, R> ResponseFuture<F, B, C, R> {
    pub(crate) const fn forward(
        future: F,
        obligation: Option<Obligation>,
        context: Context,
        config: Arc<Config<C, R>>,
    ) -> Self {
        Self { state: State::Forward { future, obligation, context: Some(context), config } }
    }

    pub(crate) const fn denied(response: Response<B>) -> Self {
        Self { state: State::Denied { response: Some(response) } }
    }
}

impl<F, B, E, C, R> Future for ResponseFuture<F, B, C, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    R: Reject<B>,
    B: 'static,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forward { future, obligation, context, config } => {
                let mut polled = future.poll(cx);
                if let Poll::Ready(Ok(response)) = &mut polled
                    && let Some(denial) = raised_or_unmet(response, obligation.as_ref())
                {
                    *response = config.refuse(denial.in_context(context.take().unwrap_or_default()));
                }
                polled
            }
            StateProj::Denied { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending, // the future was polled after completion
            },
        }
    }
}

/// Returns the denial that the handler returned, so that it is rendered in the dialect of the layer. Otherwise returns
/// a denial if the handler succeeded but did not meet its obligation: its response is then withheld.
#[inline]
pub(crate) fn raised_or_unmet<B>(response: &mut Response<B>, obligation: Option<&Obligation>) -> Option<Denial> {
    if response.extensions_mut().remove::<HandlerDenial>().is_some()
        && let Some(denial) = response.extensions_mut().remove::<Denial>()
    {
        return Some(match obligation {
            Some(obligation) => obligation.describe(denial),
            None => denial,
        });
    }
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    obligation.filter(|_| !refused).and_then(Obligation::unmet)
}

impl<F, B, C, R> fmt::Debug for ResponseFuture<F, B, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Forward { .. } => "Forward",
            State::Denied { .. } => "Denied",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
