use std::{borrow::Cow, sync::Arc};

use http::Method;
use serde::ser::SerializeMap;

use crate::{
    check::{Check, CustomChecks, Demand, DimensionRules, EntityRef, Kind, NetworksDemand, Origin, PermissionDemand},
    dimension::Dimension,
    error::ConfigError,
    json::Fields,
    key::{Access, Permission},
    principal::Handling,
    route::Pattern,
};

/// The demands of one route on the key that calls it.
///
/// Every rule demands a key, enforces the networks of that key, and admits only methods that it can tell to be reading
/// (`GET`, `HEAD`, `OPTIONS`) or writing (`POST`, `PUT`, `PATCH`, `DELETE`); others are refused with 405. A key that is
/// restricted over a [dimension](Dimension) is refused unless the rule declares that dimension, so that a forgotten
/// declaration denies.
///
/// | the rule declares | the route | a restricted key |
/// |---|---|---|
/// | [`scoped`](Self::scoped) | accesses given entities | must be allowed to access all of them |
/// | [`unscoped`](Self::unscoped) | returns no data of a single entity | is admitted |
/// | [`filtered`](Self::filtered) | lists entities; the handler filters by [`Scope`](crate::Scope) | is admitted |
/// | [`deferred`](Self::deferred) | accesses entities that only the handler finds | is admitted, the handler checks |
/// | nothing | - | is refused |
///
/// A rule declares each dimension once. If a route has a shop in its path and others in the body, its rule uses
/// `deferred`, and the handler checks all of them.
///
/// A rule that is scoped by, filters or defers shops also covers companies, through the
/// [`Directory`](crate::Directory). If the company of a shop is unknown, keys with a company list are refused. Without
/// any directory, only the dimensions that the rule names itself count: a rule that is scoped by a company and a shop
/// checks each against its own list. The same holds for [dimensions of your own](crate::Directory#your-own-dimensions)
/// where the directory says which belongs to which: a rule that is scoped by projects covers their workspaces.
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
#[derive(Clone, Debug)]
#[must_use = "a rule does nothing until it is in a policy or a RequireLayer"]
pub struct Rule {
    pub(super) permission: PermissionDemand,
    pub(super) kind: Option<Kind>,
    /// In an `Arc`, because rules are cloned often and this is their largest part.
    pub(super) dimensions: Arc<DimensionRules>,
    pub(super) networks: NetworksDemand,
    pub(super) origin: Option<Origin>,
    pub(super) custom: CustomChecks,
    pub(super) concealed: bool,
    pub(super) optional: bool,
    /// Whether [`admits`](Self::admits) can tell who is admitted: the rule was compiled for a route, and no code of the user's
    /// own has a say in it.
    pub(super) is_compiled: bool,
}

/// Runs an expression for each demand of a rule, in the order in which a policy file has them.
macro_rules! for_each_demand {
    ($rule:expr, $demand:ident => $run:expr) => {{
        // INVARIANT: every demand that is named here is in the list below, and its fields in `Rule::FIELDS`.
        let Rule { permission, kind, dimensions, networks, origin, custom, concealed: _, optional: _, is_compiled: _ } = $rule;
        for_each_demand!(@ $demand => $run; permission, kind, &**dimensions, networks, origin, custom);
    }};
    (@ $demand:ident => $run:expr; $($each:expr),+) => {$({
        let $demand = $each;
        $run;
    })+};
}

pub(super) use for_each_demand;

impl Rule {
    /// Demands read or write access to the resource, by the method of the request.
    pub fn resource(resource: impl Into<Cow<'static, str>>) -> Self {
        Self { permission: PermissionDemand::new(Some(resource.into().into())), ..Self::authenticated() }
    }

    /// Another resource will do as well, with the access that the method needs: a rule for `orders` or `fulfilment` admits a
    /// key that has either. The rule demands the rest of the key in any case.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Permission, Rule};
    ///
    /// // GET /orders/{id}: for who reads orders or shipments, and for who may write refunds
    /// let rule = Rule::resource("orders").or_resource("shipments").or_permission(Permission::write("refunds"));
    /// # drop(rule);
    /// ```
    pub fn or_resource(mut self, resource: impl Into<Cow<'static, str>>) -> Self {
        self.permission.or(resource.into().into(), None);
        self
    }

    /// This very permission will do as well, whatever the method: one to read then admits writing methods, too.
    pub fn or_permission(mut self, permission: Permission) -> Self {
        let access = permission.access();
        self.permission.or(permission.resource().to_owned().into(), Some(access));
        self
    }

    /// Demands a valid key and no permission: for routes like `GET /whoami`.
    pub fn authenticated() -> Self {
        Self {
            permission: PermissionDemand::new(None),
            kind: None,
            dimensions: Arc::default(),
            networks: NetworksDemand::default(),
            origin: None,
            custom: CustomChecks::default(),
            concealed: false,
            optional: false,
            is_compiled: false,
        }
    }

    /// The route is about this entity.
    pub fn scoped(mut self, entity: EntityRef) -> Self {
        Arc::make_mut(&mut self.dimensions).scope(entity);
        self.is_compiled = false;
        self
    }

    /// The route shows nothing that belongs to one entity of any dimension that the rule does not
    /// name otherwise: shared catalogue data.
    pub fn unscoped(mut self) -> Self {
        Arc::make_mut(&mut self.dimensions).unscope_rest();
        self
    }

    /// The route shows nothing that belongs to one entity of this dimension.
    pub fn unscoped_for(self, dimension: impl Into<Dimension>) -> Self {
        self.handling(dimension.into(), Handling::Unscoped)
    }

    /// The route lists entities of the dimension, and its handler filters them by [`Scope`](crate::Scope) or
    /// [`Principal::scope`](crate::Principal::scope). If the handler succeeds (its response is no 4xx or 5xx) without having
    /// asked for the scope, the response is replaced by a 500. To check single ids does not count. A scope of shop countries
    /// is one of shops, too.
    pub fn filtered(self, dimension: impl Into<Dimension>) -> Self {
        self.handling(dimension.into(), Handling::Filtered)
    }

    /// Only the handler finds out which entities of the dimension the request is about, for example from the body, and
    /// calls [`Principal::require`](crate::Principal::require) for each. If the handler succeeds and no such call
    /// (or [`Scope::allows`](crate::Scope::allows)) has answered yes, the response is replaced by a 500. A handler that
    /// reports denials in a successful response uses [`Principal::require_or_report`](crate::Principal::require_or_report).
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

    /// Requires a key that is bound to networks. The networks of a key are enforced by every rule, with or without this.
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

    /// Maps a method to read or write access: a search by `POST` reads, a `PURGE` writes. A mapping for `GET` also applies
    /// to `HEAD`, unless `HEAD` has its own: routers serve both with the same handler.
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
        self.is_compiled = false;
        self
    }

    /// Admits requests without a credential, too: their handler gets no [`Principal`](crate::Principal), and none of the
    /// demands on a key are made of them, though the method must be one that the rule knows, and checks of your own are run.
    /// A credential that is there must be valid, and its key must meet the whole rule: a revoked key is 401 here as anywhere.
    ///
    /// Whether there is a credential is for the [`AuthenticateLayer`](crate::AuthenticateLayer) or [`Authz`](crate::Authz)
    /// around to tell, which refuses bad ones: a [`RequireLayer`](crate::RequireLayer) with such a rule and nothing around it
    /// admits everybody as if without a key.
    ///
    /// What the handler returns without a key is what everybody may see. Every answer of the route carries `Vary` with the
    /// names of all credential headers, so that no cache gives the answer to a request with a key to one without.
    ///
    /// # Example
    /// ```
    /// use axum::routing::get;
    /// use tower_authz::{GuardedRouter, Principal, Rule};
    ///
    /// let routes = GuardedRouter::<()>::new().route(
    ///     "/prices",
    ///     Rule::resource("prices").unscoped().optional(),
    ///     get(|caller: Option<Principal>| async move { if caller.is_some() { "your prices" } else { "list prices" } }),
    /// );
    /// # drop(routes);
    /// ```
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Replaces a 403 by the 404 of an unknown route (and a 400 or 405 too, which would reveal the route), so that a key
    /// cannot find out what exists beyond its reach. The log keeps the real cause.
    ///
    /// The two are the same to the byte: status, headers and their order, body. The responses of your own code must be
    /// the same, too, or a client could distinguish the project of another tenant from a missing one: where it finds
    /// nothing, the handler returns [`Principal::not_found`](crate::Principal::not_found), and the fallback of the router, if
    /// requests reach it, [`Denial::not_found`](crate::Denial::not_found), which the layer around them renders. The rule of that
    /// [fallback](crate::PolicyBuilder::fallback) is concealed as well. With axum every such response (and every
    /// 401) has an `Allow` that names all methods, as axum would otherwise name those of the route.
    ///
    /// Conceal all methods of a route, or none: if `GET` is visible, the client knows that the route exists.
    pub const fn concealed(mut self) -> Self {
        self.concealed = true;
        self
    }

    /// Rejects a rule that no request can meet. A fallback has no pattern.
    pub(crate) fn validate(&self, pattern: Option<&Pattern>) -> Result<(), ConfigError> {
        for_each_demand!(self, demand => demand.validate(pattern)?);
        match self.optional && self.concealed {
            true => {
                Err(ConfigError::new("its rule is optional and concealed, but whoever needs no key knows the route"))
            }
            false => Ok(()),
        }
    }

    /// Whether evaluating the rule runs user code.
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

    /// Whether a request without a credential is admitted.
    pub(crate) const fn is_optional(&self) -> bool {
        self.optional
    }

    pub(super) fn dimensions(&self) -> &DimensionRules {
        &self.dimensions
    }

    /// The fields that a policy file may have for a rule.
    pub(super) const FIELDS: [&'static [&'static str]; 7] = [
        PermissionDemand::FIELDS,
        <Option<Kind>>::FIELDS,
        DimensionRules::FIELDS,
        NetworksDemand::FIELDS,
        <Option<Origin>>::FIELDS,
        CustomChecks::FIELDS,
        &["concealed", "optional"],
    ];

    pub(super) fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        for_each_demand!(self, demand => demand.write(fields)?);
        for (field, is_set) in [("concealed", self.concealed), ("optional", self.optional)] {
            if is_set {
                fields.serialize_entry(field, &true)?;
            }
        }
        Ok(())
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
            optional: fields.take_or_default("optional")?,
            is_compiled: false,
        })
    }
}
