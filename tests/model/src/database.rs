//! The steps of the database: commits, renewals, and the condition under which a writer may return.

use crate::state::{Call, Claim, Copy, Replica, Row, State, Verdict};
use crate::variants::{Config, Variant};

impl Config {
    /// Returns the replica whose row this replica uses.
    fn row_of(&self, replica: usize) -> usize {
        if self.variant == Variant::SharedId { 0 } else { replica }
    }

    /// Commits the revocation of a key. The counter row is locked from the drawing of the number to the commit, so
    /// that both are one step here; a sequence has drawn its number earlier.
    pub(crate) fn commit(&self, state: &mut State, key: usize) {
        if state.keys[key].call != Call::Numbered {
            state.keys[key].version = state.version() + 1;
        }
        state.keys[key].call = Call::Waiting(0);
        if self.variant == Variant::NotifyOnly {
            for replica in state.replicas.iter_mut().filter(|replica| replica.copy.is_some()) {
                replica.notices |= crate::state::bit(key);
            }
        }
    }

    /// Executes a renewal: a share lock on the counter row, the changes since the claim, the row, and the commit are
    /// one step, because no writer can commit in between. Returns the answer to the replica.
    pub(crate) fn renew(&self, state: &mut State, replica: usize, claim: Claim) -> (Copy, Verdict) {
        let read = self.read_for_renewal(state, replica, claim);
        (read, self.write_row(state, replica, claim, read))
    }

    /// Executes the first half of a renewal, and returns the keys that the answer will contain.
    pub(crate) fn read_for_renewal(&self, state: &State, replica: usize, claim: Claim) -> Copy {
        let registers = state.replicas[self.row_of(replica)].row.lease == 0;
        let to = match self.variant {
            Variant::RegisterWithoutCatchUp if registers => claim.version,
            Variant::NotifyOnly if !registers => claim.version,
            _ => state.version(),
        };
        Copy { at: state.point(to), revoked: state.changes(claim.version, to) }
    }

    /// Executes the second half of a renewal, which writes the row.
    pub(crate) fn write_row(&self, state: &mut State, replica: usize, claim: Claim, read: Copy) -> Verdict {
        let same_history = match self.variant {
            Variant::FailoverByNumber => claim.version <= state.version(),
            _ => state.knows(claim),
        };
        if !same_history {
            return Verdict::OtherHistory;
        }
        let registered = state.replicas[replica].registered;
        let row = &mut state.replicas[self.row_of(replica)].row;
        if self.variant == Variant::RefuseBehind && claim.version < read.at.version {
            return Verdict::Behind;
        }
        let swept = row.lease == 0;
        if !(self.variant == Variant::SweptRowIgnored && registered && swept) {
            // A change that a replica has applied stays applied, so a late renewal must not lower the version.
            *row = Row { lease: self.lease, applied: row.applied.max(claim.version) };
        }
        Verdict::Granted
    }

    /// Deletes a replica's row.
    pub(crate) fn release(&self, state: &mut State, replica: usize) {
        state.replicas[self.row_of(replica)].row = Row::default();
    }

    /// Whether the caller that revokes this key may return: every replica has applied the change, or its lease has
    /// expired by the database's clock, or a whole lease has passed since the commit.
    pub(crate) fn may_return(&self, state: &State, key: usize) -> bool {
        let Call::Waiting(ticks) = state.keys[key].call else { return false };
        if self.variant != Variant::FailoverWithoutSettling && state.settling > 0 {
            return false;
        }
        let version = state.keys[key].version;
        let safe = |row: &Row| row.lease == 0 || row.applied >= version;
        let waited = self.variant.writer_has_a_limit() && ticks >= self.lease;
        waited || state.replicas[..self.replicas].iter().all(|replica| safe(&replica.row))
    }

    /// Lowers the applied versions of rows to the highest version that a caller still waits for, or 0. Higher ones
    /// make no difference, now or later, because future versions exceed any that a replica can have applied. So this
    /// makes states equal that behave alike, which removes a quarter of them.
    pub(crate) fn forget_answered_questions(&self, state: &mut State) {
        let asked = state.keys.map(|key| match key.call {
            Call::Numbered | Call::Waiting(_) => key.version,
            _ => 0,
        });
        for Replica { row, .. } in &mut state.replicas[..self.replicas] {
            row.applied = asked.into_iter().filter(|version| *version <= row.applied).max().unwrap_or(0);
        }
    }

    /// Advances the times that the database itself keeps by one tick of its clock.
    pub(crate) fn database_tick(&self, state: &mut State) {
        for replica in &mut state.replicas[..self.replicas] {
            replica.row.lease = replica.row.lease.saturating_sub(1);
            if replica.row.lease == 0 {
                replica.row = Row::default();
            }
        }
        for key in &mut state.keys {
            if let Call::Waiting(ticks) = &mut key.call {
                *ticks = (*ticks + 1).min(self.lease);
            }
        }
        state.settling = state.settling.saturating_sub(1);
    }

    /// The primary fails, and a standby takes over that lacks the newest change and all changes committed after it.
    /// For the table of replicas the model assumes the worst case, that none of it was replicated. Writers must not
    /// trust that table before every lease that the old primary can have granted has expired.
    pub(crate) fn fail_over(&self, state: &mut State) {
        let newest = state.version();
        for key in &mut state.keys {
            let call = match key.call {
                Call::Waiting(_) => Call::Failed,
                Call::Returned => Call::Lost,
                _ => continue,
            };
            if key.version == newest {
                (key.call, key.version) = (call, 0);
            }
        }
        for replica in &mut state.replicas {
            replica.row = Row::default();
        }
        state.failed_over = true;
        state.settling = self.lease;
    }
}
