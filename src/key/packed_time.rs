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
        let Some(date) = date else { return Self::NONE };
        match date.duration_since(UNIX_EPOCH) {
            Ok(since) if !since.is_zero() && since.as_secs() >> (64 - NANOS_BITS) == 0 => {
                Self(since.as_secs() << NANOS_BITS | u64::from(since.subsec_nanos()))
            }
            _ => Self::ELSEWHERE,
        }
    }

    /// The date; none if there is none here.
    pub(super) fn time(self) -> Option<SystemTime> {
        if self == Self::NONE || self == Self::ELSEWHERE {
            return None;
        }
        let nanos = self.0 & ((1 << NANOS_BITS) - 1);
        UNIX_EPOCH.checked_add(Duration::new(self.0 >> NANOS_BITS, nanos as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(PackedTime::new(None), PackedTime::NONE);
        assert_eq!((PackedTime::NONE.time(), PackedTime::ELSEWHERE.time()), (None, None));
    }
}
