//! The actions that are possible in a state.

use stateright::{Model, Property};

use crate::state::{Call, Renewal, Replica, State, bit};
use crate::variants::{Config, Variant};

/// A step of the system. Replicas and keys are numbers. No action is obliged to happen, ever, so a lost message, a
/// partition and a replica that makes no progress need no actions of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A replica has read all keys in one snapshot, of this version or, if `keys_of` differs, of two.
    Load { replica: usize, keys_of: u8, version: u8 },
    /// A replica has read the changes up to this version and applied them. The version may be older than the newest.
    Poll { replica: usize, to: u8 },
    /// A replica receives a notification with its contents.
    Notice { replica: usize, key: usize },
    /// A replica reads its clock and sends a renewal.
    Send(usize),
    /// The database executes the renewal.
    Execute(usize),
    /// The database commits a renewal whose reading was a step of its own.
    Finish(usize),
    /// A replica abandons a renewal, or the request or its answer is lost.
    GiveUp(usize),
    /// A renewal will be executed at some later time, whatever its replica does; it is abandoned, or sent twice.
    GoAstray { replica: usize, twice: bool },
    /// The database executes such a delayed renewal.
    ExecuteStray(usize),
    /// A replica receives the answer.
    Receive(usize),
    /// A replica abandons a renewal, sends another and takes the answer to the first for that to the second.
    Confuse(usize),
    /// A request has begun after the revocation of its key returned, and makes the first reading of its check.
    Look { replica: usize, key: usize },
    /// That request ends.
    Done(usize),
    /// A replica is paused.
    Pause(usize),
    /// A paused replica resumes.
    Resume(usize),
    /// A replica's process ends.
    Crash(usize),
    /// The row of a replica that has stopped is deleted.
    Release(usize),
    /// A caller draws a number from the sequence.
    Number(usize),
    /// A caller commits its change.
    Commit(usize),
    /// A caller returns.
    Return(usize),
    /// The database's clock advances by a tick, which the clocks of these replicas (as bits) miss.
    Tick { lagging: u8 },
    /// The database's clock advances by a tick in which no time passes.
    Leap,
    /// A standby takes over.
    FailOver,
}

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for replica in 0..self.replicas {
            self.replica_actions(state, replica, actions);
        }
        self.writer_actions(state, actions);
        if self.failover && !state.failed_over && state.version() > 0 {
            actions.push(Action::FailOver);
        }
        if self.variant == Variant::DatabaseClockLeaps {
            actions.push(Action::Leap);
        }
        let may_lag = |replica: &Replica| {
            let (lease, renewal) = (replica.lease, replica.renewal.countdown());
            (lease.running() || renewal.running()) && lease.may_lag() && renewal.may_lag()
        };
        let laggards = (0..self.replicas).filter(|&replica| may_lag(&state.replicas[replica]));
        let laggards = laggards.fold(0, |bits, replica| bits | 1_u8 << replica);
        actions.extend((0..=laggards).filter(|bits| bits & !laggards == 0).map(|lagging| Action::Tick { lagging }));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.step(&mut state, action);
        self.forget_answered_questions(&mut state);
        if self.symmetry && self.variant != Variant::SharedId {
            state.replicas[..self.replicas].sort_unstable();
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}

impl Config {
    fn replica_actions(&self, state: &State, number: usize, actions: &mut Vec<Action>) {
        let replica = &state.replicas[number];
        let now = state.version();
        match replica.renewal {
            Renewal::Requested(..) => actions.push(Action::Execute(number)),
            Renewal::Executing(..) => actions.push(Action::Finish(number)),
            Renewal::Answered(..) if !replica.paused => actions.push(Action::Receive(number)),
            _ => {}
        }
        if let Renewal::Requested(..) = replica.renewal
            && self.strays
            && state.replicas.iter().all(|replica| replica.stray.is_none())
        {
            actions.extend([false, true].map(|twice| Action::GoAstray { replica: number, twice }));
        }
        if replica.stray.is_some() {
            actions.push(Action::ExecuteStray(number));
        }
        let Some(copy) = replica.copy else {
            for version in 0..=now {
                // The snapshot may be older than the newest version, because it may come from a standby that lags.
                let oldest = if self.variant == Variant::TornLoad { 0 } else { version };
                let loads = (oldest..=version).map(|keys_of| Action::Load { replica: number, keys_of, version });
                actions.extend(loads);
            }
            if replica.row.lease > 0 && self.variant != Variant::SharedId {
                actions.push(Action::Release(number));
            }
            return;
        };
        actions.push(Action::Crash(number));
        if self.pauses {
            actions.push(if replica.paused { Action::Resume(number) } else { Action::Pause(number) });
        }
        if self.variant == Variant::ReleaseBeforeStop {
            actions.push(Action::Release(number));
        }
        if replica.renewal != Renewal::None {
            actions.push(Action::GiveUp(number));
        }
        if replica.paused {
            return;
        }
        match self.variant {
            Variant::NotifyOnly => {
                let arriving = (0..self.keys).filter(|key| replica.notices & bit(*key) != 0);
                actions.extend(arriving.map(|key| Action::Notice { replica: number, key }));
            }
            Variant::OlderLoadInstalled => {
                actions.extend((0..=now).map(|to| Action::Poll { replica: number, to }));
            }
            _ if !state.knows(copy.at) => actions.push(Action::Poll { replica: number, to: now }),
            _ => actions.extend((copy.at.version + 1..=now).map(|to| Action::Poll { replica: number, to })),
        }
        match replica.renewal {
            Renewal::None => actions.push(Action::Send(number)),
            Renewal::Answered(..) if self.variant == Variant::AnswerToAnotherRenewal => {
                actions.push(Action::Confuse(number));
            }
            _ => {}
        }
        if replica.checking.is_some() {
            actions.push(Action::Done(number));
        } else if self.split_checks && state.replicas.iter().all(|replica| replica.checking.is_none()) {
            let passes = |key: usize| match self.variant {
                Variant::CopyReadBeforeLease => replica.holds_live(key),
                _ => replica.lease.running(),
            };
            let began = (0..self.keys).filter(|&key| state.returned(key) && passes(key));
            actions.extend(began.map(|key| Action::Look { replica: number, key }));
        }
    }

    fn writer_actions(&self, state: &State, actions: &mut Vec<Action>) {
        // Keys are alike, so they may be numbered in the order in which they are revoked.
        let next = (0..self.keys).find(|&key| state.keys[key].call == Call::None);
        let first = if self.variant == Variant::Sequence { Action::Number } else { Action::Commit };
        actions.extend(next.map(first));
        for key in 0..self.keys {
            match state.keys[key].call {
                Call::Numbered => actions.push(Action::Commit(key)),
                Call::Waiting(_) if self.may_return(state, key) || self.variant == Variant::RepeatReturnsAtOnce => {
                    actions.push(Action::Return(key));
                }
                _ => {}
            }
        }
    }
}
