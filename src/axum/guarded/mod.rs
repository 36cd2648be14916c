//! One list of routes: each with its rule and its handlers.

mod rules;
mod service;

use std::{convert::Infallible, fmt};

use axum::{
    Router,
    body::Body,
    extract::Request,
    handler::Handler,
    response::IntoResponse,
    routing::{MethodRouter, Route},
};
use tower::Service;
use tower_layer::Layer;

pub use self::{rules::RouteRules, service::Guarded};
use crate::{
    authz::Authz,
    error::ConfigError,
    gate::Authenticate,
    policy::{Policy, PolicyBuilder, Rule},
    reject::Reject,
};

/// An axum router whose routes are added together with their rules, and the gate around it.
///
/// A route without a rule does not compile. The policy is made of the same list as the router, so that the two cannot
/// disagree, and [`guard`](Self::guard) puts the gate outside of the router, so that no route gets in past it: a request is
/// refused before axum routes it, and an admitted one costs less than with a layer inside.
///
/// Use a [`Policy`] and an [`Authz`] layer instead where a router is there already, or is made elsewhere.
///
/// | axum's `Router` | here |
/// |---|---|
/// | `route(pattern, handlers)` | `route(pattern, rule, handlers)`, `public(pattern, handlers)` |
/// | `nest_service(prefix, service)` | `tree(prefix, rule, service)`, `public_tree(prefix, service)` |
/// | `fallback(handler)` | `fallback(rule, handler)`, `public_fallback(handler)` |
/// | `nest`, `merge` | the same, of guarded routers |
/// | `layer`, `route_layer`, `with_state` | the same; the layers run inside of the gate, for admitted requests |
///
/// # Deployment
/// * **Layers outside**: wrap what [`guard`](Self::guard) returns by [`Guarded::layer`]: a CORS layer, request ids, a trace
///   that also shows refusals.
/// * **Peer address**: serve with [`Guarded::into_make_service_with_connect_info`], or no key that is bound to networks
///   gets in.
///
/// # Example
/// ```
/// use axum::routing::get;
/// use http::Method;
/// use tower_authz::{Authz, Dimension, GuardedRouter, Rule, check::EntityRef, store::MemoryStore};
///
/// let shop = || EntityRef::from_path(Dimension::SHOP, "shop");
/// let app = GuardedRouter::new()
///     .public("/health", get(|| async { "ok" }))
///     .route("/products", Rule::resource("products").unscoped(), get(|| async { "products" }))
///     .route(
///         "/shops/{shop}/orders",
///         Rule::resource("orders").scoped(shop()),
///         get(|| async { "orders" }).post(|| async { "created" }),
///     )
///     .guard(Authz::from_store(MemoryStore::new()))?;
/// # futures::executor::block_on(async {
/// # use tower::ServiceExt as _;
/// # for (path, status) in [("/health", 200), ("/products", 401), ("/other", 401)] {
/// #     let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
/// #     assert_eq!(app.clone().oneshot(request).await.unwrap().status(), status, "{path}");
/// # }
/// # });
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
/// Without a rule it is no route:
/// ```compile_fail
/// use axum::routing::get;
///
/// let app = tower_authz::GuardedRouter::<()>::new().route("/products", get(|| async { "products" }));
/// ```
#[must_use = "the router does nothing until it is guarded and served"]
pub struct GuardedRouter<S = ()> {
    policy: PolicyBuilder,
    router: Router<S>,
}

impl<S: Clone + Send + Sync + 'static> Default for GuardedRouter<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> GuardedRouter<S> {
    /// A router without routes, which refuses every request.
    pub fn new() -> Self {
        Self { policy: PolicyBuilder::default(), router: Router::new() }
    }

    /// Adds a route with its rule, or with [rules for single methods](RouteRules).
    ///
    /// A pattern that a policy does not accept, and a rule that does not fit it, are errors of [`guard`](Self::guard).
    ///
    /// # Panics
    /// As `axum::Router::route`: if the pattern overlaps with another.
    #[track_caller]
    pub fn route(self, pattern: &str, rules: impl Into<RouteRules>, handlers: MethodRouter<S>) -> Self {
        let Self { policy, router } = self.ruled(pattern, rules.into());
        Self { policy, router: router.route(pattern, handlers) }
    }

    /// Adds a route that anyone may call: no key is looked at, not even a bad one.
    ///
    /// # Panics
    /// As [`route`](Self::route).
    #[track_caller]
    pub fn public(self, pattern: &str, handlers: MethodRouter<S>) -> Self {
        self.route(pattern, RouteRules::public(), handlers)
    }

    /// Adds a service for everything under a prefix, and for the prefix itself, with one rule: files, say, or another
    /// application. The service sees paths without the prefix.
    ///
    /// Such a service may decode the path that it gets. So a path that is another route when it is decoded is refused with
    /// 404: where `/assets/private` has a rule of its own, `/assets/%70rivate` is nothing under `/assets`.
    ///
    /// # Panics
    /// As `axum::Router::nest_service`: if the prefix is `/`, or overlaps with another route.
    #[track_caller]
    pub fn tree<T>(self, prefix: &str, rules: impl Into<RouteRules>, service: T) -> Self
    where
        T: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        T::Response: IntoResponse,
        T::Future: Send + 'static,
    {
        let rules = rules.into();
        let ruled = tree_patterns(prefix).into_iter().fold(self, |it, pattern| it.ruled(&pattern, rules.clone()));
        Self { policy: ruled.policy, router: ruled.router.nest_service(prefix, service) }
    }

    /// Adds a service for everything under a prefix, which anyone may call.
    ///
    /// # Example
    /// ```
    /// use tower_authz::GuardedRouter;
    ///
    /// # let serve_dir = axum::Router::<()>::new();
    /// let app = GuardedRouter::<()>::new().public_tree("/assets", serve_dir); // tower-http's ServeDir, say
    /// # drop(app);
    /// ```
    ///
    /// # Panics
    /// As [`tree`](Self::tree).
    #[track_caller]
    pub fn public_tree<T>(self, prefix: &str, service: T) -> Self
    where
        T: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        T::Response: IntoResponse,
        T::Future: Send + 'static,
    {
        self.tree(prefix, RouteRules::public(), service)
    }

    /// Adds the routes of another guarded router under a prefix, which may have parameters: their rules can name them.
    ///
    /// A fallback belongs to the outermost router; one that is nested is an error of [`guard`](Self::guard).
    ///
    /// # Panics
    /// As `axum::Router::nest`: if the prefix is `/`, or a route overlaps with another.
    #[track_caller]
    pub fn nest(self, prefix: &str, other: Self) -> Self {
        Self { policy: self.policy.nest(prefix, other.policy), router: self.router.nest(prefix, other.router) }
    }

    /// Adds the routes of another guarded router.
    ///
    /// # Panics
    /// As `axum::Router::merge`: if a route overlaps with another, or both have a fallback.
    #[track_caller]
    pub fn merge(self, other: Self) -> Self {
        Self { policy: self.policy.merge(other.policy), router: self.router.merge(other.router) }
    }

    /// Serves requests that match no route, with a rule. Without one they are refused with 404.
    pub fn fallback<H, T>(self, rule: Rule, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self { policy: self.policy.fallback(rule), router: self.router.fallback(handler) }
    }

    /// Serves requests that match no route to anyone: a single-page application, say. Not under the path of a rule, however
    /// it is spelt: where `/admin` has one, `/%61dmin` is 404.
    pub fn public_fallback<H, T>(self, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self { policy: self.policy.public_fallback(), router: self.router.fallback(handler) }
    }

    /// Wraps all routes that were added so far, inside of the gate: the layer sees requests that were admitted, with their
    /// [`Principal`](crate::Principal), and no refusals.
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        Self { policy: self.policy, router: self.router.layer(layer) }
    }

    /// The same, for requests that match a route only, and not for the fallback.
    ///
    /// # Panics
    /// As `axum::Router::route_layer`: if there are no routes yet.
    #[track_caller]
    pub fn route_layer<L>(self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        Self { policy: self.policy, router: self.router.route_layer(layer) }
    }

    /// Gives the handlers their state.
    pub fn with_state<S2>(self, state: S) -> GuardedRouter<S2> {
        GuardedRouter { policy: self.policy, router: self.router.with_state(state) }
    }

    /// Lets preflight requests of CORS through without a key: see [`PolicyBuilder::allow_preflight`]. Better wrap the gate in
    /// the CORS layer, by [`Guarded::layer`].
    pub fn allow_preflight(self) -> Self {
        Self { policy: self.policy.allow_preflight(), router: self.router }
    }

    /// Lets requests in flight run to their end when their key is revoked: see [`PolicyBuilder::finish_in_flight`].
    pub fn finish_in_flight(self) -> Self {
        Self { policy: self.policy.finish_in_flight(), router: self.router }
    }

    /// The policy that the routes make: for [`explain`](Policy::explain), an export, or a review. Of paths that only the
    /// fallback serves an explanation says that no rule covers them, as it knows no router.
    ///
    /// # Errors
    /// As [`PolicyBuilder::build`].
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        self.policy.clone().build()
    }

    fn ruled(self, pattern: &str, RouteRules(rules): RouteRules) -> Self {
        if rules.is_empty() {
            // A rule for a wider pattern, or for the fallback, would decide.
            let error = ConfigError::new("it has no rule").at(format_args!("pattern {pattern:?}"));
            return Self { policy: self.policy.fail(error), router: self.router };
        }
        let add = |policy: PolicyBuilder, (method, action)| policy.add(pattern, method, action);
        Self { policy: rules.into_iter().fold(self.policy, add), router: self.router }
    }
}

/// The three patterns that axum adds for a service under a prefix.
fn tree_patterns(prefix: &str) -> Vec<String> {
    let rest = if prefix.contains("{rest}") { "{*the_rest}" } else { "{*rest}" };
    match prefix.strip_suffix('/') {
        Some(bare) => vec![prefix.to_owned(), format!("{bare}/{rest}")],
        None => vec![prefix.to_owned(), format!("{prefix}/"), format!("{prefix}/{rest}")],
    }
}

impl GuardedRouter {
    /// Puts the gate around the router.
    ///
    /// The rules can be replaced while the router is served if the `Authz` has a [`PolicyHandle`](crate::PolicyHandle). Then
    /// the policy of the handle decides from the beginning: make it of [`policy`](Self::policy), or the rules that were
    /// given with the routes say no more than which routes there are. A policy that lacks a rule for one of these routes, or
    /// has a rule for any other, is refused, and so is one that has a rule for the fallback where the router has none, or the
    /// other way round.
    ///
    /// ```
    /// use axum::routing::get;
    /// use tower_authz::{Authz, GuardedRouter, Policy, PolicyHandle, Rule, store::MemoryStore};
    ///
    /// let routes = GuardedRouter::new().route("/prices", Rule::resource("prices").unscoped(), get(|| async { "prices" }));
    /// let policy = PolicyHandle::new(routes.policy()?);
    /// let app = routes.guard(Authz::new(MemoryStore::new(), &policy))?;
    ///
    /// policy.replace(Policy::builder().public("/prices").build()?)?;
    /// let error = policy.replace(Policy::builder().public("/price").build()?).unwrap_err();
    /// assert!(error.to_string().contains("the route /prices has no rule"));
    /// # drop(app);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// As [`PolicyBuilder::build`]: a pattern that could never match, a rule that does not fit its route. And as
    /// [`Authz::try_new`]: if a rule reads the ids of a dimension by another grammar than the keys of the store spell them.
    /// And if the policy of a handle does not cover the routes.
    pub fn guard<R>(self, authz: Authz<R>) -> Result<Guarded<Authenticate<Router, R>>, ConfigError>
    where
        R: Reject<Body> + Clone,
    {
        let policy = self.policy.build()?;
        // With the state, as axum would otherwise build each handler anew for each request.
        Ok(Guarded(authz.for_own_router(policy)?.layer(self.router.with_state(()))))
    }
}

impl<S> fmt::Debug for GuardedRouter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedRouter").field("policy", &self.policy).finish_non_exhaustive()
    }
}
