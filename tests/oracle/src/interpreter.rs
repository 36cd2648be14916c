//! What the specification says of a request, sentence by sentence: S1 to S17 of the design, slowly and obviously.
//!
//! Nothing here was taken from the crate: no type, no helper, no idea, except the order of the [causes](Cause). Where
//! the design is silent, the public documentation of the crate decides, and a comment says so.
//!
//! [`Reading`] has one method for each sentence. [`Design`] reads each as it is meant; a [fault](crate::faults) reads
//! one of them wrongly.

mod address;
mod credential;
mod entities;
mod handler;
mod host;
mod path;
mod request;
mod rule;

use std::net::IpAddr;

pub(crate) use self::{address::hops, credential::all as all_credentials, request::decoded, rule::named};
pub use self::{
    handler::Obligation,
    path::Route,
    request::Request,
    rule::{Cause, causes, obliged_dims},
};
use crate::requests::Ask;
use crate::world::{Dim, Grammar, Key, List, Rule, StoreMood, World};

/// Where the gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Around a service that knows no routes.
    Plain,
    /// Around an axum router, as any other service: the policy matches the path itself.
    AroundRouter,
    /// Inside of an axum router: the route that axum has matched decides.
    InRouter,
}

impl Setting {
    /// All settings.
    pub const ALL: [Self; 3] = [Self::Plain, Self::AroundRouter, Self::InRouter];
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the response.
    pub status: u16,
    /// Whether the handler ran.
    pub ran: bool,
    /// The id of the key that the handler saw.
    pub key: Option<String>,
    /// The status of the answer to each question that the handler asked.
    pub answers: Vec<u16>,
}

impl Outcome {
    fn refused(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

/// The sentences of the specification.
pub trait Reading {
    /// S1: the credential of the first source that is present. `None` if it is missing, doubled or malformed.
    fn credential(&self, world: &World, request: &Request<'_>) -> Option<String> {
        credential::find(world, request)
    }

    /// S3: the key with this secret.
    fn find_key<'w>(&self, world: &'w World, secret: &str) -> Option<&'w Key> {
        world.keys.iter().find(|key| key.secret == secret)
    }

    /// S4: whether the key is active. Revoked is terminal, whatever the clock says; at `expires_at` itself the key is
    /// expired, at `not_before` itself it is valid.
    fn is_active(&self, key: &Key) -> bool {
        key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > 0) && key.not_before.is_none_or(|at| at <= 0)
    }

    /// S5: whether the kind of the key is the one that the rule demands.
    fn is_of_kind(&self, key: &Key, demanded: &str) -> bool {
        key.kind.as_deref() == Some(demanded)
    }

    /// S6: whether the key belongs to the tenant that the host names. A key of no tenant belongs to none.
    fn belongs_to(&self, key: &Key, tenant: &str) -> bool {
        key.tenant.as_deref() == Some(tenant)
    }

    /// S7: whether the method writes. `None` if nobody knows what it does.
    fn writes(&self, rule: &Rule, method: &str) -> Option<bool> {
        rule::writes(rule, method)
    }

    /// The permissions that will do in place of the first.
    fn alternatives<'r>(&self, rule: &'r Rule) -> &'r [(String, Option<bool>)] {
        &rule.or
    }

    /// S7: whether the key has the permission. Write implies read, and names compare exactly.
    fn permits(&self, key: &Key, resource: &str, write: bool) -> bool {
        match key.permissions.get(resource) {
            None => false,
            Some(may_write) => *may_write || !write,
        }
    }

    /// S8: whether the list lets the id through.
    fn listed(&self, list: Option<&List>, id: &str) -> bool {
        match list {
            None => true,
            Some(List::Include(ids)) => ids.iter().any(|known| known == id),
            Some(List::Exclude(ids)) => ids.iter().all(|known| known != id),
        }
    }

    /// S8: whether there is a restriction: an empty exclude list is none at all.
    fn restricted(&self, list: Option<&List>) -> bool {
        match list {
            None => false,
            Some(List::Include(_)) => true,
            Some(List::Exclude(ids)) => !ids.is_empty(),
        }
    }

    /// S8: whether the key reaches the company of a shop.
    fn reaches_company_of(&self, world: &World, key: &Key, rule: &Rule, shop: &str) -> bool {
        entities::reaches_company_of(self, world, key, rule, shop)
    }

    /// S8: whether the key reaches the shop of a shop country.
    fn reaches_shop_of(&self, world: &World, key: &Key, rule: &Rule, country: &str) -> bool {
        entities::reaches_shop_of(self, world, key, rule, country)
    }

    /// S8: whether an entity whose parent is not known is open to this key. A gap in a directory never opens; without a
    /// hierarchy the rule decides by what it names.
    fn opens_orphans(&self, world: &World, key: &Key, rule: &Rule, parent: Dim) -> bool {
        !self.restricted(key.lists.get(&parent)) || (world.directory.is_none() && rule.handlings.contains_key(&parent))
    }

    /// S9: whether the rule says how the route relates to a dimension that the key is restricted over.
    fn covers(&self, rule: &Rule, dim: Dim) -> bool {
        entities::covers(rule, dim)
    }

    /// S10: whether a network holds an address.
    fn holds(&self, network: &str, address: IpAddr) -> bool {
        address::holds(network, address)
    }

    /// S10: whether the key may be used from this address.
    fn allows_address(&self, key: &Key, address: Option<IpAddr>) -> bool {
        match (&key.networks, address) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(networks), Some(address)) => networks.iter().any(|network| self.holds(network, address)),
        }
    }

    /// S11: the address of the client, if it is known.
    fn client_address(&self, world: &World, request: &Request<'_>) -> Option<IpAddr> {
        address::of_client(world, request)
    }

    /// S12: whether the origin is one of the key's.
    fn allows_origin(&self, key: &Key, origin: &str) -> bool {
        key.origins.iter().flatten().any(|own| own == origin)
    }

    /// S13: whether the client used HTTPS.
    fn is_https(&self, world: &World, request: &Request<'_>) -> bool {
        address::is_https(world, request)
    }

    /// S14: whether the path can be read in one way only.
    fn is_clean(&self, path: &str) -> bool {
        path::is_clean(path)
    }

    /// S14: whether this is the one spelling of an id.
    fn is_canonical(&self, dim: Dim, project: Grammar, id: &str) -> bool {
        entities::is_canonical(dim, project, id)
    }

    /// S15: the route of the request, and its rules.
    fn route<'w>(&self, world: &'w World, path: &str, setting: Setting) -> Option<Route<'w>> {
        path::route(world, path, setting)
    }

    /// S7 and S15: the rule for a method among those of a route. A rule for `GET` holds for `HEAD`, too.
    fn rule_for<'w>(&self, route: &Route<'w>, method: &str) -> Option<&'w Rule> {
        path::rule_for(route, method)
    }

    /// S9: whether the handler has met an obligation.
    fn is_met(&self, obligation: &Obligation, ask: &Ask, answers: &[u16]) -> bool {
        handler::is_met(obligation, ask, answers)
    }

    /// S17: the status that is shown for the causes of a refusal by a rule.
    fn shown(&self, rule: &Rule, causes: &[Cause]) -> u16 {
        rule::shown(rule, causes)
    }
}

/// The specification as it is meant.
#[derive(Clone, Copy, Debug)]
pub struct Design;

impl Reading for Design {}

/// Section 2: the way of a request.
pub fn decide<R: Reading + ?Sized>(reading: &R, world: &World, ask: &Ask, setting: Setting) -> Outcome {
    let request = Request::new(ask);
    if !reading.is_clean(&request.path) {
        return Outcome::refused(400);
    }
    let route = reading.route(world, &request.path, setting);
    let rule = route.as_ref().and_then(|route| reading.rule_for(route, &ask.method));
    let public = rule.is_some_and(|rule| rule.public);
    // S13: named public routes may be exempt.
    let exempt = public && route.as_ref().is_some_and(|route| world.https_exempt.contains(&route.pattern));
    if world.https_only && !exempt && !reading.is_https(world, &request) {
        return Outcome::refused(403);
    }
    // S15: public is explicit, and no key is looked at there. By the documentation of `with_tenant_hosts` public routes
    // are open on every host.
    if let Some(rule) = rule.filter(|rule| rule.public && reading.writes(rule, &ask.method).is_none()) {
        // S7: no rule maps the method here, so nobody knows what it does.
        return Outcome::refused(reading.shown(rule, &[Cause::MethodNotAllowed]));
    }
    if public || (world.allow_preflight && path::is_preflight(reading, &request, route.as_ref())) {
        return Outcome { status: ask.plan.status, ran: true, ..Outcome::default() };
    }
    let key = match authenticate(reading, world, &request) {
        Ok(key) => key,
        Err(status) => return Outcome::refused(status),
    };
    let Some(route) = route else { return Outcome::refused(404) };
    let Some(rule) = rule else {
        // S22: by the documentation of `method_route`, 404 if one of the rules is concealed.
        return Outcome::refused(if route.rules.iter().any(|rule| rule.concealed) { 404 } else { 405 });
    };
    let causes = rule::causes(reading, world, key, rule, &route, &request);
    if !causes.is_empty() {
        return Outcome::refused(reading.shown(rule, &causes));
    }
    handler::run(reading, world, key, rule, ask)
}

/// S1 to S4, S6 and S16, in the order in which causes are shown.
fn authenticate<'w, R>(reading: &R, world: &'w World, request: &Request<'_>) -> Result<&'w Key, u16>
where
    R: Reading + ?Sized,
{
    let tenant = match &world.tenants {
        None => None,
        Some(known) => Some(host::tenant(world, known.as_deref(), request)?),
    };
    let secret = reading.credential(world, request).ok_or(401_u16)?;
    if world.mood == StoreMood::Down {
        return Err(503);
    }
    let key = reading.find_key(world, &secret).ok_or(401_u16)?;
    let here = tenant.is_none_or(|tenant| reading.belongs_to(key, &tenant));
    if here && reading.is_active(key) { Ok(key) } else { Err(401) }
}

/// S8: what a question for one entity is answered: 200, 400 for an id that is not canonical, 403.
pub fn answer<R: Reading + ?Sized>(reading: &R, world: &World, key: &Key, rule: &Rule, dim: Dim, id: &str) -> u16 {
    if !reading.is_canonical(dim, world.project, id) {
        400
    } else if entities::allowed(reading, world, key, rule, dim, id) {
        200
    } else {
        403
    }
}
