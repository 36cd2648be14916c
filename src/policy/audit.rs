use std::{collections::BTreeSet, fmt};

use crate::policy::Policy;

/// The differences between a policy and the routes of an application. Made by [`Policy::audit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    routes_without_rule: Vec<String>,
    rules_without_route: Vec<String>,
}

impl Audit {
    /// Routes that no rule names: they are refused.
    #[must_use]
    pub fn routes_without_rule(&self) -> &[String] {
        &self.routes_without_rule
    }

    /// Patterns of rules that match no route: a typing mistake, or a route that was removed.
    #[must_use]
    pub fn rules_without_route(&self) -> &[String] {
        &self.rules_without_route
    }

    /// Whether both agree.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.routes_without_rule.is_empty() && self.rules_without_route.is_empty()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_complete() {
            return f.write_str("every route has a rule, and every rule a route");
        }
        let mut lines = Vec::new();
        lines.extend(
            self.routes_without_rule.iter().map(|route| format!("the route {route} has no rule and is refused")),
        );
        lines.extend(self.rules_without_route.iter().map(|rule| format!("the rule for {rule} matches no route")));
        f.write_str(&lines.join("\n"))
    }
}

impl Policy {
    /// Holds the policy against the routes of the application, written as the router writes them. Do it
    /// at start-up, and refuse to start, or in a test.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Policy, Rule};
    ///
    /// let policy = Policy::builder().public("/health").route("/shop/{id}", Rule::authenticated()).build()?;
    /// let audit = policy.audit(["/health", "/shops/{id}"]);
    /// assert_eq!(audit.routes_without_rule(), ["/shops/{id}"]);
    /// assert_eq!(audit.rules_without_route(), ["/shop/{id}"]);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    #[must_use]
    pub fn audit<T: AsRef<str>>(&self, routes: impl IntoIterator<Item = T>) -> Audit {
        let routes: BTreeSet<String> = routes.into_iter().map(|route| route.as_ref().to_owned()).collect();
        let rules: BTreeSet<String> = self.patterns().map(str::to_owned).collect();
        Audit {
            routes_without_rule: routes.difference(&rules).cloned().collect(),
            rules_without_route: rules.difference(&routes).cloned().collect(),
        }
    }

    /// The patterns that have rules, in the order in which they were given.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.pattern.as_str())
    }
}
