//! How a request in flight learns that its key is no longer what it was when the request was admitted.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
    time::SystemTime,
};

use crate::{Grant, KeyRecord, Restriction, denial::Cause};

/// The life that all versions of a record share, until one takes something away from the one before.
///
/// It is made when somebody waits for its end, or when a version follows another: a record that nobody
/// waits for costs nothing.
#[derive(Debug, Default)]
pub(crate) struct LifeCell(OnceLock<Arc<Life>>);

#[derive(Debug, Default)]
struct Life {
    /// None of [`End`], or one of them.
    end: AtomicU8,
    waiting: Mutex<Waiting>,
}

/// Who waits; the place of one stays the same until it leaves.
#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Waiting {
    fn enter(&mut self, place: Option<usize>, waker: &Waker) -> usize {
        let place = place.or_else(|| self.free.pop()).unwrap_or(self.wakers.len());
        match self.wakers.get_mut(place) {
            Some(Some(known)) if known.will_wake(waker) => {}
            Some(slot) => *slot = Some(waker.clone()),
            None => self.wakers.push(Some(waker.clone())),
        }
        place
    }

    fn leave(&mut self, place: usize) {
        let Some(slot) = self.wakers.get_mut(place) else { return };
        *slot = None;
        self.free.push(place);
        if self.free.len() == self.wakers.len() {
            *self = Self::default();
        }
    }
}

/// What became of a key while a request was in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    Revoked = 1,
    /// It was deleted, or its record cannot be read any more.
    Gone,
    /// It may do less than before.
    Narrowed,
}

impl End {
    const fn of(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Revoked),
            2 => Some(Self::Gone),
            _ => Some(Self::Narrowed),
        }
    }

    pub(crate) const fn cause(self) -> Cause {
        match self {
            Self::Revoked => Cause::Revoked,
            Self::Gone => Cause::UnknownKey,
            Self::Narrowed => Cause::GrantNarrowed,
        }
    }
}

impl LifeCell {
    pub(crate) fn end(&self) -> Option<End> {
        self.0.get().and_then(|life| End::of(life.end.load(Ordering::Acquire)))
    }

    fn life(&self) -> &Arc<Life> {
        self.0.get_or_init(Arc::default)
    }

    /// What takes the place of a record in a store: it goes on with the same life, or ends it.
    pub(crate) fn succeed(old: &KeyRecord, new: Option<&KeyRecord>) {
        match new {
            None => old.life_cell().life().finish(End::Gone),
            Some(new) if new.revoked_at().is_some() => old.life_cell().life().finish(End::Revoked),
            Some(new) if narrows(old, new) => old.life_cell().life().finish(End::Narrowed),
            // The new one may have been given a life already: then both must hear of an end.
            Some(new) => {
                let life = Arc::clone(old.life_cell().life());
                if let Err(life) = new.life_cell().0.set(life)
                    && !Arc::ptr_eq(&life, new.life_cell().life())
                {
                    life.finish(End::Narrowed);
                }
            }
        }
    }
}

impl Life {
    /// Whoever panicked while holding the lock left a list that is whole.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, end: End) {
        let waiting = {
            let mut waiting = self.lock();
            let _ = self.end.compare_exchange(0, end as u8, Ordering::AcqRel, Ordering::Acquire); // the first end counts
            std::mem::take(&mut *waiting)
        };
        waiting.wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// A copy is another version, or a record of somebody else's: whether it shares the life is for a store to
/// say.
impl Clone for LifeCell {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// It is not a part of what the record says.
impl PartialEq for LifeCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LifeCell {}

/// Watches the life of one record for one request.
#[derive(Debug)]
pub(crate) struct Watch {
    record: Arc<KeyRecord>,
    /// Where its waker stands, once it had to wait.
    place: Option<usize>,
}

impl Watch {
    pub(crate) const fn new(record: Arc<KeyRecord>) -> Self {
        Self { record, place: None }
    }

    pub(crate) fn record(&self) -> &Arc<KeyRecord> {
        &self.record
    }

    /// Whether it has ended; costs one load.
    pub(crate) fn end(&self) -> Option<End> {
        self.record.life_cell().end()
    }

    /// Ready when it has ended; until then the task is woken at the end.
    pub(crate) fn poll_end(&mut self, cx: &Context<'_>) -> Poll<End> {
        let life = self.record.life_cell().life();
        let mut waiting = life.lock();
        // Under the lock: an end that comes later finds the waker.
        if let Some(end) = End::of(life.end.load(Ordering::Acquire)) {
            return Poll::Ready(end);
        }
        self.place = Some(waiting.enter(self.place, cx.waker()));
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.record.life_cell().life().lock().leave(place);
        }
    }
}

/// Whether the new record might refuse what the old one allows. Where that is not plain, it does.
pub(crate) fn narrows(old: &KeyRecord, new: &KeyRecord) -> bool {
    let now = SystemTime::now();
    old.kind() != new.kind()
        || old.tenant() != new.tenant()
        || new.not_before().is_some_and(|start| now < start)
        || new.expires_at().is_some_and(|end| end <= now)
        || !covers(new.grant(), old.grant())
}

/// Whether the wide grant allows all that the narrow one does.
fn covers(wide: &Grant, narrow: &Grant) -> bool {
    let restrictions =
        wide.restrictions().iter().all(|(dimension, wide)| match (wide, narrow.restriction(dimension)) {
            (Restriction::Include(wide), Some(Restriction::Include(narrow))) => {
                narrow.iter().all(|id| wide.contains(id))
            }
            (Restriction::Exclude(wide), Some(Restriction::Exclude(narrow))) => {
                wide.iter().all(|id| narrow.contains(id))
            }
            (Restriction::Exclude(wide), Some(Restriction::Include(narrow))) => {
                !narrow.iter().any(|id| wide.contains(id))
            }
            (Restriction::Exclude(wide), None) => wide.iter().next().is_none(),
            (Restriction::Include(_), _) => false,
        });
    let networks = match (wide.networks(), narrow.networks()) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => narrow.iter().all(|network| wide.iter().any(|known| known == network)),
        (Some(_), None) => false,
    };
    let origins = match (wide.origins(), narrow.origins()) {
        (None, None) => true,
        (Some(wide), Some(narrow)) => narrow.iter().all(|origin| wide.contains(origin)),
        // Without a list there is no origin that a rule would accept.
        (Some(_), None) => true,
        (None, Some(_)) => false,
    };
    restrictions && networks && origins && narrow.permissions().iter().all(|held| wide.permits(held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, GrantBuilder};

    fn record(grant: GrantBuilder) -> KeyRecord {
        KeyRecord::builder("k".parse().unwrap(), Digest::of(b"k")).grant(grant.build().unwrap()).build()
    }

    #[test]
    fn what_takes_something_away_is_told_from_what_does_not() {
        let base = || Grant::builder().write("orders");
        let narrowing = [
            (base(), Grant::builder().read("orders")),
            (base(), Grant::builder().write("products")),
            (base(), base().only("shop", ["de"])),
            (base(), base().all_but("shop", ["de"])),
            (base().only("shop", ["de", "ch"]), base().only("shop", ["de"])),
            (base().all_but("shop", ["de"]), base().all_but("shop", ["de", "ch"])),
            (base().all_but("shop", ["de"]), base().only("shop", ["ch"])),
            (base().only("shop", ["de"]), base().all_but("shop", ["de"])),
            (base(), base().from_networks(["10.0.0.0/8"])),
            (base().from_networks(["10.0.0.0/8", "192.0.2.0/24"]), base().from_networks(["10.0.0.0/8"])),
            (base().from_origins(["https://a.example"]), base()),
            (base().from_origins(["https://a.example"]), base().from_origins(["https://b.example"])),
        ];
        for (old, new) in narrowing {
            assert!(narrows(&record(old.clone()), &record(new.clone())), "{old:?} -> {new:?}");
        }
        let widening = [
            (base(), base()),
            (base(), base().read("products")),
            (base().only("shop", ["de"]), base()),
            (base().only("shop", ["de"]), base().only("shop", ["de", "ch"])),
            (base().only("shop", ["de"]), base().all_but("shop", ["ch"])),
            (base().all_but("shop", ["de", "ch"]), base().all_but("shop", ["de"])),
            (base(), base().all_but::<&str>("shop", [])),
            (base().from_networks(["10.0.0.0/8"]), base()),
            (base().from_networks(["10.0.0.0/8"]), base().from_networks(["192.0.2.0/24", "10.0.0.0/8"])),
            (base(), base().from_origins(["https://a.example"])),
        ];
        for (old, new) in widening {
            assert!(!narrows(&record(old.clone()), &record(new.clone())), "{old:?} -> {new:?}");
        }
    }

    #[test]
    fn an_end_reaches_every_version_that_nothing_was_taken_from() {
        let first = Arc::new(record(Grant::builder().read("a")));
        let second = Arc::new(record(Grant::builder().read("a").read("b")));
        LifeCell::succeed(&first, Some(&second));
        assert_eq!(Watch::new(Arc::clone(&first)).end(), None);
        let revoked = second.revise().revoked_at(SystemTime::now()).build();
        LifeCell::succeed(&second, Some(&revoked));
        assert_eq!(Watch::new(first).end(), Some(End::Revoked));
        assert_eq!(Watch::new(second).end(), Some(End::Revoked));
    }

    #[test]
    fn who_waits_is_woken_and_leaves_nothing_behind() {
        let record = Arc::new(record(Grant::builder()));
        let cx = Context::from_waker(Waker::noop());
        let mut watches: Vec<Watch> = (0..10).map(|_| Watch::new(Arc::clone(&record))).collect();
        assert!(watches.iter_mut().all(|watch| watch.poll_end(&cx).is_pending()));
        watches.truncate(3);
        assert_eq!(record.life_cell().life().lock().free.len(), 7);
        let mut late = Watch::new(Arc::clone(&record));
        assert!(late.poll_end(&cx).is_pending() && late.place.is_some_and(|place| place < 10), "places are used again");
        LifeCell::succeed(&record, None);
        assert!(watches.iter_mut().all(|watch| watch.poll_end(&cx) == Poll::Ready(End::Gone)));
        drop((watches, late));
        assert!(record.life_cell().life().lock().wakers.is_empty());
    }
}
