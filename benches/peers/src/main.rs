//! Measures the cost of a decision: tower-authz beside its peers, with the same request, in one run.
//!
//! The command is `cargo run --release --manifest-path benches/peers/Cargo.toml`; `ROUNDS=5` before it makes a short
//! run. A bench should stop at any unexpected result, so everything here may panic.

mod alloc;
mod contenders;
mod measure;
mod table;
mod turns;
mod versions;

use peers::{gates, request};

fn main() {
    let rounds = std::env::var("ROUNDS").map_or(41, |text| text.parse().expect("ROUNDS is a number"));
    assert!(rounds > 0, "without a round there is no median");
    let measured = measure::interleaved(contenders::all(), rounds);
    println!(
        "`cargo run --release --manifest-path benches/peers/Cargo.toml`, medians of {rounds} interleaved rounds\n"
    );
    table::print(&measured);
}
