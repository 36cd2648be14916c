use std::{borrow::Cow, sync::Arc};

use http::Method;
use serde::ser::SerializeMap;

use crate::{
    check::{
        Check, CustomChecks, Demand, DimensionRules, EntityRef, Findings, Kind, NO_PRINCIPAL, NetworksDemand, Origin,
        PermissionDemand, without_obligation,
    },
    denial::Denial,
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::Fields,
    key::Access,
    principal::{Handling, Obligation, Principal},
    route::Pattern,
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
#[derive(Clone, Debug, Default)]
#[must_use = "a rule does nothing until it is in a policy or a RequireLayer"]
pub struct Rule {
    permission: PermissionDemand,
    kind: Option<Kind>,
    /// Shared, as copies of a rule are many and these are its largest part.
    dimensions: Arc<DimensionRules>,
    networks: NetworksDemand,
    origin: Option<Origin>,
    custom: CustomChecks,
    concealed: bool,
}

/// Runs an expression for each demand of a rule, in the order in which a policy file has them.
macro_rules! for_each_demand {
    ($rule:expr, $demand:ident => $run:expr) => {{
        let Rule { permission, kind, dimensions, networks, origin, custom, concealed: _ } = $rule;
        for_each_demand!(@ $demand => $run; permission, kind, &**dimensions, networks, origin, custom);
    }};
    (@ $demand:ident => $run:expr; $($each:expr),+) => {$({
        let $demand = $each;
        $run;
    })+};
}

impl Rule {
    /// Demands read or write access to the resource, by the method of the request.
    pub fn resource(resource: impl Into<Cow<'static, str>>) -> Self {
        Self { permission: PermissionDemand::new(Some(resource.into().into())), ..Self::default() }
    }

    /// Demands a valid key and no permission: for routes like `GET /whoami`.
    pub fn authenticated() -> Self {
        Self::default()
    }

    /// The route is about this entity.
    pub fn scoped(mut self, entity: EntityRef) -> Self {
        Arc::make_mut(&mut self.dimensions).scope(entity);
        self
    }

    /// The route shows nothing that belongs to one entity of any dimension that the rule does not
    /// name otherwise: shared catalogue data.
    pub fn unscoped(mut self) -> Self {
        Arc::make_mut(&mut self.dimensions).unscope_rest();
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
        Arc::make_mut(&mut self.dimensions).handle(dimension, handling);
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
        self.networks = NetworksDemand::REQUIRED;
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
        self.permission.set_method(method, access);
        self
    }

    /// Adds a check of your own. All checks run, so that a denial names everything that is wrong.
    pub fn check(mut self, check: impl Check) -> Self {
        self.custom.add(check);
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

    /// Rejects a rule that no request can meet. A fallback has no pattern.
    pub(crate) fn validate(&self, pattern: Option<&Pattern>) -> Result<(), ConfigError> {
        for_each_demand!(self, demand => demand.validate(pattern)?);
        Ok(())
    }

    /// Whether user code looks at requests.
    pub(crate) fn runs_user_code(&self) -> bool {
        let mut runs = false;
        for_each_demand!(self, demand => runs |= demand.runs_user_code());
        runs
    }

    /// Whether the rule refuses the method, whatever the key.
    pub(crate) fn refuses(&self, method: &Method) -> bool {
        self.permission.refuses(method)
    }

    pub(crate) const fn is_concealed(&self) -> bool {
        self.concealed
    }

    pub(super) fn dimensions(&self) -> &DimensionRules {
        &self.dimensions
    }

    /// Evaluates every demand to its end.
    #[inline]
    pub(super) fn evaluate_all(&self, head: &Head<'_>, principal: &Principal, findings: &mut impl Findings) {
        for_each_demand!(self, demand => demand.evaluate(head, principal, findings));
    }

    /// The fields that a policy file may have for a rule.
    pub(super) const FIELDS: [&'static [&'static str]; 7] = [
        PermissionDemand::FIELDS,
        <Option<Kind>>::FIELDS,
        DimensionRules::FIELDS,
        NetworksDemand::FIELDS,
        <Option<Origin>>::FIELDS,
        CustomChecks::FIELDS,
        &["concealed"],
    ];

    pub(super) fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        for_each_demand!(self, demand => demand.write(fields)?);
        if self.concealed { fields.serialize_entry("concealed", &true) } else { Ok(()) }
    }

    pub(super) fn read(
        fields: &mut Fields<'_>,
        dimension: &dyn Fn(&str) -> Result<Dimension, ConfigError>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            permission: Demand::read(fields, dimension)?,
            kind: Demand::read(fields, dimension)?,
            dimensions: Arc::new(Demand::read(fields, dimension)?),
            networks: Demand::read(fields, dimension)?,
            origin: Demand::read(fields, dimension)?,
            custom: Demand::read(fields, dimension)?,
            concealed: fields.take_or_default("concealed")?,
        })
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
            None => Ok(Some(self.dimensions.obligation(head, self.concealed))),
            Some(denial) if self.concealed => Err(denial.concealed()),
            Some(denial) => Err(denial),
        }
    }
}
