use std::{collections::HashMap, mem::discriminant};

use http::Method;

use crate::{
    check::{access, has_wrong_case, wrong_case_error},
    dimension::Dimension,
    error::ConfigError,
    policy::{Policy, RouteAction, RouteEntry, Rule, rules},
    route::{Pattern, RouteTree},
};

/// Collects rules; the first mistake is told by [`build`](Self::build).
#[derive(Clone, Debug, Default)]
#[must_use = "a policy is made by `build`"]
pub struct PolicyBuilder {
    entries: Vec<RouteEntry>,
    fallback: Option<RouteAction>,
    preflight: bool,
    finish_in_flight: bool,
    error: Option<ConfigError>,
}

impl PolicyBuilder {
    /// The rule for every method of a route that has no rule of its own.
    pub fn route(self, pattern: &str, rule: Rule) -> Self {
        self.add(pattern, None, RouteAction::Rule(rule))
    }

    /// The rule for one method of a route. A rule for `GET` holds for `HEAD` too. If a route has rules
    /// for single methods only, the others are refused with 405, or with 404 if one of the rules is
    /// [concealed](Rule::concealed).
    pub fn method_route(self, method: Method, pattern: &str, rule: Rule) -> Self {
        self.add(pattern, Some(method), RouteAction::Rule(rule))
    }

    /// A route that anyone may call: no key is looked at, not even a bad one, and the store is not
    /// asked, so that a health check answers while the store is down.
    pub fn public(self, pattern: &str) -> Self {
        self.add(pattern, None, RouteAction::Public)
    }

    /// One method of a route that anyone may call: one of those whose meaning is known, as only a rule can say what
    /// another does.
    pub fn method_public(self, method: Method, pattern: &str) -> Self {
        self.add(pattern, Some(method), RouteAction::Public)
    }

    /// The rule for requests that an axum router matched to no route: for its fallback handler. A
    /// service under `nest_service` that no `{*rest}` pattern covers falls under it as well. Outside of
    /// a router there is no fallback: write a rule for `/{*rest}`.
    pub fn fallback(mut self, rule: Rule) -> Self {
        if let Err(error) = rule.validate(None) {
            self.error.get_or_insert(error.at("fallback"));
        }
        self.set_fallback(RouteAction::Rule(rule))
    }

    /// Lets anyone reach the fallback handler of an axum router, a single-page application's files say,
    /// and every service under `nest_service` that no `{*rest}` pattern covers. Not under the path of a rule, however
    /// it is spelt: where `/admin` has one, `/%61dmin` is 404, since what serves the fallback may decode it.
    ///
    /// **The fallback of a nested router is open, too**: a request that it answers has matched no route, and nothing tells it
    /// from one that the outer fallback answers. A nested router whose fallback is not for everybody has a route
    /// instead, `/{*rest}`, with a rule of its own.
    pub fn public_fallback(self) -> Self {
        self.set_fallback(RouteAction::Public)
    }

    /// Has [`build`](Self::build) fail.
    #[cfg(feature = "axum")]
    pub(crate) fn fail(mut self, error: ConfigError) -> Self {
        self.error.get_or_insert(error);
        self
    }

    fn set_fallback(mut self, action: RouteAction) -> Self {
        if self.fallback.replace(action).is_some() {
            self.error.get_or_insert(ConfigError::new("fallback: it has two rules"));
        }
        self
    }

    /// Lets preflight requests of CORS through without a key, and only real ones, about routes and methods
    /// that have a rule which is not [concealed](Rule::concealed): for applications whose CORS layer stands
    /// inside of the gate. Better put it outside, and leave this off: where no CORS layer answers, the handler
    /// of an `any` route runs; and whoever has no key learns which routes have such a rule.
    pub const fn allow_preflight(mut self) -> Self {
        self.preflight = true;
        self
    }

    /// Lets requests in flight run to their end when their key is revoked, and streams of response bodies
    /// too. By default the handler is dropped, as when a client hangs up, and the request gets 401; a
    /// stream is ended with an error.
    pub const fn finish_in_flight(mut self) -> Self {
        self.finish_in_flight = true;
        self
    }

    /// Adds the routes of another policy under a prefix, as axum's `Router::nest` does: `/` becomes the prefix itself, and
    /// a prefix may have parameters, which the rules inside can name.
    ///
    /// A fallback belongs to the outermost policy; one that is nested is an error of [`build`](Self::build). What the
    /// outermost says of [preflight requests](Self::allow_preflight) and of requests
    /// [in flight](Self::finish_in_flight) holds for all.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, Policy, Rule, check::EntityRef};
    ///
    /// let shop = || EntityRef::from_path(Dimension::SHOP, "shop");
    /// let orders = Policy::builder().route("/orders", Rule::resource("orders").scoped(shop()));
    /// let policy = Policy::builder().nest("/shops/{shop}", orders).build()?;
    /// assert_eq!(policy.patterns().collect::<Vec<_>>(), ["/shops/{shop}/orders"]);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn nest(mut self, prefix: &str, other: Self) -> Self {
        if other.fallback.is_some() {
            self.error.get_or_insert(ConfigError::new(format!(
                "the policy under {prefix:?} has a fallback, which belongs to the outermost; give it a rule for \
                 \"/{{*rest}}\" instead"
            )));
        }
        let Self { entries, error, fallback: _, preflight: _, finish_in_flight: _ } = other;
        if let Some(error) = error {
            self.error.get_or_insert(error);
        }
        let nested = |pattern: &str| match (prefix.strip_suffix('/'), pattern) {
            (Some(prefix), pattern) => format!("{prefix}{pattern}"),
            (None, "/") if !prefix.is_empty() => prefix.to_owned(),
            (None, pattern) => format!("{prefix}{pattern}"),
        };
        for RouteEntry { pattern, methods, any } in entries {
            let pattern = nested(pattern.as_str());
            let methods = methods.into_iter().map(|(method, action)| (Some(method), action));
            for (method, action) in methods.chain(any.map(|action| (None, action))) {
                self = self.add(&pattern, method, action);
            }
        }
        self
    }

    /// Adds the routes of another policy, and its fallback. A route that both have is an error of [`build`](Self::build),
    /// unless they say something of different methods. What the other says of preflight requests and of requests in flight is
    /// dropped, as by [`nest`](Self::nest).
    pub fn merge(mut self, mut other: Self) -> Self {
        if let Some(action) = other.fallback.take() {
            self = self.set_fallback(action);
        }
        self.nest("", other)
    }

    pub(crate) fn add(mut self, pattern: &str, method: Option<Method>, action: RouteAction) -> Self {
        if let Err(error) = self.try_add(pattern, method, action) {
            self.error.get_or_insert(error);
        }
        self
    }

    fn try_add(&mut self, text: &str, method: Option<Method>, action: RouteAction) -> Result<(), ConfigError> {
        let wrong = |what: String| ConfigError::new(format!("pattern {text:?}: {what}"));
        let pattern = Pattern::parse(text)?;
        if let Some(method) = method.as_ref().filter(|method| has_wrong_case(method)) {
            return Err(wrong_case_error(method).at(format_args!("pattern {text:?}")));
        }
        if let Some(method) = &method {
            let is_refused = match &action {
                RouteAction::Rule(rule) => rule.refuses(method),
                RouteAction::Public => access(method, &[]).is_none(),
            };
            if is_refused {
                return Err(wrong(format!(
                    "{method} is neither a reading nor a writing method, and would always be refused: say what it does \
                     in a rule, with `Rule::method`"
                )));
            }
        }
        let known = self.entries.iter().position(|entry| entry.pattern == pattern);
        let Some(entry) = known.and_then(|index| self.entries.get_mut(index)) else {
            let (methods, any) = match method {
                Some(method) => (vec![(method, action)], None),
                None => (Vec::new(), Some(action)),
            };
            self.entries.push(RouteEntry { pattern, methods, any });
            return Ok(());
        };
        match method {
            Some(method) if entry.methods.iter().all(|(known, _)| *known != method) => {
                entry.methods.push((method, action));
                Ok(())
            }
            None if entry.any.is_none() => {
                entry.any = Some(action);
                Ok(())
            }
            Some(method) => Err(wrong(format!("it has two rules for {method}"))),
            None => Err(wrong("it has two rules for all methods".to_owned())),
        }
    }

    /// Two rules that read the ids of one dimension by two grammars: a spelling that one of them refuses
    /// would get by the other. (Two grammars of the user's own cannot be told apart.)
    fn disagreement(&self) -> Option<ConfigError> {
        let mut known = HashMap::new();
        for (location, rule) in rules(&self.entries, self.fallback.as_ref()) {
            for dimension in rule.dimensions().parsed() {
                let grammar = discriminant(&dimension.ids());
                let (other, first) = *known.entry(dimension.name()).or_insert((grammar, location));
                if other != grammar {
                    return Some(ConfigError::new(format!(
                        "the rule of {location} reads ids of the dimension {dimension} by another grammar than that of \
                         {first}; use one `Dimension` for both (a name alone means slugs)"
                    )));
                }
            }
        }
        None
    }

    /// The policy.
    ///
    /// # Errors
    /// The first of: a pattern that could never match (`:name`, no leading slash, a dot segment), or
    /// that conflicts with another; two rules for one route and method; a rule that is scoped by a
    /// parameter which its pattern lacks, says two things about one dimension (that the route is scoped by an entity
    /// of it, and lists them), or reads its ids by another grammar than another rule; a standard method in lower case;
    /// a single method that is neither reading nor writing, and that the rule does not map.
    pub fn build(mut self) -> Result<Policy, ConfigError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for entry in &mut self.entries {
            entry.compile()?;
        }
        if let Some(error) = self.disagreement() {
            return Err(error);
        }
        let mut tree = RouteTree::default();
        // Says which patterns are in each other's way.
        let mut router = matchit::Router::new();
        let mut by_pattern = HashMap::default();
        for (index, entry) in self.entries.iter().enumerate() {
            let pattern = entry.pattern.as_str();
            router.insert(pattern, ()).map_err(|error| ConfigError::new(format!("pattern {pattern:?}: {error}")))?;
            tree.add(pattern, index);
            by_pattern.insert(pattern.into(), index);
        }
        tree.compact();
        let runs_user_code = rules(&self.entries, self.fallback.as_ref()).any(|(_, rule)| rule.runs_user_code());
        Ok(Policy {
            runs_user_code,
            entries: self.entries,
            by_pattern,
            tree,
            fallback: self.fallback,
            preflight: self.preflight,
            finish_in_flight: self.finish_in_flight,
            shadow: None,
        })
    }
}

impl Policy {
    /// The first dimension that a rule reads by another grammar than keys that are restricted over it.
    pub(crate) fn disagreement_with(&self, known: &[Dimension]) -> Option<ConfigError> {
        for (location, rule) in rules(&self.entries, self.fallback.as_ref()) {
            for read in rule.dimensions().parsed() {
                let Some(spelt) = Dimension::among(read.name(), known) else { continue };
                let (of_rule, of_keys) = (read.ids(), spelt.ids());
                if discriminant(&of_rule) != discriminant(&of_keys) {
                    let (of_rule, of_keys) = (of_rule.name(), of_keys.name());
                    return Some(ConfigError::new(format!(
                        "the rule of {location} reads ids of the dimension {read} as {of_rule}, and keys spell them as \
                         {of_keys}; give one `Dimension` to the store and the policy"
                    )));
                }
            }
        }
        None
    }
}
