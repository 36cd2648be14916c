use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A date of a record in eight bytes: seconds since 1970 above, and nanoseconds in the lowest 30 bits. The few dates
/// that do not fit, those before 1970 and those after the year 2514, are kept elsewhere in the record, as they are.
///
/// INVARIANT: a date has one form, so that records with equal dates are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedTime(u64);

const NANOS_BITS: u32 = 30;

impl PackedTime {
    /// No date. 1970 itself has the same bits, so it is kept elsewhere.
    pub(super) const NONE: Self = Self(0);

    /// The date is kept elsewhere. No date has these bits, because a second has fewer nanoseconds.
    pub(super) const ELSEWHERE: Self = Self(u64::MAX);

    pub(super) fn new(date: Option<SystemTime>) -> Self {
        match date.map(bits) {
            None => Self::NONE,
            Some(0) => Self::ELSEWHERE,
            Some(bits) => Self(bits),
        }
    }

    /// Whether the date, which must be here, is this moment or an earlier one.
    #[inline]
    pub(super) fn has_come(self, now: SystemTime) -> bool {
        self.0 <= bits(now)
    }

    /// Whether the date, which must be here, and this moment are at most so many seconds apart.
    #[inline]
    pub(super) fn is_near(self, now: SystemTime, seconds: u64) -> bool {
        self.0.abs_diff(bits(now)) <= seconds << NANOS_BITS
    }

    /// The date; none if there is none here.
    #[inline]
    pub(super) fn time(self) -> Option<SystemTime> {
        if self == Self::NONE || self == Self::ELSEWHERE {
            return None;
        }
        let nanos = self.0 & ((1 << NANOS_BITS) - 1);
        UNIX_EPOCH.checked_add(Duration::new(self.0 >> NANOS_BITS, nanos as u32))
    }
}

/// A time in the form of a date. It is 0 up to 1970, and [`u64::MAX`] if it is too late to fit.
#[inline]
fn bits(time: SystemTime) -> u64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) if since.as_secs() >> (64 - NANOS_BITS) == 0 => {
            since.as_secs() << NANOS_BITS | u64::from(since.subsec_nanos())
        }
        Ok(_) => u64::MAX,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compared in their short form, dates answer as they do themselves.
        #[test]
        fn comparisons_are_exact(seconds in 1..2_000_000_000_u64, nanos in 0..1_000_000_000_u32, apart in -4_000_000_000..4_000_000_000_i64) {
            let date = UNIX_EPOCH + Duration::new(seconds + 4, nanos);
            let distance = Duration::from_nanos(apart.unsigned_abs());
            let now = if apart < 0 { date - distance } else { date + distance };
            let packed = PackedTime::new(Some(date));
            prop_assert_eq!(packed.has_come(now), date <= now);
            prop_assert_eq!(packed.is_near(now, 3), distance <= Duration::from_secs(3));
        }
    }

    #[test]
    fn a_date_that_fits_is_kept_exactly() {
        let latest = (1 << (64 - NANOS_BITS)) - 1;
        for (seconds, nanos) in [(0, 1), (1, 0), (1_800_000_000, 999_999_999), (latest, 999_999_999)] {
            let date = UNIX_EPOCH + Duration::new(seconds, nanos);
            assert_eq!(PackedTime::new(Some(date)).time(), Some(date));
        }
        let too_late = UNIX_EPOCH + Duration::from_secs(latest + 1);
        let year_9999 = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        for date in [UNIX_EPOCH, UNIX_EPOCH - Duration::from_nanos(1), too_late, year_9999] {
            assert_eq!(PackedTime::new(Some(date)), PackedTime::ELSEWHERE, "{date:?}");
        }
        let last = PackedTime::new(Some(too_late - Duration::from_nanos(1)));
        assert!(last.has_come(year_9999) && !last.has_come(UNIX_EPOCH - Duration::from_secs(1)));
        assert_eq!(PackedTime::new(None), PackedTime::NONE);
        assert_eq!((PackedTime::NONE.time(), PackedTime::ELSEWHERE.time()), (None, None));
    }
}
