//! Random worlds. The alphabets are small, so that lists, rules and requests meet.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Dim, Directory, Grammar, Handling, Key, List, Place, ProxyHeader, Rule, SourceSet, StoreMood, World, build,
};
use crate::random::Random;

/// The resources. One is the beginning of another, because names must compare exactly.
pub const RESOURCES: [&str; 3] = ["orders", "order", "*"];
/// The kinds of keys.
pub const KINDS: [&str; 2] = ["admin", "runtime"];
/// Origins as browsers send them.
pub const ORIGINS: [&str; 3] = ["https://shop.example", "https://shop.example:8443", "http://shop.example"];
/// The tenants, as the hosts `{tenant}.{sector}.example.com` name them.
pub const TENANTS: [&str; 3] = ["acme.test", "acme.live", "other.test"];
/// Networks of keys. Some overlap, and one is IPv4 written as IPv6.
pub const NETWORKS: [&str; 7] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.0.2.7",
    "2001:db8::/32",
    "::ffff:198.51.100.0/120",
    "0.0.0.0/0",
    "203.0.113.0/24",
];
/// Networks of proxies.
const PROXIES: [&str; 3] = ["203.0.113.0/24", "10.9.0.0/16", "2001:db8:ffff::/48"];
/// Methods that rules may be for, or map.
const METHODS: [&str; 9] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PURGE", "TRACE"];
const SECOND: i64 = 1_000_000_000;
/// Dates around the clock of the world.
const DATES: [i64; 7] = [-86_400 * SECOND, -SECOND, -1, 0, 1, SECOND, 86_400 * SECOND];

/// The ids of a dimension that lists and directories hold. Some name an entity in every dimension.
#[must_use]
pub fn ids(dim: Dim, project: Grammar) -> &'static [&'static str] {
    match (dim, project) {
        (Dim::Company, _) => &["1", "2", "10", "4294967297"],
        (Dim::Shop, _) => &["de", "ch", "1", "us-2"],
        (Dim::Country, _) => &["1001", "1", "de", "at"],
        (Dim::Project, Grammar::Number) => &["1", "7", "1001"],
        (Dim::Project, Grammar::Slug) => &["apollo", "de", "1"],
        (Dim::Project, Grammar::Opaque) => &["Apollo", "apollo", "a.b~1"],
    }
}

fn owned(all: Vec<&str>) -> Vec<String> {
    all.into_iter().map(str::to_owned).collect()
}

fn some<T>(random: &mut Random, percent: usize, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    if random.chance(percent) { Some(make(random)) } else { None }
}

impl World {
    /// Makes a world of up to 8 rules and 1 to 6 keys.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        let mut world = Self {
            rules: Vec::new(),
            refused_rules: 0,
            keys: Vec::new(),
            directory: None,
            project: *random.pick(&[Grammar::Number, Grammar::Slug, Grammar::Opaque]),
            sources: *random.pick(&[SourceSet::Usual, SourceSet::Usual, SourceSet::Exact, SourceSet::Own]),
            structured: random.chance(50),
            mood: match random.below(20) {
                0 => StoreMood::Down,
                1..=4 => StoreMood::Later,
                _ => StoreMood::AtOnce,
            },
            proxies: some(random, 40, |random| {
                let header = *random.pick(&[ProxyHeader::XForwardedFor, ProxyHeader::Forwarded]);
                (owned(random.subset(&PROXIES)), header)
            }),
            https_only: random.chance(15),
            https_exempt: Vec::new(),
            tenants: some(random, 20, |random| some(random, 50, |random| owned(random.subset(&TENANTS)))),
            host_forwarded: random.chance(50),
            allow_preflight: random.chance(20),
            fallback: None,
            unrouted: Vec::new(),
        };
        world.directory = some(random, 75, directory);
        for _ in 0..=random.below(8) {
            let rule = rule(random, &world);
            world.rules.push(rule);
            // Two patterns may conflict, and two rules may be for one method. Which do so is no decision about a
            // request, so the crate is asked.
            if build::policy(&world).is_err() {
                world.rules.pop();
                world.refused_rules += 1;
            }
        }
        for number in 0..=random.below(6) {
            let key = key(random, &world, number);
            world.keys.push(key);
        }
        if random.chance(30) {
            let mut fallback = rule(random, &Self { rules: Vec::new(), ..world.clone() });
            fallback.handlings.retain(|dim, _| !fallback.pattern.contains(dim.name()));
            world.fallback = Some(Rule { pattern: String::new(), method: None, ..fallback });
            // A rule that no request can meet is refused by the crate.
            if build::policy(&world).is_err() {
                world.fallback = None;
            }
        }
        let patterns: BTreeSet<String> = world.rules.iter().map(|rule| rule.pattern.clone()).collect();
        world.https_exempt = patterns.iter().filter(|_| random.chance(30)).cloned().collect();
        let literal = patterns.iter().filter(|pattern| !pattern.contains("{*"));
        world.unrouted = literal.filter(|_| random.chance(10)).cloned().collect();
        world
    }
}

fn directory(random: &mut Random) -> Directory {
    let (companies, shops) = (ids(Dim::Company, Grammar::Slug), ids(Dim::Shop, Grammar::Slug));
    let mut directory = Directory::default();
    for shop in random.subset(shops) {
        let company = some(random, 80, |random| (*random.pick(companies)).to_owned());
        directory.shops.insert(shop.to_owned(), company);
    }
    for country in random.subset(ids(Dim::Country, Grammar::Slug)) {
        directory.countries.insert(country.to_owned(), (*random.pick(shops)).to_owned());
    }
    directory
}

/// Makes a pattern that most often is about entities, and that may overlap with those of other rules.
fn pattern(random: &mut Random) -> String {
    let literals = ["shops", "orders", "all", "de", "1"];
    let mut pattern = String::new();
    let mut used = BTreeSet::new();
    for _ in 0..=random.below(4) {
        let dim = *random.pick(&Dim::ALL);
        match random.below(20) {
            0..=8 if used.insert(dim) => pattern += &format!("/{{{}}}", dim.name()),
            9 if used.insert(dim) => pattern += &format!("/id-{{{}}}", dim.name()),
            10 => return pattern + "/{*rest}",
            _ => pattern += &format!("/{}", random.pick(&literals)),
        }
    }
    if random.chance(4) { pattern + "/" } else { pattern }
}

fn rule(random: &mut Random, world: &World) -> Rule {
    // Often another method of a route that is there already.
    let known: Vec<String> = world.rules.iter().map(|rule| rule.pattern.clone()).collect();
    let pattern = if !known.is_empty() && random.chance(35) { random.pick(&known).clone() } else { pattern(random) };
    let method = some(random, 45, |random| (*random.pick(&METHODS)).to_owned());
    let mut rule = Rule { pattern, method, public: random.chance(8), ..Rule::default() };
    if rule.public {
        return rule;
    }
    rule.resource = some(random, 85, |random| (*random.pick(&RESOURCES)).to_owned());
    while rule.resource.is_some() && random.chance(20) {
        let access = some(random, 50, |random| random.chance(50));
        rule.or.push(((*random.pick(&RESOURCES)).to_owned(), access));
    }
    for method in METHODS {
        // A rule for one unusual method alone has to say what the method does.
        if random.chance(6) || (rule.method.as_deref() == Some(method) && ["PURGE", "TRACE"].contains(&method)) {
            rule.methods.push((method.to_owned(), random.chance(50)));
        }
    }
    rule.kind = some(random, 12, |random| (*random.pick(&KINDS)).to_owned());
    rule.require_networks = random.chance(10);
    rule.require_origin = random.chance(10);
    rule.unscoped = random.chance(35);
    rule.concealed = random.chance(15);
    for dim in Dim::ALL {
        if let Some(handling) = handling(random, dim, &rule.pattern) {
            rule.handlings.insert(dim, handling);
        }
    }
    rule
}

fn handling(random: &mut Random, dim: Dim, pattern: &str) -> Option<Handling> {
    let parameter = format!("{{{}}}", dim.name());
    if pattern.contains(&parameter) && random.chance(80) {
        let mut places = vec![Place::Path(dim.name().to_owned())];
        if random.chance(8) {
            places.push(Place::Header(dim.header().to_owned()));
        }
        return Some(Handling::Scoped(places));
    }
    match random.below(20) {
        0 => Some(Handling::Scoped(vec![Place::Header(dim.header().to_owned())])),
        1 if random.chance(50) => Some(Handling::Scoped(vec![Place::Function(dim.name().to_owned())])),
        2..=3 => Some(Handling::Filtered),
        4..=5 => Some(Handling::Deferred),
        6..=8 => Some(Handling::Unscoped),
        _ => None,
    }
}

fn key(random: &mut Random, world: &World, number: usize) -> Key {
    let secret: String = (0..32).map(|_| *random.pick(&['0', '7', 'a', 'f'])).collect();
    let id = format!("l64_key{number}{}", random.pick(&["aaaa", "zz99"]));
    let secret = if world.structured { format!("{id}_{secret}") } else { format!("token-{number}.{secret}") };
    let mut key = Key { id, secret, ..Key::default() };
    for resource in RESOURCES {
        if random.chance(70) {
            key.permissions.insert(resource.to_owned(), random.chance(60));
        }
    }
    key.lists = lists(random, world.project);
    key.networks = some(random, 25, |random| owned(random.subset(&NETWORKS)));
    key.origins = some(random, 40, |random| owned(random.subset(&ORIGINS)));
    key.kind = some(random, 50, |random| (*random.pick(&KINDS)).to_owned());
    key.tenant = some(random, 85, |random| (*random.pick(&TENANTS)).to_owned());
    // Most dates leave the key active, because the others end every request at the same step.
    let (begun, ahead) = DATES.split_at(4);
    let date = |random: &mut Random, usual: &[i64]| {
        let all = if random.chance(80) { usual } else { &DATES };
        *random.pick(all)
    };
    key.not_before = some(random, 15, |random| date(random, begun));
    key.expires_at = some(random, 15, |random| date(random, ahead));
    key.revoked_at = some(random, 5, |random| date(random, &DATES));
    key
}

fn lists(random: &mut Random, project: Grammar) -> BTreeMap<Dim, List> {
    let mut lists = BTreeMap::new();
    for dim in Dim::RESTRICTED {
        if random.chance(45) {
            let ids = owned(random.subset(ids(dim, project)));
            lists.insert(dim, if random.chance(50) { List::Include(ids) } else { List::Exclude(ids) });
        }
    }
    lists
}
