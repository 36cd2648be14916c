//! The timer that wakes requests in flight when their key expires.
//!
//! The core knows no runtime, so it is one thread. It starts with the first request that waits while its key has an end,
//! and sleeps for good while there is none.

use std::{
    collections::BinaryHeap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, SystemTime},
};

use crate::key::revocation::RevocationSignal;

/// An end that is farther away than this is looked at again, so that no entry outlives those who wait by much.
pub(super) const RECHECK: Duration = Duration::from_secs(60);

/// Keys expire by the time of day, which may be set meanwhile; a thread can only sleep by a clock that goes on.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Timer {
    entries: Mutex<BinaryHeap<Entry>>,
    added: Condvar,
}

struct Entry {
    due: SystemTime,
    signal: Weak<RevocationSignal>,
}

/// Has the signal look at the clock at this time. False if there can be no timer.
pub(super) fn wake_at(due: SystemTime, signal: Weak<RevocationSignal>) -> bool {
    static TIMER: OnceLock<Option<Arc<Timer>>> = OnceLock::new();
    let Some(timer) = TIMER.get_or_init(Timer::start) else { return false };
    timer.lock().push(Entry { due, signal });
    timer.added.notify_one();
    true
}

impl Timer {
    fn start() -> Option<Arc<Self>> {
        let timer = Arc::new(Self::default());
        let own = Arc::clone(&timer);
        thread::Builder::new().name("authz-expiry".to_owned()).spawn(move || own.run()).ok()?;
        Some(timer)
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut entries = self.lock();
        loop {
            let now = SystemTime::now();
            entries = match entries.peek().map(|next| next.due.duration_since(now).unwrap_or_default()) {
                None => self.added.wait(entries).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let signal = entries.pop().and_then(|entry| entry.signal.upgrade());
                    // Wakers are anybody's code: they may add an entry, or panic.
                    drop(entries);
                    if let Some(signal) = signal {
                        let _ = catch_unwind(AssertUnwindSafe(|| signal.check_expiry(now)));
                    }
                    self.lock()
                }
                Some(left) => {
                    let slept = self.added.wait_timeout(entries, left.min(LONGEST_SLEEP));
                    slept.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The earliest is the greatest: that is the one which a heap gives first.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}
