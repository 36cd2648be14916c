//! The same keys and hierarchy as policies and entities of Cedar, an engine that shares nothing with the crate.
//!
//! Cedar decides about permissions, lists with the hierarchy company <- shop <- shop country, and networks. Everything
//! else (routes, methods, kinds, origins, declarations) is left to the interpreter: Cedar is asked only about requests
//! that fail at nothing else.
//!
//! A request is one question for each entity that it names. Companies that are known are in `Root::"companies"`, and
//! shops that countries are known to belong to in `Root::"shops"`; an entity with a gap above it is in neither.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use cedar_policy::{Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, RestrictedExpression};

use crate::enforced::{Enforced, asked, evaluate};
use crate::interpreter::{self, Cause, Design, Reading as _, causes};
use crate::random::must;
use crate::requests::Ask;
use crate::world::{Dim, Handling, Key, List, Rule, World};

/// The policies and entities of a world.
pub struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    enforced: Enforced,
    asked: bool,
    allowed: bool,
}

impl Cedar {
    /// Translates a world.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let mut text = String::new();
        for key in &world.keys {
            write_policies(&mut text, key);
        }
        Self {
            authorizer: Authorizer::new(),
            policies: must(text.parse::<PolicySet>(), "policies of Cedar"),
            entities: entities(world),
            enforced: Enforced::new(world),
            asked: false,
            allowed: false,
        }
    }

    /// Whether Cedar was asked since the last call.
    pub(crate) fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }

    /// Whether Cedar has allowed what it was asked.
    pub(crate) fn take_allowed(&mut self) -> bool {
        std::mem::take(&mut self.allowed)
    }

    /// Compares the answer of Cedar with what the crate enforces, if Cedar has an answer to this request.
    pub fn differs(&mut self, world: &World, ask: &Ask) -> Option<String> {
        let asked = asked(world, ask)?;
        let (rule, route) = (asked.rule.filter(|rule| !rule.public)?, asked.route.as_ref()?);
        let request = interpreter::Request::new(ask);
        let write = Design.writes(rule, &ask.method)?;
        let causes = causes(&Design, world, asked.key, rule, route, &request);
        let ours = [Cause::MissingPermission, Cause::Networks, Cause::EntityNotAllowed];
        let lacks_networks = rule.require_networks && asked.key.networks.is_none();
        // A gap is closed to Cedar, and without a declared hierarchy every entity is one.
        if lacks_networks || world.directory.is_none() || causes.iter().any(|cause| !ours.contains(cause)) {
            return None;
        }
        let entities = named(rule, route, &request);
        let first = (rule.resource.as_ref(), write);
        let others = rule.or.iter().map(|(resource, fixed)| (Some(resource), fixed.unwrap_or(write)));
        let allowed = std::iter::once(first).chain(others).any(|wanted| {
            let client = asked.client.ip();
            match entities.is_empty() {
                true => self.is_allowed(asked.key, wanted, client, None),
                false => entities.iter().all(|entity| self.is_allowed(asked.key, wanted, client, Some(entity.clone()))),
            }
        });
        let principal = self.enforced.principal(asked.key, asked.client);
        let enforced = evaluate(&self.enforced.policy, ask, &principal);
        (self.asked, self.allowed) = (true, allowed);
        let text = format!("Cedar says {allowed}, the crate {enforced}");
        (allowed != (enforced == 200)).then_some(text)
    }

    fn is_allowed(
        &self,
        key: &Key,
        (resource, write): (Option<&String>, bool),
        address: Option<IpAddr>,
        entity: Option<EntityUid>,
    ) -> bool {
        let resource = resource.map_or_else(|| uid("Anything", "*"), |name| uid("Resource", name));
        let mut context = Vec::new();
        if let Some(entity) = entity {
            context.push(("entity".to_owned(), RestrictedExpression::new_entity_uid(entity)));
        }
        if let Some(address) = address {
            context.push(("address".to_owned(), RestrictedExpression::new_ip(address.to_string())));
        }
        let context = must(Context::from_pairs(context), "a context");
        let action = uid("Action", if write { "write" } else { "read" });
        let request = cedar_policy::Request::new(uid("Key", &key.id), action, resource, context, None);
        let response = self.authorizer.is_authorized(&must(request, "a request"), &self.policies, &self.entities);
        // Cedar skips a policy that fails, and goes on: a `forbid` would be lost.
        must(response.diagnostics().errors().next().map_or(Ok(()), Err), "a policy of Cedar");
        response.decision() == Decision::Allow
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(must(kind.parse(), "a type"), cedar_policy::EntityId::new(id))
}

fn type_of(dim: Dim) -> &'static str {
    match dim {
        Dim::Company => "Company",
        Dim::Shop => "Shop",
        Dim::Country => "Country",
        Dim::Project => "Project",
    }
}

fn entities(world: &World) -> Entities {
    let directory = world.directory.clone().unwrap_or_default();
    let mut all = Vec::new();
    let mut add = |id: EntityUid, parents: Vec<EntityUid>| {
        all.push(must(
            Entity::new(id, std::iter::empty().collect(), parents.into_iter().collect::<HashSet<_>>()),
            "an entity",
        ));
    };
    let companies: BTreeSet<&String> = directory.shops.values().flatten().collect();
    for company in companies {
        add(uid("Company", company), vec![uid("Root", "companies")]);
    }
    let shops: BTreeSet<&String> = directory.shops.keys().chain(directory.countries.values()).collect();
    for shop in shops {
        let company = directory.shops.get(shop).and_then(Option::as_ref);
        let parents = company.map(|company| uid("Company", company)).into_iter().chain([uid("Root", "shops")]);
        add(uid("Shop", shop), parents.collect());
    }
    for (country, shop) in &directory.countries {
        add(uid("Country", country), vec![uid("Shop", shop)]);
    }
    must(Entities::from_entities(all, None), "entities")
}

/// The entities that the request names.
fn named(rule: &Rule, route: &interpreter::Route<'_>, request: &interpreter::Request<'_>) -> Vec<EntityUid> {
    let mut entities = Vec::new();
    for (dim, handling) in &rule.handlings {
        let Handling::Scoped(places) = handling else { continue };
        let ids = places.iter().flat_map(|place| interpreter::named(place, route, request));
        entities.extend(ids.map(|id| uid(type_of(*dim), &id)));
    }
    entities
}

fn write_policies(text: &mut String, key: &Key) {
    let principal = format!("principal == Key::\"{}\"", key.id);
    let mut line = |policy: String| must(writeln!(text, "{policy}"), "a policy");
    // A rule may demand no permission.
    line(format!("permit({principal}, action, resource == Anything::\"*\");"));
    for (resource, write) in &key.permissions {
        let actions = if *write { "[Action::\"read\", Action::\"write\"]" } else { "[Action::\"read\"]" };
        line(format!("permit({principal}, action in {actions}, resource == Resource::\"{resource}\");"));
    }
    for (dim, list) in &key.lists {
        let below = match dim {
            Dim::Company => "(context.entity is Company || context.entity is Shop || context.entity is Country)",
            Dim::Shop | Dim::Country => "(context.entity is Shop || context.entity is Country)",
            Dim::Project => "context.entity is Project",
        };
        let set = |ids: &[String]| {
            let ids: Vec<String> = ids.iter().map(|id| format!("{}::\"{id}\"", type_of(*dim))).collect();
            format!("context.entity in [{}]", ids.join(", "))
        };
        let known = match dim {
            Dim::Company => "(context.entity is Company || context.entity in Root::\"companies\")",
            Dim::Shop | Dim::Country => "(context.entity is Shop || context.entity in Root::\"shops\")",
            Dim::Project => "true",
        };
        let reached = match list {
            List::Include(ids) => set(ids),
            List::Exclude(ids) if ids.is_empty() => continue,
            List::Exclude(ids) => format!("{known} && !({})", set(ids)),
        };
        line(format!(
            "forbid({principal}, action, resource) when {{ context has entity && {below} }} unless {{ {reached} }};"
        ));
    }
    if let Some(networks) = &key.networks {
        // Cedar keeps IPv4 apart from IPv6 that means it.
        let ranges = networks.iter().map(|network| match network.as_str() {
            "::ffff:198.51.100.0/120" => "198.51.100.0/24",
            other => other,
        });
        let ranges: Vec<String> = ranges.map(|range| format!("context.address.isInRange(ip(\"{range}\"))")).collect();
        let within = if ranges.is_empty() { "false".to_owned() } else { ranges.join(" || ") };
        line(format!("forbid({principal}, action, resource) unless {{ context has address && ({within}) }};"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Cedar is not blind: it answers otherwise where its keys have fewer restrictions than those of the crate.
    #[test]
    fn a_restriction_that_cedar_does_not_know_is_found() {
        let found = (0..200).any(|number| {
            let mut random = Random::nth(3, number);
            let world = World::random(&mut random);
            let mut wrong = world.clone();
            wrong.keys.iter_mut().for_each(|key| key.lists.clear());
            let mut cedar = Cedar { enforced: Enforced::new(&world), ..Cedar::new(&wrong) };
            (0..100).any(|_| cedar.differs(&world, &Ask::random(&mut random, &world)).is_some())
        });
        assert!(found);
    }
}
