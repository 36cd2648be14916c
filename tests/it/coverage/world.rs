//! Small grants, rules, requests and directories, and the decision on them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{Method, Request, header::ORIGIN};
use proptest::prelude::*;
use tower_authz::{
    Check as _, ClientAddress, Digest, Dimension, Directory, Grant, Head, IdGrammar, KeyRecord, Policy, Principal,
    Rule, check::EntityRef,
};

const COMPANIES: [&str; 3] = ["1", "2", "3"];
pub const SHOPS: [&str; 3] = ["de", "ch", "us"];
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
pub enum List {
    Include(Vec<&'static str>),
    Exclude(Vec<&'static str>),
}

#[derive(Clone, Debug)]
pub struct Part {
    pub permissions: BTreeMap<&'static str, bool>,
    pub company: Option<List>,
    pub shop: Option<List>,
    pub project: Option<(usize, List)>,
    pub networks: Option<Vec<&'static str>>,
    pub origins: Option<Vec<&'static str>>,
}

/// How a rule handles each of company, shop and project: by name, or not at all.
pub const SILENT: u8 = 0;
pub const SCOPED: u8 = 1;
pub const UNSCOPED: u8 = 2;
const FILTERED: u8 = 3;
const DEFERRED: u8 = 4;

#[derive(Clone, Debug)]
pub struct Route {
    /// None for a rule that takes any key.
    pub resource: Option<&'static str>,
    pub alternative: bool,
    pub handlings: [u8; 3],
    pub by_country: bool,
    pub rest_unscoped: bool,
    pub require_networks: bool,
    pub require_origin: bool,
    pub project: usize,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub entities: [&'static str; 4],
    pub address: Option<&'static str>,
    pub origin: Option<&'static str>,
}

pub fn project(grammar: usize) -> Dimension {
    Dimension::new("project", GRAMMARS[grammar])
}

pub fn grant(part: &Part) -> Grant {
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
pub fn admits(grant: &Grant, route: &Route, ask: &Ask, directory: &Directory) -> bool {
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

pub fn part() -> impl Strategy<Value = Part> {
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
pub fn pair() -> impl Strategy<Value = (Part, Part)> {
    let same = prop_oneof![1 => any::<[bool; 6]>(), 3 => (0_usize..7).prop_map(|other| [0, 1, 2, 3, 4, 5].map(|it| it != other))];
    (part(), part(), same, prop::bool::weighted(0.1)).prop_map(|(mut one, other, same, apart)| {
        let mut second = other.clone();
        let keep = |index: usize| same[index];
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
        if apart {
            // One is restricted over the parent, the other over the child.
            (one.shop, second.company) = (None, None);
        }
        (one, second)
    })
}

pub fn route() -> impl Strategy<Value = Route> {
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

pub fn ask() -> impl Strategy<Value = Ask> {
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

pub fn directory() -> impl Strategy<Value = Directory> {
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
