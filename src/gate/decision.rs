//! The decisions of an [`AuthenticateLayer`](crate::AuthenticateLayer), apart from its plumbing.
//!
//! # What an allowed request costs
//! In instructions beside the bare service, for the request of `benches/instructions.rs` (callgrind; see
//! `.ci/instructions`), so that whoever wants it faster knows where to look:
//!
//! | part | instructions |
//! |---|--:|
//! | the rule: permission, networks, the shop of the path (140), shop and company lists with the directory (540) | 980 |
//! | the route: six segments of a path, pending against the pieces of a pattern | 520 |
//! | the credential: found and marked in one pass over the headers, parsed | 400 |
//! | the look-up, with its snapshot, and the comparison of the digests | 180 |
//! | the clean path | 150 |
//! | all else: the principal, its place in the extensions, the watch, moves of request and response | 1,420 |
//! | SHA-256 of the key, where the processor has no instructions for it | 3,440 |
//!
//! The parts were counted when their sum was 3,650; now it is 3,943. What came since: the directory of the record's moment
//! goes with the principal, obligations that may be empty, and parameters that are pending against what the handler sees.
//!
//! Instructions are not time. Among the rest are eight atomic operations (the record twice, the configuration and the
//! store once each, up and down), for each of which a processor stops: a tenth of the time, together. Moves of a request
//! or a response, each of which waits for what was written last, are another. A neighbour on the same core makes all of
//! it slower by half, and SHA-256 by nothing: what is read and run does not fit beside the neighbour's.
//!
//! Tried and dropped, as no faster: a single loop for the clean path; segments of a path cut out and compared in one go;
//! polling not inlined; an `ArcSwap` for each part of the keys (two atomic operations for each look, where a snapshot that
//! a thread keeps has none).
//!
//! Worth it: names and segments compared by their first and last eight bytes and not by `memcmp`; what is only said in
//! explanations not even named while requests are served; the hash beginning first, as the processor goes on to route
//! and path while it lasts.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderValue, Request, Response};

use super::{future::InFlight, sharded::Shard};
use crate::{
    check::Check,
    client_address::{ClientAddress, TrustedProxies},
    clock,
    credential::{Credential, Notice, Sources},
    denial::{Cause, Context, Denial, Form, status},
    directory::Directory,
    head::Head,
    key::{Digest, KeyFormat, KeyRecord},
    policy::{Policy, RouteMatch},
    principal::{Obligation, Principal},
    reject::{self, Reject},
    route::PathParams,
    store::{Found, KeyStore, resolve_lookup},
    telemetry,
    tenant::TenantHosts,
};

/// What every clone of a service shards, and the decisions themselves.
#[derive(Clone)]
pub(crate) struct Config<R> {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(super) format: KeyFormat,
    pub(crate) sources: Sources,
    pub(super) challenge: HeaderValue,
    /// None for that of the system.
    pub(super) clock: Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>,
    pub(super) remove_credential: bool,
    /// Whether handlers are told who calls.
    pub(super) publish: bool,
    pub(super) pre_check: Option<Arc<dyn Check>>,
    pub(super) policy: Option<Arc<Policy>>,
    /// Whether the policy is enforced here, or only says which routes are public.
    pub(crate) enforced: bool,
    pub(super) finish_in_flight: bool,
    pub(super) proxies: Option<TrustedProxies>,
    pub(super) tenants: Option<TenantHosts>,
    pub(super) reject: R,
}

/// A credential that has the form of a key, reduced to its digest.
pub(crate) struct PresentedCredential {
    pub(crate) digest: Digest,
    pub(crate) bearer: bool,
    /// Whom the host names, where hosts name tenants.
    tenant: Option<Box<str>>,
    pub(crate) notice: Option<Arc<Notice>>,
    /// What a gate further out leaves to the handler.
    obligations: Vec<Obligation>,
}

impl<R> Config<R> {
    /// What is checked before anybody asks who calls.
    #[inline]
    pub(crate) fn pre_check(&self, head: &Head<'_>) -> Result<(), Denial> {
        self.pre_check.as_ref().map_or(Ok(()), |pre_check| pre_check.check(head))
    }

    /// What the policy says of the route, if there is one.
    #[inline]
    pub(crate) fn match_route(&self, head: &Head<'_>, params: &mut PathParams) -> Option<RouteMatch<'_>> {
        self.policy.as_ref().map(|policy| policy.match_route(head, params))
    }

    /// Extract, parse, digest. From here on no `Debug` of the request prints a key, and nobody is taken for its caller.
    #[inline]
    pub(crate) fn authenticate_credential<B>(&self, request: &mut Request<B>) -> Result<PresentedCredential, Denial> {
        // Whoever stands in the extensions was put there by somebody else.
        let outer = request.extensions_mut().remove::<Principal>();
        // But if that is a gate further out, it waits for the handler to do what its rule leaves to it.
        let obligations = outer.map(Principal::into_obligations).unwrap_or_default();
        let tenant = self.tenants.as_ref().map(|hosts| hosts.tenant(&Head::new(request))).transpose();
        // Before anything is refused: a public route is open to a request of any host, and must not see a key either.
        let taken = self.sources.take(request.headers_mut());
        let tenant = tenant?.map(Into::into);
        let Credential { key, source } = taken?;
        if !self.format.matches(key) {
            return Err(Cause::MalformedCredential.into());
        }
        let (digest, bearer, notice) = (Digest::from_key(key), source.is_bearer(), source.notice().cloned());
        Ok(PresentedCredential { digest, bearer, tenant, notice, obligations })
    }

    /// Whether the key may be used here and now. Then it has been.
    #[inline]
    fn check_status(&self, presented: &PresentedCredential, principal: &Principal) -> Result<(), Denial> {
        let record = principal.record();
        let now = self.now(record);
        let foreign = presented.tenant.is_some() && record.tenant() != presented.tenant.as_deref();
        let verdict = if foreign { Err(Cause::TenantNotAllowed) } else { status(record.status(now)) };
        verdict.map_err(|cause| Denial::from(cause).in_context(principal.context()))?;
        record.mark_used(now);
        Ok(())
    }

    /// Demands what the policy does, if it is enforced here.
    #[inline]
    fn require(
        &self,
        head: Head<'_>,
        route: Option<(&RouteMatch<'_>, &PathParams)>,
    ) -> Result<Option<Obligation>, Denial> {
        if !self.enforced {
            return Ok(None);
        }
        // INVARIANT: `route` is `Some` whenever `policy` is. If not, deny.
        let (Some(policy), Some((route, params))) = (&self.policy, route) else { return Err(Cause::NoRule.into()) };
        let admitted = policy.evaluate_match(route, params, head);
        let Some(principal) = head.principal() else { return admitted };
        let obligation = admitted.map_err(|denial| denial.in_context(principal.context()))?;
        telemetry::allowed(principal.key_id().as_str(), head.route().unwrap_or_else(|| head.path()));
        Ok(obligation)
    }

    /// The time: to the point if that matters for the key.
    pub(super) fn now(&self, record: &KeyRecord) -> SystemTime {
        if let Some(clock) = &self.clock {
            return clock();
        }
        let about_now = clock::coarse();
        if record.is_turning(about_now) { SystemTime::now() } else { about_now }
    }

    fn client<B>(&self, request: &Request<B>) -> ClientAddress {
        let peer = ClientAddress::from_peer(request.extensions());
        self.proxies.as_ref().map_or(peer, |proxies| proxies.client(peer, request.headers()))
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

impl<R: Send + Sync + 'static> Shard<R> {
    /// Judges what the store has found, and what the key may do, and prepares the request for whoever comes next.
    #[inline]
    pub(super) fn admit<B>(
        self: &Arc<Self>,
        presented: &mut PresentedCredential,
        (found, directory): (Found, Option<Directory>),
        request: &mut Request<B>,
        route: Option<(&RouteMatch<'_>, &PathParams)>,
    ) -> Result<InFlight<R>, Denial> {
        let record = resolve_lookup(found, &presented.digest)?;
        let directory = directory.unwrap_or_else(|| self.store.directory());
        let by_clock = self.clock.is_none();
        // Group the atomic increments: each stalls the pipeline.
        let mut in_flight = InFlight::new(self, request, Some(Arc::clone(&record)), presented.bearer);
        let (store, client) = (Arc::<Self>::clone(self), self.client(request));
        let mut principal = Principal::from_store(store, (record, directory), client, presented.bearer, by_clock);
        self.check_status(presented, &principal)?;
        presented.obligations.iter().for_each(|obligation| principal.add_obligation(obligation));
        // Before the policy, whose checks may be anybody's.
        if self.remove_credential {
            self.sources.remove(request.headers_mut());
        }
        // User checks may read `Principal` from the extensions, so it must be there before they run.
        let early = self.publish && self.enforced && self.policy.as_ref().is_some_and(|policy| policy.shows_heads());
        if early {
            request.extensions_mut().insert(principal.clone());
        }
        in_flight.obligation = self.require(Head::new(request).with_principal(&principal), route)?;
        if let Some(obligation) = &in_flight.obligation {
            if !self.publish
                && let Some(denial) = obligation.unmet()
            {
                // Known before the handler has done anything: it cannot ask.
                return Err(denial.in_context(principal.context()));
            }
            principal.add_obligation(obligation);
        }
        if early && let Some(known) = request.extensions_mut().get_mut::<Principal>() {
            // It is there for the checks, and does not know yet what the rule says.
            *known = principal;
        } else if self.publish {
            request.extensions_mut().insert(principal);
        }
        in_flight.notice = presented.notice.take();
        Ok(in_flight)
    }

    /// Prepares a request for a public route, and judges it.
    pub(super) fn admit_public<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
        route: (&RouteMatch<'_>, &PathParams),
    ) -> Result<InFlight<R>, Denial> {
        if self.remove_credential {
            self.sources.remove(request.headers_mut());
        }
        if self.proxies.is_some() {
            let client = self.client(request);
            request.extensions_mut().insert(client);
        }
        let mut in_flight = InFlight::new(self, request, None, false);
        in_flight.obligation = self.require(Head::new(request), Some(route))?;
        Ok(in_flight)
    }
}
