//! The decisions of the gate: functions of the configuration, the head of a request, and what the store has answered. They
//! change nothing.

use std::time::SystemTime;

use crate::{
    denial::{Cause, Denial, status},
    gate::{apply::PresentedCredential, config::Config},
    head::Head,
    key::KeyRecord,
    policy::RouteMatch,
    principal::{Obligation, Principal},
    route::PathParams,
};

/// The next step for a request, as decided before the store is asked.
pub(super) enum FirstStep<'c> {
    Deny(Denial),
    /// The route is public: no key is looked at.
    AdmitPublic(RouteMatch<'c>),
    /// Look the key up, then evaluate the matched rule, which is `None` if there is no policy.
    LookUp(Option<RouteMatch<'c>>),
}

impl<R> Config<R> {
    /// Decides from the head alone, and stores the positions of the path parameters in `params`.
    #[inline]
    pub(super) fn first_step(&self, head: &Head<'_>, params: &mut PathParams) -> FirstStep<'_> {
        if let Some(Err(denial)) = self.pre_check.as_ref().map(|check| check.check(head)) {
            return FirstStep::Deny(denial);
        }
        match self.match_route(head, params) {
            Some(route) if route.is_public() => FirstStep::AdmitPublic(route),
            route => FirstStep::LookUp(route),
        }
    }

    /// The rule that the policy has for the route, if there is a policy.
    #[inline]
    pub(super) fn match_route(&self, head: &Head<'_>, params: &mut PathParams) -> Option<RouteMatch<'_>> {
        self.policy.as_ref().map(|policy| policy.match_route(head, params))
    }

    /// Checks that the key belongs to the tenant of the host, and that it is active at `now`.
    #[inline]
    pub(super) fn check_status(
        &self,
        presented: &PresentedCredential,
        record: &KeyRecord,
        now: SystemTime,
    ) -> Result<(), Cause> {
        match presented.tenant.is_some() && record.tenant() != presented.tenant.as_deref() {
            true => Err(Cause::TenantNotAllowed),
            false => status(record.status(now)),
        }
    }

    /// Evaluates the policy, and returns what the handler still has to check. It admits everything if the policy is not
    /// enforced here but only declares public routes, as
    /// [`with_public_routes`](crate::AuthenticateLayer::with_public_routes) has it.
    #[inline]
    pub(super) fn authorize(
        &self,
        head: &Head<'_>,
        route: Option<(&RouteMatch<'_>, &PathParams)>,
    ) -> Result<Option<Obligation>, Denial> {
        if !self.enforces_policy {
            return Ok(None);
        }
        // INVARIANT: `route` is `Some` whenever `policy` is. If not, deny.
        let (Some(policy), Some((route, params))) = (&self.policy, route) else { return Err(Cause::NoRule.into()) };
        let admitted = policy.evaluate_match(route, params, head);
        match head.principal() {
            Some(principal) => admitted.map_err(|denial| denial.in_context(principal.context())),
            None => admitted,
        }
    }

    /// Denies if the handler has an obligation but gets no `Principal`, because it could not meet it.
    pub(super) fn check_obligation(&self, obligation: &Obligation, principal: &Principal) -> Result<(), Denial> {
        if self.inserts_principal {
            return Ok(());
        }
        obligation.unmet().map_or(Ok(()), |denial| Err(denial.in_context(principal.context())))
    }
}
