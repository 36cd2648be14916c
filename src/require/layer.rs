use std::{fmt, sync::Arc};

use http::Response;
use tower_layer::Layer;

use crate::{
    denial::{Denial, RejectedRequest},
    head::Head,
    reject::{self, Problem, Reject},
    require::Require,
};

/// Forwards a request if a [`Check`](crate::Check) admits it.
///
/// The check may be a single requirement, a [`Rule`](crate::Rule), a whole [`Policy`](crate::Policy), or a closure.
/// Checks that depend on the caller need an [`AuthenticateLayer`](crate::AuthenticateLayer) outside of this layer;
/// without one they refuse with 500 and a message that says so.
///
/// A single requirement checks one property, besides the networks of the key: `Permission::read("orders")` admits a
/// key that is restricted to one shop to the orders of all shops. Use a [`Rule`](crate::Rule) if keys may be
/// restricted: it refuses them unless it declares how the route relates to the restriction.
///
/// # Layer order
/// In a `ServiceBuilder` the first layer is the outermost: `AuthenticateLayer`, then `RequireLayer`.
/// With `Router::layer` it is the last one: `.layer(require).layer(authenticate)`.
///
/// # Example
/// ```
/// use tower_authz::{Permission, RequireLayer};
///
/// let layer = RequireLayer::new(Permission::write("products"));
/// # drop(layer);
/// ```
#[must_use = "a layer does nothing until it is applied"]
pub struct RequireLayer<C, R = Problem> {
    config: Arc<Config<C, R>>,
}

impl<C> RequireLayer<C> {
    /// Requires that this check admits the request.
    pub fn new(check: C) -> Self {
        Self { config: Arc::new(Config { check, reject: Problem }) }
    }
}

impl<C, R> RequireLayer<C, R> {
    /// Sets how a denial is rendered. The default is [`Problem`].
    pub fn with_rejection<R2>(self, reject: R2) -> RequireLayer<C, R2>
    where
        C: Clone,
    {
        let check = match Arc::try_unwrap(self.config) {
            Ok(config) => config.check,
            Err(shared) => shared.check.clone(),
        };
        RequireLayer { config: Arc::new(Config { check, reject }) }
    }
}

impl<C, R> Clone for RequireLayer<C, R> {
    fn clone(&self) -> Self {
        Self { config: Arc::clone(&self.config) }
    }
}

impl<C, R> fmt::Debug for RequireLayer<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireLayer").finish_non_exhaustive()
    }
}

impl<S, C, R> Layer<S> for RequireLayer<C, R> {
    type Service = Require<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Require { inner, config: Arc::clone(&self.config) }
    }
}

/// The state that all clones of a service share.
pub(crate) struct Config<C, R> {
    pub(crate) check: C,
    reject: R,
}

impl<C, R> Config<C, R> {
    /// The part of the request that the rejection sees, if it asks for it. No sources are known here: the gate outside has
    /// marked their headers.
    #[inline]
    pub(crate) fn rejected_request<B>(&self, head: &Head<'_>) -> Option<Arc<RejectedRequest>>
    where
        R: Reject<B>,
    {
        let keep = || RejectedRequest::new(head.method(), head.uri(), head.headers(), |_| false).into();
        self.reject.sees_request().then(keep)
    }

    pub(crate) fn refuse<B: 'static>(&self, denial: Denial) -> Response<B>
    where
        R: Reject<B>,
    {
        reject::refuse(&self.reject, denial)
    }
}
