//! Explores the protocol exhaustively at several sizes, and requires that each broken variant is detected.
//!
//! The sizes that would add three minutes are ignored by default; `-- --ignored` runs them.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};
use tower_authz_model::{Action, Config, State, Variant};

/// Explores every reachable state, without a bound on depth or time, and fails if a property does not hold.
fn exhaust(config: Config) {
    let began = Instant::now();
    let checker = config.checker().threads(2).spawn_bfs().join();
    assert!(checker.is_done(), "the search ended early");
    checker.assert_properties();
    println!("{config:?}: {} states, {:.1} s", checker.unique_state_count(), began.elapsed().as_secs_f64());
}

/// Returns a configuration with the faults that every size has: crashes, lost and late messages, partitions, slow
/// clocks.
fn core(variant: Variant, replicas: usize, keys: usize) -> Config {
    Config { pauses: false, strays: false, split_checks: false, ..Config::new(variant, replicas, keys) }
}

#[test]
fn three_replicas_and_two_keys() {
    exhaust(core(Variant::Correct, 3, 2));
}

#[test]
fn two_replicas_and_two_keys_with_strays_and_interrupted_checks() {
    exhaust(Config { pauses: false, ..Config::new(Variant::Correct, 2, 2) });
}

#[test]
fn two_replicas_and_one_key_with_every_fault() {
    exhaust(Config::new(Variant::Correct, 2, 1));
}

#[test]
fn two_replicas_and_two_keys_with_a_longer_lease() {
    exhaust(Config { lease: 3, ..core(Variant::Correct, 2, 2) });
}

#[test]
fn two_replicas_and_two_keys_with_a_failover() {
    exhaust(Config { failover: true, ..core(Variant::Correct, 2, 2) });
}

#[test]
fn two_replicas_and_two_keys_if_a_replica_that_is_behind_is_refused() {
    exhaust(Config { strays: true, ..core(Variant::RefuseBehind, 2, 2) });
}

#[test]
#[ignore = "half a minute"]
fn two_replicas_and_two_keys_with_every_fault() {
    exhaust(Config::new(Variant::Correct, 2, 2));
}

#[test]
#[ignore = "half a minute"]
fn three_replicas_and_one_key_with_strays_and_interrupted_checks() {
    exhaust(Config { pauses: false, ..Config::new(Variant::Correct, 3, 1) });
}

#[test]
#[ignore = "a minute"]
fn three_replicas_and_one_key_with_a_longer_lease() {
    exhaust(Config { lease: 3, ..core(Variant::Correct, 3, 1) });
}

#[test]
#[ignore = "half a minute"]
fn two_replicas_and_one_key_with_a_lease_of_four() {
    exhaust(Config { lease: 4, pauses: false, ..Config::new(Variant::Correct, 2, 1) });
}

#[test]
#[ignore = "half a minute"]
fn two_replicas_and_two_keys_with_a_failover_and_strays() {
    exhaust(Config { failover: true, strays: true, ..core(Variant::Correct, 2, 2) });
}

#[test]
fn every_broken_variant_is_found_out() {
    for variant in Variant::BROKEN {
        let path = shortest_violation(variant);
        let steps = path.into_actions();
        println!("{variant:?}: {} steps\n    {steps:?}", steps.len());
    }
}

/// Returns the shortest path to a violation, in the smallest system in which this variant can be detected.
fn shortest_violation(variant: Variant) -> Path<State, Action> {
    let (replicas, keys) = match variant {
        Variant::SharedId => (2, 1),
        Variant::FailoverUncheckedPoll => (1, 3),
        _ => (1, 2),
    };
    let config = Config { symmetry: false, strays: false, ..Config::new(variant, replicas, keys) };
    let property = variant.breaks().expect("the variant is broken");
    let search = |deepest: usize| {
        let checker = config.checker().finish_when(HasDiscoveries::AnyOf([property].into()));
        checker.target_max_depth(deepest).spawn_bfs().join().discovery(property)
    };
    let mut path = search(usize::MAX).unwrap_or_else(|| panic!("{variant:?}: nothing found"));
    // The checker continues for some states after a violation and returns the last one that it found. A path of n
    // steps ends at depth n + 1, and only states of a lower depth than the limit are explored.
    while let Some(shorter) = search(path.clone().into_actions().len() + 1) {
        path = shorter;
    }
    path
}
