//! Compares [`Grant::covers`] with the decision: whatever the covered grant admits, the covering one admits.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{Method, Request, header::ORIGIN};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use tower_authz::{
    Check as _, ClientAddress, Digest, Dimension, Directory, Grant, Head, IdGrammar, KeyRecord, Networks, Policy,
    Principal, Rule, check::EntityRef,
};

const COMPANIES: [&str; 3] = ["1", "2", "3"];
const SHOPS: [&str; 3] = ["de", "ch", "us"];
const COUNTRIES: [&str; 2] = ["1001", "1002"];
const PROJECTS: [&str; 3] = ["apollo", "Gemini", "7"];
const RESOURCES: [&str; 2] = ["orders", "order"];
const ORIGINS: [&str; 2] = ["https://a.example", "https://b.example"];
const NETWORKS: [&str; 8] = [
    "10.0.0.0/30",
    "10.0.0.0/31",
    "10.0.0.2/31",
    "10.0.0.4/31",
    "0.0.0.0/0",
    "2001:db8::/127",
    "2001:db8::1",
    "::ffff:10.0.0.1",
];
const ADDRESSES: [&str; 8] =
    ["10.0.0.0", "10.0.0.1", "::ffff:10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6", "2001:db8::", "2001:db8::1"];

/// Different functions that agree about some ids, and the grammars of the crate.
const GRAMMARS: [IdGrammar; 4] = [
    IdGrammar::Opaque,
    IdGrammar::Slug,
    IdGrammar::Number,
    IdGrammar::Custom(|id| id.bytes().all(|byte| byte.is_ascii_alphabetic())),
];

#[derive(Clone, Debug)]
enum List {
    Include(Vec<&'static str>),
    Exclude(Vec<&'static str>),
}

#[derive(Clone, Debug)]
struct Part {
    permissions: BTreeMap<&'static str, bool>,
    company: Option<List>,
    shop: Option<List>,
    project: Option<(usize, List)>,
    networks: Option<Vec<&'static str>>,
    origins: Option<Vec<&'static str>>,
}

/// How a rule handles each of company, shop and project: by name, or not at all.
const SILENT: u8 = 0;
const SCOPED: u8 = 1;
const UNSCOPED: u8 = 2;
const FILTERED: u8 = 3;
const DEFERRED: u8 = 4;

#[derive(Clone, Debug)]
struct Route {
    /// None for a rule that takes any key.
    resource: Option<&'static str>,
    alternative: bool,
    handlings: [u8; 3],
    by_country: bool,
    rest_unscoped: bool,
    require_networks: bool,
    require_origin: bool,
    project: usize,
}

#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    entities: [&'static str; 4],
    address: Option<&'static str>,
    origin: Option<&'static str>,
}

fn project(grammar: usize) -> Dimension {
    Dimension::new("project", GRAMMARS[grammar])
}

fn grant(part: &Part) -> Grant {
    let mut grant = Grant::builder();
    for (resource, writes) in &part.permissions {
        grant = if *writes { grant.write(*resource) } else { grant.read(*resource) };
    }
    let own = part.project.as_ref().map(|(grammar, list)| {
        let accepted = |ids: &[&'static str]| ids.iter().copied().filter(|id| project(*grammar).accepts(id)).collect();
        let list = match list {
            List::Include(ids) => List::Include(accepted(ids)),
            List::Exclude(ids) => List::Exclude(accepted(ids)),
        };
        (project(*grammar), list)
    });
    let standard = [(Dimension::COMPANY, part.company.clone()), (Dimension::SHOP, part.shop.clone())];
    let lists = standard.into_iter().filter_map(|(over, list)| Some((over, list?)));
    for (over, list) in lists.chain(own) {
        grant = match list {
            List::Include(ids) => grant.only(over, ids),
            List::Exclude(ids) => grant.except(over, ids),
        };
    }
    if let Some(networks) = &part.networks {
        grant = grant.from_networks(networks);
    }
    if let Some(origins) = &part.origins {
        grant = grant.from_origins(origins);
    }
    grant.build().unwrap()
}

/// The answer of a handler counts as well: it asks whether the key may see each entity that the rule leaves to it.
fn admits(grant: &Grant, route: &Route, ask: &Ask, directory: &Directory) -> bool {
    let mut rule = match route.resource {
        Some(resource) => Rule::resource(resource),
        None => Rule::authenticated(),
    };
    if route.alternative && route.resource.is_some() {
        rule = rule.or_resource("order");
    }
    let dimensions = [Dimension::COMPANY, Dimension::SHOP, project(route.project)];
    let mut asked = Vec::new();
    for ((over, handling), id) in dimensions.iter().zip(route.handlings).zip(ask.entities) {
        if handling == FILTERED || handling == DEFERRED {
            asked.push((over.clone(), id));
        }
        rule = match handling {
            SILENT => rule,
            SCOPED => rule.scoped(EntityRef::from_path(over.clone(), over.name().to_owned())),
            UNSCOPED => rule.unscoped_for(over.clone()),
            FILTERED => rule.filtered(over.clone()),
            _ => rule.deferred(over.clone()),
        };
    }
    if route.by_country {
        rule = rule.scoped(EntityRef::from_path(Dimension::SHOP_COUNTRY, "country"));
    }
    rule = if route.rest_unscoped { rule.unscoped() } else { rule };
    rule = if route.require_networks { rule.require_networks() } else { rule };
    rule = if route.require_origin { rule.require_origin() } else { rule };
    let policy = Policy::builder().route("/{company}/{shop}/{project}/{country}", rule).build().unwrap();
    let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant.clone()).build();
    let address = ask.address.map_or(ClientAddress::UNKNOWN, |text| text.parse::<IpAddr>().unwrap().into());
    let mut request = Request::builder().method(&ask.method).uri(format!("/{}", ask.entities.join("/")));
    if let Some(origin) = ask.origin {
        request = request.header(ORIGIN, origin);
    }
    let mut request = request.body(()).unwrap();
    let principal = Principal::new(Arc::new(record), directory.clone(), address);
    request.extensions_mut().insert(principal.clone());
    policy.evaluate(&Head::new(&request)).is_ok()
        && asked.iter().all(|(over, id)| principal.require(over.clone(), id).is_ok())
}

fn some_of<T: Copy + std::fmt::Debug + 'static>(of: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    prop::sample::subsequence(of, 0..=of.len())
}

fn list(ids: &'static [&'static str]) -> impl Strategy<Value = List> {
    prop_oneof![some_of(ids).prop_map(List::Include), some_of(ids).prop_map(List::Exclude)]
}

fn part() -> impl Strategy<Value = Part> {
    let maybe = |ids| prop::option::weighted(0.5, list(ids));
    let own = (prop_oneof![4 => Just(0_usize), 1 => 1..GRAMMARS.len()], list(&PROJECTS));
    (
        prop::collection::btree_map(prop::sample::select(&RESOURCES[..]), any::<bool>(), 0..=2),
        maybe(&COMPANIES),
        maybe(&SHOPS),
        prop::option::weighted(0.4, own),
        prop::option::weighted(0.3, some_of(&NETWORKS)),
        prop::option::weighted(0.3, some_of(&ORIGINS)),
    )
        .prop_map(|(permissions, company, shop, project, networks, origins)| Part {
            permissions,
            company,
            shop,
            project,
            networks,
            origins,
        })
}

/// Two grants that are often related: each part of the second one is that of the first, or another.
fn pair() -> impl Strategy<Value = (Part, Part)> {
    (part(), part(), any::<[bool; 6]>(), 0_u8..4).prop_map(|(one, other, same, luck)| {
        let same = same.map(|same| same || luck > 0);
        let mut second = other.clone();
        let changed = usize::from(luck) * 2 % 6;
        let keep = |index: usize| same[index] && index != changed;
        if keep(0) {
            second.permissions = one.permissions.clone();
        }
        if keep(1) {
            second.company = one.company.clone();
        }
        if keep(2) {
            second.shop = one.shop.clone();
        }
        if keep(3) {
            second.project = one.project.clone();
        }
        if keep(4) {
            second.networks = one.networks.clone();
        }
        if keep(5) {
            second.origins = one.origins.clone();
        }
        (one, second)
    })
}

fn route() -> impl Strategy<Value = Route> {
    (
        prop::option::weighted(0.8, prop::sample::select(&RESOURCES[..])),
        any::<bool>(),
        [0_u8..5, 0_u8..5, 0_u8..5],
        prop::bool::weighted(0.3),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        0..GRAMMARS.len(),
    )
        .prop_map(
            |(
                resource,
                alternative,
                handlings,
                by_country,
                rest_unscoped,
                require_networks,
                require_origin,
                project,
            )| {
                Route {
                    resource,
                    alternative,
                    handlings,
                    by_country,
                    rest_unscoped,
                    require_networks,
                    require_origin,
                    project,
                }
            },
        )
}

fn ask() -> impl Strategy<Value = Ask> {
    (
        prop_oneof![Just(Method::GET), Just(Method::POST)],
        prop::sample::select(&COMPANIES[..]),
        prop::sample::select(&SHOPS[..]),
        prop::sample::select(&PROJECTS[..]),
        prop::sample::select(&COUNTRIES[..]),
        prop::option::weighted(0.9, prop::sample::select(&ADDRESSES[..])),
        prop::option::weighted(0.8, prop::sample::select(&ORIGINS[..])),
    )
        .prop_map(|(method, company, shop, project, country, address, origin)| Ask {
            method,
            entities: [company, shop, project, country],
            address,
            origin,
        })
}

fn directory() -> impl Strategy<Value = Directory> {
    let companies = prop::collection::btree_map(
        prop::sample::select(&SHOPS[..]),
        prop::option::weighted(0.8, prop::sample::select(&COMPANIES[..])),
        0..=3,
    );
    let countries =
        prop::collection::btree_map(prop::sample::select(&COUNTRIES[..]), prop::sample::select(&SHOPS[..]), 0..=2);
    (prop::bool::weighted(0.8), companies, countries).prop_map(|(declared, companies, countries)| {
        let mut directory = Directory::builder();
        for (shop, company) in companies {
            directory = directory.shop(shop, company);
        }
        for (country, shop) in countries {
            directory = directory.country(shop, "xx", Some(country));
        }
        if declared { directory.build().unwrap() } else { Directory::default() }
    })
}

/// Whether the rule tells the two apart by the one demand that asks a key to be confined, which is documented.
fn asks_to_be_confined(route: &Route, wide: &Grant) -> bool {
    route.require_networks && wide.networks().is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn what_the_covered_grant_admits_the_covering_one_admits(
        (one, other) in pair(),
        directory in directory(),
        routes in prop::collection::vec((route(), ask()), 24),
    ) {
        let (wide, narrow) = (grant(&one), grant(&other));
        let (covers, covers_in) = (wide.covers(&narrow), wide.covers_in(&directory, &narrow));
        prop_assert!(!covers || covers_in, "the directory only adds to what is known");
        for (mut route, ask) in routes.into_iter().filter(|_| covers_in) {
            // Rules read the ids of a dimension as a key spells them, which every application has to see to.
            let spelt: Vec<usize> = [&one, &other].into_iter().filter_map(|part| Some(part.project.as_ref()?.0)).collect();
            route.project = spelt.get(route.project % spelt.len().max(1)).copied().unwrap_or(route.project);
            if !asks_to_be_confined(&route, &wide) {
                prop_assert!(
                    admits(&wide, &route, &ask, &directory) || !admits(&narrow, &route, &ask, &directory),
                    "{:?} does not cover {:?}: {:?} {:?}", wide, narrow, route, ask
                );
            }
        }
    }

    /// What is taken away by the builder is covered, and what is given is not.
    #[test]
    fn the_answer_is_no_only_where_there_is_doubt(part in part(), other in part(), id in prop::sample::select(&SHOPS[..])) {
        let whole = grant(&part);
        prop_assert!(whole.covers(&whole), "reflexive");
        for held in whole.permissions() {
            let less = whole.to_builder().without_permission(held.resource()).build().unwrap();
            prop_assert!(whole.covers(&less) && !less.covers(&whole));
            let reads = whole.to_builder().read(held.resource().to_owned()).build().unwrap();
            prop_assert!(whole.covers(&reads));
        }
        let other = grant(&other);
        for (over, list) in other.restrictions() {
            if whole.restriction(over).is_none() {
                let less = match list {
                    tower_authz::Restriction::Include(ids) => whole.to_builder().only(over.clone(), ids.iter()),
                    tower_authz::Restriction::Exclude(ids) => whole.to_builder().except(over.clone(), ids.iter()),
                };
                let less = less.build().unwrap();
                prop_assert!(whole.covers(&less) && !less.covers(&whole), "a restriction is added");
            }
        }
        if let Some(tower_authz::Restriction::Exclude(ids)) = whole.restriction(&Dimension::SHOP) {
            let fewer = whole.to_builder().except(Dimension::SHOP, ids.iter().chain([id])).build().unwrap();
            prop_assert!(whole.covers(&fewer));
            let listed = SHOPS.into_iter().filter(|shop| !ids.contains(shop));
            prop_assert!(whole.covers(&whole.to_builder().only(Dimension::SHOP, listed).build().unwrap()));
        }
        let anywhere = whole.to_builder().from_anywhere().build().unwrap();
        prop_assert!(anywhere.covers(&whole), "a wider network");
        prop_assert_eq!(whole.covers(&anywhere), whole.networks().is_none());
        prop_assert!(whole.covers(&whole.to_builder().without_origins().build().unwrap()));
    }

    /// Lists of networks are compared as the sets of their addresses.
    #[test]
    fn networks_are_compared_by_their_addresses(
        wide in prop::collection::vec((0_u8..16, 28_u8..=32), 0..8),
        narrow in prop::collection::vec((0_u8..16, 28_u8..=32), 0..4),
        v6 in any::<bool>(),
    ) {
        let (base, more) = if v6 { ("2001:db8::", 96) } else { ("10.0.0.", 0) };
        let network = |&(host, prefix): &(u8, u8)| {
            let host = u32::from(host) & !(u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0));
            let host = if v6 { format!("{host:x}") } else { host.to_string() };
            format!("{base}{host}/{}", prefix + more)
        };
        let parse = |list: &[(u8, u8)]| Networks::parse(list.iter().map(network)).unwrap();
        let (wide, narrow) = (parse(&wide), parse(&narrow));
        let address = |host: u8| -> IpAddr {
            let host = if v6 { format!("{host:x}") } else { host.to_string() };
            format!("{base}{host}").parse().unwrap()
        };
        let expected = (0..16).map(address).all(|address| wide.contains(address) || !narrow.contains(address));
        prop_assert_eq!(wide.covers(&narrow), expected, "{:?} {:?}", wide, narrow);
    }
}

/// The property is not met by refusing everything, nor by grants that are never related.
#[test]
fn the_generators_reach_both_answers() {
    let mut runner = TestRunner::deterministic();
    let all = (pair(), directory(), route(), ask());
    let (mut covered, mut by_directory, mut both, mut only_wide) = (0, 0, 0, 0);
    for _ in 0..4000 {
        let ((one, other), directory, route, ask) = all.new_tree(&mut runner).unwrap().current();
        let (wide, narrow) = (grant(&one), grant(&other));
        if wide.covers_in(&directory, &narrow) {
            covered += 1;
            by_directory += usize::from(!wide.covers(&narrow));
            let is_admitted = admits(&narrow, &route, &ask, &directory);
            both += usize::from(is_admitted);
            only_wide += usize::from(!is_admitted && admits(&wide, &route, &ask, &directory));
        }
    }
    let counts = format!("{covered} {by_directory} {both} {only_wide}");
    assert!((400..3600).contains(&covered) && by_directory > 5 && both > 50 && only_wide > 20, "{counts}");
}

/// A list of shops says nothing of the routes of companies: a key that has only one reaches them all, where the rule has
/// nothing to do with shops. So it is within no list of companies, whatever the directory says.
#[test]
fn a_list_of_shops_is_not_within_a_list_of_companies() {
    let directory = Directory::builder().shop("de", Some("1")).build().unwrap();
    let company = Grant::builder().read("orders").only("company", [1]).build().unwrap();
    let shop = Grant::builder().read("orders").only("shop", ["de"]).build().unwrap();
    let route = Route {
        resource: Some("orders"),
        alternative: false,
        handlings: [SCOPED, UNSCOPED, UNSCOPED],
        by_country: false,
        rest_unscoped: false,
        require_networks: false,
        require_origin: false,
        project: 0,
    };
    let ask = Ask { method: Method::GET, entities: ["2", "de", "apollo", "1001"], address: None, origin: None };
    assert!(admits(&shop, &route, &ask, &directory) && !admits(&company, &route, &ask, &directory));
    assert!(!company.covers_in(&directory, &shop));
    let both = shop.to_builder().only("company", [1]).build().unwrap();
    assert!(company.covers(&both), "restricted over both it is");
}

#[test]
fn a_directory_tells_which_shops_a_company_list_leaves() {
    let directory = |us| Directory::builder().shop("de", Some("1")).shop("us", us).build().unwrap();
    let own = Grant::builder().only("company", [1]).only("shop", ["de"]).build().unwrap();
    for (other, us, expected) in [
        (own.to_builder().except("shop", ["ch"]), Some("2"), true),
        (own.to_builder().except("shop", ["ch"]), None, true),
        (own.to_builder().except("shop", ["ch"]), Some("1"), false),
        (own.to_builder().except("shop", ["us"]), Some("1"), true),
        (own.to_builder().only("shop", ["de", "us"]), Some("2"), true),
        (own.to_builder().only("shop", ["de", "us"]).only("company", [1, 2]), Some("2"), false),
        (own.to_builder().without_restriction("shop"), Some("2"), false),
        (own.to_builder().without_restriction("company"), Some("2"), true),
    ] {
        let other = other.build().unwrap();
        let expected = expected && other.restriction(&Dimension::COMPANY).is_some();
        assert_eq!(own.covers_in(&directory(us), &other), expected, "{other:?} {us:?}");
        assert!(!own.covers_in(&Directory::default(), &other), "{other:?}: nothing is declared");
    }
}

#[test]
fn a_mapped_address_is_in_no_network_of_ipv6() {
    let all = Networks::parse(["::/0"]).unwrap();
    // Every address but the mapped ones: those that differ from them in one bit, and then in any way.
    let mapped = 0xffff_u128 << 32;
    let around = (0..96).map(|index| {
        let bit = 127 - index;
        format!("{}/{}", std::net::Ipv6Addr::from((mapped ^ (1 << bit)) >> bit << bit), index + 1)
    });
    let around = Networks::parse(around).unwrap();
    assert!(around.covers(&all) && all.covers(&around));
    let v4 = Networks::parse(["10.0.0.1"]).unwrap();
    assert!(!all.covers(&v4) && !around.covers(&v4));
    let mapped = Networks::parse(["::ffff:10.0.0.0/104"]).unwrap();
    assert!(mapped.covers(&v4) && Networks::parse(["10.0.0.0/8"]).unwrap().covers(&mapped));
    let less = Networks::parse(["::/1"]).unwrap();
    assert!(!less.covers(&all) && !Networks::default().covers(&less) && less.covers(&Networks::default()));
}
