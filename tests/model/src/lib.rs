//! A model of the protocol by which a revocation reaches every replica that shares a store.
//!
//! # The promise
//!
//! If `revoke()` returned before a request's admission check began, on any replica, that request is not admitted
//! ([`PROMISE`] and [`KEPT`]). A replica that cannot know refuses. And `revoke()` waits one lease at most, whatever has
//! become of the replicas ([`BOUND`]): the writer's own database has to be there, no more.
//!
//! # The protocol
//!
//! The database holds the keys, a counter of versions, the changes by version, and a table of replicas.
//!
//! - **A change** locks the counter row, takes the next version, writes the change, and commits. So the order of
//!   versions is the order of commits. Every change has an identity besides its number. A deleted key leaves its change
//!   behind like any other.
//! - **A replica** loads all keys and their version in one snapshot, be it an old one. It serves nothing yet.
//! - **A renewal** begins with a look at the replica's own clock. It carries what the replica has applied, version and
//!   identity. The database, in one transaction that holds a share lock on the counter row, refuses a claim that is not
//!   part of its history, reads the changes since, and puts the lease and the version of the claim into the replica's
//!   row, which it creates if there is none. The replica applies the changes, and only then the new deadline counts:
//!   the look at the clock, plus the lease, less the drift. A replica that was refused stops to serve.
//! - **A replica reads the changes** whenever it likes, woken by a notification or not, and checks the history then too.
//! - **A request** looks at the lease first and at the copy of the keys afterwards.
//! - **A writer** returns when each row has a lease that has run out or says that the change has been applied; or when
//!   one lease has gone by since the commit, because a lease that was granted later came with the change. A writer that
//!   finds the key revoked already waits for that change all the same.
//! - **A row** whose lease has run out may be deleted by anybody. A replica that shuts down stops to admit first and
//!   deletes its row afterwards. Every process has a row of its own.
//! - **After a failover** no writer returns before one lease has gone by.
//!
//! [`Variant`] has the ways to get this wrong, each of which is one rule left out.
//!
//! # How to read it
//!
//! [`State`] says what there is, [`Action`] what can happen and `steps.rs` what it leads to. `database.rs` has the part of
//! the database, `clock.rs` what time is, `properties.rs` what is asked.

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
