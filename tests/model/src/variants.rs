//! The correct protocol, and every incorrect one that the model must detect.

use crate::properties::{BOUND, KEPT, PROMISE};

/// The protocol that is explored. All but the first two are broken on purpose: each leaves out one rule, and the
/// checker has to find out what that rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The protocol of the crate's documentation.
    Correct,
    /// A second correct protocol: a renewal that is behind extends nothing, and in return the writer needs no limit
    /// of its own.
    RefuseBehind,

    /// Requests are admitted whether or not the replica holds a lease.
    NoLease,
    /// The local deadline is counted from the arrival of the answer, not from the sending of the renewal.
    DeadlineFromAnswer,
    /// The local deadline allows no margin for a clock that runs slow.
    NoDriftAllowance,
    /// The local clock stands still while the machine is suspended.
    ClockStopsInPause,
    /// A renewal is abandoned and sent again, and the late answer to the first is taken for that to the second.
    AnswerToAnotherRenewal,
    /// The new deadline counts before the changes that came with it have been applied.
    DeadlineBeforeChanges,
    /// A replica that registers gets its first lease for what it loaded earlier, without the changes since.
    RegisterWithoutCatchUp,
    /// A renewal does not lock the counter row: a newer version may be committed before its lease becomes visible.
    UnserializedRenewal,
    /// Versions come from a sequence: a lower one can be committed after a higher one.
    Sequence,
    /// Changes arrive by notification only, each with its version; nothing is read from the database again.
    NotifyOnly,
    /// The keys and their supposed version are read in two snapshots, the version last.
    TornLoad,
    /// Data that were read earlier may replace data that were read later.
    OlderLoadInstalled,
    /// A deleted key leaves no trace that a reader of "changes since" could see.
    DeleteWithoutTombstone,
    /// Two processes use one row in the table of replicas, as they do if its id is a configured name.
    SharedId,
    /// A renewal that found no row to update is taken for one that did.
    SweptRowIgnored,
    /// On shutdown the row is deleted first, and then the replica stops admitting requests.
    ReleaseBeforeStop,
    /// A request looks the key up first and checks the lease afterwards.
    CopyReadBeforeLease,
    /// `revoke()` of a key that is revoked already returns at once, though the first call is still waiting.
    RepeatReturnsAtOnce,
    /// The database's clock jumps forward.
    DatabaseClockLeaps,
    /// The writer waits for the lease that is stored now, however often a replica that is behind has renewed it.
    WaitForRenewedLease,
    /// After a failover, histories are distinguished by the version number alone.
    FailoverByNumber,
    /// After a failover, renewals compare histories, but readings of the changes do not.
    FailoverUncheckedPoll,
    /// After a failover, writers trust the table of replicas at once.
    FailoverWithoutSettling,
}

impl Variant {
    /// The broken variants.
    pub const BROKEN: [Self; 23] = [
        Self::NoLease,
        Self::DeadlineFromAnswer,
        Self::NoDriftAllowance,
        Self::ClockStopsInPause,
        Self::AnswerToAnotherRenewal,
        Self::DeadlineBeforeChanges,
        Self::RegisterWithoutCatchUp,
        Self::UnserializedRenewal,
        Self::Sequence,
        Self::NotifyOnly,
        Self::TornLoad,
        Self::OlderLoadInstalled,
        Self::DeleteWithoutTombstone,
        Self::SharedId,
        Self::SweptRowIgnored,
        Self::ReleaseBeforeStop,
        Self::CopyReadBeforeLease,
        Self::RepeatReturnsAtOnce,
        Self::DatabaseClockLeaps,
        Self::WaitForRenewedLease,
        Self::FailoverByNumber,
        Self::FailoverUncheckedPoll,
        Self::FailoverWithoutSettling,
    ];

    /// Returns the property that this variant is known to break, if any.
    #[must_use]
    pub fn breaks(self) -> Option<&'static str> {
        match self {
            Self::Correct | Self::RefuseBehind => None,
            Self::WaitForRenewedLease => Some(BOUND),
            Self::CopyReadBeforeLease => Some(KEPT),
            _ => Some(PROMISE),
        }
    }

    /// Whether the missing rule concerns a failover.
    #[must_use]
    pub fn needs_failover(self) -> bool {
        matches!(self, Self::FailoverByNumber | Self::FailoverUncheckedPoll | Self::FailoverWithoutSettling)
    }

    /// Whether a writer stops waiting one lease after its commit, whatever the table of replicas says.
    ///
    /// That is sound where a lease granted after the commit cannot be used before the change has been applied.
    pub(crate) fn writer_has_a_limit(self) -> bool {
        !matches!(self, Self::RefuseBehind | Self::WaitForRenewedLease | Self::NotifyOnly)
    }
}

/// The configuration that is explored: the protocol, the sizes, and which faults happen.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The protocol.
    pub variant: Variant,
    /// The number of replicas, up to [`MAX_REPLICAS`](crate::MAX_REPLICAS).
    pub replicas: usize,
    /// The number of keys, up to [`MAX_KEYS`](crate::MAX_KEYS). Each key is revoked at most once.
    pub keys: usize,
    /// The lease, in ticks of the database's clock; at least two.
    pub lease: u8,
    /// Whether pauses are visible in the state. Without this a replica can still do nothing for any length of time,
    /// which is equivalent where clocks do not stop.
    pub pauses: bool,
    /// Whether one renewal at a time may be executed late, after its replica abandoned it, restarted or has been
    /// answered.
    pub strays: bool,
    /// Whether one request at a time is followed through the two readings of its check, with other steps in between.
    pub split_checks: bool,
    /// Whether the database loses its newest change, and the table of replicas, once.
    pub failover: bool,
    /// Whether states that differ only in the names of the replicas are explored once.
    pub symmetry: bool,
}

impl Config {
    /// Returns a configuration with every fault but the failover.
    #[must_use]
    pub fn new(variant: Variant, replicas: usize, keys: usize) -> Self {
        Self {
            variant,
            replicas,
            keys,
            lease: 2,
            pauses: true,
            strays: true,
            split_checks: true,
            failover: variant.needs_failover(),
            symmetry: true,
        }
    }

    /// Returns how long a replica trusts a lease on its own clock: the lease, less the possible lag of that clock.
    pub(crate) fn validity(&self) -> u8 {
        match self.variant {
            Variant::NoDriftAllowance => self.lease,
            _ => self.lease - 1,
        }
    }
}
