//! Applies an action to a state.

use crate::clock::Countdown;
use crate::protocol::Action;
use crate::state::{Call, Copy, Renewal, State, Verdict, bit};
use crate::variants::{Config, Variant};

impl Config {
    pub(crate) fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Load { replica, keys_of, version } => {
                let copy = Copy { at: state.point(version), revoked: state.changes(0, keys_of) };
                state.replicas[replica].copy = Some(copy);
            }
            Action::Poll { replica, to } => self.poll(state, replica, to),
            Action::Notice { replica, key } => {
                let version = state.keys[key].version;
                let point = state.point(version);
                if let Some(copy) = &mut state.replicas[replica].copy {
                    copy.revoked |= bit(key);
                    copy.at = copy.at.max(point);
                }
            }
            Action::Send(replica) => {
                let replica = &mut state.replicas[replica];
                if let Some(copy) = replica.copy {
                    replica.renewal = Renewal::Requested(Countdown::start(self.validity()), copy.at);
                }
            }
            Action::Execute(replica) => self.execute(state, replica),
            Action::Finish(replica) => {
                if let Renewal::Executing(countdown, claim, read) = state.replicas[replica].renewal {
                    let verdict = self.write_row(state, replica, claim, read);
                    state.replicas[replica].renewal = Renewal::Answered(countdown, read, verdict);
                }
            }
            Action::GiveUp(replica) => state.replicas[replica].renewal = Renewal::None,
            Action::GoAstray { replica, twice } => {
                let replica = &mut state.replicas[replica];
                if let Renewal::Requested(_, claim) = replica.renewal {
                    replica.stray = Some(claim);
                    if !twice {
                        replica.renewal = Renewal::None;
                    }
                }
            }
            Action::ExecuteStray(replica) => {
                if let Some(claim) = state.replicas[replica].stray.take() {
                    self.renew(state, replica, claim);
                }
            }
            Action::Receive(replica) => self.receive(state, replica),
            Action::Confuse(replica) => {
                if let Renewal::Answered(countdown, ..) = &mut state.replicas[replica].renewal {
                    *countdown = Countdown::start(self.validity());
                }
            }
            Action::Look { replica, key } => state.replicas[replica].checking = Some(key as u8),
            Action::Done(replica) => state.replicas[replica].checking = None,
            Action::Pause(replica) => state.replicas[replica].paused = true,
            Action::Resume(replica) => state.replicas[replica].paused = false,
            Action::Crash(replica) => state.replicas[replica].stop(),
            Action::Release(replica) => self.release(state, replica),
            Action::Number(key) => {
                let taken = state.keys.iter().map(|key| key.version).max().unwrap_or(0);
                state.keys[key].version = taken + 1;
                state.keys[key].call = Call::Numbered;
            }
            Action::Commit(key) => self.commit(state, key),
            Action::Return(key) => state.keys[key].call = Call::Returned,
            Action::Tick { lagging } => self.tick(state, lagging),
            Action::Leap => self.database_tick(state),
            Action::FailOver => self.fail_over(state),
        }
    }

    /// Applies the changes since the copy's version. A copy from another history is not continued.
    fn poll(&self, state: &mut State, number: usize, to: u8) {
        let Some(copy) = state.replicas[number].copy else { return };
        if self.variant == Variant::OlderLoadInstalled {
            state.replicas[number].copy = Some(state.snapshot(to));
            return;
        }
        let lenient = matches!(self.variant, Variant::FailoverByNumber | Variant::FailoverUncheckedPoll);
        if !state.knows(copy.at) && !lenient {
            state.replicas[number].stop();
        } else if to > copy.at.version {
            let changes = state.changes(copy.at.version, to);
            let changes = if self.variant == Variant::DeleteWithoutTombstone { 0 } else { changes };
            state.replicas[number].copy = Some(Copy { at: state.point(to), revoked: copy.revoked | changes });
        }
    }

    fn execute(&self, state: &mut State, number: usize) {
        let Renewal::Requested(countdown, claim) = state.replicas[number].renewal else { return };
        if self.variant == Variant::UnserializedRenewal {
            let read = self.read_for_renewal(state, number, claim);
            state.replicas[number].renewal = Renewal::Executing(countdown, claim, read);
            return;
        }
        let (read, verdict) = self.renew(state, number, claim);
        state.replicas[number].renewal = Renewal::Answered(countdown, read, verdict);
    }

    /// INVARIANT: the changes are applied before the new deadline counts.
    fn receive(&self, state: &mut State, number: usize) {
        let replica = &mut state.replicas[number];
        let Renewal::Answered(countdown, read, verdict) = replica.renewal else { return };
        let Some(copy) = &mut replica.copy else { return };
        replica.renewal = Renewal::None;
        if verdict == Verdict::OtherHistory {
            replica.stop();
            return;
        }
        if read.at.version >= copy.at.version && self.variant != Variant::DeadlineBeforeChanges {
            copy.at = read.at;
            if self.variant != Variant::DeleteWithoutTombstone {
                copy.revoked |= read.revoked;
            }
        }
        replica.registered = self.variant == Variant::SweptRowIgnored;
        let lease = match self.variant {
            Variant::DeadlineFromAnswer => Countdown::start(self.validity()),
            _ => countdown,
        };
        if verdict == Verdict::Granted {
            replica.lease = replica.lease.later(lease);
        }
    }

    fn tick(&self, state: &mut State, lagging: u8) {
        self.database_tick(state);
        // In these variants the age of an answer does not matter, so an old one must be kept.
        let keeps_old = matches!(self.variant, Variant::DeadlineFromAnswer | Variant::AnswerToAnotherRenewal);
        for (number, replica) in state.replicas[..self.replicas].iter_mut().enumerate() {
            if replica.paused && self.variant == Variant::ClockStopsInPause {
                continue;
            }
            let lags = lagging & 1 << number != 0;
            replica.lease.tick(lags);
            if let Some(countdown) = replica.renewal.countdown_mut() {
                countdown.tick(lags);
                if !countdown.running() && !keeps_old {
                    replica.renewal = Renewal::None;
                }
            }
        }
    }
}

impl Renewal {
    pub(crate) fn countdown(&self) -> Countdown {
        match *self {
            Self::None => Countdown::default(),
            Self::Requested(countdown, _) | Self::Executing(countdown, ..) | Self::Answered(countdown, ..) => countdown,
        }
    }

    fn countdown_mut(&mut self) -> Option<&mut Countdown> {
        match self {
            Self::None => None,
            Self::Requested(countdown, _) | Self::Executing(countdown, ..) | Self::Answered(countdown, ..) => {
                Some(countdown)
            }
        }
    }
}
