//! All rules of an application, by the pattern of the route.

mod audit;
mod builder;
mod entry;
mod evaluate;
mod explain;
mod file;
mod reload;
mod requirements;
mod route_match;
mod rule;
mod shadow;
mod source;

use std::{collections::HashMap, iter};

use http::{
    Extensions, HeaderMap, Method, Uri,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};
use percent_encoding::percent_decode_str;

use self::entry::RouteEntry;
pub use self::{
    audit::Audit,
    builder::PolicyBuilder,
    explain::{Explanation, Finding},
    reload::PolicyHandle,
    rule::Rule,
    shadow::Difference,
    source::PolicySource,
};
pub(crate) use self::{entry::RouteAction, requirements::Requirements, route_match::RouteMatch};
use crate::{
    check::{self, Check},
    clean_path::CleanPath,
    denial::{Cause, Context, Denial},
    head::Head,
    principal::{Caller, Obligation, Principal},
    route::{PathParams, RouteTree, matched::Rewriting},
};

/// The rules of an application: which route demands what. A route without a rule is refused.
///
/// Patterns are written as axum writes them: `/shops/{shop}`, `/files/{*path}`, with the prefixes of
/// nested routers in front. Inside an axum router (`Router::layer`) the route that axum matched decides,
/// so the policy and the router cannot disagree. If axum matched none, only a `{*rest}` pattern (for `nest_service`) or the
/// [`fallback`](PolicyBuilder::fallback) applies; otherwise the request is refused. It is also refused if other middleware
/// rewrote the path between the router and the gate. Literals match the raw path: `/%61dmin` is not `/admin`, and is
/// refused with 404, even under a public fallback.
///
/// Outside of a router (hyper, tonic, or a layer around a whole axum router) the policy matches the raw
/// path itself: then its patterns must be those of the router, or the two may disagree about which of two
/// overlapping routes a path belongs to.
///
/// # Example
/// ```
/// use http::Method;
/// use tower_authz::{Dimension, Policy, Rule, check::EntityRef};
///
/// let policy = Policy::builder()
///     .public("/health")
///     .route("/products", Rule::resource("products").unscoped())
///     .route("/shops/{shop}/orders/{id}", Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop")))
///     .method_route(Method::GET, "/shops", Rule::resource("shops").filtered(Dimension::SHOP))
///     .build()?;
/// # drop(policy);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Policy {
    entries: Vec<RouteEntry>,
    by_pattern: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    tree: RouteTree,
    fallback: Option<RouteAction>,
    preflight: bool,
    finish_in_flight: bool,
    /// Whether a rule runs user code on requests.
    runs_user_code: bool,
    shadow: Option<shadow::Shadow>,
}

/// Every rule with the pattern of its route, or a name for the fallback.
fn rules<'a>(
    entries: impl IntoIterator<Item = &'a RouteEntry>,
    fallback: Option<&'a RouteAction>,
) -> impl Iterator<Item = (&'a str, &'a Rule)> {
    let of_routes = entries.into_iter().flat_map(|entry| iter::repeat(entry.pattern.as_str()).zip(entry.actions()));
    let actions =
        of_routes.map(|(pattern, (_, action))| (pattern, action)).chain(iter::repeat("the fallback").zip(fallback));
    actions.filter_map(|(location, action)| Some((location, action.rule()?)))
}

impl Policy {
    /// A builder. An empty policy refuses every request.
    pub fn builder() -> PolicyBuilder {
        PolicyBuilder::default()
    }

    /// Whether the request goes to a public route, where no key is looked at.
    #[must_use]
    pub fn is_public(&self, head: &Head<'_>) -> bool {
        self.match_route(head, &mut PathParams::default()).is_public()
    }

    /// Whether a request without a key may get an answer of the handler.
    #[cfg(feature = "axum")]
    pub(crate) fn admits_anonymous(&self, head: &Head<'_>) -> bool {
        let route = self.match_route(head, &mut PathParams::default());
        route.is_public() || route.is_optional()
    }

    /// Whether the route is public and its pattern one of these. A preflight request counts by its own method,
    /// `OPTIONS`, not by the one that it announces.
    pub(crate) fn is_public_at(&self, head: &Head<'_>, patterns: &[String]) -> bool {
        match self.find(head, &mut PathParams::default()) {
            RouteMatch::Rule { action: RouteAction::Public, pattern: Some(pattern) } => {
                patterns.iter().any(|known| known == pattern.as_str())
            }
            _ => false,
        }
    }

    /// Whether requests in flight run to their end when their key is revoked.
    pub(crate) const fn finishes_in_flight(&self) -> bool {
        self.finish_in_flight
    }

    /// Whether code of the user's own looks at requests before the handler does.
    pub(crate) const fn runs_user_code(&self) -> bool {
        self.runs_user_code || self.shadow.is_some()
    }

    /// The entry for a raw path. A path that matches another route after decoding is refused: the server may decode it
    /// before it routes. The router of the policy itself does not, but what serves a whole tree or the fallback may.
    fn by_path(&self, head: &Head<'_>, params: &mut PathParams) -> Result<Option<&RouteEntry>, Ambiguous> {
        let path = head.path();
        let index = self.tree.find(path, params);
        let entry = |index: Option<usize>| index.and_then(|index| self.entries.get(index));
        if !head.is_plain() && path.contains('%') {
            let decoded = percent_decode_str(path).decode_utf8().map_err(|_| Ambiguous)?;
            let other = self.tree.find(&decoded, &mut PathParams::default());
            let is_ambiguous = match entry(index) {
                Some(known) if head.owns_router() => {
                    known.pattern.is_wildcard() && other.is_some_and(|it| Some(it) != index)
                }
                _ => other != index,
            };
            if is_ambiguous {
                return Err(Ambiguous);
            }
        }
        Ok(entry(index))
    }

    /// A preflight request of CORS, where such are let through: `OPTIONS` with one `Origin` and one
    /// `Access-Control-Request-Method` (Fetch standard, section 3.2.2).
    fn is_preflight(&self, head: &Head<'_>) -> bool {
        if !self.preflight || *head.method() != Method::OPTIONS {
            return false;
        }
        let once = |name| {
            let mut lines = head.headers().get_all(name).iter();
            lines.next().filter(|_| lines.next().is_none())
        };
        let asked = once(ACCESS_CONTROL_REQUEST_METHOD).and_then(|method| Method::from_bytes(method.as_bytes()).ok());
        // The preflight announces a request. It is admitted only if that request has a rule or is public.
        let found = |asked| self.find(&head.with_method(&asked), &mut PathParams::default());
        // A concealed rule must not be revealed to a caller without a key.
        let shown = |asked| matches!(found(asked), RouteMatch::Rule { action, .. } if !action.is_concealed());
        once(ORIGIN).is_some() && asked.is_some_and(shown)
    }

    /// Decides about an operation that a request carries in its body, by the same rules as if it had come
    /// by itself: so that a bulk request cannot do what its key may not do directly.
    ///
    /// `path` is a path of this policy, with or without a query. It must be clean, and it is matched by
    /// the policy itself. Operations have no headers, so a rule that is scoped by one refuses. A rule with `filtered` or
    /// `deferred` refuses keys that are restricted over that dimension. This call does not meet the obligations of the
    /// request that carries the operation. User checks see the time that [`Head::now`] has in a
    /// handler: the present, or with a test clock the time of admission.
    ///
    /// # Errors
    /// The denial that the request would have got.
    pub fn authorize_operation(&self, principal: &Principal, method: &Method, path: &str) -> Result<(), Denial> {
        // Parsing would drop a fragment and everything after it.
        let uri: Option<Uri> = path.parse().ok().filter(|_| !path.contains('#'));
        let uri = uri.ok_or(Cause::AmbiguousPath("it is not a path"))?;
        if uri.authority().is_some() {
            return Err(Cause::AmbiguousPath("it names a host").into());
        }
        CleanPath::new().validate(uri.path())?;
        let (headers, extensions) = (HeaderMap::new(), Extensions::new());
        let head = Head::for_operation(method, &uri, &headers, &extensions, principal);
        let admitted = self.evaluate(&head).map_err(|denial| denial.in_context(principal.context()))?;
        let Some(obligation) = admitted else { return Ok(()) };
        match obligation.binding(principal.record().grant(), principal.directory()) {
            // A concealed rule is concealed here, too.
            Some(bound) => {
                Err(obligation.describe(Cause::DimensionNotDeclared(bound).into()).in_context(principal.context()))
            }
            None => Ok(()),
        }
    }

    /// Matches the route of a request, before the caller is known, and records the positions of its parameters.
    pub(crate) fn match_route(&self, head: &Head<'_>, params: &mut PathParams) -> RouteMatch<'_> {
        match self.is_preflight(head) {
            true => RouteMatch::Preflight,
            false => self.find(head, params),
        }
    }

    /// Tells of a rule whose pattern lacks the prefix of the routers around it: the likely reason why it does not apply.
    #[cold]
    fn hint(&self, denial: Denial, route: &RouteMatch<'_>, head: &Head<'_>) -> Denial {
        let (RouteMatch::NoRoute, Some(matched)) = (route, head.matched()) else { return denial };
        let lacks_prefix =
            |entry: &&RouteEntry| entry.pattern.as_str() != "/" && matched.ends_with(entry.pattern.as_str());
        match self.entries.iter().find(lacks_prefix) {
            Some(entry) => denial.in_context(Context { unprefixed: Some(entry.pattern.name()), ..Context::default() }),
            None => denial,
        }
    }

    /// The rule for a request, and the pattern that it was found by.
    fn find(&self, head: &Head<'_>, params: &mut PathParams) -> RouteMatch<'_> {
        let entry = match head.matched() {
            Some(route) => {
                let entry = self.by_pattern.get(route).and_then(|&index| self.entries.get(index));
                if let Some(entry) = entry {
                    entry.pattern.measure(head.path(), params);
                }
                entry
            }
            None => match self.by_path(head, params) {
                Ok(entry) => entry,
                Err(Ambiguous) => return RouteMatch::NoRoute,
            },
        };
        // The router matched no route: the request goes to a service nested under a prefix, for which axum reports no
        // pattern, or to the fallback. The rule of a route must not apply to those.
        let left_over = head.in_router() && head.matched().is_none();
        // The handler will see another path than the one that arrived, and no router has matched it, so the rule for it
        // is not known.
        if left_over && head.rewriting() == Rewriting::Foreign {
            return RouteMatch::NoRoute;
        }
        match (entry, &self.fallback) {
            (Some(entry), _) if left_over && !entry.pattern.is_wildcard() => RouteMatch::NoRoute,
            (Some(entry), _) => match entry.action(head.method()) {
                Some(action) => RouteMatch::Rule { action, pattern: Some(&entry.pattern) },
                None => RouteMatch::NoMethod(entry),
            },
            (None, Some(action)) if left_over || head.owns_router() => RouteMatch::Rule { action, pattern: None },
            (None, _) => RouteMatch::NoRoute,
        }
    }

    /// Evaluates the matched rule for this head, which knows the route. What is left to the handler is written where the caller
    /// keeps it: a value that is moved right after it was written stalls the processor.
    pub(crate) fn evaluate_match(
        &self,
        route: &RouteMatch<'_>,
        head: &Head<'_>,
        caller: Option<Caller<'_>>,
        obligation: &mut Option<Obligation>,
    ) -> Result<(), Denial> {
        let admitted = route.evaluate(head, caller, obligation).map_err(|denial| self.hint(denial, route, head));
        if let Some(shadow) = &self.shadow {
            shadow.compare(head, admitted.as_ref().err());
        }
        admitted
    }
}

/// The path matches another route after decoding.
struct Ambiguous;

impl Check for Policy {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        check::without_obligation(self.evaluate(head)?)
    }

    fn evaluate(&self, head: &Head<'_>) -> Result<Option<Obligation>, Denial> {
        let mut params = PathParams::default();
        let (route, mut head) = (self.match_route(head, &mut params), *head);
        route.tell(&mut head, &params);
        let mut obligation = None;
        self.evaluate_match(&route, &head, head.principal().map(Principal::caller), &mut obligation)?;
        Ok(obligation)
    }
}
