use std::{borrow::Cow, sync::Arc};

use http::Method;

use crate::{
    check::{
        Check, CheckLabel, DimensionRules, EntityRef, Findings, Kind, NO_PRINCIPAL, Origin, check_networks,
        without_obligation,
    },
    denial::{Cause, Denial},
    dimension::Dimension,
    head::Head,
    key::{Access, Permission},
    name::Name,
    principal::{Handling, Obligation, Principal},
};

/// What one route demands of the key that calls it.
///
/// Every rule demands a key, keeps the networks of that key, and admits only methods that it can
/// tell to be reading (`GET`, `HEAD`, `OPTIONS`) or writing (`POST`, `PUT`, `PATCH`, `DELETE`); others
/// are refused with 405. What it says about [dimensions](Dimension) decides about restricted keys: one
/// that it says nothing about refuses every key that is restricted over it, so that a forgotten
/// declaration denies.
///
/// | the rule says | the route | a restricted key |
/// |---|---|---|
/// | [`scoped`](Self::scoped) | is about one entity (or several) | needs them allowed |
/// | [`unscoped`](Self::unscoped) | shows nothing that belongs to one entity | passes |
/// | [`filtered`](Self::filtered) | lists; the handler filters by [`Scope`](crate::Scope) | passes |
/// | [`deferred`](Self::deferred) | is about entities that only the handler finds | passes, the handler asks |
/// | nothing | - | is refused |
///
/// What the rule says of a dimension, it says once: a route that is scoped by a shop of its path, and learns of others
/// from the body, is deferred over shops, and its handler asks for all of them.
///
/// Being scoped by a shop, filtered or deferred over shops covers companies too, through the
/// [`Directory`](crate::Directory): a shop whose company is not known is then refused to a key with a
/// company list. Only an application that has no directory at all decides by what the rule names itself: a rule that is
/// scoped by a company and a shop judges each by its own list.
///
/// # Example
/// ```
/// use http::Method;
/// use tower_authz::{Access, Dimension, Rule, check::EntityRef};
///
/// // GET and PUT /shops/{shop}/orders/{id}
/// let orders = Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop"));
/// // POST /products/search reads, though it is a POST
/// let search = Rule::resource("products").unscoped().method(Method::POST, Access::Read);
/// # drop((orders, search));
/// ```
#[derive(Clone)]
#[must_use = "a rule does nothing until it is in a policy or a RequireLayer"]
pub struct Rule {
    pub(super) resource: Option<Name>,
    pub(super) kind: Option<Kind>,
    pub(super) networks_required: bool,
    pub(super) origin: Option<Origin>,
    pub(super) relations: Arc<DimensionRules>,
    pub(super) methods: Vec<(Method, Access)>,
    pub(super) checks: Vec<Arc<dyn Check>>,
    pub(super) concealed: bool,
}

impl Rule {
    /// Demands read or write access to the resource, by the method of the request.
    pub fn resource(resource: impl Into<Cow<'static, str>>) -> Self {
        Self { resource: Some(resource.into().into()), ..Self::authenticated() }
    }

    /// Demands a valid key and no permission: for routes like `GET /whoami`.
    pub fn authenticated() -> Self {
        Self {
            resource: None,
            kind: None,
            networks_required: false,
            origin: None,
            relations: Arc::default(),
            methods: Vec::new(),
            checks: Vec::new(),
            concealed: false,
        }
    }

    /// The route is about the entity that the entity finds.
    pub fn scoped(mut self, entity: EntityRef) -> Self {
        Arc::make_mut(&mut self.relations).update(|it| it.entities.push(entity));
        self
    }

    /// The route shows nothing that belongs to one entity of any dimension that the rule does not
    /// name otherwise: shared catalogue data.
    pub fn unscoped(mut self) -> Self {
        Arc::make_mut(&mut self.relations).update(|it| it.rest_unscoped = true);
        self
    }

    /// The same for one dimension.
    pub fn unscoped_for(self, dimension: impl Into<Dimension>) -> Self {
        self.handling(dimension.into(), Handling::Unscoped)
    }

    /// The route lists entities of the dimension, and its handler filters them by
    /// [`Scope`](crate::Scope) or [`Principal::scope`]. If it answers other than with an error (4xx,
    /// 5xx) and has not asked for the scope, the answer is withheld and becomes a 500. To ask for single ids is no
    /// filter.
    pub fn filtered(self, dimension: impl Into<Dimension>) -> Self {
        self.handling(dimension.into(), Handling::Filtered)
    }

    /// Only the handler finds out which entities of the dimension the request is about, from the
    /// body say, and asks for each with [`Principal::require`]. If it answers other than with an
    /// error and no question was answered with yes ([`Scope::allows`](crate::Scope::allows) is one, too), the answer is
    /// withheld and becomes a 500. A handler that reports denials in an answer of its own asks by
    /// [`Principal::require_or_report`].
    pub fn deferred(self, dimension: impl Into<Dimension>) -> Self {
        self.handling(dimension.into(), Handling::Deferred)
    }

    fn handling(mut self, dimension: Dimension, handling: Handling) -> Self {
        Arc::make_mut(&mut self.relations).update(|it| it.handlings.push((dimension, handling)));
        self
    }

    /// Demands a key of this kind.
    pub fn kind(mut self, kind: impl Into<Arc<str>>) -> Self {
        self.kind = Some(Kind::new(kind));
        self
    }

    /// Demands that the key is bound to networks. That the request comes from one of them is kept
    /// for every key that has some, with or without this.
    pub const fn require_networks(mut self) -> Self {
        self.networks_required = true;
        self
    }

    /// Demands an `Origin` header that is one of the key's, byte for byte.
    pub const fn require_origin(self) -> Self {
        self.origin(Origin::exact())
    }

    /// Demands an `Origin` header that is one of the key's, compared as [`Origin`] says.
    pub const fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Says what a method does here: a search by `POST` reads, a `PURGE` writes. What is said of `GET` holds for `HEAD`
    /// as well, unless something else is said of that: routers serve it with the same handler.
    ///
    /// **WebSockets** are opened by a `GET` over HTTP/1.1 and by a `CONNECT` over HTTP/2 (RFC 8441), which is neither a
    /// reading nor a writing method until you say so. axum serves both with `any(handler)`:
    ///
    /// ```
    /// use http::Method;
    /// use tower_authz::{Access, Rule};
    ///
    /// let socket = Rule::resource("events").unscoped().method(Method::CONNECT, Access::Read);
    /// # drop(socket);
    /// ```
    pub fn method(mut self, method: Method, access: Access) -> Self {
        self.methods.push((method, access));
        self
    }

    /// Adds a check of your own. All checks run, so that a denial names everything that is wrong.
    pub fn check(mut self, check: impl Check) -> Self {
        self.checks.push(Arc::new(check));
        self
    }

    /// Shows a 403 as the 404 of a route that is not there (and a 400 or 405 too, which would give it away),
    /// so that a key cannot find out what exists beyond its reach. The log still has the truth.
    ///
    /// The two look the same to the byte: status, headers and their order, body. So must what your own code
    /// answers where it finds nothing, or a foreign project is told from one that does not exist: have the
    /// handler return [`Principal::not_found`], and the fallback of the router, if requests reach it,
    /// [`Denial::not_found`], which a layer around them says in its dialect. The rule of that
    /// [fallback](crate::PolicyBuilder::fallback) is concealed as well. With axum every such response (and every
    /// 401) has an `Allow` that names all methods, as axum would otherwise name those of the route.
    ///
    /// Conceal the rules of all methods of a route, or of none: where `GET` is shown and `DELETE` concealed,
    /// the 404 of `DELETE` is that of any method without a rule, but the route is known.
    pub const fn concealed(mut self) -> Self {
        self.concealed = true;
        self
    }

    /// Ties to parameters that a pattern would have to have.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.relations.entities.iter().filter_map(EntityRef::parameter)
    }

    /// Whether code of the user's own looks at requests.
    pub(crate) fn shows_heads(&self) -> bool {
        !self.checks.is_empty() || self.relations.entities.iter().any(EntityRef::shows_heads)
    }

    /// A name that no key can have.
    pub(crate) fn odd_name(&self) -> Option<&str> {
        let resource = self.resource.as_ref().map(Name::as_str);
        let odd = |name: &&str| name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic());
        resource.filter(odd).or_else(|| self.kind.as_ref().map(Kind::name).filter(|kind| kind.is_empty()))
    }

    /// A mapped method that clients never send.
    pub(crate) fn odd_method(&self) -> Option<&Method> {
        self.methods.iter().map(|(method, _)| method).find(|method| misspelt(method))
    }

    /// A dimension of which the rule says two things. Several entities to one are no contradiction: each entity must be
    /// allowed.
    pub(crate) fn contradiction(&self) -> Option<&Dimension> {
        let handlings = &self.relations.handlings;
        let said_before = |index: usize, over: &Dimension| handlings.iter().take(index).any(|(other, _)| other == over);
        let mut all = handlings.iter().enumerate().map(|(index, (over, _))| (index, over));
        all.find(|&(index, over)| said_before(index, over) || self.relations.scoped(over)).map(|(_, over)| over)
    }

    /// Whether the rule refuses the method, whoever sends it.
    pub(crate) fn refuses(&self, method: &Method) -> bool {
        access(method, &self.methods).is_none()
    }

    /// Judges a request.
    pub(super) fn evaluate_all(&self, head: &Head<'_>, principal: &Principal, findings: &mut impl Findings) {
        let grant = principal.record().grant();
        let access = access(head.method(), &self.methods);
        findings.record(
            || self.resource.as_ref().map_or(CheckLabel::Method, |name| CheckLabel::Permission(name.as_str(), access)),
            match (access, &self.resource) {
                (None, _) => Err(Cause::MethodNotAllowed { allow: allowed_methods(&self.methods) }),
                (Some(_), None) => Ok(()),
                (Some(access), Some(resource)) if grant.allows(resource.as_str(), access) => Ok(()),
                (Some(access), Some(resource)) => {
                    Err(Cause::MissingPermission(Permission::from_parts(resource.clone(), access)))
                }
            },
        );
        if let Some(kind) = &self.kind {
            findings.record(|| CheckLabel::Kind, kind.evaluate(principal));
        }
        let networks = check_networks(grant, principal.client_address(), self.networks_required);
        findings.record(|| CheckLabel::Networks, networks);
        if let Some(origin) = self.origin {
            findings.record(|| CheckLabel::Origin, origin.evaluate_request(head, principal));
        }
        self.relations.evaluate_all(head, principal, findings);
        self.checks.iter().for_each(|check| findings.record_custom(check.check(head)));
    }
}

/// Collects the checks that fail.
impl Findings for Option<Denial> {
    #[inline]
    fn record<'a>(&mut self, _: impl FnOnce() -> CheckLabel<'a>, verdict: Result<(), Cause>) {
        if let Err(cause) = verdict {
            add(self, cause.into());
        }
    }

    fn record_custom(&mut self, verdict: Result<(), Denial>) {
        if let Err(denial) = verdict {
            add(self, denial);
        }
    }
}

impl Check for Rule {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        without_obligation(self.evaluate(head)?)
    }

    fn evaluate(&self, head: &Head<'_>) -> Result<Option<Obligation>, Denial> {
        let Some(principal) = head.principal() else { return Err(NO_PRINCIPAL.into()) };
        let mut denial: Option<Denial> = None;
        self.evaluate_all(head, principal, &mut denial);
        match denial {
            None => Ok(Some(Obligation::new(self.relations.said, &self.relations.open, head.route(), self.concealed))),
            Some(denial) if self.concealed => Err(denial.concealed()),
            Some(denial) => Err(denial),
        }
    }
}

#[cold]
fn add(denial: &mut Option<Denial>, found: Denial) {
    *denial = Some(match denial.take() {
        None => found,
        Some(denial) => denial.merge(found),
    });
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("resource", &self.resource)
            .field("kind", &self.kind)
            .field("networks_required", &self.networks_required)
            .field("origin", &self.origin)
            .field("relations", &self.relations)
            .field("methods", &self.methods)
            .field("checks", &self.checks.len())
            .field("concealed", &self.concealed)
            .finish()
    }
}

/// The methods whose meaning RFC 9110 (and RFC 5789 for `PATCH`) fixes well enough to authorize by.
const READING: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];
const WRITING: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Whether this is a standard method in other letters: methods are case-sensitive, so it is another method,
/// which nobody sends, and what was said of it does not hold for the one that was meant.
pub(super) fn misspelt(method: &Method) -> bool {
    let mut standard = READING.iter().chain(&WRITING);
    standard.any(|known| known != method && known.as_str().eq_ignore_ascii_case(method.as_str()))
}

/// What a method does: as the rule maps it, else as the standard has it, else nothing that we know.
pub(crate) fn access(method: &Method, mapped: &[(Method, Access)]) -> Option<Access> {
    let of = |method: &Method| mapped.iter().rev().find(|(known, _)| known == method).map(|&(_, access)| access);
    if let Some(access) = of(method) {
        Some(access)
    } else if let (Some(access), &Method::HEAD) = (of(&Method::GET), method) {
        // Routers serve HEAD with the handler of GET.
        Some(access)
    } else if READING.contains(method) {
        Some(Access::Read)
    } else if WRITING.contains(method) {
        Some(Access::Write)
    } else {
        None
    }
}

/// The value of `Allow` with a 405.
pub(crate) fn allowed_methods(mapped: &[(Method, Access)]) -> Arc<str> {
    let mut names: Vec<&str> = READING.iter().chain(&WRITING).map(Method::as_str).collect();
    names.extend(mapped.iter().map(|(method, _)| method.as_str()));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    names.join(", ").into()
}
