//! What must hold beside the outcome: of smaller grants, explanations, operations in bodies, policy files and scopes.

use std::sync::Arc;

use http::Method;
use tower_authz::{Filter, Head, Policy};

use crate::enforced::{Asked, Enforced, asked, evaluate, request};
use crate::interpreter::{self, Cause, Design, Outcome, Reading, Setting, answer, causes, obliged_dims};
use crate::random::must;
use crate::requests::Ask;
use crate::run::service::ScopeSeen;
use crate::world::{Dim, Handling, Key, List, Place, World, build};

/// The policy of a world, and the same policy by way of its file.
pub(crate) struct Invariants {
    enforced: Enforced,
    /// `None` if the rules have code, which no file can hold.
    parsed: Option<Policy>,
    /// How many requests there were, which chooses what is taken away from a grant.
    turn: usize,
    checked: bool,
}

impl Invariants {
    pub(crate) fn new(world: &World) -> Self {
        let enforced = Enforced::new(world);
        let handlings = world.rules.iter().chain(&world.fallback).flat_map(|rule| rule.handlings.values());
        let code = handlings.filter_map(|handling| match handling {
            Handling::Scoped(places) => Some(places.iter().any(|place| matches!(place, Place::Function(_)))),
            _ => None,
        });
        let parsed = (!code.into_iter().any(|code| code)).then(|| {
            let text = must(enforced.policy.export(), "an export");
            must(Policy::parse(&text, "exported.json"), "what was exported")
        });
        Self { enforced, parsed, turn: 0, checked: false }
    }

    /// Whether anything was checked since the last call: requests without an active key have no decision of a rule.
    pub(crate) fn take_checked(&mut self) -> bool {
        std::mem::take(&mut self.checked)
    }

    /// Returns what does not hold for this request.
    pub(crate) fn differs(&mut self, world: &World, ask: &Ask) -> Option<String> {
        let asked = asked(world, ask)?;
        self.turn += 1;
        self.checked = true;
        let principal = self.enforced.principal(asked.key, asked.client);
        let expected = expected(world, ask, &asked);
        let enforced = evaluate(&self.enforced.policy, ask, &principal);
        if enforced != expected {
            let text = format!("Policy::evaluate says {enforced}, the interpreter {expected}");
            return Some(text);
        }
        let request = request(ask, &principal);
        let explained = self.enforced.policy.explain(&principal, &Head::new(&request), build::now());
        if explained.is_allowed() != (enforced == 200) {
            let text = format!("enforced is {enforced}, and Policy::explain says\n{explained}");
            return Some(text);
        }
        let parsed = self.parsed.as_ref().map(|parsed| evaluate(parsed, ask, &principal));
        if let Some(parsed) = parsed.filter(|parsed| *parsed != enforced) {
            let text = format!("the policy says {enforced}, and by way of its file {parsed}");
            return Some(text);
        }
        self.smaller_grants_allow_no_more(world, ask, &asked, enforced).or_else(|| self.operations(world, ask, &asked))
    }

    /// Taking anything away from a grant never allows more.
    fn smaller_grants_allow_no_more(&self, world: &World, ask: &Ask, asked: &Asked<'_>, whole: u16) -> Option<String> {
        if whole == 200 {
            return None;
        }
        let smaller = smaller(world, asked.key);
        let number = self.turn.checked_rem(smaller.len())?;
        let key = smaller.get(number)?;
        let record = Arc::new(build::record(key, world.project));
        let less = evaluate(&self.enforced.policy, ask, &self.enforced.principal_of(record, asked.client));
        let text = || format!("a grant is refused with {whole}, and a smaller one is not: {key:#?}");
        (less == 200).then(text)
    }

    /// An operation in a body meets the same rules. It has no headers, and no handler that could meet an obligation.
    fn operations(&self, world: &World, ask: &Ask, key: &Asked<'_>) -> Option<String> {
        let path = ask.target.split('#').next().filter(|target| target.starts_with('/'))?;
        let principal = self.enforced.principal(key.key, key.client);
        let method = must(Method::from_bytes(ask.method.as_bytes()), "a method");
        let said = self.enforced.policy.authorize_operation(&principal, &method, path);
        let said = said.map_or_else(|denial| denial.status().as_u16(), |()| 200);
        let bare = Ask { method: ask.method.clone(), target: path.to_owned(), ..Ask::default() };
        let address = key.client.ip();
        let mut expected = expected(world, &Ask { peer: address, ..bare }, key);
        let obliged = key.rule.map(obliged_dims).unwrap_or_default();
        // The documentation of `authorize_operation`: a rule with `filtered` or `deferred` refuses keys that are
        // restricted over that dimension. A restriction over the parent applies to the child.
        let restricted = |dim: Dim| Design.restricted(key.key.lists.get(&dim));
        let met = obliged.into_iter().all(|dim| match dim {
            Dim::Company | Dim::Project => !restricted(dim),
            Dim::Shop | Dim::Country => !restricted(Dim::Shop) && !restricted(Dim::Company),
        });
        if expected == 200 && !met {
            expected = if key.rule.is_some_and(|rule| rule.concealed) { 404 } else { 403 };
        }
        let text = format!("authorize_operation says {said}, the interpreter {expected}");
        (said != expected).then_some(text)
    }
}

/// The status with which the rules refuse; 200 if they do not.
fn expected(world: &World, ask: &Ask, asked: &Asked<'_>) -> u16 {
    let Some(route) = &asked.route else { return 404 };
    let Some(rule) = asked.rule else {
        return if route.rules.iter().any(|rule| rule.concealed) { 404 } else { 405 };
    };
    if rule.public {
        return Design.writes(rule, &ask.method).map_or(405, |_| 200);
    }
    // The client is known already: behind a proxy its address is not that of the peer.
    let direct = World { proxies: None, ..world.clone() };
    let ask = Ask { peer: asked.client.ip(), ..ask.clone() };
    let request = interpreter::Request::new(&ask);
    let causes: Vec<Cause> = causes(&Design, &direct, asked.key, rule, route, &request);
    if causes.is_empty() { 200 } else { Design.shown(rule, &causes) }
}

/// Every key that has one thing less.
fn smaller(world: &World, key: &Key) -> Vec<Key> {
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(&mut Key)| {
        let mut less = key.clone();
        change(&mut less);
        all.push(less);
    };
    for resource in key.permissions.keys() {
        push(&|less| less.permissions.retain(|name, _| name != resource));
        push(&|less| less.permissions.extend([(resource.clone(), false)]));
    }
    for dim in Dim::RESTRICTED {
        for id in crate::world::generate::ids(dim, world.project) {
            push(&|less| match less.lists.entry(dim).or_insert_with(|| List::Exclude(Vec::new())) {
                List::Include(ids) => ids.retain(|known| known != id),
                List::Exclude(ids) if ids.iter().any(|known| known == id) => {}
                List::Exclude(ids) => ids.push((*id).to_owned()),
            });
        }
    }
    if key.networks.is_some() {
        push(&|less| drop(less.networks.as_mut().map(|networks| networks.pop())));
    }
    push(&|less| drop(less.origins.as_mut().map(|origins| origins.pop())));
    all
}

/// `Scope::filter` and `Scope::allows` agree with each other, and with the interpreter.
pub(crate) fn scopes_differ(
    reading: &dyn Reading,
    world: &World,
    ask: &Ask,
    setting: Setting,
    actual: &Outcome,
    scopes: &[ScopeSeen],
) -> Option<String> {
    if scopes.is_empty() {
        return None;
    }
    let key = world.keys.iter().find(|key| Some(&key.id) == actual.key.as_ref())?;
    let route = reading.route(world, &interpreter::Request::new(ask).path, setting)?;
    let rule = reading.rule_for(&route, &ask.method)?;
    for (dim, filter, answers) in scopes {
        let ids = crate::world::generate::ids(*dim, world.project).iter().chain([&"unknown-1"]);
        for id in ids {
            let passes = match filter {
                Filter::All => true,
                Filter::Only(only) => only.iter().any(|known| known == id),
                Filter::Except(except) => except.iter().all(|known| known != id),
            };
            // Of ids that are not of the dimension a filter says nothing.
            if !reading.is_canonical(*dim, world.project, id) {
                continue;
            }
            let expected = answer(reading, world, key, rule, *dim, id) == 200;
            let allows = answers.iter().find(|(asked, _)| asked == id).map_or(expected, |(_, allows)| *allows);
            if passes != expected || allows != expected {
                let what = format!("{dim:?} {id}: the filter {filter:?} says {passes}, Scope::allows {allows}");
                let text = format!("{what}, the interpreter {expected}");
                return Some(text);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Which sentences the invariants say of a policy of other worlds, or of one with another file.
    fn said(spoil: impl Fn(&mut Invariants, &World)) -> String {
        let mut said = String::new();
        for number in 0..100 {
            let mut random = Random::nth(4, number);
            let world = World::random(&mut random);
            let mut invariants = Invariants::new(&world);
            spoil(&mut invariants, &world);
            let asks: Vec<Ask> = (0..100).map(|_| Ask::random(&mut random, &world)).collect();
            asks.iter().filter_map(|ask| invariants.differs(&world, ask)).for_each(|text| said += &text);
        }
        said
    }

    #[test]
    fn nothing_is_said_of_what_holds() {
        assert_eq!(said(|_, _| {}), "");
    }

    /// The policy demands less than the world: `Policy::evaluate` is found out.
    #[test]
    fn a_policy_that_demands_less_is_found() {
        let said = said(|invariants, world| {
            let mut less = world.clone();
            less.rules.iter_mut().for_each(|rule| (rule.resource, rule.or) = (None, Vec::new()));
            invariants.enforced = Enforced::new(&less);
        });
        assert!(said.contains("Policy::evaluate says 200, the interpreter 403"), "{said}");
    }

    /// The file of the policy demands less than the policy.
    #[test]
    fn a_file_that_demands_less_is_found() {
        let said = said(|invariants, world| {
            let mut less = world.clone();
            less.rules.iter_mut().for_each(|rule| (rule.resource, rule.or) = (None, Vec::new()));
            invariants.parsed = invariants.parsed.take().and_then(|_| Invariants::new(&less).parsed);
        });
        assert!(said.contains("the policy says 403, and by way of its file 200"), "{said}");
    }
}
