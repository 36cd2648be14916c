use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Seconds since 1970 of the last use, 0 for none. It is not a part of what the record says: two records
/// are equal whenever they were used.
#[derive(Debug, Default)]
pub(super) struct LastUsed(AtomicU64);

impl LastUsed {
    pub(super) fn get(&self) -> Option<SystemTime> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            seconds => UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        }
    }

    pub(super) fn mark(&self, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.0.load(Ordering::Relaxed) < seconds {
            self.0.fetch_max(seconds, Ordering::Relaxed);
        }
    }
}

impl Clone for LastUsed {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl PartialEq for LastUsed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastUsed {}
