//! The routes of a policy, and the action that it has for each method of them.

use http::Method;

use crate::{
    check::{self, Findings},
    denial::{Cause, Denial},
    error::ConfigError,
    head::Head,
    policy::Rule,
    principal::{Caller, Obligation},
    route::Pattern,
};

#[derive(Clone, Debug)]
pub(crate) struct RouteEntry {
    pub(super) pattern: Pattern,
    /// Actions for single methods; they take precedence over `any`.
    pub(super) methods: Vec<(Method, RouteAction)>,
    pub(super) any: Option<RouteAction>,
}

#[derive(Clone, Debug)]
pub(crate) enum RouteAction {
    Public,
    Rule(Rule),
}

impl RouteEntry {
    /// Validates its rules, and prepares them for requests.
    pub(super) fn compile(&mut self) -> Result<(), ConfigError> {
        let pattern = &self.pattern;
        for action in self.methods.iter_mut().map(|(_, action)| action).chain(&mut self.any) {
            if let RouteAction::Rule(rule) = action {
                let at = |error: ConfigError| error.at(format_args!("pattern {:?}", pattern.as_str()));
                rule.validate(Some(pattern)).map_err(at)?;
                rule.compile(pattern);
            }
        }
        Ok(())
    }

    /// The actions for single methods, then the one for all others.
    pub(super) fn actions(&self) -> impl Iterator<Item = (Option<&Method>, &RouteAction)> {
        let methods = self.methods.iter().map(|(method, action)| (Some(method), action));
        methods.chain(self.any.iter().map(|action| (None, action)))
    }

    /// Whether a rule for any of its methods is concealed.
    pub(super) fn is_concealed(&self) -> bool {
        self.actions().any(|(_, action)| action.is_concealed())
    }

    pub(super) fn action(&self, method: &Method) -> Option<&RouteAction> {
        let of = |wanted: &Method| self.methods.iter().find(|(known, _)| known == wanted).map(|(_, action)| action);
        // Routers serve HEAD with the handler of GET, so the rule of GET holds for it.
        of(method).or_else(|| (*method == Method::HEAD).then(|| of(&Method::GET))?).or(self.any.as_ref())
    }
}

impl RouteAction {
    pub(super) const fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Public => None,
        }
    }

    pub(super) fn is_concealed(&self) -> bool {
        self.rule().is_some_and(Rule::is_concealed)
    }

    pub(super) fn evaluate(
        &self,
        head: &Head<'_>,
        caller: Option<Caller<'_>>,
        obligation: &mut Option<Obligation>,
    ) -> Result<(), Denial> {
        match self {
            Self::Rule(rule) => rule.evaluate_for(head, caller, obligation),
            Self::Public if check::access(head.method(), &[]).is_some() => Ok(()),
            Self::Public => Err(Cause::MethodNotAllowed { allow: check::allowed_methods(&[]) }.into()),
        }
    }

    /// Evaluates every check for an explanation, which also records those that pass.
    pub(super) fn evaluate_all(&self, head: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings) {
        match self {
            Self::Rule(rule) => rule.evaluate_all(head, caller, findings),
            Self::Public => {
                if let Err(denial) = self.evaluate(head, Some(caller), &mut None) {
                    denial.causes().for_each(|cause| findings.record(|| "method".to_owned(), Err(cause.clone())));
                }
            }
        }
    }
}
