//! A clock that goes on while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The standard library's clock stands still while a virtual machine is suspended: a lease would outlive it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere this one goes on.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Nanoseconds since the machine started.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Until when a lease that was asked for at `asked` holds here, whatever this clock and that of the database do
/// within one in a thousand.
pub(crate) fn deadline(asked: u64, lease: Duration) -> u64 {
    let nanos = u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX);
    asked.saturating_add(nanos - nanos / 1000 - nanos / 100)
}
