//! How a request in flight learns that its key was revoked, has expired, or may do less than when it was admitted.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use once_cell::race::OnceBox;

use crate::key::{
    KeyRecord,
    expiry::{self, RECHECK},
};

/// The signal that all versions of a record share, until one takes something away from the one before.
///
/// The signal is created when the first request waits for it, or when a new version replaces the record. A record that no
/// request waits for has none, so its record has room for a pointer only.
#[derive(Debug, Default)]
pub(crate) struct SignalCell(OnceBox<Arc<RevocationSignal>>);

#[derive(Debug, Default)]
pub(super) struct RevocationSignal {
    /// Zero, or the code of an [`EndReason`].
    end: AtomicU8,
    /// Whether `waiting.expires_at` is set, so that requests with keys that never expire take no lock to know that.
    has_expiry: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// The wakers of the requests that wait. The index of a waker is stable until its request leaves.
#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// When the newest version of the record expires, if it does.
    expires_at: Option<SystemTime>,
    /// Whether the timer has an entry for this signal.
    timed: bool,
}

impl Waiting {
    fn enter(&mut self, position: Option<usize>, waker: &Waker) -> usize {
        let position = position.or_else(|| self.free.pop()).unwrap_or(self.wakers.len());
        match self.wakers.get_mut(position) {
            Some(Some(known)) if known.will_wake(waker) => {}
            Some(slot) => *slot = Some(waker.clone()),
            None => self.wakers.push(Some(waker.clone())),
        }
        position
    }

    fn leave(&mut self, position: usize) {
        let Some(slot) = self.wakers.get_mut(position) else { return };
        *slot = None;
        self.free.push(position);
        if self.free.len() == self.wakers.len() {
            (self.wakers, self.free) = Default::default();
        }
    }

    /// Asks the timer to wake the waiting requests when the record expires. Returns false if the timer cannot.
    fn set_timer(&mut self, signal: &Arc<RevocationSignal>, now: SystemTime) -> bool {
        let Some(end) = self.expires_at.filter(|_| !self.timed && !self.wakers.is_empty()) else { return true };
        // A distant expiry is checked again later: by then the requests may have ended, or the expiry may have moved.
        let due = now.checked_add(RECHECK).map_or(end, |soon| end.min(soon));
        self.timed = expiry::wake_at(due, Arc::downgrade(signal));
        self.timed
    }
}

/// Why a request in flight must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EndReason {
    Revoked = 1,
    /// The key was deleted, or its record became unreadable.
    Gone,
    /// The key may do less than before.
    Narrowed,
    Expired,
    Suspended,
}

impl EndReason {
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Revoked),
            2 => Some(Self::Gone),
            4 => Some(Self::Expired),
            5 => Some(Self::Suspended),
            _ => Some(Self::Narrowed), // 3; whatever else it is, the request ends
        }
    }
}

impl SignalCell {
    pub(crate) fn end(&self) -> Option<EndReason> {
        self.0.get().and_then(|signal| signal.end())
    }

    /// Prepares `new` to replace `old` in a store. Either `new` shares the signal of `old`, or the requests of `old` must end
    /// for the returned reason. `narrowed` means that a change of the directory takes something away from the key.
    ///
    /// INVARIANT: no look-up has found `new` yet. Otherwise a request may already wait for a signal of its own, and the
    /// requests of `old` would be ended for a change that takes nothing away.
    #[must_use]
    pub(crate) fn hand_over(old: &KeyRecord, new: &KeyRecord, narrowed: bool) -> Option<EndReason> {
        if new.revoked_at().is_some() {
            return Some(EndReason::Revoked);
        }
        if new.suspended_at().is_some() && old.suspended_at().is_none() {
            return Some(EndReason::Suspended);
        }
        if narrowed || revokes_access(old, new) {
            return Some(EndReason::Narrowed);
        }
        let signal = old.signal();
        if signal.end().is_some() {
            return None; // the requests in flight have been told; the new version starts with a signal of its own
        }
        // A record that already has a signal cannot take over the old one. The requests of the old record end, because a
        // later end of the new record would not reach them.
        if new.signal_cell().0.set(Box::new(Arc::clone(signal))).is_err() && !Arc::ptr_eq(signal, new.signal()) {
            return Some(EndReason::Narrowed);
        }
        signal.set_expiry(new.expires_at());
        None
    }

    /// Ends every request in flight with this record.
    ///
    /// INVARIANT: no look-up finds the record any more. A request that found it later would not be ended.
    pub(crate) fn finish(record: &KeyRecord, end: EndReason) {
        record.signal().finish(end);
    }
}

impl KeyRecord {
    fn signal(&self) -> &Arc<RevocationSignal> {
        self.signal_cell().0.get_or_init(|| {
            let waiting = Waiting { expires_at: self.expires_at(), ..Waiting::default() };
            let has_expiry = AtomicBool::new(waiting.expires_at.is_some());
            Box::new(Arc::new(RevocationSignal { end: AtomicU8::new(0), has_expiry, waiting: Mutex::new(waiting) }))
        })
    }
}

impl RevocationSignal {
    fn end(&self) -> Option<EndReason> {
        EndReason::from_code(self.end.load(Ordering::Acquire))
    }

    /// Ignores poisoning: no code panics between two changes of the list, so the list is always consistent.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, end: EndReason) {
        let wakers = {
            let mut waiting = self.lock();
            // The first reason is kept.
            let _ = self.end.compare_exchange(0, end as u8, Ordering::AcqRel, Ordering::Acquire);
            waiting.free = Vec::new();
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Moves the expiry to that of the newest version.
    fn set_expiry(self: &Arc<Self>, end: Option<SystemTime>) {
        let is_timed = {
            let mut waiting = self.lock();
            if waiting.expires_at == end {
                return;
            }
            waiting.expires_at = end;
            self.has_expiry.store(end.is_some(), Ordering::Release);
            // The timer may hold an entry for a later time.
            waiting.timed = false;
            waiting.set_timer(self, SystemTime::now())
        };
        if !is_timed {
            self.finish(EndReason::Expired);
        }
    }

    /// Called by the timer when the time of its entry has come.
    pub(super) fn check_expiry(self: &Arc<Self>, now: SystemTime) {
        let is_timed = {
            let mut waiting = self.lock();
            waiting.timed = false;
            waiting.expires_at.is_none_or(|end| now < end) && waiting.set_timer(self, now)
        };
        if !is_timed {
            self.finish(EndReason::Expired);
        }
    }
}

/// A clone has no signal: only a store knows whether two records are versions of one key, and hands the signal over.
impl Clone for SignalCell {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The signal is not part of the content of a record.
impl PartialEq for SignalCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SignalCell {}

/// Watches the record of one request.
#[derive(Debug)]
pub(crate) struct RevocationWatch {
    record: Arc<KeyRecord>,
    /// The index of its waker, once the request had to wait.
    position: Option<usize>,
    /// Whether the system clock ends the request when the record expires.
    by_clock: bool,
}

impl RevocationWatch {
    pub(crate) const fn new(record: Arc<KeyRecord>) -> Self {
        Self { record, position: None, by_clock: true }
    }

    /// For layers with a clock of their own, whose requests the system clock must not end.
    pub(crate) const fn without_clock(mut self) -> Self {
        self.by_clock = false;
        self
    }

    pub(crate) const fn record(&self) -> &Arc<KeyRecord> {
        &self.record
    }

    /// Why the request must end, if it must. It costs two atomic loads.
    pub(crate) fn end(&self) -> Option<EndReason> {
        self.record.signal_cell().end()
    }

    /// The same by a clock, which is only asked if there is an expiry: that of the newest version that shares this signal.
    /// A rotation may have set one on a key that had none.
    #[inline]
    pub(crate) fn end_by(&self, now: impl FnOnce(&KeyRecord) -> SystemTime) -> Option<EndReason> {
        let has_expired = match self.record.signal_cell().0.get() {
            None => self.record.has_expired(|| now(&self.record)),
            Some(signal) => match signal.end() {
                None if !signal.has_expiry.load(Ordering::Acquire) => false,
                None => {
                    let end = signal.lock().expires_at;
                    end.is_some_and(|end| end <= now(&self.record))
                }
                end => return end,
            },
        };
        has_expired.then_some(EndReason::Expired)
    }

    /// Ready when the request must end; the task is woken then.
    pub(crate) fn poll_end(&mut self, cx: &Context<'_>) -> Poll<EndReason> {
        let signal = self.record.signal();
        let mut waiting = signal.lock();
        // Checked under the lock, so that an end that comes later finds the waker.
        if let Some(end) = signal.end() {
            return Poll::Ready(end);
        }
        self.position = Some(waiting.enter(self.position, cx.waker()));
        if !self.by_clock || waiting.expires_at.is_none() {
            return Poll::Pending;
        }
        let now = SystemTime::now();
        if waiting.expires_at.is_none_or(|end| now < end) && waiting.set_timer(signal, now) {
            return Poll::Pending;
        }
        Poll::Ready(EndReason::Expired)
    }
}

impl Drop for RevocationWatch {
    fn drop(&mut self) {
        if let Some(position) = self.position {
            self.record.signal().lock().leave(position);
        }
    }
}

/// Whether the new record may refuse what the old one allows. Errs on the side of ending requests.
pub(crate) fn revokes_access(old: &KeyRecord, new: &KeyRecord) -> bool {
    let now = SystemTime::now();
    old.kind() != new.kind()
        || old.tenant() != new.tenant()
        || (new.suspended_at().is_some() && old.suspended_at().is_none())
        || new.not_before().is_some_and(|start| now < start)
        || new.expires_at().is_some_and(|end| end <= now)
        || !new.grant().covers(old.grant())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Digest, Grant, GrantBuilder};

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicU8);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record(grant: GrantBuilder) -> KeyRecord {
        KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant.build().unwrap()).build()
    }

    #[test]
    fn what_takes_something_away_is_told_from_what_does_not() {
        let base = || Grant::builder().write("orders");
        let narrowing = [
            (base(), Grant::builder().read("orders")),
            (base(), Grant::builder().write("products")),
            (base(), base().only("shop", ["de"])),
            (base(), base().except("shop", ["de"])),
            (base().only("shop", ["de", "ch"]), base().only("shop", ["de"])),
            (base().except("shop", ["de"]), base().except("shop", ["de", "ch"])),
            (base().except("shop", ["de"]), base().only("shop", ["ch"])),
            (base().only("shop", ["de"]), base().except("shop", ["de"])),
            (base(), base().from_networks(["10.0.0.0/8"])),
            (base().from_networks(["10.0.0.0/8", "192.0.2.0/24"]), base().from_networks(["10.0.0.0/8"])),
            (base().from_networks(["10.0.0.0/8"]), base().from_networks(["192.0.2.0/24"])),
            (base().from_origins(["https://a.example"]), base()),
            (base().from_origins(["https://a.example"]), base().from_origins(["https://b.example"])),
        ];
        for (old, new) in narrowing {
            assert!(revokes_access(&record(old.clone()), &record(new.clone())), "{old:?} -> {new:?}");
        }
        let widening = [
            (base(), base()),
            (base(), base().read("products")),
            (base().only("shop", ["de"]), base()),
            (base().only("shop", ["de"]), base().only("shop", ["de", "ch"])),
            (base().only("shop", ["de"]), base().except("shop", ["ch"])),
            (base().except("shop", ["de", "ch"]), base().except("shop", ["de"])),
            (base(), base().except::<&str>("shop", [])),
            (base().from_networks(["10.0.0.0/8"]), base()),
            (base().from_networks(["10.0.0.0/8"]), base().from_networks(["10.0.0.0/8"])),
            (base().from_networks(["10.0.0.0/8"]), base().from_networks(["192.0.2.0/24", "10.0.0.0/8"])),
            (base(), base().from_origins(["https://a.example"])),
        ];
        for (old, new) in widening {
            assert!(!revokes_access(&record(old.clone()), &record(new.clone())), "{old:?} -> {new:?}");
        }
    }

    #[test]
    fn kind_tenant_and_dates_take_something_away() {
        let now = SystemTime::now();
        let (before, after) = (now - std::time::Duration::from_secs(60), now + std::time::Duration::from_secs(60));
        let full = || {
            let record = record(Grant::builder().read("a")).revise();
            record.kind("admin".to_owned()).tenant("one".to_owned()).not_before(before).expires_at(after)
        };
        let old = full().build();
        assert!(!revokes_access(&old, &full().build()));
        assert!(!revokes_access(&old, &full().not_before(None).expires_at(None).build()));
        for new in [
            full().kind("runtime".to_owned()),
            full().kind(None),
            full().tenant("two".to_owned()),
            full().tenant(None),
            full().not_before(after),
            full().expires_at(before),
        ] {
            assert!(revokes_access(&old, &new.clone().build()), "{new:?}");
        }
    }

    /// A future may move between tasks while it waits: the task that has polled it last is woken.
    #[test]
    fn the_last_waker_is_woken() {
        let record = Arc::new(record(Grant::builder()));
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut watch = RevocationWatch::new(Arc::clone(&record));
        for count in [&first, &second] {
            let waker = Waker::from(Arc::clone(count));
            assert!(watch.poll_end(&Context::from_waker(&waker)).is_pending());
        }
        SignalCell::finish(&record, EndReason::Revoked);
        assert_eq!([first, second].map(|count| count.0.load(Ordering::Relaxed)), [0, 1]);
    }

    #[test]
    fn an_end_reaches_every_version_that_nothing_was_taken_from() {
        let first = Arc::new(record(Grant::builder().read("a")));
        let second = Arc::new(record(Grant::builder().read("a").read("b")));
        assert_eq!(SignalCell::hand_over(&first, &second, false), None);
        assert_eq!(RevocationWatch::new(Arc::clone(&first)).end(), None);
        let revoked = second.revise().revoked_at(SystemTime::now()).build();
        let end = SignalCell::hand_over(&second, &revoked, false);
        assert_eq!(end, Some(EndReason::Revoked));
        SignalCell::finish(&second, EndReason::Revoked);
        assert_eq!(RevocationWatch::new(first).end(), Some(EndReason::Revoked));
        assert_eq!(RevocationWatch::new(second).end(), Some(EndReason::Revoked));
    }

    /// Its requests would not hear of a later end of the new record.
    #[test]
    fn a_record_that_has_a_signal_takes_over_no_other() {
        let old = record(Grant::builder().read("a"));
        let same = record(Grant::builder().read("a"));
        let found = record(Grant::builder().read("a"));
        let _signal = found.signal();
        assert_eq!(SignalCell::hand_over(&old, &found, false), Some(EndReason::Narrowed));
        assert_eq!(SignalCell::hand_over(&old, &same, false), None);
        assert_eq!(SignalCell::hand_over(&old, &same, false), None, "it is the same signal");
    }

    #[test]
    fn who_waits_is_woken_and_leaves_nothing_behind() {
        let record = Arc::new(record(Grant::builder()));
        let cx = Context::from_waker(Waker::noop());
        let mut watches: Vec<RevocationWatch> = (0..10).map(|_| RevocationWatch::new(Arc::clone(&record))).collect();
        assert!(watches.iter_mut().all(|watch| watch.poll_end(&cx).is_pending()));
        watches.truncate(3);
        assert_eq!(record.signal().lock().free.len(), 7);
        let mut late = RevocationWatch::new(Arc::clone(&record));
        assert!(
            late.poll_end(&cx).is_pending() && late.position.is_some_and(|position| position < 10),
            "places are used again"
        );
        SignalCell::finish(&record, EndReason::Gone);
        assert!(watches.iter_mut().all(|watch| watch.poll_end(&cx) == Poll::Ready(EndReason::Gone)));
        drop((watches, late));
        assert!(record.signal().lock().wakers.is_empty());
    }

    #[test]
    fn an_end_that_is_moved_counts_from_then_on() {
        let now = SystemTime::now();
        let soon = now + std::time::Duration::from_millis(100);
        let cx = Context::from_waker(Waker::noop());
        let first = Arc::new(record(Grant::builder()).revise().expires_at(soon).build());
        let mut watch = RevocationWatch::new(Arc::clone(&first));
        assert!(watch.poll_end(&cx).is_pending());
        let later = first.revise().expires_at(now + std::time::Duration::from_millis(600)).build();
        assert_eq!(SignalCell::hand_over(&first, &later, false), None);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(watch.poll_end(&cx), Poll::Pending, "the newest version lives on");
        std::thread::sleep(std::time::Duration::from_millis(400));
        assert_eq!(watch.end(), Some(EndReason::Expired), "and nobody had to ask");
        let again = later.revise().expires_at(None).build();
        assert_eq!(SignalCell::hand_over(&later, &again, false), None);
        assert_eq!(again.signal_cell().end(), None, "renewed, it begins anew");
    }
}
