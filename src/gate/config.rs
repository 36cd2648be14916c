//! How a gate is set up.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue, Request, Response};

use crate::{
    client_address::{ClientAddress, TrustedProxies},
    clock::{self, Clock},
    credential::Sources,
    denial::{Context, Denial, Form, RejectedRequest},
    gate::{PreCheck, decision::DecisionHook},
    head::Head,
    key::{KeyFormats, KeyRecord},
    policy::{Policy, PolicySource},
    reject::{self, Reject},
    store::{Counts, InMemory, KeyStore},
    tenant::TenantHosts,
};

/// The configuration that every clone of a service shares.
#[derive(Clone)]
pub(crate) struct Config<R> {
    pub(crate) store: Arc<dyn KeyStore>,
    /// The keys of the store, if it has all of them in memory.
    pub(super) keys: Option<InMemory>,
    pub(super) formats: KeyFormats,
    pub(crate) sources: Sources,
    pub(super) challenge: HeaderValue,
    /// `None` for the clock of the system.
    pub(super) clock: Option<Arc<Clock>>,
    pub(super) remove_credential: bool,
    /// Whether the request that the handler gets carries a `Principal`.
    pub(super) inserts_principal: bool,
    /// Whether a principal that was inserted further outside stands in for a missing credential.
    pub(super) keeps_principal: bool,
    pub(super) pre_check: Option<Arc<dyn PreCheck>>,
    pub(super) policy: Option<PolicySource>,
    /// Whether the policy is enforced here, or only says which routes are public.
    pub(crate) enforces_policy: bool,
    /// Whether the service inside is the router that the policy was made with.
    pub(super) owns_router: bool,
    /// Whether requests in flight run to their end, whatever the policy says of them.
    pub(super) finish_in_flight: bool,
    pub(super) proxies: Option<TrustedProxies>,
    pub(super) tenants: Option<TenantHosts>,
    pub(super) decision_hook: Option<DecisionHook>,
    /// Whether the response to an allowed request carries the id of its key.
    pub(super) names_key: bool,
    /// Whether decisions are counted for [`KeyAdmin::usage`](crate::store::KeyAdmin::usage).
    pub(super) counts_usage: bool,
    pub(super) reject: R,
}

impl<R> Config<R> {
    /// The time that this key is judged by. It is exact where that matters for the key, and a coarse clock of the kernel,
    /// which costs a fraction, where it does not.
    #[inline]
    pub(super) fn now(&self, record: &KeyRecord) -> SystemTime {
        if let Some(clock) = &self.clock {
            return clock();
        }
        let about_now = clock::coarse();
        if record.is_turning(about_now) { SystemTime::now() } else { about_now }
    }

    /// Where the decisions about keys are counted.
    #[inline]
    pub(super) fn counts(&self) -> Option<&Counts> {
        self.keys.as_ref().filter(|_| self.counts_usage)?.0.counts()
    }

    /// The head of a request before the key is known.
    #[inline(always)] // it is large, and read right after it was written
    pub(super) fn head<'r, B>(&self, request: &'r Request<B>) -> Head<'r> {
        let head = if self.owns_router { Head::for_own_router(request) } else { Head::new(request) };
        head.at(self.clock.as_ref().map(|clock| clock()))
    }

    #[inline]
    pub(super) fn client_address<B>(&self, request: &Request<B>) -> ClientAddress {
        let peer = ClientAddress::from_peer(request.extensions());
        self.proxies.as_ref().map_or(peer, |proxies| proxies.client(peer, request.headers()))
    }

    /// The part of the request that the rejection sees, if it asks for it. It is kept from the start: the handler consumes
    /// the request, and may be refused all the same.
    #[inline]
    pub(super) fn rejected_request<ReqB, ResB>(&self, request: &Request<ReqB>) -> Option<Arc<RejectedRequest>>
    where
        R: Reject<ResB>,
    {
        self.reject.sees_request().then(|| {
            // The URI that has arrived: one that a router has stripped would disclose how routes are nested.
            let head = Head::new(request);
            let is_credential = |name: &HeaderName| self.sources.reads(name);
            RejectedRequest::new(head.method(), head.uri(), head.headers(), is_credential).into()
        })
    }

    /// Whether a request that is judged by this policy runs to its end when its key is revoked.
    #[inline]
    pub(super) fn finishes_in_flight(&self, policy: Option<&Policy>) -> bool {
        self.finish_in_flight || policy.is_some_and(Policy::finishes_in_flight)
    }

    #[cold]
    pub(crate) fn refuse<B: 'static>(&self, denial: Denial, form: Form) -> Response<B>
    where
        R: Reject<B>,
    {
        let context = Context { challenge: Some(self.challenge.clone()), form, ..Context::default() };
        reject::refuse(&self.reject, denial.in_context(context))
    }
}
