//! The same property of a guarded router, whose policy and router are made of one list: nested, merged, and itself in
//! another router.

use super::*;

/// A case of which a guarded router can be made: each route has a rule, only the outermost router has a fallback, and a
/// handler for it only if there is a rule.
fn one_list(mut case: Case) -> Case {
    fn ruled(shape: &mut Shape) {
        for route in &mut shape.routes {
            if matches!(route.rule, RuleKind::LeftOut | RuleKind::Ghost) {
                route.rule = RuleKind::Ruled;
            }
        }
        for (_, child) in &mut shape.children {
            child.fallback = false;
            ruled(child);
        }
    }
    ruled(&mut case.shape);
    case.gate = None;
    case
}

fn guarded(node: &Node, world: &(Vec<Location>, Log), fallback: Fallback) -> GuardedRouter {
    let (places, log) = world;
    let mut router = GuardedRouter::new();
    for &(ref path, place) in &node.routes {
        let Location { pattern, methods, rule: kind, .. } = &places[place];
        let handlers = method_router(log, place, *methods).into_iter().reduce(MethodRouter::merge).unwrap();
        let rule = |admits| rule(log, Some(place), pattern.as_deref().unwrap(), admits);
        router = match kind {
            RuleKind::Ruled => router.route(path, rule(true), handlers),
            RuleKind::Purging => router.route(path, rule(true).method(purge(), Access::Write), handlers),
            RuleKind::GetOnly => router.route(path, RouteRules::new().on(Method::GET, rule(true)), handlers),
            RuleKind::GetRuledPostPublic => {
                let rules = RouteRules::new().on(Method::GET, rule(true)).public_on(Method::POST);
                router.route(path, rules, handlers)
            }
            RuleKind::Refusing => router.route(path, rule(false), handlers),
            RuleKind::Public | RuleKind::LeftOut | RuleKind::Ghost => router.public(path, handlers),
        };
    }
    for (prefix, child) in &node.children {
        let child = guarded(child, world, fallback);
        router = match prefix {
            Some(prefix) => router.nest(prefix, child),
            None => router.merge(child),
        };
    }
    match (node.fallback, fallback) {
        (Some(place), Fallback::Public) => router.public_fallback(handler(log, place)),
        (Some(place), Fallback::Ruled) => router.fallback(rule(log, None, "", true), handler(log, place)),
        _ => router,
    }
}

impl World {
    /// Returns `None` if axum or a policy refuses one of the patterns.
    fn of_one_list(case: &Case, twin: bool) -> Option<Self> {
        static STORE: LazyLock<MemoryStore> = LazyLock::new(|| store(Grant::default()));
        let (node, Planner { places, .. }) = Planner::plan(case);
        if places.iter().any(|place| place.rule == RuleKind::LeftOut) {
            return None;
        }
        let log = Log::default();
        let bare = AssertUnwindSafe(|| router(&node, &places, &log, &|router| router));
        let bare = std::panic::catch_unwind(bare).ok()?;
        let shared = (places.clone(), Arc::clone(&log));
        let routes = guarded(&node, &shared, case.fallback);
        let mut authz = Authz::from_store(STORE.clone());
        if twin {
            // A gate that takes paths as they come.
            let all = CleanPath::new().allow_encoded_slash().allow_encoded_dot().allow_encoded_percent();
            authz = authz.with_clean_path(all.allow_semicolon());
        }
        let whole = Router::new().fallback_service(routes.guard(authz).ok()?);
        let matched = Arc::clone(&log);
        let bare = bare.layer(MapRequestLayer::new(move |request: Request| {
            matched.lock().unwrap().matched =
                request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
            request
        }));
        let mut trees = matchit::Router::new();
        for (number, pattern) in
            places.iter().enumerate().filter_map(|(number, it)| Some((number, it.pattern.as_ref()?)))
        {
            trees.insert(pattern, number).ok()?;
        }
        let (fallback, trees) = (case.fallback, Some(trees));
        Some(Self { places, fallback, bare, whole, log, gate_is_inner: false, rest_is_uncertain: false, trees })
    }
}

fn check_one_list(case: &Case, reached: &mut Reached) -> TestCaseResult {
    World::of_one_list(case, false).map_or(Ok(()), |world| check_world(&world, case, reached))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_handler_of_one_list_runs_if_and_only_if_one_decision_was_made_for_it(case in case().prop_map(one_list)) {
        check_one_list(&case, &mut Reached::default())?;
    }
}

#[test]
fn the_generators_reach_one_list() {
    let mut runner = TestRunner::deterministic();
    let cases = case().prop_map(one_list);
    let mut reached = Reached::default();
    for _ in 0..2_000 {
        check_one_list(&cases.new_tree(&mut runner).unwrap().current(), &mut reached).unwrap();
    }
    let Reached { decided, public, fallback, with_parameters, unclean, refused, deepest, .. } = reached;
    for (count, least) in [
        (decided, 200),
        (public, 30),
        (fallback, 20),
        (with_parameters, 80),
        (unclean, 300),
        (refused, 500),
        (deepest, 6),
    ] {
        assert!(count >= least, "{reached:?}");
    }
}

/// The property bites: a gate that takes unclean paths is noticed.
#[test]
fn the_property_notices_a_broken_gate_around_one_list() {
    let mut runner = TestRunner::deterministic();
    let cases = case().prop_map(one_list);
    let broken = (0..3_000).any(|_| {
        let case = cases.new_tree(&mut runner).unwrap().current();
        let Some(world) = World::of_one_list(&case, true) else { return false };
        let uris = case.asks.iter().filter_map(|ask| Some((&ask.method, world.uri(&ask.target)?)));
        uris.into_iter().any(|(method, uri)| world.check(method, &uri, &mut Reached::default()).is_err())
    });
    assert!(broken);
}
