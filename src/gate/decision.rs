//! The hook for decisions, and the key in the response: both are for programs beside the log.

use std::{fmt, sync::Arc};

use http::{Method, Request};

use crate::{
    client_address::ClientAddress,
    denial::Denial,
    gate::{AuthenticateLayer, config::Config, decide::Target, in_flight::InFlight, ready::Refused},
    key::{KeyId, KeyRecord},
    policy::PolicySource,
};

/// A decision about a request, for [`on_decision`](AuthenticateLayer::on_decision).
#[derive(Debug)]
pub struct Decision<'a> {
    key_id: Option<&'a KeyId>,
    record: Option<&'a KeyRecord>,
    denial: Option<&'a Denial>,
    method: &'a Method,
    path: &'a str,
    route: Option<&'a str>,
    client: ClientAddress,
}

impl<'a> Decision<'a> {
    /// Whether the request was let through to its handler.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.denial.is_none()
    }

    /// Why it was refused.
    #[must_use]
    pub const fn denial(&self) -> Option<&'a Denial> {
        self.denial
    }

    /// The id of its key; none of a request without one, or with one that nobody has issued.
    #[must_use]
    pub const fn key_id(&self) -> Option<&'a KeyId> {
        self.key_id
    }

    /// The record of the key of a request that was allowed.
    #[must_use]
    pub const fn record(&self) -> Option<&'a KeyRecord> {
        self.record
    }

    /// The method of the request.
    #[must_use]
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The path of the request, as it arrived here.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// The pattern of the route, once it is known.
    #[must_use]
    pub const fn route(&self) -> Option<&'a str> {
        self.route
    }

    /// The address of the client.
    #[must_use]
    pub const fn client_address(&self) -> ClientAddress {
        self.client
    }
}

/// Hears of decisions.
#[derive(Clone)]
pub(super) struct DecisionHook(Arc<dyn Fn(&Decision<'_>) + Send + Sync>);

impl fmt::Debug for DecisionHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecisionHook")
    }
}

impl<R: Clone> AuthenticateLayer<R> {
    /// Calls a function with each decision of this gate: whether a request goes on to its handler, on public routes too. What
    /// the handler refuses later, and a key that is revoked meanwhile, is no decision of the gate.
    ///
    /// The function runs before the handler, on the path of the request: it must not block, and what it does counts. For
    /// counts by key and day there is [`KeyAdmin::usage`](crate::store::KeyAdmin::usage); for metrics and logs there are the
    /// features `metrics` and `tracing`.
    ///
    /// # Example
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use tower_authz::{AuthenticateLayer, Decision, store::MemoryStore};
    ///
    /// let refused = Arc::new(AtomicU64::new(0));
    /// let counter = Arc::clone(&refused);
    /// let layer = AuthenticateLayer::new(MemoryStore::new()).on_decision(move |decision: &Decision<'_>| {
    ///     if !decision.is_allowed() {
    ///         counter.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// });
    /// # drop(layer);
    /// ```
    pub fn on_decision(self, hear: impl Fn(&Decision<'_>) + Send + Sync + 'static) -> Self {
        self.change(|config| config.decision_hook = Some(DecisionHook(Arc::new(hear))))
    }

    /// Puts the [`KeyId`] of an allowed request into the extensions of its *response*, so that an access log outside of the
    /// gate can name the key. (Of a refused request the [`Denial`] is there, which knows the key as well.) By default it is
    /// not there, as it costs two allocations.
    ///
    /// # Example
    /// ```
    /// use http::Response;
    /// use tower_authz::{AuthenticateLayer, Denial, KeyId, store::MemoryStore};
    ///
    /// let layer = AuthenticateLayer::new(MemoryStore::new()).with_key_id_in_response();
    ///
    /// fn key_id<B>(response: &Response<B>) -> Option<&KeyId> {
    ///     let refused = || response.extensions().get::<Denial>()?.key_id();
    ///     response.extensions().get::<KeyId>().or_else(refused)
    /// }
    /// # let _ = (layer, key_id(&Response::new(())));
    /// ```
    pub fn with_key_id_in_response(self) -> Self {
        self.change(|config| config.names_key = true)
    }

    /// Counts no decisions for [`KeyAdmin::usage`](crate::store::KeyAdmin::usage). Counting costs about a tenth of what an
    /// allowed request costs in the gate. When a key was last used is known all the same, but not from where.
    pub fn without_usage_counts(self) -> Self {
        self.change(|config| config.counts_usage = false)
    }
}

impl<R> Config<R> {
    /// Tells of a request that is let through.
    #[inline]
    pub(super) fn tell_allowed<B>(&self, request: &Request<B>, in_flight: &InFlight) {
        if let Some(hook) = &self.decision_hook {
            self.tell(hook, request, in_flight.record(), None);
        }
    }

    /// Tells of a request that is refused.
    #[cold]
    pub(super) fn tell_refused<B>(&self, request: &Request<B>, refused: &Refused) {
        if let Some(hook) = &self.decision_hook {
            self.tell(hook, request, None, Some(&refused.to_denial()));
        }
    }

    #[cold]
    fn tell<B>(&self, hook: &DecisionHook, request: &Request<B>, record: Option<&KeyRecord>, denial: Option<&Denial>) {
        let head = self.head(request);
        let loaded = self.policy.as_ref().and_then(PolicySource::load);
        let mut target = Target::default();
        target.find(&head, self.policy_of(loaded.as_deref()));
        let route = target.name(&head);
        let route = denial.and_then(Denial::route).or(route.as_ref().map(|route| route.as_str()));
        hook.0(&Decision {
            key_id: record.map(KeyRecord::id).or_else(|| denial?.key_id()),
            record,
            denial,
            method: request.method(),
            path: request.uri().path(),
            route,
            client: self.client_address(request),
        });
    }
}
