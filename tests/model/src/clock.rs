//! The clocks.
//!
//! Time is the database's, in ticks, and no state holds an absolute time: what is kept is how much of a lease is
//! left. So the state space is finite without a bound on time, and a run may be as long as it likes.
//!
//! A replica's clock may run slow: in the time of one lease it may miss one tick. That is one of the bounds of the
//! drift; the other, a clock that runs fast, makes a replica give its lease up early, and in the model every replica
//! may do that anyway, because nothing obliges it to admit or to renew.

/// What is left of a lease on the replica's own clock, counted from the moment before its renewal was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Countdown {
    left: u8,
    /// The clock has missed its one tick since this began.
    lagged: bool,
}

impl Countdown {
    /// Begins now.
    pub(crate) fn start(left: u8) -> Self {
        Self { left, lagged: false }
    }

    /// Whether the deadline is still ahead.
    #[must_use]
    pub fn running(self) -> bool {
        self.left > 0
    }

    /// Whether the clock could still miss a tick without having missed two since this began.
    pub(crate) fn may_lag(self) -> bool {
        !self.lagged
    }

    /// One tick of the database's clock, which the replica's clock shows too or, if it `lags`, does not.
    pub(crate) fn tick(&mut self, lags: bool) {
        if lags {
            self.lagged = true;
        } else {
            self.left = self.left.saturating_sub(1);
        }
        if self.left == 0 {
            // Of what has run out nothing matters any more: equal states shall compare equal.
            self.lagged = false;
        }
    }

    /// The later of two deadlines. At the same distance, the one that may still be put off is the later.
    pub(crate) fn later(self, other: Self) -> Self {
        if (other.left, !other.lagged) > (self.left, !self.lagged) { other } else { self }
    }
}
