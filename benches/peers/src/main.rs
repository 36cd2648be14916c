//! What a decision costs: tower-authz beside its peers, the same request, one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`; `ROUNDS=5` before it for a glance. A bench that
//! is surprised should stop: everything here may panic.

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
