//! The state of the whole system.
//!
//! Everything is small, of fixed size and free of absolute times and names, so that states which behave alike are
//! equal. Each replica carries its own row of the database's table, its renewal and its requests: to exchange two
//! replicas is to exchange two entries of one array, which makes the symmetry reduction exact.

use crate::clock::Countdown;

/// The maximum number of replicas in a state.
pub const MAX_REPLICAS: usize = 3;
/// The maximum number of keys in a state.
pub const MAX_KEYS: usize = 3;

/// Represents keys as bits: key 0 is 1, key 1 is 2, key 2 is 4.
pub(crate) fn bit(key: usize) -> u8 {
    1 << key
}

/// The state of the database and of all replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The key records in the database and, for each, the caller that revokes it.
    pub keys: [Key; MAX_KEYS],
    /// The replicas. Only as many as the configuration has are used, and the others keep their default.
    pub replicas: [Replica; MAX_REPLICAS],
    /// Ticks until writers may trust the table of replicas after a failover.
    pub settling: u8,
    /// Whether the failover has happened.
    pub failed_over: bool,
}

/// A key's record and the call of `revoke()` for it. Every key is live until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// The version of the change that revokes the key: 0 until it has one.
    pub version: u8,
    /// The progress of the call.
    pub call: Call,
}

/// The progress of a call of `revoke()`. A caller that ends early stays where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Call {
    /// The call has not begun.
    #[default]
    None,
    /// The call has a number from the sequence and has not committed; only where versions come from a sequence.
    Numbered,
    /// The call committed this many ticks ago, and waits for the replicas. The number stops at the length of a lease.
    Waiting(u8),
    /// The call returned without an error: from now on the promise holds.
    Returned,
    /// The database lost the change before the call returned, and the caller gets an error.
    Failed,
    /// The database lost the change after the call had returned.
    Lost,
}

/// A replica, with its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// Its copy of the keys, or `None` if it is not running, has not loaded yet, or refuses to serve.
    pub copy: Option<Copy>,
    /// The remaining time of its lease on its own clock.
    pub lease: Countdown,
    /// The renewal that it waits for.
    pub renewal: Renewal,
    /// Whether it is paused: it neither sends, reads, applies nor admits.
    pub paused: bool,
    /// The key of a request in the middle of its check: the request began after the revocation of this key had
    /// returned, and has made the first of its two readings.
    pub checking: Option<u8>,
    /// Its row in the database.
    pub row: Row,
    /// A renewal that was abandoned, or sent twice, and may be executed at any later time.
    pub stray: Option<Claim>,
    /// Notifications that are not delivered yet, as keys; only where changes arrive by notification.
    pub notices: u8,
    /// Whether it has had an answer to a renewal; only where a vanished row goes unnoticed.
    pub registered: bool,
}

/// A row of the table of replicas. A row whose lease has expired is equivalent to none: it may be deleted at any
/// time, and the model deletes it at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Ticks until the lease expires by the database's clock; 0 is no row.
    pub lease: u8,
    /// The version that the replica has reported as applied.
    pub applied: u8,
}

/// The keys as of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copy {
    /// The point in the history that the copy has, or claims to have.
    pub at: Claim,
    /// The keys that the copy holds as revoked.
    pub revoked: u8,
}

/// A point in the history: the number of changes, and the last of them. The latter distinguishes two histories with
/// the same number of changes; the implementation draws a random identity for each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The version.
    pub version: u8,
    /// The change that has this version: the key's number plus one, or 0 before the first.
    pub identity: u8,
}

/// A renewal on its way from a replica to the database and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Renewal {
    /// No renewal is awaited.
    #[default]
    None,
    /// The renewal was sent, with the version that the replica had applied then.
    Requested(Countdown, Claim),
    /// The renewal is between the reading of the changes and the commit; only where a renewal does not lock the
    /// counter.
    Executing(Countdown, Claim, Copy),
    /// The renewal was executed: the answer has the changes since the claim, and the version that they lead to.
    Answered(Countdown, Copy, Verdict),
}

/// The result of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The lease is extended.
    Granted,
    /// The lease is not extended, because the replica was behind; only in the variant that has this rule.
    Behind,
    /// The claim of the replica is not part of the database's history.
    OtherHistory,
}

impl State {
    /// Returns the highest committed version.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.committed().map(|(_, key)| key.version).max().unwrap_or(0)
    }

    /// Returns the keys whose revocation is committed and in the database.
    pub(crate) fn committed(&self) -> impl Iterator<Item = (usize, Key)> {
        let in_database = |key: &Key| matches!(key.call, Call::Waiting(_) | Call::Returned);
        self.keys.into_iter().enumerate().filter(move |(_, key)| in_database(key))
    }

    /// Returns the committed changes after `after` and up to `to`.
    pub(crate) fn changes(&self, after: u8, to: u8) -> u8 {
        let wanted = |version| after < version && version <= to;
        self.committed().filter(|(_, key)| wanted(key.version)).fold(0, |bits, (key, _)| bits | bit(key))
    }

    /// Returns the point in the history that has this version.
    pub(crate) fn point(&self, version: u8) -> Claim {
        let change = self.committed().find(|(_, key)| key.version == version);
        Claim { version, identity: change.map_or(0, |(key, _)| key as u8 + 1) }
    }

    /// Returns the database's keys as of a version.
    pub(crate) fn snapshot(&self, version: u8) -> Copy {
        Copy { at: self.point(version), revoked: self.changes(0, version) }
    }

    /// Whether a claim is part of this database's history.
    pub(crate) fn knows(&self, claim: Claim) -> bool {
        self.point(claim.version) == claim
    }

    /// Whether the revocation of a key has returned and is still in the database.
    #[must_use]
    pub fn returned(&self, key: usize) -> bool {
        self.keys[key].call == Call::Returned
    }
}

impl Replica {
    /// Whether its copy says that the key is live.
    #[must_use]
    pub fn holds_live(&self, key: usize) -> bool {
        self.copy.is_some_and(|copy| copy.revoked & bit(key) == 0)
    }

    /// Stops the replica: it ends, or refuses to serve from now on. Its row stays; a renewal in progress may still be
    /// executed, see [`Action::GoAstray`](crate::Action::GoAstray).
    pub(crate) fn stop(&mut self) {
        *self = Self { row: self.row, stray: self.stray, ..Self::default() };
    }
}
