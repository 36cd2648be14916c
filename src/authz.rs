use std::{fmt, sync::Arc, time::SystemTime};

use tower_layer::Layer;

use crate::{
    Authenticate, AuthenticateLayer, Policy, Require, RequireLayer, Sources, reject::Problem, store::KeyStore,
};

/// All layers in the right order, as one.
///
/// ```text
/// request -> authenticate -> require -> handler
///            401, 503        403, 404, 405
/// ```
///
/// Put it around an axum router with `Router::layer`, after all routes: then the route that axum has
/// matched decides. It also works around any other tower service.
///
/// # Example
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use tower_authz::{Authz, Policy, Rule, store::MemoryStore};
///
/// let store = MemoryStore::new();
/// let policy = Policy::builder()
///     .public("/health")
///     .route("/products", Rule::resource("products").unscoped())
///     .build()?;
/// let app: Router = Router::new()
///     .route("/health", get(|| async { "ok" }))
///     .route("/products", get(|| async { "[]" }))
///     .layer(Authz::new(store, policy));
/// # drop(app);
/// # }
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[must_use = "a layer does nothing until it is applied"]
pub struct Authz<R = Problem> {
    authenticate: AuthenticateLayer<R>,
    require: RequireLayer<Arc<Policy>, R>,
}

impl Authz {
    /// Keys from the store, rules from the policy, and a sensible default for all else.
    pub fn new(store: impl KeyStore, policy: impl Into<Arc<Policy>>) -> Self {
        let policy = policy.into();
        Self {
            authenticate: AuthenticateLayer::new(store).except_public(Arc::clone(&policy)),
            require: RequireLayer::new(policy),
        }
    }
}

impl<R: Clone> Authz<R> {
    /// Where keys may stand, in order of precedence. Default: [`Sources::default`].
    pub fn with_sources(mut self, sources: impl Into<Sources>) -> Self {
        self.authenticate = self.authenticate.with_sources(sources);
        self
    }

    /// Takes the credential headers out of the request before the handler sees it.
    pub fn remove_credential(mut self) -> Self {
        self.authenticate = self.authenticate.remove_credential();
        self
    }

    /// The clock that expiry is judged by; for tests.
    pub fn with_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.authenticate = self.authenticate.with_clock(now);
        self
    }

    /// The dialect of all denials. Default: [`Problem`].
    pub fn with_reject<R2: Clone>(self, reject: R2) -> Authz<R2> {
        Authz { authenticate: self.authenticate.with_reject(reject.clone()), require: self.require.with_reject(reject) }
    }
}

impl<R> Clone for Authz<R> {
    fn clone(&self) -> Self {
        Self { authenticate: self.authenticate.clone(), require: self.require.clone() }
    }
}

impl<R> fmt::Debug for Authz<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authz").field("authenticate", &self.authenticate).finish_non_exhaustive()
    }
}

impl<S, R> Layer<S> for Authz<R> {
    type Service = Authenticate<Require<S, Arc<Policy>, R>, R>;

    fn layer(&self, inner: S) -> Self::Service {
        self.authenticate.layer(self.require.layer(inner))
    }
}
