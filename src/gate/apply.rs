//! The changes that the gate makes to a request: it marks the credential as sensitive, removes it where that is configured,
//! and inserts the principal.

use std::{sync::Arc, time::SystemTime};

use futures::future::BoxFuture;
use http::Request;

use crate::{
    client_address::ClientAddress,
    credential::{Credential, Notice},
    denial::{Cause, Denial},
    directory::Directory,
    gate::{
        config::Config,
        decide::Target,
        in_flight::InFlight,
        ready::{Constant, Refused},
        sharded::Shard,
    },
    head::Head,
    key::{Digest, FormatIndex, KeyRecord},
    policy::{Policy, PolicySource},
    principal::{Caller, Obligation, Principal},
    store::{Answer, Found, KeyStore as _, no_answer, resolve_lookup},
};

/// What is known of a credential beside its digest.
#[derive(Default)]
pub(crate) struct PresentedCredential {
    pub(super) bearer: bool,
    /// The position of its source; none without a credential.
    pub(super) source: Option<usize>,
    /// Which of the formats of the store it has: the record must be of a kind that demands this one.
    format: FormatIndex,
    /// The tenant that the host names, where hosts name tenants.
    pub(super) tenant: Option<Box<str>>,
    pub(super) notice: Option<Arc<Notice>>,
    /// The obligations of an outer gate.
    obligations: Vec<Obligation>,
    /// The principal that middleware further outside has inserted, if it may stand in for a credential.
    other: Option<Box<Principal>>,
}

/// A request that cannot be decided before the store has answered.
pub(crate) struct Undecided {
    pub(super) answer: BoxFuture<'static, (Found, Option<Directory>)>,
    pub(super) digest: Digest,
    pub(super) presented: PresentedCredential,
    /// The policy that the request began with, if it could be replaced meanwhile.
    pub(super) policy: Option<Arc<Policy>>,
}

impl<R> Config<R> {
    /// The policy that a request is judged by: the one that was loaded when it began, if it can be replaced.
    #[inline]
    pub(super) fn policy_of<'p>(&'p self, loaded: Option<&'p Arc<Policy>>) -> Option<&'p Policy> {
        loaded.map(|policy| &**policy).or_else(|| self.policy.as_ref()?.fixed())
    }

    /// Extracts, parses and hashes the credential. After this, `Debug` of the request prints no key, and a `Principal`
    /// that other code has inserted is gone.
    #[inline]
    fn extract_credential<B>(
        &self,
        request: &mut Request<B>,
        presented: &mut PresentedCredential,
    ) -> Result<Digest, Refused> {
        if let Some(outer) = request.extensions_mut().remove::<Principal>() {
            // The new principal takes over the obligations of an outer gate, so that the handler still has to meet them.
            presented.other = self.keeps_principal.then(|| Box::new(outer.clone()));
            presented.obligations = outer.into_obligations();
        }
        let tenant = self.tenants.as_ref().map(|hosts| hosts.tenant(&Head::new(request))).transpose();
        // Mark the headers as sensitive before a bad host is refused. On a public route the host does not matter, and
        // no `Debug` in its handler may print the key.
        let taken = self.sources.extract(request.headers_mut());
        presented.tenant = tenant?.map(Into::into);
        let Credential { key, source, position } = taken?;
        let Some(format) = self.formats.find(key) else { return Err(Cause::MalformedCredential.into()) };
        presented.format = format;
        (presented.bearer, presented.source) = (source.is_bearer(), Some(position));
        presented.notice = source.notice().cloned();
        Ok(Digest::from_key(key))
    }
}

impl<R: Send + Sync + 'static> Shard<R> {
    /// Decides about a request, and prepares it for the handler if it is admitted. Where the store has to be waited for, it
    /// returns what is not decided yet; then [`admit_found`](Self::admit_found) decides.
    ///
    /// `in_flight` is filled in where it stands: a value that is moved right after it was written stalls the processor.
    #[inline(never)]
    pub(super) fn decide<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
        in_flight: &mut InFlight,
    ) -> Result<Option<Box<Undecided>>, Refused> {
        // Start hashing first, although the digest is needed last: the CPU overlaps it with the path and route checks.
        let mut presented = PresentedCredential::default();
        let mut credential = self.extract_credential(request, &mut presented);
        let mut target = Target::default();
        let mut head = self.head(request);
        // Loaded once, so that the request is judged by one policy.
        let loaded = self.policy.as_ref().and_then(PolicySource::load);
        let policy = self.policy_of(loaded.as_deref());
        self.find_target(&head, policy, &mut target).map_err(|denial| denial.on_route(head.matched_name()))?;
        (in_flight.is_optional, in_flight.finishes) = (target.is_optional(), self.finishes_in_flight(policy));
        let is_anonymous = matches!(credential, Err(Refused::Constant(Constant::Missing, _)));
        let other = presented.other.take().filter(|_| is_anonymous);
        if target.is_public() || (in_flight.is_optional && is_anonymous && other.is_none()) {
            self.admit_public(request, &target, in_flight)?;
            // A handler trusts a principal, on a public route as well: one whose time is over is none.
            if let Some(other) = other.filter(|other| self.inserts_principal && self.is_live(&presented, other)) {
                in_flight.set_other();
                request.extensions_mut().insert(*other);
            }
            return Ok(None);
        }
        if let Some(other) = other {
            in_flight.set_other();
            // The record may be one that a store has replaced since.
            if let Some(end) = other.end() {
                return Err(Denial::from(Cause::from(end)).on_route(target.name(&head)).into());
            }
            let now = self.now(other.record());
            self.admit_principal(&presented, *other, now, request, &target, in_flight)?;
            return Ok(None);
        }
        // Borrowed: to move what was just written would stall the processor.
        let digest = match &mut credential {
            Ok(digest) => &*digest,
            Err(refused) => {
                in_flight.notice = self.sources.notice(request.headers()).cloned();
                refused.name(target.name(&head));
                return credential.map(|_| None);
            }
        };
        in_flight.set_credential(&presented);
        let Some(keys) = self.keys.as_ref().filter(|_| !self.changes_request_early(&target)) else {
            return match self.store.lookup(digest).0 {
                Answer::Ready(found, directory) => {
                    let found = (found, directory);
                    self.admit_found((digest, &presented), found, request, &target, in_flight)?;
                    Ok(None)
                }
                Answer::Pending(answer) => {
                    let (digest, policy) = (*digest, loaded.as_deref().cloned());
                    Ok(Some(Box::new(Undecided { answer, digest, presented, policy })))
                }
            };
        };
        target.tell(&mut head);
        let client = self.client_address(request);
        let mut found = None;
        // The index has compared the whole digest, in constant time.
        let judged = keys.0.find(digest, |record, directory| {
            if !self.formats.fits(presented.format, record) {
                return Err(Cause::UnknownKey.into());
            }
            let caller = Caller { record, directory, client };
            let now = self.now(record);
            self.judge(&presented, caller, now, &mut head, &target, &mut in_flight.obligation)?;
            in_flight.watch_key(self, Arc::clone(record));
            if self.inserts_principal {
                found = Some((Arc::clone(record), directory.clone(), now));
            }
            Ok::<(), Denial>(())
        });
        match judged {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(denial))) => return Err(denial.on_route(target.name(&head)).into()),
            Ok(None) => return Err(Refused::Constant(Constant::Unknown, target.name(&head))),
            Err(error) => return Err(no_answer(error).on_route(target.name(&head)).into()),
        }
        if let Some((record, directory, now)) = found {
            let mut principal = self.principal((record, directory), now, client, &presented);
            if let Some(obligation) = &in_flight.obligation {
                principal.add_obligation(obligation);
            }
            request.extensions_mut().insert(principal);
        }
        Ok(None)
    }

    /// Decides about the key that the store has found, also where the request is changed before it is decided.
    pub(super) fn admit_found<B>(
        self: &Arc<Self>,
        (digest, presented): (&Digest, &PresentedCredential),
        (found, directory): (Found, Option<Directory>),
        request: &mut Request<B>,
        target: &Target<'_>,
        in_flight: &mut InFlight,
    ) -> Result<(), Refused> {
        let record = match resolve_lookup(found, digest) {
            Ok(Some(record)) if self.formats.fits(presented.format, &record) => record,
            Ok(_) => return Err(Refused::Constant(Constant::Unknown, target.name(&self.head(request)))),
            Err(denial) => return Err(denial.on_route(target.name(&self.head(request))).into()),
        };
        let directory = directory.unwrap_or_else(|| self.store.directory());
        let now = self.now(&record);
        let principal = self.principal((record, directory), now, self.client_address(request), presented);
        self.admit_principal(presented, principal, now, request, target, in_flight)
    }

    /// Decides about a principal, which code of the user's own sees if it is asked.
    fn admit_principal<B>(
        self: &Arc<Self>,
        presented: &PresentedCredential,
        mut principal: Principal,
        now: SystemTime,
        request: &mut Request<B>,
        target: &Target<'_>,
        in_flight: &mut InFlight,
    ) -> Result<(), Refused> {
        // Remove the credential before user checks run, so that they cannot see it.
        if self.remove_credential {
            self.sources.remove(request.headers_mut());
        }
        if self.inserts_principal && self.runs_user_code(target) {
            request.extensions_mut().insert(principal.clone());
        }
        let mut head = self.head(request).with_principal(&principal);
        target.tell(&mut head);
        let judged = self.judge(presented, principal.caller(), now, &mut head, target, &mut in_flight.obligation);
        judged.map_err(|denial| denial.on_route(target.name(&head)))?;
        in_flight.watch_key(self, principal.shared_record());
        if let Some(obligation) = &in_flight.obligation {
            principal.add_obligation(obligation);
        }
        if self.inserts_principal {
            request.extensions_mut().insert(principal);
        }
        Ok(())
    }

    /// Whether a principal that other middleware has made is active, and of the tenant of the host.
    fn is_live(&self, presented: &PresentedCredential, other: &Principal) -> bool {
        other.end().is_none() && self.check_status(presented, other.record(), self.now(other.record())).is_ok()
    }

    #[inline]
    fn principal(
        self: &Arc<Self>,
        key: (Arc<KeyRecord>, Directory),
        now: SystemTime,
        client: ClientAddress,
        presented: &PresentedCredential,
    ) -> Principal {
        let gate_time = self.clock.is_some().then_some(now);
        let mut principal = Principal::from_store(Arc::<Self>::clone(self), key, client, presented.bearer, gate_time);
        presented.obligations.iter().for_each(|obligation| principal.add_obligation(obligation));
        principal
    }

    /// Admits a request without a key, for a route that does not need one, or denies, and prepares it for the handler.
    fn admit_public<B>(
        &self,
        request: &mut Request<B>,
        target: &Target<'_>,
        in_flight: &mut InFlight,
    ) -> Result<(), Denial> {
        if self.remove_credential {
            self.sources.remove(request.headers_mut());
        }
        if self.proxies.is_some() {
            let client = self.client_address(request);
            request.extensions_mut().insert(client);
        }
        let mut head = self.head(request);
        target.tell(&mut head);
        self.authorize(&head, target, None, &mut in_flight.obligation)
    }
}
