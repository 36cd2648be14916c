//! The clocks of the model.
//!
//! Time is the database's, in ticks, and no state holds an absolute time: a state holds only the remaining time of a
//! lease. So the state space is finite without a bound on time, and a run may be of any length.
//!
//! A replica's clock may run slow: in the time of one lease it may miss one tick. That is one of the bounds of the
//! drift. The other, a clock that runs fast, makes a replica give its lease up early, which every replica in the
//! model may do anyway, because nothing obliges it to admit or to renew.

/// The remaining time of a lease on the replica's own clock, counted from the moment before its renewal was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Countdown {
    left: u8,
    /// Whether the clock has missed its one tick since this began.
    lagged: bool,
}

impl Countdown {
    /// Starts a countdown at the present tick.
    pub(crate) fn start(left: u8) -> Self {
        Self { left, lagged: false }
    }

    /// Whether the deadline is still in the future.
    #[must_use]
    pub fn running(self) -> bool {
        self.left > 0
    }

    /// Whether the clock could still miss a tick without having missed two since this began.
    pub(crate) fn may_lag(self) -> bool {
        !self.lagged
    }

    /// Advances by one tick of the database's clock, which the replica's clock misses if it `lags`.
    pub(crate) fn tick(&mut self, lags: bool) {
        if lags {
            self.lagged = true;
        } else {
            self.left = self.left.saturating_sub(1);
        }
        if self.left == 0 {
            // The lag of an expired countdown has no effect, and states that behave alike must compare equal.
            self.lagged = false;
        }
    }

    /// Returns the later of two deadlines. If both have as many ticks left, the one whose clock may still lag is the
    /// later.
    pub(crate) fn later(self, other: Self) -> Self {
        if (other.left, !other.lagged) > (self.left, !self.lagged) { other } else { self }
    }
}
