//! A model of the protocol by which a revocation reaches every replica that shares a store.
//!
//! # The promise
//!
//! If `revoke()` returned before a request's admission check began, on any replica, that request is not admitted
//! ([`PROMISE`] and [`KEPT`]). A replica that cannot know refuses. `revoke()` waits one lease at most, whatever the
//! state of the replicas ([`BOUND`]): it needs only the writer's own database.
//!
//! # The protocol
//!
//! The database holds the keys, a counter of versions, the changes by version, and a table of replicas.
//!
//! - **A change** locks the counter row, takes the next version, writes the change, and commits. So the order of
//!   versions is the order of commits. Every change has an identity besides its number. A deleted key leaves its change
//!   behind like any other.
//! - **A replica** loads all keys and their version in one snapshot, which may be an old one. It serves no request yet.
//! - **A renewal** begins with a reading of the replica's own clock. It carries the version and the identity that the
//!   replica has applied. The database, in one transaction that holds a share lock on the counter row, refuses a claim
//!   that is not part of its history, reads the changes since, and puts the lease and the version of the claim into the
//!   replica's row, which it creates if there is none. The replica applies the changes, and only then the new deadline
//!   counts: the reading of the clock, plus the lease, less the drift. A replica that was refused stops serving.
//! - **A replica reads the changes** at any time, woken by a notification or not, and checks the history then too.
//! - **A request** checks the lease first and reads the copy of the keys afterwards.
//! - **A writer** returns when each row has a lease that has expired or says that the change has been applied; or when
//!   one lease has passed since the commit, because a lease that was granted later came with the change. A writer that
//!   finds the key revoked already waits for that change all the same.
//! - **A row** whose lease has expired may be deleted by any process. A replica that shuts down stops admitting first
//!   and deletes its row afterwards. Every process has a row of its own.
//! - **After a failover** no writer returns before one lease has passed.
//!
//! [`Variant`] lists the ways to get this wrong, each of which leaves out one rule.
//!
//! # How to read it
//!
//! [`State`] is the state of the system, [`Action`] lists the steps, and `steps.rs` applies them. `database.rs` has
//! the steps of the database, `clock.rs` the notion of time, and `properties.rs` the properties that are checked.

mod clock;
mod database;
mod properties;
mod protocol;
mod state;
mod steps;
mod variants;

pub use clock::Countdown;
pub use properties::{ADMITS, BOUND, KEPT, LOST, PAUSED, PROMISE, PROMPT, REFUSES, SEEN};
pub use protocol::Action;
pub use state::{Call, Claim, Copy, Key, MAX_KEYS, MAX_REPLICAS, Renewal, Replica, Row, State, Verdict};
pub use variants::{Config, Variant};
