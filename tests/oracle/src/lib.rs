//! An oracle for tower-authz.
//!
//! It makes random small worlds (rules, keys, a directory, settings) and many requests for each, sends every request
//! through the real gate, and compares the outcome with two others: that of an [`interpreter`] that reads the
//! specification slowly and obviously, and that of [`cedar`], a policy engine with nothing in common with the crate. A
//! request is sent to the gate alone, to the gate around an axum router, and to the gate inside of one.
//!
//! An oracle that never finds anything may be blind. So [`faults`] has readings of the specification that are wrong in
//! one way each, and every one of them has to be found by what the gates and the scopes answer. That Cedar and the
//! invariants are not blind is shown by the tests of their modules.
//!
//! ```text
//! cargo run --release -- --requests 1000000      # compare
//! cargo run --release -- --faults                # how many requests it takes to find each fault
//! ```

pub mod cedar;
mod enforced;
pub mod faults;
pub mod interpreter;
mod invariants;
pub mod random;
pub mod requests;
pub mod run;
pub mod world;
