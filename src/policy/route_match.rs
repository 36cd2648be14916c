use crate::{
    denial::{Cause, Denial},
    head::Head,
    name::Name,
    policy::{RouteAction, entry::RouteEntry},
    principal::{Caller, Obligation},
    route::{PathParams, Pattern},
};

/// The route that a request matches. It is not a denial yet: a missing or invalid key is reported first.
pub(crate) enum RouteMatch<'p> {
    Preflight,
    Rule { action: &'p RouteAction, pattern: Option<&'p Pattern> },
    NoRoute,
    NoMethod(&'p RouteEntry),
}

impl<'p> RouteMatch<'p> {
    pub(crate) const fn is_public(&self) -> bool {
        matches!(self, Self::Preflight | Self::Rule { action: RouteAction::Public, .. })
    }

    /// Whether a request without a credential is admitted, but one with a credential has to meet a rule.
    pub(crate) fn is_optional(&self) -> bool {
        matches!(self, Self::Rule { action: RouteAction::Rule(rule), .. } if rule.is_optional())
    }

    /// Tells a head of the route, with the positions of its parameters.
    #[inline]
    pub(crate) fn tell<'h>(&self, head: &mut Head<'h>, params: &'h PathParams)
    where
        'p: 'h,
    {
        if let Self::Rule { pattern, .. } = self {
            head.set_route(*pattern, params);
        }
    }

    /// The pattern of the rule.
    pub(crate) fn pattern(&self) -> Option<&str> {
        match self {
            Self::Rule { pattern, .. } => pattern.map(Pattern::as_str),
            _ => None,
        }
    }

    pub(super) fn evaluate(
        &self,
        head: &Head<'_>,
        caller: Option<Caller<'_>>,
        obligation: &mut Option<Obligation>,
    ) -> Result<(), Denial> {
        match self {
            Self::Preflight => Ok(()),
            Self::Rule { action, .. } => {
                action.evaluate(head, caller, obligation).map_err(|denial| denial.on_route(self.name(head)))
            }
            Self::NoRoute => Err(Denial::from(self.cause()).on_route(self.name(head))),
            Self::NoMethod(entry) => {
                let denial = Denial::from(self.cause()).on_route(self.name(head));
                // A 405 reveals the methods that have a rule, so it is concealed where they are.
                Err(if entry.is_concealed() { denial.concealed() } else { denial })
            }
        }
    }

    /// The route as the log names it: the pattern of the rule, or the one that axum has matched.
    #[cold]
    pub(crate) fn name(&self, head: &Head<'_>) -> Option<Name> {
        match self {
            Self::Rule { pattern: Some(pattern), .. } => Some(pattern.name()),
            Self::NoMethod(entry) => Some(entry.pattern.name()),
            _ => head.matched_name(),
        }
    }

    /// Why there is no rule.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::NoMethod(entry) => {
                let names: Vec<&str> = entry.methods.iter().map(|(method, _)| method.as_str()).collect();
                Cause::MethodNotAllowed { allow: names.join(", ").into() }
            }
            _ => Cause::NoRule,
        }
    }
}
