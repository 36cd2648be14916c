use std::{fmt, sync::Arc, time::SystemTime};

use http::{HeaderValue, Request, Response};
use tower_layer::Layer;

use crate::{
    Authenticate, ClientAddress, Denial, Digest, Head, KeyFormat, Policy, Principal, Reject, Sources, Status,
    denial::{Cause, Context},
    reject::{self, Problem},
    store::{Found, KeyStore, StoreErrorKind},
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
                clock: Arc::new(SystemTime::now),
                remove_credential: false,
                public: None,
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
        self.change(|config| config.public = Some(policy))
    }

    /// The clock that expiry is judged by; for tests.
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self
    where
        R: Clone,
    {
        self.change(|config| config.clock = Arc::new(now))
    }

    /// How a denial is said. Default: [`Problem`].
    pub fn with_reject<R2>(self, reject: R2) -> AuthenticateLayer<R2> {
        let Config { store, format, sources, challenge, clock, remove_credential, public, .. } = &*self.config;
        AuthenticateLayer {
            config: Arc::new(Config {
                store: Arc::clone(store),
                format: format.clone(),
                sources: sources.clone(),
                challenge: challenge.clone(),
                clock: Arc::clone(clock),
                remove_credential: *remove_credential,
                public: public.clone(),
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

/// What every clone of a service shares, and the decisions themselves.
#[derive(Clone)]
pub(crate) struct Config<R> {
    pub(crate) store: Arc<dyn KeyStore>,
    format: KeyFormat,
    pub(crate) sources: Sources,
    challenge: HeaderValue,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    remove_credential: bool,
    public: Option<Arc<Policy>>,
    reject: R,
}

/// A credential that has the form of a key, reduced to its digest.
#[derive(Clone, Copy)]
pub(crate) struct Presented {
    pub(crate) digest: Digest,
    bearer: bool,
}

impl<R> Config<R> {
    pub(crate) fn is_public<B>(&self, request: &Request<B>) -> bool {
        self.public.as_ref().is_some_and(|policy| policy.is_public(&Head::of(request)))
    }

    /// Extract, parse, digest.
    pub(crate) fn identify<B>(&self, request: &Request<B>) -> Result<Presented, Cause> {
        let credential = self.sources.extract(request.headers())?;
        if !self.format.matches(credential.key) {
            return Err(Cause::MalformedCredential);
        }
        Ok(Presented { digest: Digest::of(credential.key), bearer: credential.bearer })
    }

    /// Judges what the store found, and if all is well puts the principal into the request.
    pub(crate) fn admit<B>(&self, presented: Presented, found: Found, request: &mut Request<B>) -> Result<(), Denial> {
        let record = match found {
            // The digest decides, not the store's word: and it is compared whole, in constant time.
            Ok(Some(record)) if *record.digest() == presented.digest => record,
            Ok(_) => return Err(Cause::UnknownKey.into()),
            Err(error) => {
                let why = error.to_string().into();
                return Err(match error.kind() {
                    StoreErrorKind::Unreadable => Cause::UnreadableRecord { why }.into(),
                    _ => Denial::from(Cause::StoreUnavailable { why }).with_retry_after(error.retry_after()),
                });
            }
        };
        let cause = match record.status((self.clock)()) {
            Status::Active => None,
            Status::NotYetValid => Some(Cause::NotYetValid),
            Status::Expired => Some(Cause::Expired),
            Status::Revoked => Some(Cause::Revoked),
        };
        let client = ClientAddress::of_peer(request.extensions());
        let principal = Principal::new(record, self.store.directory(), client).by_bearer(presented.bearer);
        if let Some(cause) = cause {
            return Err(Denial::from(cause).in_context(principal.context()));
        }
        self.hide_credentials(request);
        request.extensions_mut().insert(principal);
        Ok(())
    }

    pub(crate) fn hide_credentials<B>(&self, request: &mut Request<B>) {
        self.sources.hide(request.headers_mut(), self.remove_credential);
    }

    pub(crate) fn refuse<B>(&self, denial: Denial) -> Response<B>
    where
        R: Reject<B>,
    {
        let context = Context { challenge: Some(self.challenge.clone()), ..Context::default() };
        reject::refuse(&self.reject, denial.in_context(context))
    }
}
