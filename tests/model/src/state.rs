//! What a state of the whole system consists of.
//!
//! Everything is small, of fixed size and free of absolute times and names, so that states which behave alike are
//! equal. Each replica carries its own row of the database's table, its renewal and its requests: to exchange two
//! replicas is to exchange two entries of one array, which is what makes the symmetry reduction exact.

use crate::clock::Countdown;

/// The most replicas that a state has room for.
pub const MAX_REPLICAS: usize = 3;
/// The most keys that a state has room for.
pub const MAX_KEYS: usize = 3;

/// Keys as bits: key 0 is 1, key 1 is 2, key 2 is 4.
pub(crate) fn bit(key: usize) -> u8 {
    1 << key
}

/// Everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The key records in the database and, for each, the caller that revokes it.
    pub keys: [Key; MAX_KEYS],
    /// The replicas, as many as are explored; the rest stays as it is.
    pub replicas: [Replica; MAX_REPLICAS],
    /// Ticks until writers may trust the table of replicas after a failover.
    pub settling: u8,
    /// The failover has happened.
    pub failed_over: bool,
}

/// A key's record and the call of `revoke()` for it. Every key is live until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// The version of the change that revokes the key: 0 until it has one.
    pub version: u8,
    /// How far the call is.
    pub call: Call,
}

/// How far a call of `revoke()` is. A caller that dies is one that stays where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Call {
    /// Not made yet.
    #[default]
    None,
    /// Has a number from the sequence and has not committed; only where versions come from a sequence.
    Numbered,
    /// Committed this many ticks ago, and waits for the replicas. The number stops at the length of a lease.
    Waiting(u8),
    /// Returned without an error: from now on the promise holds.
    Returned,
    /// The database lost the change before the call returned, and the caller gets an error.
    Failed,
    /// The database lost the change after the call had returned.
    Lost,
}

/// A replica, with its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// Its copy of the keys, or nothing: not running, not yet loaded, or no longer willing to serve.
    pub copy: Option<Copy>,
    /// What is left of its lease on its own clock.
    pub lease: Countdown,
    /// The renewal that it waits for.
    pub renewal: Renewal,
    /// It is asleep: it neither sends, reads, applies nor admits.
    pub paused: bool,
    /// A request in the middle of its check: it began after the revocation of this key had returned, and has made the
    /// first of its two readings.
    pub checking: Option<u8>,
    /// Its row in the database.
    pub row: Row,
    /// A renewal that was given up, or sent twice, and may be executed at any later time.
    pub stray: Option<Claim>,
    /// Notifications on their way, as keys; only where changes arrive by notification.
    pub notices: u8,
    /// It has had an answer to a renewal; only where a vanished row goes unnoticed.
    pub registered: bool,
}

/// A row of the table of replicas. A row whose lease has run out is as good as none: it may be deleted at any time,
/// and in the model it is, at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// Ticks until the lease runs out by the database's clock; 0 is no row.
    pub lease: u8,
    /// The version that the replica said it has applied.
    pub applied: u8,
}

/// The keys as of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copy {
    /// Where in the history this is, or is said to be.
    pub at: Claim,
    /// The keys that it holds as revoked.
    pub revoked: u8,
}

/// A point in the history: how many changes, and which was the last. The second tells two histories apart that have
/// the same number of changes; the implementation draws a random identity for each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The version.
    pub version: u8,
    /// Which change has that version: the key's number plus one, or 0 before the first.
    pub identity: u8,
}

/// A renewal on its way from a replica to the database and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Renewal {
    /// None is awaited.
    #[default]
    None,
    /// Sent, with what the replica had applied then.
    Requested(Countdown, Claim),
    /// Between the reading of the changes and the commit; only where a renewal does not lock the counter.
    Executing(Countdown, Claim, Copy),
    /// Executed: the changes since the claim, and the version that they lead to.
    Answered(Countdown, Copy, Verdict),
}

/// What the database made of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The lease is extended.
    Granted,
    /// It is not: the replica was behind. Only where that is the rule.
    Behind,
    /// What the replica has applied is not part of the database's history.
    OtherHistory,
}

impl State {
    /// The highest version that is committed.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.committed().map(|(_, key)| key.version).max().unwrap_or(0)
    }

    /// The keys whose revocation is committed and in the database.
    pub(crate) fn committed(&self) -> impl Iterator<Item = (usize, Key)> {
        let in_database = |key: &Key| matches!(key.call, Call::Waiting(_) | Call::Returned);
        self.keys.into_iter().enumerate().filter(move |(_, key)| in_database(key))
    }

    /// The committed changes after `after` and up to `to`.
    pub(crate) fn changes(&self, after: u8, to: u8) -> u8 {
        let wanted = |version| after < version && version <= to;
        self.committed().filter(|(_, key)| wanted(key.version)).fold(0, |bits, (key, _)| bits | bit(key))
    }

    /// The point in the history that has this version.
    pub(crate) fn point(&self, version: u8) -> Claim {
        let change = self.committed().find(|(_, key)| key.version == version);
        Claim { version, identity: change.map_or(0, |(key, _)| key as u8 + 1) }
    }

    /// The database's keys as of a version.
    pub(crate) fn snapshot(&self, version: u8) -> Copy {
        Copy { at: self.point(version), revoked: self.changes(0, version) }
    }

    /// Whether a claim is about this database's history.
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

    /// It ends, or refuses to serve from now on. Its row stays; a renewal that is under way may still be executed, for
    /// which see [`Action::GoAstray`](crate::Action::GoAstray).
    pub(crate) fn stop(&mut self) {
        *self = Self { row: self.row, stray: self.stray, ..Self::default() };
    }
}
