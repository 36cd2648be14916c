//! What a service requires of every policy that it is to enforce.

use crate::{dimension::Dimension, error::ConfigError, policy::Policy};

/// The facts of a service that a policy has to fit. They do not change while the service runs, so a policy that replaces
/// another is checked against them again.
#[derive(Clone, Debug)]
pub(crate) struct Requirements {
    /// The dimensions that the keys of the store are restricted over, if the store knows them.
    dimensions: Option<Vec<Dimension>>,
    /// The routes of the router inside, if it was made together with its rules.
    routes: Option<Routes>,
}

#[derive(Clone, Debug)]
struct Routes {
    patterns: Vec<String>,
    has_fallback: bool,
}

impl Requirements {
    /// The policy must read the ids of these dimensions as the keys of the store spell them.
    pub(crate) const fn new(dimensions: Option<Vec<Dimension>>) -> Self {
        Self { dimensions, routes: None }
    }

    /// The policy must have rules for the same routes as this one.
    #[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "only a GuardedRouter knows its routes"))]
    pub(crate) fn with_routes_of(mut self, policy: &Policy) -> Self {
        let patterns = policy.patterns().map(str::to_owned).collect();
        self.routes = Some(Routes { patterns, has_fallback: policy.fallback.is_some() });
        self
    }

    pub(super) fn check(&self, policy: &Policy) -> Result<(), ConfigError> {
        if let Some(error) = self.dimensions.as_ref().and_then(|known| policy.disagreement_with(known)) {
            return Err(error);
        }
        self.routes.as_ref().map_or(Ok(()), |routes| routes.check(policy))
    }
}

impl Routes {
    /// Checks that each route has a rule, and each rule a route. The error names all that differ.
    fn check(&self, policy: &Policy) -> Result<(), ConfigError> {
        let audit = policy.audit(&self.patterns);
        let mut errors = Vec::new();
        errors.extend(audit.routes_without_rule().iter().map(|route| format!("the route {route} has no rule")));
        errors.extend(audit.rules_without_route().iter().map(|rule| format!("the rule for {rule} matches no route")));
        match (self.has_fallback, policy.fallback.is_some()) {
            (true, false) => errors.push("the fallback has no rule".to_owned()),
            (false, true) => errors.push("the rule for the fallback has no handler".to_owned()),
            _ => {}
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::new(format!(
                "the policy does not cover the routes of the GuardedRouter: {}",
                errors.join("; ")
            ))),
        }
    }
}
