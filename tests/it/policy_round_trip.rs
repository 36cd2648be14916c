//! A policy that was exported and parsed again decides every request as it did before.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::SystemTime};

use axum::extract::OriginalUri;
use http::{HeaderName, Method, Request};
use proptest::{prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};
use tower_authz::{
    Access, Check as _, ClientAddress, Digest, Dimension, Directory, Grant, Head, IdGrammar, KeyRecord, Policy,
    Principal, Rule,
    check::{EntityRef, Origin},
};

const PATTERNS: [&str; 8] = [
    "/",
    "/orders",
    "/shops/{shop}",
    "/shops/{shop}/orders/{document}",
    "/companies/{company}",
    "/projects/{project}",
    "/x-{shop_country}",
    "/files/{*rest}",
];
const PATHS: [&str; 12] = [
    "/",
    "/orders",
    "/shops/de",
    "/shops/7",
    "/shops/ch/orders/A.b",
    "/shops/DE/orders/..b",
    "/companies/1",
    "/companies/07",
    "/projects/3",
    "/x-1001",
    "/files/a/b",
    "/nowhere",
];
const METHODS: [&str; 8] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PURGE", "TRACE"];
const RESOURCES: [&str; 2] = ["orders", "shops"];
const ORIGINS: [&str; 2] = ["https://a.example", "https://A.example:443"];
const DIMENSIONS: [&str; 5] = ["company", "shop", "shop_country", "project", "document"];
const GRAMMARS: [IdGrammar; 3] = [IdGrammar::Number, IdGrammar::Slug, IdGrammar::Opaque];

#[derive(Clone, Debug)]
struct PolicySpec {
    /// The grammars of the ids of shops and projects.
    grammars: (usize, usize),
    routes: Vec<RouteSpec>,
    fallback: Option<TargetSpec>,
    preflight: bool,
}

/// A pattern, its rule for all methods, and its rules for single methods.
type RouteSpec = (&'static str, Option<TargetSpec>, Vec<(&'static str, TargetSpec)>);

#[derive(Clone, Debug)]
enum TargetSpec {
    Public,
    Rule(RuleSpec),
}

#[derive(Clone, Copy, Debug)]
enum Handling {
    Filtered,
    Deferred,
    UnscopedIn,
}

#[derive(Clone, Debug)]
struct RuleSpec {
    resource: Option<&'static str>,
    methods: Vec<(&'static str, Access)>,
    kind: Option<&'static str>,
    /// Whether each parameter of the pattern scopes the rule.
    path_tied: bool,
    header_ties: Vec<&'static str>,
    stances: Vec<(&'static str, Handling)>,
    unscoped: bool,
    require_networks: bool,
    origin: Option<bool>,
    concealed: bool,
}

#[derive(Clone, Debug)]
struct Ask {
    method: &'static str,
    path: &'static str,
    /// Whether the request comes from a router that found no route.
    unrouted: bool,
    headers: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
struct Key {
    permissions: Vec<(&'static str, Access)>,
    lists: Vec<(&'static str, bool)>,
    kind: Option<&'static str>,
    bound: bool,
    at_home: bool,
    origins: bool,
}

impl PolicySpec {
    fn dimension(&self, name: &'static str) -> Dimension {
        match name {
            "shop" => Dimension::new("shop", GRAMMARS[self.grammars.0]),
            "project" => Dimension::new("project", GRAMMARS[self.grammars.1]),
            "document" => Dimension::new("document", IdGrammar::Opaque),
            name => Dimension::named(name),
        }
    }

    fn rule(&self, pattern: &str, spec: &RuleSpec) -> Rule {
        let mut rule = spec.resource.map_or_else(Rule::authenticated, Rule::resource);
        for (method, access) in &spec.methods {
            rule = rule.method(method.parse().unwrap(), *access);
        }
        let in_path = |name: &str| spec.path_tied && pattern.contains(&format!("{{{name}}}"));
        for name in DIMENSIONS.iter().filter(|name| in_path(name)) {
            rule = rule.scoped(EntityRef::from_path(self.dimension(name), *name));
        }
        for name in &spec.header_ties {
            let header = HeaderName::try_from(format!("x-{name}").replace('_', "-")).unwrap();
            rule = rule.scoped(EntityRef::from_header(self.dimension(name), header));
        }
        // A rule cannot both be scoped by a dimension and handle it in another way.
        let scoped = |name: &str| in_path(name) || spec.header_ties.contains(&name);
        for (name, stance) in spec.stances.iter().filter(|(name, _)| !scoped(name)) {
            rule = match stance {
                Handling::Filtered => rule.filtered(self.dimension(name)),
                Handling::Deferred => rule.deferred(self.dimension(name)),
                Handling::UnscopedIn => rule.unscoped_for(self.dimension(name)),
            };
        }
        if let Some(kind) = spec.kind {
            rule = rule.kind(kind);
        }
        if let Some(normalized) = spec.origin {
            rule = if normalized { rule.origin(Origin::normalized()) } else { rule.require_origin() };
        }
        rule = if spec.unscoped { rule.unscoped() } else { rule };
        rule = if spec.require_networks { rule.require_networks() } else { rule };
        if spec.concealed { rule.concealed() } else { rule }
    }

    fn build<'a>(&'a self, routes: impl Iterator<Item = &'a RouteSpec>) -> Policy {
        let mut builder = Policy::builder();
        for (pattern, any, methods) in routes {
            for (method, target) in methods {
                let method: Method = method.parse().unwrap();
                builder = match target {
                    TargetSpec::Public => builder.method_public(method, pattern),
                    TargetSpec::Rule(spec) => builder.method_route(method, pattern, self.rule(pattern, spec)),
                };
            }
            builder = match any {
                None => builder,
                Some(TargetSpec::Public) => builder.public(pattern),
                Some(TargetSpec::Rule(spec)) => builder.route(pattern, self.rule(pattern, spec)),
            };
        }
        builder = match &self.fallback {
            None => builder,
            Some(TargetSpec::Public) => builder.public_fallback(),
            Some(TargetSpec::Rule(spec)) => builder.fallback(self.rule("", spec)),
        };
        // The two settings are independent of each other, so one flag suffices to set both or neither.
        let builder = if self.preflight { builder.allow_preflight().finish_in_flight() } else { builder };
        builder.build().unwrap()
    }
}

impl Key {
    fn principal(&self) -> Principal {
        let mut grant = Grant::builder();
        for (resource, access) in &self.permissions {
            grant = if *access == Access::Read { grant.read(*resource) } else { grant.write(*resource) };
        }
        for (name, include) in &self.lists {
            let ids = if matches!(*name, "shop") { ["de", "7"] } else { ["1", "3"] };
            grant = if *include { grant.only(*name, ids) } else { grant.except(*name, ids) };
        }
        if self.bound {
            grant = grant.from_networks(["10.0.0.0/8"]);
        }
        if self.origins {
            grant = grant.from_origins(&ORIGINS[..1]);
        }
        let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k"))
            .kind(self.kind.map(str::to_owned))
            .grant(grant.build().unwrap())
            .build();
        let directory = Directory::builder().shop("de", Some("1")).country("de", "at", Some("1001")).build().unwrap();
        let home = IpAddr::from([10, 0, 0, 1]);
        let client = if self.at_home { ClientAddress::from(home) } else { ClientAddress::UNKNOWN };
        Principal::new(Arc::new(record), directory, client)
    }
}

/// Returns the four answers of a policy about a request as text.
fn verdicts(policy: &Policy, principal: &Principal, ask: &Ask) -> [String; 4] {
    let mut request = Request::builder().method(ask.method).uri(ask.path);
    for (name, value) in &ask.headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(()).unwrap();
    if ask.unrouted {
        let uri = request.uri().clone();
        request.extensions_mut().insert(OriginalUri(uri));
    }
    let explanation = policy.explain(principal, &Head::new(&request), SystemTime::UNIX_EPOCH).to_string();
    let public = policy.is_public(&Head::new(&request)).to_string();
    let decided = format!("{:?}", policy.authorize_operation(principal, request.method(), ask.path));
    request.extensions_mut().insert(principal.clone());
    [explanation, public, decided, format!("{:?}", policy.evaluate(&Head::new(&request)))]
}

fn target(scoped: bool) -> impl Strategy<Value = TargetSpec> {
    let access = || prop_oneof![Just(Access::Read), Just(Access::Write)];
    let stance = prop_oneof![
        3 => Just(None), 1 => Just(Some(Handling::Filtered)), 1 => Just(Some(Handling::Deferred)),
        1 => Just(Some(Handling::UnscopedIn)),
    ];
    let stances = prop::collection::vec(stance, DIMENSIONS.len()).prop_map(|stances| {
        let mut named: Vec<_> =
            DIMENSIONS.into_iter().zip(stances).filter_map(|(name, over)| Some((name, over?))).collect();
        // The file groups dimensions by their handling, so the order of dimensions across groups, which decides the
        // first one that a message names, would be lost.
        named.sort_by_key(|(_, stance)| *stance as u8);
        named
    });
    let rarely = || prop::bool::weighted(0.15);
    let heads = (
        prop::option::weighted(0.8, select(&RESOURCES[..])),
        prop::collection::vec((select(&["POST", "GET", "PURGE"][..]), access()), 0..=3),
        prop::option::weighted(0.15, select(&["admin", "runtime"][..])),
        prop::bool::weighted(if scoped { 0.7 } else { 0.0 }),
        prop::option::weighted(0.25, select(&DIMENSIONS[..])).prop_map(|tie| tie.into_iter().collect()),
    );
    let rule =
        (heads, stances, prop::bool::weighted(0.7), rarely(), prop::option::weighted(0.2, any::<bool>()), rarely())
            .prop_map(
                |(
                    (resource, methods, kind, path_tied, header_ties),
                    stances,
                    unscoped,
                    require_networks,
                    origin,
                    concealed,
                )| {
                    TargetSpec::Rule(RuleSpec {
                        resource,
                        methods,
                        kind,
                        path_tied,
                        header_ties,
                        stances,
                        unscoped,
                        require_networks,
                        origin,
                        concealed,
                    })
                },
            );
    prop_oneof![1 => Just(TargetSpec::Public), 6 => rule]
}

/// Leaves out a rule for a single method that no request could pass.
fn reachable((method, mut target): (&'static str, TargetSpec)) -> Option<(&'static str, TargetSpec)> {
    match &mut target {
        TargetSpec::Public if method == "PURGE" => return None,
        TargetSpec::Rule(spec) if method == "PURGE" => spec.methods.insert(0, ("PURGE", Access::Write)),
        _ => {}
    }
    Some((method, target))
}

fn policy() -> impl Strategy<Value = PolicySpec> {
    let methods = prop::sample::subsequence(&["GET", "HEAD", "POST", "PURGE"][..], 0..=2).prop_shuffle();
    let methods = (methods, target(true), target(true))
        .prop_map(|(methods, one, two)| methods.into_iter().zip([one, two]).filter_map(reachable).collect());
    let route = (prop::option::weighted(0.7, target(true)), methods);
    let routes = prop::collection::vec(route, PATTERNS.len()).prop_map(|routes| {
        let all = PATTERNS.into_iter().zip(routes).map(|(pattern, (any, methods))| (pattern, any, methods));
        all.collect::<Vec<RouteSpec>>()
    });
    let grammars = (0..GRAMMARS.len(), 0..GRAMMARS.len());
    (grammars, routes.prop_shuffle(), prop::option::of(target(false)), any::<bool>())
        .prop_map(|(grammars, routes, fallback, preflight)| PolicySpec { grammars, routes, fallback, preflight })
}

fn ask() -> impl Strategy<Value = Ask> {
    let header = select(
        &[
            ("origin", ORIGINS[0]),
            ("origin", ORIGINS[1]),
            ("access-control-request-method", "GET"),
            ("access-control-request-method", "POST"),
            ("x-company", "1"),
            ("x-shop", "de"),
            ("x-shop", "DE"),
            ("x-shop-country", "1001"),
            ("x-project", "3"),
            ("x-project", "3a"),
            ("x-document", "A.b"),
        ][..],
    );
    let headers = prop::collection::vec(header, 0..=6);
    (select(&METHODS[..]), select(&PATHS[..]), prop::bool::weighted(0.1), headers)
        .prop_map(|(method, path, unrouted, headers)| Ask { method, path, unrouted, headers })
}

fn key() -> impl Strategy<Value = Key> {
    let access = prop_oneof![1 => Just(Access::Read), 3 => Just(Access::Write)];
    let permissions = prop::collection::vec(access, 2).prop_flat_map(|access| {
        prop::sample::subsequence(RESOURCES.into_iter().zip(access).collect::<Vec<_>>(), 0..=2)
    });
    let lists = prop::collection::vec(any::<bool>(), 3).prop_flat_map(|include| {
        let all: Vec<_> = ["company", "shop", "project"].into_iter().zip(include).collect();
        prop::sample::subsequence(all, 0..=2)
    });
    let kind = prop::option::of(select(&["admin", "runtime"][..]));
    (permissions, lists, kind, any::<bool>(), prop::bool::weighted(0.8), any::<bool>()).prop_map(
        |(permissions, lists, kind, bound, at_home, origins)| Key { permissions, lists, kind, bound, at_home, origins },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_from_a_file_decides_as_the_code_does(
        spec in policy(),
        keys in prop::collection::vec(key(), 3),
        asks in prop::collection::vec(ask(), 24),
    ) {
        let coded = spec.build(spec.routes.iter());
        let text = coded.export().unwrap();
        prop_assert_eq!(&spec.build(spec.routes.iter().rev()).export().unwrap(), &text, "moving code changes nothing");
        let read = Policy::parse(&text, "policy.json").unwrap();
        prop_assert_eq!(&read.export().unwrap(), &text);
        for principal in keys.iter().map(Key::principal) {
            for ask in &asks {
                prop_assert_eq!(verdicts(&read, &principal, ask), verdicts(&coded, &principal, ask), "{:?}\n{}", ask, text);
            }
        }
    }
}

/// The round trip would prove nothing if the generators missed some fields or outcomes.
#[test]
fn the_generators_reach_every_field_and_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    let (mut admitted, mut total) = (0, 0);
    for _ in 0..200 {
        let (spec, key, ask) = (policy(), key(), ask()).new_tree(&mut runner).unwrap().current();
        let policy = spec.build(spec.routes.iter());
        let text = policy.export().unwrap();
        seen.extend(text.split('"').skip(1).step_by(2).map(str::to_owned));
        let explanation = &verdicts(&policy, &key.principal(), &ask)[0];
        seen.extend(
            explanation
                .lines()
                .filter_map(|line| line.split_once("DENY  ")?.1.split([' ', ':']).next().map(str::to_owned)),
        );
        admitted += usize::from(explanation.starts_with("allowed"));
        total += 1;
    }
    for word in [
        "dimensions",
        "number",
        "opaque",
        "allow_preflight",
        "finish_in_flight",
        "fallback",
        "method",
        "public",
        "resource",
        "authenticated",
        "methods",
        "kind",
        "scoped",
        "path",
        "header",
        "filtered",
        "deferred",
        "unscoped_for",
        "unscoped",
        "require_networks",
        "origin",
        "exact",
        "normalized",
        "concealed",
        "permission",
        "networks",
        "this",
    ] {
        assert!(seen.contains(word), "{word} in {seen:?}");
    }
    assert!((20..180).contains(&admitted), "{admitted} of {total} were admitted");
}
