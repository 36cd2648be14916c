use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::Service;

use crate::{
    check::Check,
    denial::{Context as DenialContext, Form},
    head::Head,
    principal::Principal,
    reject::{Problem, Reject},
    require::{future::ResponseFuture, layer::Config},
    telemetry,
};

/// The service of a [`RequireLayer`](crate::RequireLayer).
pub struct Require<S, C, R = Problem> {
    pub(crate) inner: S,
    pub(crate) config: Arc<Config<C, R>>,
}

impl<S, C, R> Require<S, C, R> {
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

impl<S: Clone, C, R> Clone for Require<S, C, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), config: Arc::clone(&self.config) }
    }
}

impl<S: fmt::Debug, C, R> fmt::Debug for Require<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Require").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, C, R, ReqB, ResB> Service<Request<ReqB>> for Require<S, C, R>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    C: Check,
    R: Reject<ResB>,
    ResB: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResB, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let head = Head::new(&request);
        let admitted = self.config.check.evaluate(&head);
        let known = head.principal().map(Principal::context).unwrap_or_default();
        let kept = self.config.rejected_request::<ResB>(&head);
        let context = DenialContext { form: Form::from_request(&request), request: kept, ..known };
        match admitted {
            Ok(obligation) => {
                if let Some(principal) = head.principal() {
                    telemetry::allowed(principal.key_id().as_str(), || head.route().unwrap_or_else(|| head.path()));
                }
                if let (Some(obligation), Some(principal)) =
                    (&obligation, request.extensions_mut().get_mut::<Principal>())
                {
                    principal.add_obligation(obligation);
                }
                ResponseFuture::forward(self.inner.call(request), obligation, context, Arc::clone(&self.config))
            }
            Err(denial) => {
                let denial = denial.on_route(head.matched_name()).in_context(context);
                ResponseFuture::denied(self.config.refuse(denial))
            }
        }
    }
}
