//! The oracle agrees with the crate, and is not blind.

use std::time::Duration;

use tower_authz_oracle::faults;
use tower_authz_oracle::run::{Options, find_fault, run};

#[test]
fn twenty_thousand_requests_are_decided_alike() {
    match run(Options { requests: 20_000, seed: 1 }) {
        Ok(figures) => {
            let (refused, rules) = figures.rules;
            assert!(figures.admitted > 1_000 && figures.invariants > 6_000 && refused * 3 < rules, "{figures}");
            let (asked, allowed) = figures.cedar;
            assert!(allowed > 500 && asked - allowed > 1_000, "{figures}");
        }
        Err(difference) => panic!("{difference}"),
    }
}

#[test]
fn every_fault_is_found() {
    for fault in faults::all() {
        let found = find_fault(Options { requests: 200_000, seed: 2 }, fault.reading, Duration::from_secs(120));
        assert!(found.is_err(), "not found: {}", fault.name);
    }
}
