use std::{fmt, sync::Arc, time::SystemTime};

use http::{HeaderValue, Request, Response};
use tower_layer::Layer;

use crate::{
    Authenticate, Check, ClientAddress, Denial, Digest, Head, KeyFormat, KeyRecord, Policy, Principal, Proxies, Reject,
    Sources, TenantHosts,
    check::Duty,
    clock,
    credential::Notice,
    denial::{Cause, Context},
    key::Watch,
    policy::{Sought, status},
    reject::{self, Problem},
    store::{Found, KeyStore, StoreErrorKind},
    trace,
};

/// Finds out which key a request carries, and refuses requests without a valid one.
///
/// On success a [`Principal`] is in the request's extensions. It says nothing yet about what the key
/// may do: that is [`RequireLayer`](crate::RequireLayer)'s part, inside of this one.
/// [`Authz`](crate::Authz) stacks both.
///
/// # Deployment
/// * **CORS**: browsers send preflight requests without credentials, so a CORS layer belongs outside
///   of this one.
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
pub struct AuthenticateLayer<R = Problem> {
    config: Arc<Config<R>>,
}

impl AuthenticateLayer {
    /// Authenticates by this store, by the default [`Sources`].
    pub fn new(store: impl KeyStore) -> Self {
        let sources = Sources::default();
        Self {
            config: Arc::new(Config {
                format: store.format(),
                store: Arc::new(store),
                challenge: sources.challenge(),
                sources,
                clock: None,
                remove_credential: false,
                entrance: None,
                policy: None,
                enforced: false,
                finish_in_flight: false,
                proxies: None,
                tenants: None,
                reject: Problem,
            }),
        }
    }
}

impl<R> AuthenticateLayer<R> {
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

    /// Looks at no key on the routes that the policy calls public.
    pub fn except_public(self, policy: Arc<Policy>) -> Self
    where
        R: Clone,
    {
        self.change(|config| (config.policy, config.enforced) = (Some(policy), false))
    }

    /// Demands what the policy demands, as a [`RequireLayer`](crate::RequireLayer) inside would. Here it is looked up
    /// once, and no further service stands between this one and the handler.
    pub(crate) fn enforce(self, policy: Arc<Policy>) -> Self
    where
        R: Clone,
    {
        self.change(|config| (config.policy, config.enforced) = (Some(policy), true))
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

    /// The clock that expiry is judged by; for tests.
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.clock = Some(Arc::new(now)))
    }

    /// Runs a check before all else, on public routes too: [`CleanPath`](crate::check::CleanPath) say. It
    /// sees no principal.
    pub fn entrance(self, check: impl Check) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.entrance = Some(Arc::new(check)))
    }

    /// Which proxies may say where a request comes from. By default none: the client is the peer.
    pub fn behind(self, proxies: Proxies) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.proxies = Some(proxies))
    }

    /// Binds keys to tenants: the host of a request names one, and a key of another is unknown there.
    pub fn tenants(self, hosts: TenantHosts) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.tenants = Some(hosts))
    }

    /// How a denial is said. Default: [`Problem`].
    pub fn with_reject<R2>(self, reject: R2) -> AuthenticateLayer<R2> {
        let Config {
            store,
            format,
            sources,
            challenge,
            clock,
            remove_credential,
            entrance,
            policy,
            enforced,
            finish_in_flight,
            proxies,
            tenants,
            ..
        } = &*self.config;
        AuthenticateLayer {
            config: Arc::new(Config {
                store: Arc::clone(store),
                format: format.clone(),
                sources: sources.clone(),
                challenge: challenge.clone(),
                clock: clock.clone(),
                remove_credential: *remove_credential,
                entrance: entrance.clone(),
                policy: policy.clone(),
                enforced: *enforced,
                finish_in_flight: *finish_in_flight,
                proxies: proxies.clone(),
                tenants: tenants.clone(),
                reject,
            }),
        }
    }

    fn change(mut self, change: impl FnOnce(&mut Config<R>)) -> Self
    where
        R: Clone,
    {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl<R> Clone for AuthenticateLayer<R> {
    fn clone(&self) -> Self {
        Self { config: Arc::clone(&self.config) }
    }
}

impl<R> fmt::Debug for AuthenticateLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateLayer").field("sources", &self.config.sources).finish_non_exhaustive()
    }
}

impl<S, R> Layer<S> for AuthenticateLayer<R> {
    type Service = Authenticate<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticate { inner, config: Arc::clone(&self.config) }
    }
}

/// The record that a look-up has found, or why nobody is let in.
pub(crate) fn known(found: Found, digest: &Digest) -> Result<Arc<KeyRecord>, Denial> {
    match found {
        // The digest decides, not the store's word: and it is compared whole, in constant time.
        Ok(Some(record)) if record.digest() == digest => Ok(record),
        Ok(_) => Err(Cause::UnknownKey.into()),
        Err(error) => {
            let why = error.to_string().into();
            Err(match error.kind() {
                StoreErrorKind::Unreadable => Cause::UnreadableRecord { why }.into(),
                _ => Denial::from(Cause::StoreUnavailable { why }).with_retry_after(error.retry_after()),
            })
        }
    }
}

/// What every clone of a service shares, and the decisions themselves.
#[derive(Clone)]
pub(crate) struct Config<R> {
    pub(crate) store: Arc<dyn KeyStore>,
    format: KeyFormat,
    pub(crate) sources: Sources,
    challenge: HeaderValue,
    /// None for that of the system.
    clock: Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>,
    remove_credential: bool,
    entrance: Option<Arc<dyn Check>>,
    policy: Option<Arc<Policy>>,
    /// Whether the policy is enforced here, or only says which routes are public.
    pub(crate) enforced: bool,
    finish_in_flight: bool,
    proxies: Option<Proxies>,
    tenants: Option<TenantHosts>,
    reject: R,
}

/// A credential that has the form of a key, reduced to its digest.
pub(crate) struct Presented {
    pub(crate) digest: Digest,
    pub(crate) bearer: bool,
    /// Whom the host names, where hosts name tenants.
    tenant: Option<String>,
    pub(crate) notice: Option<Arc<Notice>>,
}

/// A request that may go on.
pub(crate) struct Admitted {
    pub(crate) principal: Principal,
    /// To be kept while the request is in flight.
    pub(crate) watch: Option<Watch>,
    /// What the handler has to settle.
    pub(crate) duty: Option<Duty>,
}

impl<R> Config<R> {
    /// What is checked before anybody asks who calls.
    pub(crate) fn enter(&self, head: &Head<'_>) -> Result<Option<Sought<'_>>, Denial> {
        if let Some(entrance) = &self.entrance {
            entrance.check(head)?;
        }
        Ok(self.seek(head))
    }

    pub(crate) fn seek(&self, head: &Head<'_>) -> Option<Sought<'_>> {
        self.policy.as_ref().map(|policy| policy.seek(head))
    }

    /// Extract, parse, digest.
    pub(crate) fn identify(&self, head: &Head<'_>) -> Result<Presented, Cause> {
        let tenant = self.tenants.as_ref().map(|hosts| hosts.tenant(head)).transpose()?;
        let credential = self.sources.extract(head.headers())?;
        if !self.format.matches(credential.key) {
            return Err(Cause::MalformedCredential);
        }
        Ok(Presented {
            digest: Digest::of(credential.key),
            bearer: credential.source.is_bearer(),
            tenant,
            notice: credential.source.notice().cloned(),
        })
    }

    /// Judges what the store has found, and what the key may do.
    pub(crate) fn admit(
        &self,
        presented: &Presented,
        found: Found,
        head: &Head<'_>,
        sought: Option<&Sought<'_>>,
    ) -> Result<Admitted, Denial> {
        let record = known(found, &presented.digest)?;
        let foreign = presented.tenant.is_some() && record.tenant() != presented.tenant.as_deref();
        let now = self.now(record.is_dated());
        let verdict = if foreign { Err(Cause::ForeignTenant) } else { status(record.status(now)) };
        if verdict.is_ok() {
            record.mark_used(now);
        }
        let watch = (!self.finish_in_flight).then(|| Watch::new(Arc::clone(&record)));
        let mut principal = Principal::of_store(&self.store, record, self.client(head), presented.bearer);
        let judged = match verdict {
            Err(cause) => Err(cause.into()),
            Ok(()) => self.require(&head.with_principal(&principal), sought),
        };
        match judged {
            Ok(duty) => {
                duty.iter().for_each(|duty| principal.add_duty(duty.clone()));
                Ok(Admitted { principal, watch, duty })
            }
            Err(denial) => Err(denial.in_context(principal.context())),
        }
    }

    fn require(&self, head: &Head<'_>, sought: Option<&Sought<'_>>) -> Result<Option<Duty>, Denial> {
        let (Some(policy), Some(sought), true) = (&self.policy, sought, self.enforced) else { return Ok(None) };
        let duty = policy.admit_sought(sought, head)?;
        if let Some(principal) = head.principal() {
            trace::allowed(head, principal);
        }
        Ok(duty)
    }

    /// The time: to the point if that matters.
    fn now(&self, exact: bool) -> SystemTime {
        match &self.clock {
            Some(clock) => clock(),
            None if exact => SystemTime::now(),
            None => clock::coarse(),
        }
    }

    fn client(&self, head: &Head<'_>) -> ClientAddress {
        let peer = ClientAddress::of_peer(head.extensions());
        self.proxies.as_ref().map_or(peer, |proxies| proxies.client(peer, head.headers()))
    }

    /// Judges a request for a public route.
    pub(crate) fn admit_public(&self, head: &Head<'_>, sought: &Sought<'_>) -> Result<Option<Duty>, Denial> {
        // Nobody was authenticated, whatever stands in the request.
        self.require(&head.without_principal(), Some(sought))
    }

    /// Prepares a request for a public route.
    pub(crate) fn pass<B>(&self, request: &mut Request<B>) {
        request.extensions_mut().remove::<Principal>();
        self.hide_credentials(request);
        if self.proxies.is_some() {
            let client = self.client(&Head::of(request));
            request.extensions_mut().insert(client);
        }
    }

    /// Prepares a request for the inner service.
    pub(crate) fn introduce<B>(&self, request: &mut Request<B>, principal: Principal) {
        self.hide_credentials(request);
        request.extensions_mut().insert(principal);
    }

    fn hide_credentials<B>(&self, request: &mut Request<B>) {
        self.sources.hide(request.headers_mut(), self.remove_credential);
    }

    /// For a request that `is_head` the response has no body.
    pub(crate) fn refuse<B>(&self, denial: Denial, is_head: bool) -> Response<B>
    where
        R: Reject<B>,
    {
        let context = Context { challenge: Some(self.challenge.clone()), head: is_head, ..Context::default() };
        reject::refuse(&self.reject, denial.in_context(context))
    }
}
