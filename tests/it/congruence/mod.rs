//! The router and the policy interpret every request in the same way. Over random axum routers and hostile request
//! targets, a handler runs if and only if the rule of its own route admitted the request, once, for the method and
//! the parameters that the handler sees.
//!
//! The same router without a gate shows what axum would have done. The expected behaviour of the gate is restated
//! here from the specification, and shares no code with the crate.

mod one_list;

use std::{
    future::{Ready, ready},
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, OriginalUri, RawPathParams, Request, rejection::RawPathParamsRejection},
    routing::{self, MethodFilter, MethodRouter},
};
use http::{Method, Uri, header::AUTHORIZATION};
use proptest::{
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree as _,
    test_runner::{TestCaseError, TestCaseResult, TestError, TestRng, TestRunner},
};
use tower::{ServiceExt as _, util::MapRequestLayer};
use tower_authz::{
    Access, AuthenticateLayer, Authz, CleanPath, Denial, Grant, GuardedRouter, Head, Policy, RequireLayer, RouteRules,
    Rule, store::MemoryStore,
};

use crate::support::{KEY, store};

// ---- Generators ---------------------------------------------------------------------------------

/// A generated router, which may still contain conflicts.
#[derive(Clone, Debug)]
struct Shape {
    routes: Vec<RouteShape>,
    children: Vec<(Joint, Shape)>,
    fallback: bool,
}

#[derive(Clone, Debug)]
struct RouteShape {
    path: Vec<Segment>,
    slash: bool,
    methods: Methods,
    rule: RuleKind,
}

/// How a router is added to another.
#[derive(Clone, Debug)]
enum Joint {
    Nest { prefix: Vec<Segment>, slash: bool },
    Merge,
}

#[derive(Clone, Copy, Debug)]
enum Segment {
    Literal(&'static str),
    Parameter,
    /// A segment `x-{p}`.
    Prefixed,
    /// A segment `{*p}`. Segments after it are dropped.
    Rest,
}

#[derive(Clone, Copy, Debug)]
enum Methods {
    Any,
    Get,
    Post,
    GetAndDelete,
    /// The route `get(..).fallback(..)`.
    GetElseFallback,
    /// The route is built by two calls of `route` for one path.
    GetMergedWithPost,
}

/// The kind of rule that the policy has for a route.
#[derive(Clone, Copy, Debug, PartialEq)]
enum RuleKind {
    Ruled,
    /// The rule accepts a method that is not a standard HTTP method.
    Purging,
    GetOnly,
    GetRuledPostPublic,
    Refusing,
    Public,
    LeftOut,
    /// The policy has a public route that the router lacks.
    Ghost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fallback {
    Refused,
    Public,
    Ruled,
}

#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    /// The router, of all in the tree, that the gate is applied to.
    gate: Option<Index>,
    fallback: Fallback,
    asks: Vec<Ask>,
}

#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    target: Target,
}

#[derive(Clone, Debug)]
enum Target {
    /// A path of a route, with these values in its parameters, and then with random edits.
    Near {
        route: Index,
        values: Vec<Vec<u8>>,
        edits: Vec<(Index, Edit)>,
        absolute: bool,
    },
    Free(Vec<Vec<u8>>),
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(Vec<u8>),
    Escape { upper: bool },
    Upper,
    Delete,
    Append(Vec<u8>),
    Prepend(Vec<u8>),
}

fn segment() -> impl Strategy<Value = Segment> {
    prop_oneof![
        8 => select(&["a", "b", "admin", "v1.2"][..]).prop_map(Segment::Literal),
        1 => select(&["A", "a%20b", "caf%C3%A9", "~x", "x-1"][..]).prop_map(Segment::Literal),
        // No rule can have these in its pattern.
        1 => select(&["..", "a;b", "%2e%2e", "", "b%2Fc"][..]).prop_map(Segment::Literal),
        4 => Just(Segment::Parameter),
        2 => Just(Segment::Prefixed),
        1 => Just(Segment::Rest),
    ]
}

fn route_shape() -> impl Strategy<Value = RouteShape> {
    let methods = [
        Methods::Any,
        Methods::Any,
        Methods::Get,
        Methods::Post,
        Methods::GetAndDelete,
        Methods::GetElseFallback,
        Methods::GetMergedWithPost,
    ];
    let rules = [
        RuleKind::Ruled,
        RuleKind::Ruled,
        RuleKind::Ruled,
        RuleKind::Purging,
        RuleKind::GetOnly,
        RuleKind::GetRuledPostPublic,
        RuleKind::Refusing,
        RuleKind::Public,
        RuleKind::LeftOut,
        RuleKind::Ghost,
    ];
    (
        prop::collection::vec(segment(), 0..=3),
        prop::bool::weighted(0.15),
        select(methods.to_vec()),
        select(rules.to_vec()),
    )
        .prop_map(|(path, slash, methods, rule)| RouteShape { path, slash, methods, rule })
}

fn shape() -> impl Strategy<Value = Shape> {
    let routes = || prop::collection::vec(route_shape(), 0..=3);
    let leaf = (routes(), prop::bool::weighted(0.2)).prop_map(|(routes, fallback)| Shape {
        routes,
        children: Vec::new(),
        fallback,
    });
    let joint = prop_oneof![
        4 => (prop::collection::vec(segment(), 1..=2), prop::bool::weighted(0.1))
            .prop_map(|(prefix, slash)| Joint::Nest { prefix, slash }),
        1 => Just(Joint::Merge),
    ];
    leaf.prop_recursive(4, 6, 2, move |inner| {
        (routes(), prop::collection::vec((joint.clone(), inner), 0..=2), prop::bool::weighted(0.4))
            .prop_map(|(routes, children, fallback)| Shape { routes, children, fallback })
    })
}

fn bytes(tokens: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    select(tokens).prop_map(<[u8]>::to_vec)
}

/// Generates the value of a parameter.
fn value() -> impl Strategy<Value = Vec<u8>> {
    const ORDINARY: &[&[u8]] =
        &[b"a", b"b", b"7", b"admin", b"d%65", b"%C3%A9", b"A", b"x-1", b"a..b", b"~!$&'()*+,=:@", b"%20"];
    const HOSTILE: &[&[u8]] = &[
        b"..",
        b".",
        b"%2e%2e",
        b"%2E",
        b".%2e",
        b"...",
        b"a..",
        b"..a",
        b"a%2Fb",
        b"%2f",
        b"..%2f1",
        b"%5c",
        b"\\",
        b"%25",
        b"%2565",
        b"%252e",
        b"%00",
        b"%0a",
        b"%7f",
        b"\x7f",
        b"%80",
        b"%ff",
        b"%c3",
        b"%C3%28",
        b"%zz",
        b"%",
        b"%4",
        b"a;b",
        b"%3b",
        b";",
        b"",
        b"a/b",
        b"/",
        b"a//b",
        b"x-",
        b"{p0}",
        b"*",
        b"\xc3\xa9",
        b"\xff",
        b" ",
        b"\"<>",
        b"%u002e",
        b"%c0%ae",
        b"\xef\xbc\x8f",
    ];
    prop_oneof![
        80 => bytes(ORDINARY),
        20 => bytes(HOSTILE),
        4 => Just(Vec::new()),
        5 => prop::collection::vec(any::<u8>(), 0..4),
        5 => any::<u8>().prop_map(|byte| format!("%{byte:02x}").into_bytes()),
        1 => (bytes(&[b"a", b"%61", b"%2e", b"a/"]), 1_usize..2_000).prop_map(|(part, times)| part.repeat(times)),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    const ENDS: &[&[u8]] =
        &[b"/", b"//", b"/.", b"/..", b"/../a", b"/%2e%2e/a", b";v=1", b"?q=/../a", b"?", b"#a", b"%", b"..", b"%2f"];
    const BEGINNINGS: &[&[u8]] =
        &[b"/", b"/..", b"/.", b"/a/..", b"/admin/..", b"/admin", b"/%2e%2e", b"a", b"\\", b"?", b"%2f"];
    prop_oneof![
        value().prop_map(Edit::Insert),
        any::<bool>().prop_map(|upper| Edit::Escape { upper }),
        any::<bool>().prop_map(|upper| Edit::Escape { upper }),
        Just(Edit::Upper),
        Just(Edit::Delete),
        bytes(ENDS).prop_map(Edit::Append),
        bytes(BEGINNINGS).prop_map(Edit::Prepend),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    let edits = prop_oneof![
        4 => Just(Vec::new()),
        3 => prop::collection::vec((any::<Index>(), edit()), 1..=2),
    ];
    let free = prop_oneof![2 => Just(b"/".to_vec()), 3 => value()];
    prop_oneof![
        20 => (any::<Index>(), prop::collection::vec(value(), 1..=4), edits, prop::bool::weighted(0.03))
            .prop_map(|(route, values, edits, absolute)| Target::Near { route, values, edits, absolute }),
        3 => prop::collection::vec(free, 0..8).prop_map(Target::Free),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let names = [
        "GET", "GET", "GET", "GET", "GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE",
        "CONNECT", "PURGE", "get",
    ];
    let method = select(names.map(|name| name.parse::<Method>().unwrap()).to_vec());
    let asks = prop::collection::vec((method, target()).prop_map(|(method, target)| Ask { method, target }), 1..=3);
    let fallback = select(&[Fallback::Refused, Fallback::Public, Fallback::Ruled][..]);
    (shape(), prop::option::of(any::<Index>()), fallback, asks).prop_map(|(shape, gate, fallback, asks)| Case {
        shape,
        gate,
        fallback,
        asks,
    })
}

// ---- The router of a case ----------------------------------------------------------------------

/// A router that axum accepts: conflicts, and what axum cannot express, are left out.
struct Node {
    routes: Vec<(String, usize)>,
    children: Vec<(Option<String>, Node)>,
    fallback: Option<usize>,
    gated: bool,
}

/// A route, or a fallback handler if it has no pattern.
#[derive(Clone, Debug)]
struct Location {
    /// The pattern with all prefixes, which is joined here and not by axum.
    pattern: Option<String>,
    methods: Methods,
    rule: RuleKind,
    gated: bool,
}

struct Planner {
    gate: usize,
    /// The prefix of the router that the gate is applied to.
    gate_prefix: String,
    nodes: usize,
    fallbacks: Vec<String>,
    places: Vec<Location>,
}

impl Planner {
    fn plan(case: &Case) -> (Node, Self) {
        let gate = case.gate.map_or(0, |index| index.index(count(&case.shape)));
        let mut planner =
            Self { gate, gate_prefix: String::new(), nodes: 0, fallbacks: Vec::new(), places: Vec::new() };
        let root = planner.node(&case.shape, "", false, true);
        (root, planner)
    }

    fn node(&mut self, shape: &Shape, prefix: &str, gated: bool, may_fall_back: bool) -> Node {
        let gate_here = self.nodes == self.gate;
        if gate_here {
            prefix.clone_into(&mut self.gate_prefix);
        }
        let gated = gated || gate_here;
        self.nodes += 1;
        let mut node = Node { routes: Vec::new(), children: Vec::new(), fallback: None, gated: gate_here };
        for route in &shape.routes {
            let (path, clean) = written(&route.path, route.slash, prefix);
            let pattern = joined(prefix, &path);
            if self.places.iter().filter_map(|place| place.pattern.as_deref()).any(|other| conflict(&pattern, other)) {
                continue;
            }
            let rule = if clean { route.rule } else { RuleKind::LeftOut };
            if rule != RuleKind::Ghost {
                node.routes.push((path, self.places.len()));
            } else if pattern.contains('*') {
                // A rest pattern is meant to match where axum matched nothing.
                continue;
            }
            self.places.push(Location { pattern: Some(pattern), methods: route.methods, rule, gated });
        }
        // axum registers a fallback under the prefix like a route, so two must not have the same prefix, and the
        // prefix must not have a parameter. Of two routers that are merged only one can have a fallback.
        let base = prefix.trim_end_matches('/').to_owned();
        if shape.fallback && may_fall_back && !base.contains('{') && !self.fallbacks.contains(&base) {
            self.fallbacks.push(base);
            node.fallback = Some(self.places.len());
            self.places.push(Location { pattern: None, methods: Methods::Any, rule: RuleKind::Ruled, gated });
        }
        for (joint, child) in &shape.children {
            let (joint, prefix, may_fall_back) = match joint {
                Joint::Merge => (None, prefix.to_owned(), false),
                Joint::Nest { prefix: segments, slash } => {
                    let segments: Vec<Segment> = segments
                        .iter()
                        .map(|one| if let Segment::Rest = one { Segment::Parameter } else { *one })
                        .collect();
                    let (path, _) = written(&segments, *slash, prefix);
                    let whole = joined(prefix, &path);
                    // axum requires that routers at the root are merged.
                    if path == "/" { (None, prefix.to_owned(), false) } else { (Some(path), whole, true) }
                }
            };
            let child = self.node(child, &prefix, gated, may_fall_back);
            node.children.push((joint, child));
        }
        node
    }
}

fn count(shape: &Shape) -> usize {
    1 + shape.children.iter().map(|(_, child)| count(child)).sum::<usize>()
}

/// Returns the text of a path, and whether a rule can have it as its pattern. Parameters are named by their depth, so
/// that routes with a common prefix conflict no more than necessary.
fn written(segments: &[Segment], slash: bool, prefix: &str) -> (String, bool) {
    let depth = prefix.trim_end_matches('/').matches('/').count();
    // After a slash axum drops the leading slashes.
    let empty = |segment: &&Segment| prefix.ends_with('/') && matches!(segment, Segment::Literal(""));
    let mut text = String::new();
    for (place, segment) in segments.iter().skip_while(empty).enumerate() {
        let depth = depth + place;
        text += "/";
        match segment {
            Segment::Literal(literal) => text += literal,
            Segment::Parameter => text += &format!("{{p{depth}}}"),
            Segment::Prefixed => text += &format!("x-{{p{depth}}}"),
            Segment::Rest => {
                text += &format!("{{*p{depth}}}");
                break;
            }
        }
    }
    if text.is_empty() || (slash && !text.contains('*')) {
        text += "/";
    }
    let whole = joined(prefix, &text);
    let inside = whole.strip_prefix('/').unwrap().strip_suffix('/').unwrap_or(&whole[1..]);
    let clean = inside.is_empty() && whole == "/" || inside.split('/').all(|one| !one.is_empty() && one != "..");
    (text, clean && !whole.contains(';'))
}

/// Whether axum refuses the two in one router: they are equal, or one has a rest where the other has a parameter.
fn conflict(one: &str, other: &str) -> bool {
    let different = one.split('/').zip(other.split('/')).find(|(one, other)| one != other);
    one == other
        || different.is_some_and(|(one, other)| {
            one.starts_with('{') && other.starts_with('{') && (one.starts_with("{*") || other.starts_with("{*"))
        })
}

/// Joins as the documentation of `Router::nest` describes: the inner `/` is the prefix itself.
fn joined(prefix: &str, path: &str) -> String {
    match prefix.strip_suffix('/') {
        Some(_) => format!("{prefix}{}", path.trim_start_matches('/')),
        None if path == "/" && !prefix.is_empty() => prefix.to_owned(),
        None => format!("{prefix}{path}"),
    }
}

// ---- Recorded events ---------------------------------------------------------------------------

/// One call of a handler.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    place: usize,
    route: Option<String>,
    method: Method,
    /// The path as the handler sees it: nested routers strip prefixes.
    path: String,
    /// This is `None` if axum could not decode one of them.
    parameters: Option<Vec<(String, String)>>,
}

/// One call of the check in a rule.
#[derive(Clone, Debug, PartialEq)]
struct Decision {
    place: Option<usize>,
    route: Option<String>,
    method: Method,
    parameters: Vec<(String, Option<String>)>,
}

#[derive(Clone, Debug, Default)]
struct Events {
    matched: Option<String>,
    runs: Vec<Run>,
    decisions: Vec<Decision>,
}

type Log = Arc<Mutex<Events>>;

/// Returns the handler of a route, which records what it sees.
fn handler(
    log: &Log,
    place: usize,
) -> impl Fn(Option<MatchedPath>, Result<RawPathParams, RawPathParamsRejection>, Request) -> Ready<()>
+ Clone
+ Send
+ Sync
+ 'static {
    let log = Arc::clone(log);
    move |route, parameters, request| {
        let pairs = |all: RawPathParams| all.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        log.lock().unwrap().runs.push(Run {
            place,
            route: route.map(|route| route.as_str().to_owned()),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            parameters: parameters.ok().map(pairs),
        });
        ready(())
    }
}

fn method_router(log: &Log, place: usize, methods: Methods) -> Vec<MethodRouter> {
    let handler = handler(log, place);
    match methods {
        Methods::Any => vec![routing::any(handler)],
        Methods::Get => vec![routing::get(handler)],
        Methods::Post => vec![routing::post(handler)],
        Methods::GetAndDelete => vec![routing::on(MethodFilter::GET.or(MethodFilter::DELETE), handler)],
        Methods::GetElseFallback => vec![routing::get(handler.clone()).fallback(handler)],
        Methods::GetMergedWithPost => vec![routing::get(handler.clone()), routing::post(handler)],
    }
}

fn router(node: &Node, places: &[Location], log: &Log, gate: &impl Fn(Router) -> Router) -> Router {
    let mut router = Router::new();
    for (path, place) in &node.routes {
        for methods in method_router(log, *place, places[*place].methods) {
            router = router.route(path, methods);
        }
    }
    for (prefix, child) in &node.children {
        let child = self::router(child, places, log, gate);
        router = match prefix {
            Some(prefix) => router.nest(prefix, child),
            None => router.merge(child),
        };
    }
    if let Some(place) = node.fallback {
        router = router.fallback(handler(log, place));
    }
    if node.gated { gate(router) } else { router }
}

/// Returns a rule that records each of its decisions.
fn rule(log: &Log, place: Option<usize>, pattern: &str, admits: bool) -> Rule {
    let log = Arc::clone(log);
    let names: Vec<String> = names(pattern).map(str::to_owned).collect();
    Rule::authenticated().unscoped().check(move |head: &Head<'_>| {
        let value = |name: &String| (name.clone(), head.parameter(name).map(std::borrow::Cow::into_owned));
        log.lock().unwrap().decisions.push(Decision {
            place,
            route: head.route().map(str::to_owned),
            method: head.method().clone(),
            parameters: names.iter().map(value).collect(),
        });
        if admits { Ok(()) } else { Err(Denial::refused("not here")) }
    })
}

fn names(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('{').skip(1).filter_map(|rest| rest.split('}').next()).map(|name| name.trim_start_matches('*'))
}

fn purge() -> Method {
    "PURGE".parse().unwrap()
}

fn policy(places: &[Location], fallback: Fallback, log: &Log) -> Policy {
    let mut policy = Policy::builder();
    for (index, place) in places.iter().enumerate() {
        let Some(pattern) = &place.pattern else { continue };
        let rule = |admits| rule(log, Some(index), pattern, admits);
        policy = match place.rule {
            RuleKind::LeftOut => policy,
            // Outside of the gate the policy is not consulted, so this public route must have no effect inside.
            _ if !place.gated => policy.public(pattern),
            RuleKind::Ruled => policy.route(pattern, rule(true)),
            RuleKind::Purging => policy.route(pattern, rule(true).method(purge(), Access::Write)),
            RuleKind::GetOnly => policy.method_route(Method::GET, pattern, rule(true)),
            RuleKind::GetRuledPostPublic => {
                policy.method_route(Method::GET, pattern, rule(true)).method_public(Method::POST, pattern)
            }
            RuleKind::Refusing => policy.route(pattern, rule(false)),
            RuleKind::Public | RuleKind::Ghost => policy.public(pattern),
        };
    }
    policy = match fallback {
        Fallback::Refused => policy,
        Fallback::Public => policy.public_fallback(),
        Fallback::Ruled => policy.fallback(rule(log, None, "", true)),
    };
    policy.build().unwrap()
}

// ---- The specification -------------------------------------------------------------------------

/// The condition under which a handler may run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Demand {
    Nothing,
    /// The handler needs a key, and one decision.
    Decision,
    Impossible,
}

fn demand(place: &Location, others: &[Location], fallback: Fallback, method: &Method, path: &str) -> Demand {
    let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str());
    let reads = ["GET", "HEAD"].contains(&method.as_str());
    let public = |open| if open { Demand::Nothing } else { Demand::Impossible };
    let ruled = |open| if open { Demand::Decision } else { Demand::Impossible };
    if place.pattern.is_none() {
        // The rule of a route applies to that route only: a path that it covers must not reach the fallback, in any
        // spelling.
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let named = |other: &Location| {
            let pattern = other.pattern.as_deref().filter(|_| other.rule != RuleKind::LeftOut);
            pattern.is_some_and(|pattern| covers(pattern, path) || covers(pattern, &decoded))
        };
        if others.iter().any(named) {
            return Demand::Impossible;
        }
        return match fallback {
            Fallback::Refused => Demand::Impossible,
            Fallback::Public => public(known),
            Fallback::Ruled => ruled(known),
        };
    }
    match place.rule {
        RuleKind::Ruled => ruled(known),
        RuleKind::Purging => ruled(known || *method == purge()),
        RuleKind::GetOnly => ruled(reads),
        RuleKind::GetRuledPostPublic if *method == Method::POST => Demand::Nothing,
        RuleKind::GetRuledPostPublic => ruled(reads),
        RuleKind::Public => public(known),
        RuleKind::Refusing | RuleKind::LeftOut | RuleKind::Ghost => Demand::Impossible,
    }
}

/// Whether a pattern covers a path, compared segment by segment.
fn covers(pattern: &str, path: &str) -> bool {
    let (mut segments, mut values) = (pattern.split('/').peekable(), path.split('/'));
    while let Some(segment) = segments.next() {
        let Some(value) = values.next() else { return false };
        let fits = match segment.split_once('{') {
            Some((_, name)) if name.starts_with('*') => return !value.is_empty(),
            // axum matches `/x-/a` for `/x-{p}/a`, but not `/x-` for `/x-{p}`.
            Some((before, _)) => value
                .strip_prefix(before)
                .is_some_and(|rest| !rest.is_empty() || (!before.is_empty() && segments.peek().is_some())),
            None => value == segment,
        };
        if !fits {
            return false;
        }
    }
    values.next().is_none()
}

/// Checks S14 on the decoded text, whereas the crate scans the raw one.
fn is_clean(path: &str) -> bool {
    let visible = |byte: u8| (0x21..=0x7e).contains(&byte);
    let Some(rest) = path.strip_prefix('/') else { return false };
    if !path.bytes().all(visible) || path.contains(['\\', ';']) {
        return false;
    }
    let segments: Vec<&str> = rest.split('/').collect();
    segments.iter().enumerate().all(|(index, segment)| {
        let last = index + 1 == segments.len();
        let escapes: Option<Vec<u8>> = segment
            .split('%')
            .skip(1)
            .map(|escape| match escape.as_bytes() {
                [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    u8::from_str_radix(&escape[..2], 16).ok()
                }
                _ => None,
            })
            .collect();
        let Some(escapes) = escapes else { return false };
        let harmless = |byte: &u8| *byte >= 0x20 && *byte != 0x7f && !b"/\\.%;".contains(byte);
        (last || !segment.is_empty())
            && *segment != "."
            && !segment.ends_with("..")
            && escapes.iter().all(harmless)
            && percent_encoding::percent_decode_str(segment).decode_utf8().is_ok()
    })
}

// ---- The property ------------------------------------------------------------------------------

/// The layers around the router.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    Whole,
    /// Both layers are applied separately, and the path is not checked.
    WithoutCleanPath,
    /// The gate does not see the route that axum matched, so the policy matches the path that it sees.
    WithoutMatchedRoute,
    /// Two gates are around the router, so each request is decided twice.
    Twice,
}

#[derive(Clone)]
struct Hidden(Option<MatchedPath>, Option<OriginalUri>);

fn hide(mut request: Request) -> Request {
    let extensions = request.extensions_mut();
    let hidden = Hidden(extensions.remove(), extensions.remove());
    extensions.insert(hidden);
    request
}

fn show(mut request: Request) -> Request {
    let extensions = request.extensions_mut();
    if let Some(Hidden(route, uri)) = extensions.remove() {
        route.map(|route| extensions.insert(route));
        uri.map(|uri| extensions.insert(uri));
    }
    request
}

fn gated(router: Router, gate: Gate, policy: &Arc<Policy>) -> Router {
    static STORE: LazyLock<MemoryStore> = LazyLock::new(|| store(Grant::default()));
    let authz = || Authz::new(STORE.clone(), Arc::clone(policy));
    match gate {
        Gate::Whole => router.layer(authz()),
        Gate::WithoutCleanPath => router
            .layer(RequireLayer::new(Arc::clone(policy)))
            .layer(AuthenticateLayer::new(STORE.clone()).with_public_routes(Arc::clone(policy))),
        Gate::WithoutMatchedRoute => {
            let hidden = router.layer(MapRequestLayer::new(show)).layer(authz()).layer(MapRequestLayer::new(hide));
            hidden.layer(RequireLayer::new(CleanPath::new()))
        }
        Gate::Twice => router.layer(authz()).layer(authz()),
    }
}

/// Counts what the requests reached, so that the property cannot hold vacuously.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    decided: usize,
    public: usize,
    fallback: usize,
    outside: usize,
    inner_gate: usize,
    with_parameters: usize,
    unclean: usize,
    refused: usize,
    deepest: usize,
}

/// A router without a gate, the same router with one, and a log of the events in them.
struct World {
    places: Vec<Location>,
    fallback: Fallback,
    bare: Router,
    whole: Router,
    log: Log,
    gate_is_inner: bool,
    /// axum matches `/x-{p}` but does not strip it: below such a prefix the text of a `{*rest}` in the handler is
    /// unknown.
    rest_is_uncertain: bool,
    /// The routes by pattern, where a tree that is another route when its path is decoded must not be reached.
    trees: Option<matchit::Router<usize>>,
}

impl World {
    /// Returns `None` if axum refuses the router because two routes conflict after nesting.
    fn new(case: &Case, gate: Gate) -> Option<Self> {
        let (node, Planner { places, gate_prefix, .. }) = Planner::plan(case);
        let log = Log::default();
        let bare = AssertUnwindSafe(|| router(&node, &places, &log, &|router| router));
        let bare = std::panic::catch_unwind(bare).ok()?;
        let policy = Arc::new(policy(&places, case.fallback, &log));
        let whole = router(&node, &places, &log, &|router| gated(router, gate, &policy));
        let matched = Arc::clone(&log);
        let bare = bare.layer(MapRequestLayer::new(move |request: Request| {
            matched.lock().unwrap().matched =
                request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
            request
        }));
        let (gate_is_inner, rest_is_uncertain) = (!node.gated, gate_prefix.contains("x-{"));
        let fallback = case.fallback;
        Some(Self { places, fallback, bare, whole, log, gate_is_inner, rest_is_uncertain, trees: None })
    }

    fn send(&self, router: &Router, method: &Method, uri: &Uri, key: bool) -> Events {
        *self.log.lock().unwrap() = Events::default();
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert("x-http-method-override", "GET".parse().unwrap());
        if key {
            request.headers_mut().insert(AUTHORIZATION, format!("Bearer {KEY}").parse().unwrap());
        }
        futures::executor::block_on(router.clone().oneshot(request)).unwrap();
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// Checks both directions: no handler runs that must not, and every handler runs that may.
    fn check(&self, method: &Method, uri: &Uri, reached: &mut Reached) -> Result<(), String> {
        let truth = self.send(&self.bare, method, uri, true);
        for key in [true, false] {
            let events = self.send(&self.whole, method, uri, key);
            self.check_sound(&events, uri, key)?;
            let may_run = |run: &&Run| {
                let place = &self.places[run.place];
                !place.gated
                    || is_clean(uri.path())
                        && !self.is_another_tree(run.place, uri.path())
                        && match demand(place, &self.places, self.fallback, method, uri.path()) {
                            Demand::Nothing => true,
                            Demand::Decision => key,
                            Demand::Impossible => false,
                        }
            };
            let expected: Vec<&Run> = truth.runs.iter().filter(may_run).collect();
            if expected != events.runs.iter().collect::<Vec<_>>() {
                return Err(format!("what ran is not what should have run: {expected:?}, but {events:?}"));
            }
            if events.runs.is_empty() && events.decisions.iter().any(|one| one.route != truth.matched) {
                return Err(format!("decided about another route than axum matched: {events:?}, but {truth:?}"));
            }
            if key {
                self.count(&events, uri, reached);
            }
        }
        Ok(())
    }

    /// Whether the route takes whole trees, and the path is another route when it is decoded.
    fn is_another_tree(&self, place: usize, path: &str) -> bool {
        let (Some(trees), Some(pattern)) = (&self.trees, &self.places[place].pattern) else { return false };
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        pattern.contains("{*") && trees.at(&decoded).is_ok_and(|found| *found.value != place)
    }

    /// Checks that a handler ran only on a clean path, and only by one decision, which was about the same request.
    fn check_sound(&self, events: &Events, uri: &Uri, key: bool) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what}: {events:?}"));
        let run = match &*events.runs {
            [] if events.decisions.len() > 1 => return wrong("decided more than once, and refused"),
            [] => return Ok(()),
            [run] => run,
            _ => return wrong("more than one handler ran"),
        };
        let place = &self.places[run.place];
        if !place.gated {
            return if events.decisions.is_empty() { Ok(()) } else { wrong("decided outside of the gate") };
        }
        if !is_clean(uri.path()) {
            return wrong("a handler ran on an unclean path");
        }
        match (demand(place, &self.places, self.fallback, &run.method, uri.path()), &*events.decisions) {
            (Demand::Nothing, []) => Ok(()),
            (Demand::Nothing, _) => wrong("decided about a public route"),
            (Demand::Impossible, _) => wrong("a handler ran that no rule admits"),
            (Demand::Decision, _) if !key => wrong("a handler ran without a key"),
            (Demand::Decision, []) => wrong("a handler ran without a decision"),
            (Demand::Decision, [decision]) => {
                let parameters = run.parameters.clone().unwrap_or_default();
                let seen = Decision {
                    place: place.pattern.is_some().then_some(run.place),
                    route: place.pattern.clone(),
                    method: run.method.clone(),
                    // A fallback below a parameter sees it, but its rule cannot read it.
                    parameters: match &place.pattern {
                        Some(pattern) => {
                            let is_certain = !(self.rest_is_uncertain && pattern.contains("{*"));
                            let known = |value| Some(value).filter(|_| is_certain);
                            parameters.into_iter().map(|(name, value)| (name, known(value))).collect()
                        }
                        None => Vec::new(),
                    },
                };
                if place.pattern != run.route || run.parameters.is_none() {
                    return wrong("the handler itself does not know where it is");
                }
                if *decision != seen { wrong("the decision was about something else") } else { Ok(()) }
            }
            (Demand::Decision, _) => wrong("decided more than once"),
        }
    }

    fn count(&self, events: &Events, uri: &Uri, reached: &mut Reached) {
        reached.unclean += usize::from(!is_clean(uri.path()));
        let Some(run) = events.runs.first() else {
            reached.refused += 1;
            return;
        };
        let place = &self.places[run.place];
        let decided = !events.decisions.is_empty();
        reached.decided += usize::from(decided);
        reached.public += usize::from(!decided && place.gated);
        reached.fallback += usize::from(place.pattern.is_none() && place.gated);
        reached.outside += usize::from(!place.gated);
        reached.inner_gate += usize::from(self.gate_is_inner && place.gated);
        reached.with_parameters += usize::from(decided && run.parameters.as_ref().is_some_and(|all| !all.is_empty()));
        let slashes = place.pattern.as_ref().map_or(0, |pattern| pattern.matches('/').count());
        reached.deepest = reached.deepest.max(slashes);
    }

    /// Returns the request target, or `None` if it is not valid: then no server would pass it to a router.
    fn uri(&self, target: &Target) -> Option<Uri> {
        let mut text = match target {
            Target::Free(parts) => parts.concat(),
            Target::Near { route, values, .. } => {
                // Routes outside of the gate are less interesting, so they are chosen less often.
                let often = |place: &'_ &Location| if place.gated { 4 } else { 1 };
                let patterns: Vec<&str> = self
                    .places
                    .iter()
                    .flat_map(|place| std::iter::repeat_n(place.pattern.as_deref(), often(&place)).flatten())
                    .collect();
                filled(if patterns.is_empty() { "/" } else { patterns[route.index(patterns.len())] }, values)
            }
        };
        if let Target::Near { edits, absolute, .. } = target {
            for (at, edit) in edits {
                spoil(&mut text, *at, edit);
            }
            if *absolute {
                text.splice(0..0, *b"http://example.com");
            }
        }
        Uri::try_from(text).ok()
    }
}

/// Replaces the parameters of the pattern by values.
fn filled(pattern: &str, values: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = pattern.split('{');
    let mut text = parts.next().unwrap().as_bytes().to_vec();
    for (part, value) in parts.zip(values.iter().cycle()) {
        text.extend(value);
        text.extend(part.split_once('}').unwrap().1.as_bytes());
    }
    text
}

fn spoil(text: &mut Vec<u8>, at: Index, edit: &Edit) {
    let at = at.index(text.len() + 1);
    let end = (at + 1).min(text.len());
    match edit {
        Edit::Insert(bytes) => drop(text.splice(at..at, bytes.iter().copied())),
        Edit::Append(bytes) => text.extend(bytes),
        Edit::Prepend(bytes) => drop(text.splice(0..0, bytes.iter().copied())),
        Edit::Delete => drop(text.drain(at..end)),
        Edit::Upper => text[at..end].make_ascii_uppercase(),
        Edit::Escape { upper } => {
            let escape = |byte: &u8| if *upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            let escaped: Vec<u8> = text[at..end].iter().flat_map(|byte| escape(byte).into_bytes()).collect();
            text.splice(at..end, escaped);
        }
    }
}

fn check(case: &Case, reached: &mut Reached) -> TestCaseResult {
    World::new(case, Gate::Whole).map_or(Ok(()), |world| check_world(&world, case, reached))
}

fn check_world(world: &World, case: &Case, reached: &mut Reached) -> TestCaseResult {
    for Ask { method, target } in &case.asks {
        let Some(uri) = world.uri(target) else { continue };
        world
            .check(method, &uri, reached)
            .map_err(|what| TestCaseError::fail(format!("{method} {uri:?} of {:?}: {what}", world.places)))?;
    }
    Ok(())
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = std::env::var_os("PROPTEST_CASES").map_or(10_000, |_| default.cases);
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_handler_runs_if_and_only_if_one_decision_was_made_for_it(case in case()) {
        check(&case, &mut Reached::default())?;
    }
}

#[test]
fn the_generators_reach_what_they_should() {
    let mut runner = TestRunner::deterministic();
    let cases = case();
    let mut reached = Reached::default();
    for _ in 0..1_000 {
        check(&cases.new_tree(&mut runner).unwrap().current(), &mut reached).unwrap();
    }
    let Reached { decided, public, fallback, outside, inner_gate, with_parameters, unclean, refused, deepest } =
        reached;
    for (count, least) in [
        (decided, 200),
        (public, 30),
        (fallback, 30),
        (outside, 50),
        (inner_gate, 20),
        (with_parameters, 80),
        (unclean, 300),
        (refused, 500),
        (deepest, 6),
    ] {
        assert!(count >= least, "{reached:?}");
    }
}

/// Returns the first request that a gate admits though it must not. It checks only the direction that says what must
/// not run.
fn violation(gate: Gate) -> Option<String> {
    let config = ProptestConfig { max_shrink_iters: 0, ..config() };
    let mut runner = TestRunner::new_with_rng(config.clone(), TestRng::deterministic_rng(config.rng_algorithm));
    let outcome = runner.run(&case(), |case| {
        let Some(world) = World::new(&case, gate) else { return Ok(()) };
        for Ask { method, target } in &case.asks {
            let Some(uri) = world.uri(target) else { continue };
            let events = world.send(&world.whole, method, &uri, true);
            world.check_sound(&events, &uri, true).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(what, _)) => Some(what.message().to_owned()),
        Err(error) => panic!("{error}"),
    }
}

/// A property that cannot fail is worthless, so it must detect three gates that are broken on purpose.
#[test]
fn the_property_notices_a_broken_gate() {
    for (gate, messages) in [
        (Gate::WithoutCleanPath, &["a handler ran on an unclean path"][..]),
        (
            Gate::WithoutMatchedRoute,
            &[
                "a handler ran without a decision",
                "a handler ran that no rule admits",
                "the decision was about something else",
            ],
        ),
        (Gate::Twice, &["decided more than once"]),
    ] {
        let found = violation(gate).unwrap_or_default();
        assert!(messages.iter().any(|message| found.starts_with(message)), "{gate:?}: {found:?}");
    }
}
