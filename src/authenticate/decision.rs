//! The decisions of an [`AuthenticateLayer`](crate::AuthenticateLayer), apart from its plumbing.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderValue, Request, Response};

use crate::{
    Check, ClientAddress, Denial, Digest, Head, KeyFormat, KeyRecord, Policy, Principal, Proxies, Reject, Sources,
    TenantHosts,
    check::Duty,
    clock,
    credential::Notice,
    denial::{Cause, Context},
    key::Watch,
    policy::{Sought, status},
    reject,
    store::{Found, KeyStore, StoreErrorKind},
    trace,
};

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
    pub(super) format: KeyFormat,
    pub(crate) sources: Sources,
    pub(super) challenge: HeaderValue,
    /// None for that of the system.
    pub(super) clock: Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>,
    pub(super) remove_credential: bool,
    pub(super) entrance: Option<Arc<dyn Check>>,
    pub(super) policy: Option<Arc<Policy>>,
    /// Whether the policy is enforced here, or only says which routes are public.
    pub(crate) enforced: bool,
    pub(super) finish_in_flight: bool,
    pub(super) proxies: Option<Proxies>,
    pub(super) tenants: Option<TenantHosts>,
    pub(super) reject: R,
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
