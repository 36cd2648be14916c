//! The promise, the bound, and some conditions that must be reachable, because a system that does nothing would
//! satisfy the first two.

use stateright::Property;

use crate::state::{Call, State};
use crate::variants::{Config, Variant};

/// No replica is in a state in which it would admit a request that begins now, after the revocation of its key has
/// returned.
pub const PROMISE: &str = "a request that begins after revoke() returned is not admitted";
/// The same holds for a request that has made the first of its two readings after `revoke()` returned, and makes the
/// second now: the replica may have changed between the two.
pub const KEPT: &str = "nor is one whose check is interrupted between its two readings";
/// One lease after its commit, nothing makes a writer wait any longer.
pub const BOUND: &str = "revoke() waits one lease at most";

/// A live key can be admitted.
pub const ADMITS: &str = "a live key is admitted";
/// A request can be refused although the copy says that its key is live.
pub const REFUSES: &str = "a request is refused for want of a lease";
/// A call can return before a lease has passed, with every replica running and holding its lease.
pub const PROMPT: &str = "revoke() returns at once while every replica holds a lease";
/// A call can return although a paused replica has not received the change.
pub const PAUSED: &str = "revoke() returns while a replica that is behind is paused";
/// After a failover the promise cannot be kept for a change that is lost.
pub const LOST: &str = "a revocation that a failover lost is forgotten";
/// After a failover, a replica that has seen the lost change can refuse a request that others would admit.
pub const SEEN: &str = "a replica that has seen a lost revocation still refuses the key";

impl Config {
    /// Whether a replica would now admit a request with this key.
    pub(crate) fn admits(&self, state: &State, replica: usize, key: usize) -> bool {
        let replica = &state.replicas[replica];
        !replica.paused && replica.holds_live(key) && (replica.lease.running() || self.variant == Variant::NoLease)
    }

    /// Whether the request in the middle of its check is admitted by its second reading.
    fn admits_interrupted(&self, state: &State, replica: usize) -> bool {
        let replica = &state.replicas[replica];
        replica.checking.is_some_and(|key| match self.variant {
            _ if replica.paused => false,
            Variant::CopyReadBeforeLease => replica.lease.running(),
            _ => replica.holds_live(key.into()),
        })
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let keys = self.keys;
        (0..self.replicas).flat_map(move |replica| (0..keys).map(move |key| (replica, key)))
    }

    /// Returns the properties that apply to this configuration.
    pub(crate) fn all_properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(PROMISE, |config: &Self, state: &State| {
                !config.pairs().any(|(replica, key)| state.returned(key) && config.admits(state, replica, key))
            }),
            Property::always(KEPT, |config: &Self, state: &State| {
                !(0..config.replicas).any(|replica| config.admits_interrupted(state, replica))
            }),
            Property::always(BOUND, |config: &Self, state: &State| {
                (0..config.keys).all(|key| {
                    state.keys[key].call != Call::Waiting(config.lease)
                        || state.settling > 0
                        || config.may_return(state, key)
                })
            }),
            Property::sometimes(ADMITS, |config: &Self, state: &State| {
                config.pairs().any(|(replica, key)| config.admits(state, replica, key))
            }),
            Property::sometimes(REFUSES, |config: &Self, state: &State| {
                let refused = |(replica, key)| {
                    let replica: &crate::Replica = &state.replicas[replica];
                    !replica.paused && replica.holds_live(key) && !replica.lease.running()
                };
                config.pairs().any(refused)
            }),
            Property::sometimes(PROMPT, |config: &Self, state: &State| {
                let served = |replica: &crate::Replica| replica.lease.running() && replica.row.lease == config.lease;
                state.replicas[..config.replicas].iter().all(served)
                    && (0..config.keys)
                        .any(|key| state.keys[key].call == Call::Waiting(0) && config.may_return(state, key))
            }),
        ];
        if self.pauses {
            all.push(Property::sometimes(PAUSED, |config: &Self, state: &State| {
                config.pairs().any(|(replica, key)| {
                    let replica = &state.replicas[replica];
                    state.returned(key) && replica.paused && replica.holds_live(key)
                })
            }));
        }
        if self.failover {
            all.push(Property::sometimes(LOST, |config: &Self, state: &State| {
                let lost = |key: usize| state.keys[key].call == Call::Lost;
                config.pairs().any(|(replica, key)| lost(key) && config.admits(state, replica, key))
            }));
            all.push(Property::sometimes(SEEN, |config: &Self, state: &State| {
                let lost = |key: usize| state.keys[key].call == Call::Lost;
                config.pairs().any(|(replica, key)| {
                    let replica = &state.replicas[replica];
                    lost(key) && replica.copy.is_some() && !replica.holds_live(key)
                })
            }));
        }
        all
    }
}
