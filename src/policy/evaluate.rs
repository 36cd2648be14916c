//! How a rule is compiled, evaluated and explained.

use std::sync::Arc;

use crate::{
    check::{Check, Demand as _, Findings, NO_PRINCIPAL, without_obligation},
    denial::Denial,
    head::Head,
    policy::{Rule, rule::for_each_demand},
    principal::{Caller, Obligation, Principal},
    route::Pattern,
};

impl Rule {
    /// Prepares the rule for the route of this pattern, so that nothing is looked for in it when a request comes.
    pub(super) fn compile(&mut self, pattern: &Pattern) {
        let knows_places = Arc::make_mut(&mut self.dimensions).compile(pattern);
        self.is_compiled = knows_places && !self.runs_user_code();
    }

    /// Admits the caller, and notes what is left to the handler, or denies with every demand that is not met.
    #[inline]
    pub(super) fn evaluate_for(
        &self,
        head: &Head<'_>,
        caller: Option<Caller<'_>>,
        obligation: &mut Option<Obligation>,
    ) -> Result<(), Denial> {
        if let Some(caller) = caller.filter(|caller| self.admits(head, *caller)) {
            debug_assert!(self.explain(head, Some(caller)).is_ok(), "admitted and denied: {self:?} {head:?}");
        } else {
            self.explain(head, caller)?;
        }
        if caller.is_some() {
            *obligation = Some(self.dimensions.obligation(head, self.concealed));
        }
        Ok(())
    }

    /// Whether the caller meets every demand, as far as this can be told without code of the user's own. Nothing is named or
    /// noted down: that is left to [`explain`](Self::explain), which has the last word on whoever is not admitted here.
    #[inline]
    fn admits(&self, head: &Head<'_>, caller: Caller<'_>) -> bool {
        self.is_compiled
            && self.permission.admits(head.method(), caller)
            && self.kind.as_ref().is_none_or(|kind| kind.admits(caller))
            && self.networks.admits(caller)
            && self.origin.is_none_or(|origin| origin.admits(head, caller))
            && self.dimensions.admits(head, caller)
    }

    /// Evaluates every demand to the end, and tells all that are not met.
    #[inline(never)]
    fn explain(&self, head: &Head<'_>, caller: Option<Caller<'_>>) -> Result<(), Denial> {
        let mut denial: Option<Denial> = None;
        match caller {
            Some(caller) => self.evaluate_all(head, caller, &mut denial),
            None if self.optional => self.evaluate_anonymous(head, &mut denial),
            None => return Err(NO_PRINCIPAL.into()),
        }
        match denial {
            None => Ok(()),
            Some(denial) if self.concealed => Err(denial.concealed()),
            Some(denial) => Err(denial),
        }
    }

    /// Evaluates what holds for a request without a key as well.
    #[cold]
    fn evaluate_anonymous(&self, head: &Head<'_>, findings: &mut impl Findings) {
        self.permission.evaluate_method(head, findings);
        self.custom.evaluate_all(head, findings);
    }

    /// Evaluates every demand, also after one has failed, and records each result.
    #[inline]
    pub(super) fn evaluate_all(&self, head: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings) {
        for_each_demand!(self, demand => demand.evaluate(head, caller, findings));
    }
}

impl Check for Rule {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        without_obligation(self.evaluate(head)?)
    }

    fn evaluate(&self, head: &Head<'_>) -> Result<Option<Obligation>, Denial> {
        let mut obligation = None;
        self.evaluate_for(head, head.principal().map(Principal::caller), &mut obligation)?;
        Ok(obligation)
    }
}
