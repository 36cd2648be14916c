//! Tests the crate through its public interface. All tests form one binary, so that they are linked only once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that is surprised should fail on the spot"
)]
#![allow(clippy::duplicate_mod, reason = "each example brings along what the examples share")]
#![allow(missing_docs, unreachable_pub, reason = "nobody links to a test")]

mod allocations;
mod caches;
mod cases;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod client_config;
mod congruence;
mod contract;
mod coverage;
mod decisions;
mod denials;
mod dialects;
mod guarded_router;
mod hierarchy;
mod in_axum;
mod in_flight;
mod in_flight_ends;
mod key_file;
#[cfg(feature = "sqlite")]
mod leaks;
mod model;
mod obligations;
mod other_principals;
mod own_hierarchies;
mod policies;
mod policy_file;
mod policy_reload;
mod policy_round_trip;
mod quickstart;
mod refusals;
mod rejection_request;
mod rewritten;
mod secrets;
mod seed_apis;
mod stores;
mod support;
#[cfg(all(feature = "metrics", feature = "tracing"))]
mod telemetry;
#[cfg(unix)]
mod varnish;
#[cfg(feature = "sqlite")]
mod webhooks;
mod wire;
