use http::Method;

use crate::policy::{RouteAction, Rule};

/// The rules of one route: the same for every method, or one for each.
///
/// # Example
/// ```
/// use axum::routing::get;
/// use http::Method;
/// use tower_authz::{GuardedRouter, Rule, RouteRules};
///
/// let rules = RouteRules::new()
///     .on(Method::GET, Rule::authenticated().unscoped())
///     .on(Method::POST, Rule::resource("orders").kind("admin").unscoped());
/// let orders = GuardedRouter::<()>::new()
///     .route("/orders", rules, get(|| async { "orders" }).post(|| async { "created" }));
/// # drop(orders);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "rules do nothing until they are given to a route"]
pub struct RouteRules(pub(super) Vec<(Option<Method>, RouteAction)>);

impl RouteRules {
    /// No rule yet, which is an error of [`GuardedRouter::guard`](crate::GuardedRouter::guard). Once there is one, methods
    /// without are refused with 405.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rule for one method. That for `GET` holds for `HEAD` too, unless `HEAD` has its own.
    pub fn on(mut self, method: Method, rule: Rule) -> Self {
        self.0.push((Some(method), RouteAction::Rule(rule)));
        self
    }

    /// Lets anyone call the route by this method: no key is looked at.
    pub fn public_on(mut self, method: Method) -> Self {
        self.0.push((Some(method), RouteAction::Public));
        self
    }

    /// No key is looked at, whatever the method.
    pub(super) fn public() -> Self {
        Self(vec![(None, RouteAction::Public)])
    }

    /// The rule for all methods that have none of their own.
    pub fn otherwise(mut self, rule: Rule) -> Self {
        self.0.push((None, RouteAction::Rule(rule)));
        self
    }
}

impl From<Rule> for RouteRules {
    fn from(rule: Rule) -> Self {
        Self::new().otherwise(rule)
    }
}
