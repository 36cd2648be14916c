//! Makes a difference smaller, by leaving out what it does not need.

use super::{differs, service::Gates};
use crate::cedar::Cedar;
use crate::interpreter::Design;
use crate::invariants::Invariants;
use crate::requests::Ask;
use crate::world::World;

/// What still differs, from scratch.
fn check(world: &World, ask: &Ask) -> Option<String> {
    if world.rules.is_empty() || world.keys.is_empty() || crate::world::build::policy(world).is_err() {
        return None;
    }
    let mut gates = Gates::new(world);
    differs(&Design, world, &mut gates, ask)
        .or_else(|| gates.take_unlike())
        .or_else(|| Cedar::new(world).differs(world, ask))
        .or_else(|| Invariants::new(world).differs(world, ask))
}

/// Leaves out rules, keys, headers and settings one by one, as long as something differs.
pub(super) fn shrink(world: World, ask: Ask, finding: String) -> (World, Ask, String) {
    let mut now = (world, ask, finding);
    loop {
        let smaller = candidates(&now.0, &now.1).into_iter().find_map(|(world, ask)| {
            let finding = check(&world, &ask)?;
            Some((world, ask, finding))
        });
        match smaller {
            Some(smaller) => now = smaller,
            None => return now,
        }
    }
}

/// Every world and request that has one thing less.
fn candidates(world: &World, ask: &Ask) -> Vec<(World, Ask)> {
    let mut all = Vec::new();
    let mut less = |number: usize, change: &dyn Fn(&mut World, &mut Ask, usize)| {
        for index in 0..number {
            let (mut world, mut ask) = (world.clone(), ask.clone());
            change(&mut world, &mut ask, index);
            all.push((world, ask));
        }
    };
    less(world.rules.len(), &|world, _, index| drop(world.rules.remove(index)));
    less(world.keys.len(), &|world, _, index| drop(world.keys.remove(index)));
    less(ask.headers.len(), &|_, ask, index| drop(ask.headers.remove(index)));
    less(ask.plan.questions.len(), &|_, ask, index| drop(ask.plan.questions.remove(index)));
    less(ask.plan.scopes.len(), &|_, ask, index| {
        ask.plan.scopes.remove(index);
    });
    less(usize::from(world.proxies.is_some()), &|world, _, _| world.proxies = None);
    less(usize::from(world.tenants.is_some()), &|world, _, _| world.tenants = None);
    less(usize::from(world.fallback.is_some()), &|world, _, _| world.fallback = None);
    less(usize::from(world.https_only), &|world, _, _| world.https_only = false);
    less(usize::from(world.allow_preflight), &|world, _, _| world.allow_preflight = false);
    less(world.https_exempt.len(), &|world, _, index| drop(world.https_exempt.remove(index)));
    less(world.unrouted.len(), &|world, _, index| drop(world.unrouted.remove(index)));
    for number in 0..world.rules.len() {
        let rule = |world: &mut World, change: &dyn Fn(&mut crate::world::Rule)| {
            world.rules.get_mut(number).into_iter().for_each(change);
        };
        let handlings: Vec<_> = world.rules.get(number).into_iter().flat_map(|rule| rule.handlings.keys()).collect();
        less(handlings.len(), &|world, _, index| {
            rule(world, &|rule| drop(handlings.get(index).map(|dim| rule.handlings.remove(dim))));
        });
        let methods = world.rules.get(number).map_or(0, |rule| rule.methods.len());
        less(methods, &|world, _, index| rule(world, &|rule| drop(rule.methods.remove(index))));
    }
    for number in 0..world.keys.len() {
        let lists: Vec<_> = world.keys.get(number).into_iter().flat_map(|key| key.lists.keys()).collect();
        less(lists.len(), &|world, _, index| {
            if let (Some(key), Some(dim)) = (world.keys.get_mut(number), lists.get(index)) {
                key.lists.remove(dim);
            }
        });
    }
    all
}
