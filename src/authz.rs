use std::{fmt, ptr, sync::Arc, time::SystemTime};

use tower_layer::Layer;

use crate::{
    check::Check as _,
    clean_path::CleanPath,
    client_address::TrustedProxies,
    credential::Sources,
    denial::{Cause, Denial},
    error::ConfigError,
    gate::{Authenticate, AuthenticateLayer, Decision, PreCheck},
    head::Head,
    https::require_https,
    policy::{Policy, PolicySource, Requirements},
    reject::Problem,
    store::KeyStore,
    tenant::TenantHosts,
};

/// All layers in the right order, as one: what an [`AuthenticateLayer`] around a
/// [`RequireLayer`](crate::RequireLayer) does, with the route looked up once.
///
/// ```text
/// request -> clean path -> https only -> authenticate -> require -> handler
///            400           403           400, 401,       403, 404,
///                                        404, 503        405
/// ```
///
/// Put it around an axum router with `Router::layer`, after all routes: then the route that axum has
/// matched decides. It also works around any other tower service. Not with `Router::route_layer`: the
/// router's fallback, outside of it, would answer otherwise than a refusal, and tell which routes exist.
///
/// # Deployment
/// * **Proxies**: without [`with_trusted_proxies`](Self::with_trusted_proxies) the client is the connection's other end.
///   Behind a proxy that is the proxy.
/// * **CORS**: browsers send preflight requests without credentials; put the CORS layer outside.
/// * **Caches**: an answer to a key in another header than `Authorization` is kept from caches that many share:
///   see [`Sources`]. A refusal is kept by none.
/// * **HTTPS**: off by default, as only you know who ends TLS; see [`https_only`](Self::https_only).
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
    pre_check: PreChecks,
    /// Whether the policy is that of a router which this will be given to.
    awaits_router: bool,
    authenticate: AuthenticateLayer<R>,
}

impl Authz {
    /// Keys from the store, rules from the policy, and a sensible default for all else. A
    /// [`PolicyHandle`](crate::PolicyHandle) in place of a policy can replace it while services run.
    ///
    /// If the two spell the ids of a dimension by different grammars, an exclude list of a key cannot be kept: then
    /// every request is refused with 500 and a message for the developer. [`try_new`](Self::try_new) says so at
    /// start-up.
    pub fn new(store: impl KeyStore, policy: impl Into<PolicySource>) -> Self {
        let mut policy = policy.into();
        let (current, fits) = policy.require(Requirements::new(store.dimensions()));
        Self::assemble(store, policy, fits.is_err().then_some(current))
    }

    /// The same, where a store and a policy that do not fit each other are an error.
    ///
    /// # Errors
    /// If a rule reads the ids of a dimension by another grammar than the keys of the store spell them. Two grammars of
    /// your own cannot be told apart, and of a store of your own that says nothing of its
    /// [dimensions](KeyStore::dimensions) nothing is known.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Authz, Dimension, IdGrammar, Policy, Rule, store::{MemoryStore, StoreSettings}};
    ///
    /// const PROJECT: Dimension = Dimension::new("project", IdGrammar::Number);
    /// let policy = Policy::builder().route("/projects", Rule::resource("projects").filtered(PROJECT)).build()?;
    ///
    /// let slugs = StoreSettings::new().with_dimension(Dimension::named("project"));
    /// assert!(Authz::try_new(MemoryStore::with_settings(slugs), policy.clone()).is_err());
    /// let authz = Authz::try_new(MemoryStore::with_settings(StoreSettings::new().with_dimension(PROJECT)), policy)?;
    /// # drop(authz);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn try_new(store: impl KeyStore, policy: impl Into<PolicySource>) -> Result<Self, ConfigError> {
        let mut policy = policy.into();
        let (_, fits) = policy.require(Requirements::new(store.dimensions()));
        fits.map(|()| Self::assemble(store, policy, None))
    }

    /// Keys from the store, and rules from a [`GuardedRouter`](crate::GuardedRouter), which this is given to. Around anything
    /// else it refuses every request, as no rule covers it.
    ///
    /// # Example
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use tower_authz::{Authz, GuardedRouter, store::MemoryStore};
    ///
    /// let app = GuardedRouter::new().guard(Authz::from_store(MemoryStore::new()).https_only())?;
    /// # drop(app);
    /// # }
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn from_store(store: impl KeyStore) -> Self {
        Self { awaits_router: true, ..Self::assemble(store, Policy::default().into(), None) }
    }

    fn assemble(store: impl KeyStore, policy: PolicySource, disagreeing: Option<Arc<Policy>>) -> Self {
        let pre_check = PreChecks {
            clean_path: CleanPath::new(),
            https_only: false,
            plain: Arc::default(),
            proxies: None,
            disagreeing,
        };
        let authenticate = AuthenticateLayer::new(store).with_policy_pre_check(pre_check.clone()).enforce(policy);
        Self { authenticate, pre_check, awaits_router: false }
    }
}

impl<R: Clone> Authz<R> {
    /// Where keys may stand, in order of precedence. Default: [`Sources::default`].
    pub fn with_sources(mut self, sources: impl Into<Sources>) -> Self {
        self.authenticate = self.authenticate.with_sources(sources);
        self
    }

    /// Takes the credential headers out of the request before the checks of the policy and the handler see it.
    pub fn remove_credential(mut self) -> Self {
        self.authenticate = self.authenticate.remove_credential();
        self
    }

    /// Accepts the [`Principal`](crate::Principal) that middleware further outside has inserted, for a session or a JWT say,
    /// where a request carries no credential: see
    /// [`AuthenticateLayer`](crate::AuthenticateLayer::keep_principal_without_credential). By default it is dropped.
    pub fn keep_principal_without_credential(mut self) -> Self {
        self.authenticate = self.authenticate.keep_principal_without_credential();
        self
    }

    /// Puts no [`Principal`](crate::Principal) into the extensions of requests, for services that do not ask who calls:
    /// a gateway, say. It spares each request the only allocation of ours.
    ///
    /// Handlers cannot extract `Principal` or `Scope` then, and a [`RevocableBodyLayer`](crate::RevocableBodyLayer) ends no
    /// stream. A rule that leaves something to its handler ([`filtered`](crate::Rule::filtered),
    /// [`deferred`](crate::Rule::deferred)) refuses everybody with 500, as nobody could do it.
    pub fn without_principal(mut self) -> Self {
        self.authenticate = self.authenticate.without_principal();
        self
    }

    /// Which paths are clean. Default: [`CleanPath::new`], without any relaxation.
    pub fn with_clean_path(self, clean_path: CleanPath) -> Self {
        self.with_pre_check(|pre_check| pre_check.clean_path = clean_path)
    }

    /// Which proxies may say where a request comes from, and whether it came by HTTPS.
    pub fn with_trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.authenticate = self.authenticate.with_trusted_proxies(proxies.clone());
        self.with_pre_check(|pre_check| pre_check.proxies = Some(proxies))
    }

    /// Refuses plain HTTP, on public routes too: see [`HttpsOnly`](crate::https::HttpsOnly).
    pub fn https_only(self) -> Self {
        self.with_pre_check(|pre_check| pre_check.https_only = true)
    }

    /// The same, but for these routes, by their patterns: a probe of `/health`, which a load balancer sends by plain HTTP.
    ///
    /// Only what the policy calls [public](crate::PolicyBuilder::public) is exempt: a pattern of any other route, or of none,
    /// exempts nothing. No key is looked at there; a client that sends one all the same has shown it to everybody on the way.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Authz, Policy, store::MemoryStore};
    ///
    /// let policy = Policy::builder().public("/health").build()?;
    /// let authz = Authz::new(MemoryStore::new(), policy).https_only_except(["/health"]);
    /// # drop(authz);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn https_only_except<T: Into<String>>(self, routes: impl IntoIterator<Item = T>) -> Self {
        let plain = routes.into_iter().map(Into::into).collect();
        self.with_pre_check(|pre_check| (pre_check.https_only, pre_check.plain) = (true, plain))
    }

    /// The same settings for the policy of the router that is wrapped.
    #[cfg(feature = "axum")]
    pub(crate) fn for_own_router(mut self, policy: Policy) -> Result<Self, ConfigError> {
        let required = Requirements::new(self.authenticate.store().dimensions()).with_routes_of(&policy);
        let mut policy = match self.authenticate.reloadable_policy() {
            Some(reloadable) => reloadable.clone(),
            None if self.awaits_router => policy.into(),
            None => {
                return Err(ConfigError::new(
                    "the rules of a GuardedRouter are those of its routes, and this Authz has a policy of its own: make it \
                     with Authz::from_store",
                ));
            }
        };
        policy.require(required).1?;
        self.authenticate = self.authenticate.enforce(policy).own_router();
        Ok(self.with_pre_check(|pre_check| pre_check.disagreeing = None))
    }

    fn with_pre_check(mut self, change: impl FnOnce(&mut PreChecks)) -> Self {
        change(&mut self.pre_check);
        self.authenticate = self.authenticate.with_policy_pre_check(self.pre_check.clone());
        self
    }

    /// Binds keys to tenants by the host of the request: see [`TenantHosts`]. Public routes are open on
    /// every host.
    pub fn with_tenant_hosts(mut self, hosts: TenantHosts) -> Self {
        self.authenticate = self.authenticate.with_tenant_hosts(hosts);
        self
    }

    /// Calls a function with each decision: see [`AuthenticateLayer::on_decision`].
    pub fn on_decision(mut self, hear: impl Fn(&Decision<'_>) + Send + Sync + 'static) -> Self {
        self.authenticate = self.authenticate.on_decision(hear);
        self
    }

    /// Puts the id of the key of an allowed request into the extensions of its response, for access logs further outside: see
    /// [`AuthenticateLayer::with_key_id_in_response`].
    pub fn with_key_id_in_response(mut self) -> Self {
        self.authenticate = self.authenticate.with_key_id_in_response();
        self
    }

    /// Counts no decisions for [`KeyAdmin::usage`](crate::store::KeyAdmin::usage): see
    /// [`AuthenticateLayer::without_usage_counts`].
    pub fn without_usage_counts(mut self) -> Self {
        self.authenticate = self.authenticate.without_usage_counts();
        self
    }

    /// The clock that decides about expiry, and that checks see as [`Head::now`](crate::Head::now); for tests.
    pub fn with_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.authenticate = self.authenticate.with_clock(now);
        self
    }

    /// The dialect of all denials. Default: [`Problem`]. One that looks at the request as well is wrapped in
    /// [`WithRequest`](crate::reject::WithRequest).
    pub fn with_rejection<R2>(self, reject: R2) -> Authz<R2> {
        let Self { pre_check, awaits_router, authenticate } = self;
        Authz { pre_check, awaits_router, authenticate: authenticate.with_rejection(reject) }
    }
}

impl<R> Clone for Authz<R> {
    fn clone(&self) -> Self {
        let Self { pre_check, awaits_router, authenticate } = self;
        Self { pre_check: pre_check.clone(), awaits_router: *awaits_router, authenticate: authenticate.clone() }
    }
}

impl<R> fmt::Debug for Authz<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authz")
            .field("pre_check", &self.pre_check)
            .field("authenticate", &self.authenticate)
            .finish_non_exhaustive()
    }
}

impl<S, R> Layer<S> for Authz<R> {
    type Service = Authenticate<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        self.authenticate.layer(inner)
    }
}

/// The checks that run before a key is looked up, on public routes too.
#[derive(Clone, Debug)]
struct PreChecks {
    clean_path: CleanPath,
    https_only: bool,
    /// The patterns of public routes that plain HTTP may come to.
    plain: Arc<[String]>,
    proxies: Option<TrustedProxies>,
    /// The policy that does not fit the store, if there is one. It stays here when a policy that fits has replaced it.
    disagreeing: Option<Arc<Policy>>,
}

const DISAGREEMENT: Cause = Cause::Misconfigured(
    "the store and the policy spell the ids of a dimension by different grammars, so that no exclude list over it can \
     be kept: give both the same `Dimension`; `Authz::try_new` tells which one it is",
);

impl PreCheck for PreChecks {
    fn pre_check(&self, head: &Head<'_>, policy: Option<&Policy>) -> Result<(), Denial> {
        if let Some(disagreeing) = &self.disagreeing
            && policy.is_none_or(|policy| ptr::eq(policy, &**disagreeing))
        {
            return Err(DISAGREEMENT.into());
        }
        self.clean_path.check(head)?;
        if self.https_only
            && let Err(plain) = require_https(head, self.proxies.as_ref())
            && !policy.is_some_and(|policy| policy.is_public_at(head, &self.plain))
        {
            return Err(plain.into());
        }
        Ok(())
    }
}
