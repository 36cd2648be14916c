//! Numbers of threads, by which data is sharded so that cores do not contend for one cache line.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of its own for each thread of the process, beginning with 0.
#[inline]
pub(crate) fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}
