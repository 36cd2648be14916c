//! Compares the decision with a naive model of S7 to S9, which is written independently of the code: it shares no
//! helpers with it, uses no clever types, and follows the specification sentence by sentence.

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, Request};
use proptest::prelude::*;
use tower_authz::{
    Access, Check as _, ClientAddress, Digest, Dimension, Directory, Grant, Head, KeyRecord, Policy, Principal, Rule,
    check::EntityRef,
};

const PROJECT: Dimension = Dimension::new("project", tower_authz::IdGrammar::Slug);
const COMPANIES: [&str; 3] = ["1", "2", "4294967297"];
const SHOPS: [&str; 3] = ["de", "ch", "us"];
const COUNTRIES: [&str; 3] = ["1001", "1002", "1003"];
const PROJECTS: [&str; 2] = ["apollo", "gemini"];
const RESOURCES: [&str; 2] = ["orders", "order"];

#[derive(Clone, Debug)]
enum List {
    Include(Vec<&'static str>),
    Exclude(Vec<&'static str>),
}

#[derive(Clone, Debug)]
struct Key {
    permissions: BTreeMap<&'static str, Access>,
    company: Option<List>,
    shop: Option<List>,
    project: Option<List>,
}

/// How the route handles a dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Handling {
    Silent,
    Scoped,
    Unscoped,
    Filtered,
    Deferred,
}

#[derive(Clone, Debug)]
struct Route {
    resource: &'static str,
    post_reads: bool,
    company: Handling,
    shop: Handling,
    country_tied: bool,
    project: Handling,
    rest_unscoped: bool,
}

#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    company: &'static str,
    shop: &'static str,
    country: &'static str,
    project: &'static str,
}

#[derive(Clone, Debug)]
struct World {
    /// Whether a directory is declared at all.
    declared: bool,
    company_of: BTreeMap<&'static str, &'static str>,
    shop_of: BTreeMap<&'static str, &'static str>,
}

/// S8: an empty exclude list is no restriction at all.
fn restricted(list: &Option<List>) -> bool {
    match list {
        None => false,
        Some(List::Include(_)) => true,
        Some(List::Exclude(ids)) => !ids.is_empty(),
    }
}

fn on_list(list: &Option<List>, id: &str) -> bool {
    match list {
        None => true,
        Some(List::Include(ids)) => ids.contains(&id),
        Some(List::Exclude(ids)) => !ids.contains(&id),
    }
}

fn allowed(key: &Key, route: &Route, ask: &Ask, world: &World) -> bool {
    // S7: GET, HEAD and OPTIONS read; POST, PUT, PATCH and DELETE write; a rule can override this.
    let writes = match ask.method.as_str() {
        "GET" | "HEAD" | "OPTIONS" => false,
        "POST" if route.post_reads => false,
        "POST" | "PUT" | "PATCH" | "DELETE" => true,
        _ => return false,
    };
    match key.permissions.get(route.resource) {
        None => return false,
        Some(Access::Read) if writes => return false,
        _ => {}
    }
    // S9: a rule that does not name a dimension refuses keys that are restricted over it.
    let says = |stance: Handling| stance != Handling::Silent || route.rest_unscoped;
    let looks_at_shops =
        matches!(route.shop, Handling::Scoped | Handling::Filtered | Handling::Deferred) || route.country_tied;
    if restricted(&key.company) && !says(route.company) && !looks_at_shops {
        return false;
    }
    if restricted(&key.shop) && !says(route.shop) && !looks_at_shops {
        return false;
    }
    if restricted(&key.project) && !says(route.project) {
        return false;
    }
    // S8: a gap in a directory never admits a request; without a declared hierarchy, only the dimensions that the
    // rule names decide.
    let company_may_be_unknown = !restricted(&key.company) || (!world.declared && route.company != Handling::Silent);
    let shop_may_be_unknown = !restricted(&key.shop) || (!world.declared && route.shop != Handling::Silent);
    // S8: all dimensions must allow the request; a shop is also subject to the list of its company where that is
    // known.
    let shop_ok = |shop: &str| {
        on_list(&key.shop, shop)
            && match world.company_of.get(shop) {
                Some(company) => on_list(&key.company, company),
                None => company_may_be_unknown,
            }
    };
    if route.company == Handling::Scoped && !on_list(&key.company, ask.company) {
        return false;
    }
    if route.shop == Handling::Scoped && !shop_ok(ask.shop) {
        return false;
    }
    // S8: a shop country inherits from its shop; an unknown one is refused like one that is not allowed.
    if route.country_tied {
        let ok = match world.shop_of.get(ask.country) {
            Some(shop) => shop_ok(shop),
            None => shop_may_be_unknown && company_may_be_unknown,
        };
        if !ok {
            return false;
        }
    }
    route.project != Handling::Scoped || on_list(&key.project, ask.project)
}

fn grant(key: &Key) -> Grant {
    let mut grant = Grant::builder();
    for (resource, access) in &key.permissions {
        grant = match access {
            Access::Read => grant.read(*resource),
            Access::Write => grant.write(*resource),
        };
    }
    for (dimension, list) in [(Dimension::COMPANY, &key.company), (Dimension::SHOP, &key.shop), (PROJECT, &key.project)]
    {
        grant = match list {
            None => grant,
            Some(List::Include(ids)) => grant.only(dimension, ids),
            Some(List::Exclude(ids)) => grant.except(dimension, ids),
        };
    }
    grant.build().unwrap()
}

fn decided(key: &Key, route: &Route, ask: &Ask, world: &World) -> bool {
    let mut rule = Rule::resource(route.resource);
    if route.post_reads {
        rule = rule.method(Method::POST, Access::Read);
    }
    let dimensions = [
        (Dimension::COMPANY, route.company, "company"),
        (Dimension::SHOP, route.shop, "shop"),
        (PROJECT, route.project, "project"),
    ];
    for (dimension, stance, parameter) in dimensions {
        rule = match stance {
            Handling::Silent => rule,
            Handling::Scoped => rule.scoped(EntityRef::from_path(dimension, parameter)),
            Handling::Unscoped => rule.unscoped_for(dimension),
            Handling::Filtered => rule.filtered(dimension),
            Handling::Deferred => rule.deferred(dimension),
        };
    }
    if route.country_tied {
        rule = rule.scoped(EntityRef::from_path(Dimension::SHOP_COUNTRY, "country"));
    }
    if route.rest_unscoped {
        rule = rule.unscoped();
    }
    let policy = Policy::builder().route("/{company}/{shop}/{country}/{project}", rule).build().unwrap();
    let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant(key)).build();
    let mut directory = Directory::builder();
    for shop in SHOPS {
        directory = directory.shop(shop, world.company_of.get(shop).copied());
    }
    for (country, shop) in &world.shop_of {
        directory = directory.country(shop, "xx", Some(country));
    }
    let directory = if world.declared { directory.build().unwrap() } else { Directory::default() };
    let path = format!("/{}/{}/{}/{}", ask.company, ask.shop, ask.country, ask.project);
    let mut request = Request::builder().method(&ask.method).uri(path).body(()).unwrap();
    request.extensions_mut().insert(Principal::new(Arc::new(record), directory, ClientAddress::UNKNOWN));
    policy.evaluate(&Head::new(&request)).is_ok()
}

fn list(ids: &'static [&'static str]) -> impl Strategy<Value = Option<List>> {
    let some = || prop::sample::subsequence(ids, 0..=ids.len());
    prop_oneof![
        2 => Just(None),
        2 => some().prop_map(|ids| Some(List::Include(ids))),
        2 => some().prop_map(|ids| Some(List::Exclude(ids))),
    ]
}

fn key() -> impl Strategy<Value = Key> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write)];
    let permissions = prop::collection::btree_map(prop::sample::select(&RESOURCES[..]), access, 0..=2);
    (permissions, list(&COMPANIES), list(&SHOPS), list(&PROJECTS))
        .prop_map(|(permissions, company, shop, project)| Key { permissions, company, shop, project })
}

fn route() -> impl Strategy<Value = Route> {
    let stance = || {
        prop_oneof![
            2 => Just(Handling::Silent), 3 => Just(Handling::Scoped), 1 => Just(Handling::Unscoped),
            1 => Just(Handling::Filtered), 1 => Just(Handling::Deferred),
        ]
    };
    (prop::sample::select(&RESOURCES[..]), any::<bool>(), stance(), stance(), any::<bool>(), stance(), any::<bool>())
        .prop_map(|(resource, post_reads, company, shop, country_tied, project, rest_unscoped)| Route {
            resource,
            post_reads,
            company,
            shop,
            country_tied,
            project,
            rest_unscoped,
        })
}

fn ask() -> impl Strategy<Value = Ask> {
    let methods = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO"];
    (
        prop::sample::select(methods.map(|name| name.parse::<Method>().unwrap()).to_vec()),
        prop::sample::select(&COMPANIES[..]),
        prop::sample::select(&SHOPS[..]),
        prop::sample::select(&COUNTRIES[..]),
        prop::sample::select(&PROJECTS[..]),
    )
        .prop_map(|(method, company, shop, country, project)| Ask { method, company, shop, country, project })
}

fn world() -> impl Strategy<Value = World> {
    let company_of =
        prop::collection::btree_map(prop::sample::select(&SHOPS[..]), prop::sample::select(&COMPANIES[..]), 0..=3);
    let shop_of =
        prop::collection::btree_map(prop::sample::select(&COUNTRIES[..]), prop::sample::select(&SHOPS[..]), 0..=3);
    (prop::bool::weighted(0.8), company_of, shop_of).prop_map(|(declared, company_of, shop_of)| match declared {
        true => World { declared, company_of, shop_of },
        false => World { declared, company_of: BTreeMap::new(), shop_of: BTreeMap::new() },
    })
}

/// Returns every grant that has one element less: a permission, or an entity.
fn weaker(key: &Key) -> Vec<Key> {
    let mut all = Vec::new();
    for resource in key.permissions.keys() {
        let mut less = key.clone();
        less.permissions.remove(resource);
        all.push(less);
        let mut less = key.clone();
        less.permissions.insert(resource, Access::Read);
        all.push(less);
    }
    type Lists = fn(&mut Key) -> &mut Option<List>;
    let lists: [(Lists, &[&'static str]); 3] =
        [(|key| &mut key.company, &COMPANIES), (|key| &mut key.shop, &SHOPS), (|key| &mut key.project, &PROJECTS)];
    for (of, ids) in lists {
        for id in ids {
            let mut less = key.clone();
            let list = of(&mut less);
            match list {
                None => *list = Some(List::Exclude(vec![id])),
                Some(List::Include(ids)) => ids.retain(|known| known != id),
                Some(List::Exclude(ids)) if ids.contains(id) => {}
                Some(List::Exclude(ids)) => ids.push(id),
            }
            all.push(less);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_decision_is_the_models(key in key(), route in route(), ask in ask(), world in world()) {
        prop_assert_eq!(decided(&key, &route, &ask, &world), allowed(&key, &route, &ask, &world));
    }

    #[test]
    fn taking_something_away_never_opens_the_gate(key in key(), route in route(), ask in ask(), world in world()) {
        if !decided(&key, &route, &ask, &world) {
            for less in weaker(&key) {
                prop_assert!(!decided(&less, &route, &ask, &world), "{:?}", less);
            }
        }
    }
}

#[test]
fn the_generators_reach_both_answers() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let everything = (key(), route(), ask(), world());
    let admitted = (0..2_000)
        .filter(|_| {
            let (key, route, ask, world) = everything.new_tree(&mut runner).unwrap().current();
            decided(&key, &route, &ask, &world)
        })
        .count();
    assert!((100..1_900).contains(&admitted), "{admitted} of 2,000 were admitted");
}
