//! The decision about a request: from its head, its credential, and what the store knows of the key. It changes nothing,
//! except that it notes when a key was used.

use std::time::SystemTime;

use crate::{
    denial::{Cause, Context, Denial, status},
    gate::{apply::PresentedCredential, config::Config},
    head::Head,
    key::KeyRecord,
    policy::RouteMatch,
    principal::{Caller, Obligation},
    route::PathParams,
    telemetry,
};

impl<R> Config<R> {
    /// Runs the pre-check, and matches the route, whose parameters are then known by their positions.
    #[inline]
    pub(super) fn find_route(
        &self,
        head: &Head<'_>,
        params: &mut PathParams,
    ) -> Result<Option<RouteMatch<'_>>, Denial> {
        if let Some(check) = &self.pre_check {
            check.check(head)?;
        }
        Ok(self.match_route(head, params))
    }

    /// Matches the route, if there is a policy.
    #[inline]
    pub(super) fn match_route(&self, head: &Head<'_>, params: &mut PathParams) -> Option<RouteMatch<'_>> {
        self.policy.as_ref().map(|policy| policy.match_route(head, params))
    }

    /// Whether code of the user's own looks at a request before its handler does, and so may look for its principal.
    pub(super) fn runs_user_code(&self) -> bool {
        self.enforces_policy && self.policy.as_ref().is_some_and(|policy| policy.runs_user_code())
    }

    /// Whether the checks of the policy are to see a request that has lost its credential or got its principal.
    pub(super) fn changes_request_early(&self) -> bool {
        self.remove_credential || self.runs_user_code()
    }

    /// Admits the key that the store has found, or denies: by its tenant, by its status at `now`, and by the policy.
    #[inline]
    pub(super) fn judge(
        &self,
        presented: &PresentedCredential,
        caller: Caller<'_>,
        now: SystemTime,
        head: &mut Head<'_>,
        route: Option<&RouteMatch<'_>>,
    ) -> Result<Option<Obligation>, Denial> {
        let judged = match self.check_status(presented, caller.record, now) {
            Ok(()) => {
                caller.record.mark_used(now);
                head.set_now(now);
                self.authorize(head, route, Some(caller))
            }
            Err(cause) => Err(cause.into()),
        };
        judged.map_err(|denial| denial.in_context(Context::of_key(caller.record.id(), presented.bearer)))
    }

    /// Checks that the key belongs to the tenant of the host, and that it is active at `now`.
    #[inline]
    fn check_status(&self, presented: &PresentedCredential, record: &KeyRecord, now: SystemTime) -> Result<(), Cause> {
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
        route: Option<&RouteMatch<'_>>,
        caller: Option<Caller<'_>>,
    ) -> Result<Option<Obligation>, Denial> {
        if !self.enforces_policy {
            return Ok(None);
        }
        // INVARIANT: `route` is `Some` whenever `policy` is. If not, deny.
        let (Some(policy), Some(route)) = (&self.policy, route) else { return Err(Cause::NoRule.into()) };
        let admitted = policy.evaluate_match(route, head, caller)?;
        // A handler that gets no `Principal` could not meet an obligation.
        if let (false, Some(_), Some(obligation)) = (self.inserts_principal, caller, &admitted)
            && let Some(denial) = obligation.unmet()
        {
            return Err(denial);
        }
        if let Some(Caller { record, .. }) = caller {
            telemetry::allowed(record.id().as_str(), || {
                route.pattern().or_else(|| head.route()).unwrap_or_else(|| head.path())
            });
        }
        Ok(admitted)
    }
}
