//! The decision about a request: from its head, its credential, and what the store knows of the key. It changes nothing,
//! except that it notes when a key was used.

use std::time::SystemTime;

use crate::{
    denial::{Cause, Context, Denial, status},
    gate::{apply::PresentedCredential, config::Config},
    head::Head,
    key::KeyRecord,
    name::Name,
    policy::{Policy, RouteMatch},
    principal::{Caller, Obligation},
    route::PathParams,
    store::Origin,
    telemetry,
};

/// The rule that the policy has for a request, if there is a policy, and the parameters of the route. It is filled in where it
/// stands: a value that is moved right after it was written stalls the processor.
#[derive(Default)]
pub(super) struct Target<'p> {
    policy: Option<&'p Policy>,
    route: Option<RouteMatch<'p>>,
    params: PathParams,
}

impl<'p> Target<'p> {
    /// Matches the route.
    #[inline]
    pub(super) fn find(&mut self, head: &Head<'_>, policy: Option<&'p Policy>) {
        self.policy = policy;
        self.route = policy.map(|policy| policy.match_route(head, &mut self.params));
    }

    /// Whether no key is looked at.
    pub(super) fn is_public(&self) -> bool {
        self.route.as_ref().is_some_and(RouteMatch::is_public)
    }

    /// Whether a request without a credential is admitted.
    pub(super) fn is_optional(&self) -> bool {
        self.route.as_ref().is_some_and(RouteMatch::is_optional)
    }

    /// Tells a head of the route.
    #[inline]
    pub(super) fn tell<'h>(&'h self, head: &mut Head<'h>)
    where
        'p: 'h,
    {
        if let Some(route) = &self.route {
            route.tell(head, &self.params);
        }
    }

    /// The route as the log names it.
    #[cold]
    pub(super) fn name(&self, head: &Head<'_>) -> Option<Name> {
        self.route.as_ref().and_then(|route| route.name(head)).or_else(|| head.matched_name())
    }
}

impl<R> Config<R> {
    /// Runs the pre-check, and matches the route, whose parameters are then known by their positions.
    #[inline]
    pub(super) fn find_target<'p>(
        &self,
        head: &Head<'_>,
        policy: Option<&'p Policy>,
        target: &mut Target<'p>,
    ) -> Result<(), Denial> {
        if let Some(check) = &self.pre_check {
            check.pre_check(head, policy)?;
        }
        target.find(head, policy);
        Ok(())
    }

    /// Whether code of the user's own looks at a request before its handler does, and so may look for its principal.
    pub(super) fn runs_user_code(&self, target: &Target<'_>) -> bool {
        self.enforces_policy && target.policy.is_some_and(Policy::runs_user_code)
    }

    /// Whether the checks of the policy are to see a request that has lost its credential or got its principal.
    pub(super) fn changes_request_early(&self, target: &Target<'_>) -> bool {
        self.remove_credential || self.runs_user_code(target)
    }

    /// Admits the key that the store has found, or denies: by its tenant, by its status at `now`, and by the policy.
    #[inline]
    pub(super) fn judge(
        &self,
        presented: &PresentedCredential,
        caller: Caller<'_>,
        now: SystemTime,
        head: &mut Head<'_>,
        target: &Target<'_>,
        obligation: &mut Option<Obligation>,
    ) -> Result<(), Denial> {
        let is_active = self.check_status(presented, caller.record, now);
        let is_used = is_active.is_ok();
        let judged = match is_active {
            Ok(()) => {
                caller.record.mark_used(now);
                head.set_now(now);
                self.authorize(head, target, Some(caller), obligation)
            }
            Err(cause) => Err(cause.into()),
        };
        // A principal that other middleware has made is no key of the store.
        if let (Some(counts), Some(source)) = (self.counts(), presented.source) {
            let refused = judged.as_ref().err().map(|denial| denial.cause().code());
            let origin = || Origin { address: caller.client.ip(), source: self.sources.header(source) };
            counts.count(caller.record, now, refused, is_used.then_some(origin));
        }
        judged.map_err(|denial| denial.in_context(Context::of_key(caller.record.id(), presented.bearer)))
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

    /// Evaluates the policy, and notes what the handler still has to check. It admits everything if the policy is not
    /// enforced here but only declares public routes, as
    /// [`with_public_routes`](crate::AuthenticateLayer::with_public_routes) has it.
    #[inline]
    pub(super) fn authorize(
        &self,
        head: &Head<'_>,
        target: &Target<'_>,
        caller: Option<Caller<'_>>,
        obligation: &mut Option<Obligation>,
    ) -> Result<(), Denial> {
        if !self.enforces_policy {
            return Ok(());
        }
        // INVARIANT: `route` is `Some` whenever `policy` is. If not, deny.
        let (Some(policy), Some(route)) = (target.policy, &target.route) else { return Err(Cause::NoRule.into()) };
        policy.evaluate_match(route, head, caller, obligation)?;
        // A handler that gets no `Principal` could not meet an obligation.
        if let (false, Some(_), Some(obligation)) = (self.inserts_principal, caller, obligation)
            && let Some(denial) = obligation.unmet()
        {
            return Err(denial);
        }
        if let Some(Caller { record, .. }) = caller {
            telemetry::allowed(record.id().as_str(), || {
                route.pattern().or_else(|| head.route()).unwrap_or_else(|| head.path())
            });
        }
        Ok(())
    }
}
