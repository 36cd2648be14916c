//! The changes that the gate makes to a request: it reads the credential and marks it as sensitive, removes it where that is
//! configured, and inserts the principal.

use std::sync::Arc;

use http::Request;

use crate::{
    credential::{Credential, Notice},
    denial::{Cause, Denial},
    directory::Directory,
    gate::{config::Config, in_flight::InFlight, sharded::Shard},
    head::Head,
    key::Digest,
    policy::RouteMatch,
    principal::{Obligation, Principal},
    route::PathParams,
    store::{Found, KeyStore as _, resolve_lookup},
    telemetry,
};

/// A credential that has the form of a key, reduced to its digest.
pub(crate) struct PresentedCredential {
    pub(super) digest: Digest,
    pub(super) bearer: bool,
    /// The tenant that the host names, where hosts name tenants.
    pub(super) tenant: Option<Box<str>>,
    pub(super) notice: Option<Arc<Notice>>,
    /// The obligations of an outer gate.
    obligations: Vec<Obligation>,
}

impl<R> Config<R> {
    /// Extracts, parses and hashes the credential. After this, `Debug` of the request prints no key, and a `Principal`
    /// that other code has inserted is gone.
    #[inline]
    pub(super) fn extract_credential<B>(&self, request: &mut Request<B>) -> Result<PresentedCredential, Denial> {
        let outer = request.extensions_mut().remove::<Principal>();
        // The new principal takes over the obligations of an outer gate, so that the handler still has to meet them.
        let obligations = outer.map(Principal::into_obligations).unwrap_or_default();
        let tenant = self.tenants.as_ref().map(|hosts| hosts.tenant(&Head::new(request))).transpose();
        // Mark the headers as sensitive before a bad host is refused. On a public route the host does not matter, and
        // no `Debug` in its handler may print the key.
        let taken = self.sources.extract(request.headers_mut());
        let tenant = tenant?.map(Into::into);
        let Credential { key, source } = taken?;
        if !self.format.matches(key) {
            return Err(Cause::MalformedCredential.into());
        }
        let (digest, bearer, notice) = (Digest::from_key(key), source.is_bearer(), source.notice().cloned());
        Ok(PresentedCredential { digest, bearer, tenant, notice, obligations })
    }
}

impl<R: Send + Sync + 'static> Shard<R> {
    /// Admits the bearer of the key that the store has found, or denies, and prepares the request for the handler.
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
        let now = self.now(&record);
        let gate_time = self.clock.is_some().then_some(now);
        // Group the atomic increments: each stalls the pipeline.
        let mut in_flight = InFlight::new(self, request, Some(Arc::clone(&record)), presented.bearer);
        let (store, client) = (Arc::<Self>::clone(self), self.client_address(request));
        let mut principal = Principal::from_store(store, (record, directory), client, presented.bearer, gate_time);
        self.check_status(presented, principal.record(), now)
            .map_err(|cause| Denial::from(cause).in_context(principal.context()))?;
        principal.record().mark_used(now);
        presented.obligations.iter().for_each(|obligation| principal.add_obligation(obligation));
        // Remove the credential before user checks run, so that they cannot see it.
        if self.remove_credential {
            self.sources.remove(request.headers_mut());
        }
        // User checks may read `Principal` from the extensions, so it must be there before they run.
        let is_inserted_early = self.inserts_principal
            && self.enforces_policy
            && self.policy.as_ref().is_some_and(|policy| policy.runs_user_code());
        if is_inserted_early {
            request.extensions_mut().insert(principal.clone());
        }
        let head = Head::new(request).with_principal(&principal).at(Some(now));
        in_flight.obligation = self.authorize(&head, route)?;
        if self.enforces_policy {
            telemetry::allowed(principal.key_id().as_str(), || head.route().unwrap_or_else(|| head.path()));
        }
        if let Some(obligation) = &in_flight.obligation {
            self.check_obligation(obligation, &principal)?;
            principal.add_obligation(obligation);
        }
        if is_inserted_early && let Some(published) = request.extensions_mut().get_mut::<Principal>() {
            // Replace the principal that was inserted for the checks: it lacks the obligation.
            *published = principal;
        } else if self.inserts_principal {
            request.extensions_mut().insert(principal);
        }
        in_flight.notice = presented.notice.take();
        Ok(in_flight)
    }

    /// Admits a request for a public route, or denies, and prepares it for the handler.
    pub(super) fn admit_public<B>(
        self: &Arc<Self>,
        request: &mut Request<B>,
        route: (&RouteMatch<'_>, &PathParams),
    ) -> Result<InFlight<R>, Denial> {
        if self.remove_credential {
            self.sources.remove(request.headers_mut());
        }
        if self.proxies.is_some() {
            let client = self.client_address(request);
            request.extensions_mut().insert(client);
        }
        let mut in_flight = InFlight::new(self, request, None, false);
        in_flight.obligation = self.authorize(&self.head(request), Some(route))?;
        Ok(in_flight)
    }
}
