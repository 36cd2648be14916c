use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use tower_layer::Layer;

use crate::{
    check::Check,
    client_address::TrustedProxies,
    credential::Sources,
    gate::{Authenticate, PreCheck, config::Config, sharded::Sharded},
    policy::{Policy, PolicySource},
    reject::Problem,
    store::KeyStore,
    tenant::TenantHosts,
};

/// Authenticates the API key of a request, and refuses requests without a valid one.
///
/// On success a [`Principal`](crate::Principal) is in the request's extensions. It says nothing yet about what the key
/// may do: that is [`RequireLayer`](crate::RequireLayer)'s part, inside of this one.
/// [`Authz`](crate::Authz) stacks both.
///
/// # Deployment
/// * **CORS**: browsers send preflight requests without credentials, so a CORS layer belongs outside
///   of this one.
/// * **Caches**: an answer to a key in another header than `Authorization` is kept from caches that many share:
///   see [`Sources`]. A refusal is kept by none.
/// * **Logs**: a trace layer outside of this one sees the credential headers before they are marked
///   sensitive; put a `SetSensitiveRequestHeadersLayer` of tower-http around it, or do not log headers.
///
/// # Example
/// ```
/// use tower::ServiceBuilder;
/// use tower_authz::{AuthenticateLayer, RequireLayer, Rule, store::MemoryStore};
///
/// let stack = ServiceBuilder::new()
///     .layer(AuthenticateLayer::new(MemoryStore::new()))
///     .layer(RequireLayer::new(Rule::resource("products").unscoped()));
/// # drop(stack);
/// ```
#[must_use = "a layer does nothing until it is applied"]
pub struct AuthenticateLayer<R = Problem>(Arc<Setup<R>>);

/// The state that all clones of a layer share.
struct Setup<R> {
    config: Arc<Config<R>>,
    /// The configuration sharded for services, created with the first of them.
    sharded: OnceLock<Arc<Sharded<R>>>,
}

impl AuthenticateLayer {
    /// Authenticates by this store, by the default [`Sources`].
    pub fn new(store: impl KeyStore) -> Self {
        let sources = Sources::default();
        Self::from_config(Config {
            formats: store.formats(),
            keys: store.in_memory(),
            store: Arc::new(store),
            challenge: sources.challenge(),
            sources,
            clock: None,
            remove_credential: false,
            inserts_principal: true,
            keeps_principal: false,
            pre_check: None,
            policy: None,
            enforces_policy: false,
            owns_router: false,
            finish_in_flight: false,
            proxies: None,
            tenants: None,
            decision_hook: None,
            names_key: false,
            counts_usage: true,
            reject: Problem,
        })
    }
}

impl<R> AuthenticateLayer<R> {
    fn from_config(config: Config<R>) -> Self {
        Self(Arc::new(Setup { config: Arc::new(config), sharded: OnceLock::new() }))
    }

    /// Where keys may stand, in order of precedence.
    pub fn with_sources(self, sources: impl Into<Sources>) -> Self
    where
        R: Clone,
    {
        let sources = sources.into();
        self.change(|config| {
            config.challenge = sources.challenge();
            config.sources = sources;
        })
    }

    /// Takes the credential headers out of the request before the inner service sees it. By default
    /// they stay, marked sensitive, so that `Debug` of the headers does not print them.
    pub fn remove_credential(self) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.remove_credential = true)
    }

    /// Accepts the [`Principal`](crate::Principal) that middleware further outside has inserted (for a session, a JWT, a client
    /// certificate), where a request carries no credential. The policy holds for it as for a key: it must be active, belong
    /// to the tenant of the host, and meet the rule of the route. A credential that is there decides, whoever else has
    /// authenticated the request: a bad one is 401. On a public route the handler gets the principal.
    ///
    /// A JWT in `Authorization: Bearer` is a credential that is there: give the gate [`Sources`] without it, `X-API-Key` say.
    /// The answers to such requests carry `Vary: *` and, unless the handler has set its own, `Cache-Control: private`, as a
    /// shared cache does not know what the principal was made of.
    ///
    /// By default it is dropped, so that nothing but a key admits.
    ///
    /// # Example
    /// ```
    /// use std::sync::Arc;
    /// use http::{Request, header::COOKIE};
    /// use tower::ServiceBuilder;
    /// use tower_authz::{AuthenticateLayer, ClientAddress, Digest, Directory, Grant, KeyRecord, Principal, store::MemoryStore};
    ///
    /// let grant = Arc::new(Grant::builder().read("orders").build()?);
    /// // Who has logged in is known to the layer around; it describes the user as a record.
    /// let session = move |mut request: Request<()>| {
    ///     if request.headers().contains_key(COOKIE) {
    ///         let record = KeyRecord::builder("user-7".parse().unwrap(), Digest::from_key(b"")).grant(grant.clone()).build();
    ///         request.extensions_mut().insert(Principal::new(record.into(), Directory::default(), ClientAddress::UNKNOWN));
    ///     }
    ///     request
    /// };
    /// let stack = ServiceBuilder::new()
    ///     .map_request(session)
    ///     .layer(AuthenticateLayer::new(MemoryStore::new()).keep_principal_without_credential());
    /// # drop(stack);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn keep_principal_without_credential(self) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.keeps_principal = true)
    }

    /// Puts no `Principal` into the request. Layers inside of this one could not check anything then, so this is for
    /// policies that are enforced here.
    pub(crate) fn without_principal(self) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.inserts_principal = false)
    }

    /// Requires no key on the routes that the policy declares public, nor of requests without a credential where its rule is
    /// [`optional`](crate::Rule::optional). Requests in flight may finish after a revocation
    /// if the policy says so.
    pub fn with_public_routes(self, policy: Arc<Policy>) -> Self
    where
        R: Clone,
    {
        self.change(|config| (config.policy, config.enforces_policy) = (Some(policy.into()), false))
    }

    /// Enforces the policy, as a [`RequireLayer`](crate::RequireLayer) inside would. Here the route is matched once,
    /// and no further service wraps the handler.
    pub(crate) fn enforce(self, policy: PolicySource) -> Self
    where
        R: Clone,
    {
        self.change(|config| (config.policy, config.enforces_policy) = (Some(policy), true))
    }

    /// The store.
    #[cfg(feature = "axum")]
    pub(crate) fn store(&self) -> &dyn KeyStore {
        &*self.0.config.store
    }

    /// The policy, if it can be replaced.
    #[cfg(feature = "axum")]
    pub(crate) fn reloadable_policy(&self) -> Option<&PolicySource> {
        self.0.config.policy.as_ref().filter(|policy| policy.is_reloadable())
    }

    /// The service that is wrapped is the router that the enforced policy was made with.
    #[cfg(feature = "axum")]
    pub(crate) fn own_router(self) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.owns_router = true)
    }

    /// Lets requests in flight run to their end when their key is revoked, and streams of response bodies
    /// too. By default the handler is dropped, as when a client hangs up, and the request gets 401; a
    /// stream is ended with an error.
    pub fn finish_in_flight(self) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.finish_in_flight = true)
    }

    /// The clock that decides about expiry, and that checks see as [`Head::now`](crate::Head::now); for tests.
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.clock = Some(Arc::new(now)))
    }

    /// Runs a check before all else, on public routes too: [`CleanPath`](crate::clean_path::CleanPath) say. It
    /// sees no principal, and the credential headers, marked sensitive.
    pub fn with_pre_check(self, check: impl Check) -> Self
    where
        R: Clone,
    {
        self.with_policy_pre_check(check)
    }

    /// The same for a check of ours, which sees the policy of the request.
    pub(crate) fn with_policy_pre_check(self, check: impl PreCheck) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.pre_check = Some(Arc::new(check)))
    }

    /// Which proxies may say where a request comes from. By default none: the client is the peer.
    pub fn with_trusted_proxies(self, proxies: TrustedProxies) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.proxies = Some(proxies))
    }

    /// Binds keys to tenants: the host of a request names one, and a key of another is unknown there.
    pub fn with_tenant_hosts(self, hosts: TenantHosts) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.tenants = Some(hosts))
    }

    /// How a denial is rendered. Default: [`Problem`].
    pub fn with_rejection<R2>(self, reject: R2) -> AuthenticateLayer<R2> {
        let Config {
            store,
            keys,
            formats,
            sources,
            challenge,
            clock,
            remove_credential,
            inserts_principal,
            keeps_principal,
            pre_check,
            policy,
            enforces_policy,
            owns_router,
            finish_in_flight,
            proxies,
            tenants,
            decision_hook,
            names_key,
            counts_usage,
            ..
        } = &*self.0.config;
        AuthenticateLayer::from_config(Config {
            store: Arc::clone(store),
            keys: keys.clone(),
            formats: formats.clone(),
            sources: sources.clone(),
            challenge: challenge.clone(),
            clock: clock.clone(),
            remove_credential: *remove_credential,
            inserts_principal: *inserts_principal,
            keeps_principal: *keeps_principal,
            pre_check: pre_check.clone(),
            policy: policy.clone(),
            enforces_policy: *enforces_policy,
            owns_router: *owns_router,
            finish_in_flight: *finish_in_flight,
            proxies: proxies.clone(),
            tenants: tenants.clone(),
            decision_hook: decision_hook.clone(),
            names_key: *names_key,
            counts_usage: *counts_usage,
            reject,
        })
    }

    pub(super) fn sharded(&self) -> Arc<Sharded<R>> {
        Arc::clone(self.0.sharded.get_or_init(|| Arc::new(Sharded::new(&self.0.config))))
    }

    pub(super) fn change(self, change: impl FnOnce(&mut Config<R>)) -> Self
    where
        R: Clone,
    {
        let mut config = Config::clone(&self.0.config);
        change(&mut config);
        Self::from_config(config)
    }
}

impl<R> Clone for AuthenticateLayer<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> fmt::Debug for AuthenticateLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateLayer").field("sources", &self.0.config.sources).finish_non_exhaustive()
    }
}

impl<S, R> Layer<S> for AuthenticateLayer<R> {
    type Service = Authenticate<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate { inner, sharded: self.sharded() }
    }
}
