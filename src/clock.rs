//! Clocks that the standard library does not have.

#[cfg(feature = "postgres")]
use std::time::Duration;
use std::time::SystemTime;

#[cfg(unix)]
use rustix::time::{ClockId, clock_gettime};

/// A replacement for the system clock.
pub(crate) type Clock = dyn Fn() -> SystemTime + Send + Sync;

/// The time of day in whole seconds, late by one of them and a tick of the kernel at most, for a quarter of the price.
pub(crate) fn coarse() -> SystemTime {
    #[cfg(target_os = "linux")]
    {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
    }
    #[cfg(not(target_os = "linux"))]
    SystemTime::now()
}

/// The standard library's clock stands still while a virtual machine is suspended: a lease would outlive it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere this one goes on.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Nanoseconds since the machine started, those that it slept through among them.
#[cfg(unix)]
pub(crate) fn now() -> u64 {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nanoseconds since this was first asked.
#[cfg(not(unix))]
pub(crate) fn now() -> u64 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Until when a lease that was asked for at `asked` holds here: for two thirds of it, so that this clock may run slower
/// than that of the database by three parts in ten.
#[cfg(feature = "postgres")]
pub(crate) fn deadline(asked: u64, lease: Duration) -> u64 {
    let nanos = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX);
    asked.saturating_add(nanos / 3 * 2)
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_thirty_percent_slow_ends_a_lease_in_time() {
        for millis in [100, 500, 2000, 60_000] {
            let lease = Duration::from_millis(millis);
            let held = deadline(0, lease) as f64;
            // The reading of this clock when the lease is over by the clock of the database.
            let over = lease.as_nanos() as f64 * 0.7;
            assert!(held < over, "{lease:?}");
        }
    }

    /// No machine can be suspended in a test; but which clock it is that goes on then is known (`clock_gettime(2)`).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_lease_ends_while_the_machine_sleeps() {
        let nanos = || {
            let time = clock_gettime(ClockId::Boottime);
            u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
        };
        let (before, shown, after) = (nanos(), now(), nanos());
        assert!((before..=after).contains(&shown));
        assert!(matches!(CLOCK, ClockId::Boottime));
    }
}
