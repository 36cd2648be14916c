//! All keys by digest, in memory: what every store of this crate answers look-ups from.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[cfg(feature = "postgres")]
use std::sync::atomic::AtomicU64;

use crate::{
    Digest, Directory, KeyRecord,
    key::LifeCell,
    store::{
        Found, Lookup, StoreError,
        snapshot::{Newest, Part, Snapshot},
    },
};

/// A look-up takes no lock and never waits for a writer.
pub(crate) struct Index {
    newest: Newest,
    /// Set while what is in memory may be out of date.
    stale: AtomicBool,
    /// Until when the lease holds, if there is one.
    #[cfg(feature = "postgres")]
    deadline: AtomicU64,
}

#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Record(Arc<KeyRecord>),
    /// The record cannot be read: this one key is refused, the others go on.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "only rows of a database can be damaged")
    )]
    Unreadable(Arc<str>),
}

#[cfg(any(feature = "file", feature = "sqlite"))]
impl Slot {
    /// Whether both are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Record(one), Self::Record(other)) => Arc::ptr_eq(one, other),
            (Self::Unreadable(one), Self::Unreadable(other)) => one == other,
            _ => false,
        }
    }
}

impl Index {
    pub(crate) fn new(slots: impl IntoIterator<Item = (Digest, Slot)>, directory: Directory) -> Self {
        Self {
            newest: Newest::new(Snapshot::new(slots, directory)),
            stale: AtomicBool::new(false),
            #[cfg(feature = "postgres")]
            deadline: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn of_records<'a>(records: impl IntoIterator<Item = &'a Arc<KeyRecord>>, directory: Directory) -> Self {
        let slot = |record: &Arc<KeyRecord>| (*record.digest(), Slot::Record(Arc::clone(record)));
        Self::new(records.into_iter().map(slot), directory)
    }

    pub(crate) fn lookup(&self, digest: &Digest) -> Lookup {
        Lookup::ready(self.find(digest))
    }

    fn find(&self, digest: &Digest) -> Found {
        if self.stale.load(Ordering::Acquire) {
            return Err(StoreError::unavailable("the keys in memory may be out of date"));
        }
        // The lease first, then the copy: a copy that was read before could be older than the lease.
        #[cfg(feature = "postgres")]
        self.leased()?;
        self.newest.read(|keys| match keys.get(digest) {
            Some(Slot::Record(record)) => Ok(Some(Arc::clone(record))),
            Some(Slot::Unreadable(why)) => Err(StoreError::unreadable(&**why)),
            None => Ok(None),
        })
    }

    /// Makes digests known, changed or unknown, for every look-up from now on.
    pub(crate) fn publish(&self, changes: impl IntoIterator<Item = (Digest, Option<Slot>)>) {
        let replaced = self.newest.change(|keys| {
            let mut replaced = Vec::new();
            for (digest, slot) in changes {
                let Some(part) = keys.part_mut(&digest) else { continue };
                match slot {
                    Some(slot) => {
                        let slot = settled(part.get(&digest), slot);
                        let old = part.insert(digest, slot.clone());
                        replaced.extend(old.map(|old| (old, Some(slot))));
                    }
                    None => replaced.extend(part.remove(&digest).map(|old| (old, None))),
                }
            }
            replaced
        });
        // After they are found no more: a request that has found the old one hears of it, whenever that was.
        replaced.iter().for_each(|(old, new)| succeed(old, new.as_ref()));
    }

    /// Replaces everything.
    #[cfg(any(feature = "file", feature = "sqlite"))]
    pub(crate) fn replace(&self, slots: impl IntoIterator<Item = (Digest, Slot)>) {
        let (old, new) = self.newest.change(|keys| {
            let settle = |(digest, slot)| (digest, settled(keys.get(&digest), slot));
            let mut new = Snapshot::new(slots.into_iter().map(settle), keys.directory.clone());
            new.share(keys);
            (std::mem::replace(keys, new.clone()), new)
        });
        old.parts().flatten().for_each(|(digest, slot)| succeed(slot, new.get(digest)));
    }

    pub(crate) fn directory(&self) -> Directory {
        self.newest.read(|keys| keys.directory.clone())
    }

    pub(crate) fn with_directory(&self, look: &mut dyn FnMut(&Directory)) {
        self.newest.read(|keys| look(&keys.directory));
    }

    pub(crate) fn set_directory(&self, directory: Directory) {
        self.newest.change(|keys| keys.directory = directory);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.newest.read(Snapshot::bytes)
    }

    /// Keys in memory, those that cannot be read among them.
    pub(crate) fn len(&self) -> usize {
        self.newest.read(|keys| keys.parts().map(Part::len).sum())
    }
}

/// For stores whose keys also stand elsewhere.
#[cfg(any(feature = "file", feature = "sqlite", feature = "postgres"))]
impl Index {
    /// From now on every look-up fails, or none does for this reason.
    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }
}

/// To be held by the thread that learns of changes: when it is gone, nobody does any more.
#[cfg(any(feature = "file", feature = "sqlite", feature = "postgres"))]
pub(crate) struct StaleWhenGone(pub(crate) Arc<Index>);

#[cfg(any(feature = "file", feature = "sqlite", feature = "postgres"))]
impl Drop for StaleWhenGone {
    fn drop(&mut self) {
        self.0.set_stale(true);
    }
}

#[cfg(feature = "sqlite")]
impl Index {
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Whether what look-ups find is what a change was made to.
    pub(crate) fn knows(&self, edit: &crate::store::audit::Edit) -> bool {
        let slot = edit.digest.and_then(|digest| self.newest.read(|keys| keys.get(&digest).cloned()));
        match (&edit.key, &edit.before, slot) {
            (None, ..) => true,
            (Some(id), Some(_), Some(Slot::Record(known))) => known.id() == id,
            (Some(_), None, Some(Slot::Unreadable(_))) => true,
            (Some(_), None, None) => edit.after.is_some(),
            _ => false,
        }
    }
}

/// The slot to be put in place of another: the same one, if it says the same.
fn settled(old: Option<&Slot>, new: Slot) -> Slot {
    match (old, &new) {
        (Some(Slot::Record(old)), Slot::Record(same)) if old == same => {
            same.last_used().into_iter().for_each(|time| old.mark_used(time));
            Slot::Record(Arc::clone(old))
        }
        _ => new,
    }
}

/// What a record leaves to the one that took its place: what is read from elsewhere may not know of the
/// latest use, and requests in flight wait for the end of the old one.
fn succeed(old: &Slot, new: Option<&Slot>) {
    let Slot::Record(old) = old else { return };
    let new = match new {
        Some(Slot::Record(new)) if Arc::ptr_eq(old, new) => return,
        Some(Slot::Record(new)) => Some(&**new),
        _ => None,
    };
    if let (Some(new), Some(time)) = (new, old.last_used()) {
        new.mark_used(time);
    }
    LifeCell::succeed(old, new);
}

/// For stores that write down when keys were used.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Index {
    /// The keys that were used at this time or later.
    pub(crate) fn used_since(&self, time: std::time::SystemTime) -> Vec<Arc<KeyRecord>> {
        let used = |slot: &Slot| match slot {
            Slot::Record(record) if record.last_used().is_some_and(|last| last >= time) => Some(Arc::clone(record)),
            _ => None,
        };
        self.newest.read(|keys| keys.parts().flat_map(Part::values).filter_map(used).collect())
    }
}

/// For stores that several replicas share.
#[cfg(feature = "postgres")]
impl Index {
    fn leased(&self) -> Result<(), StoreError> {
        let deadline = self.deadline.load(Ordering::Acquire);
        // Looked up here and now: no timer would notice in time that the machine was asleep.
        if deadline == u64::MAX || crate::clock::now() < deadline {
            return Ok(());
        }
        Err(StoreError::unavailable("the lease has run out: what other replicas have changed is not known"))
    }

    pub(crate) fn lease_left(&self) -> std::time::Duration {
        if self.stale.load(Ordering::Acquire) {
            return std::time::Duration::ZERO;
        }
        let left = self.deadline.load(Ordering::Acquire).saturating_sub(crate::clock::now());
        std::time::Duration::from_nanos(left)
    }

    /// Until when look-ups are answered, by the clock that goes on while the machine sleeps.
    pub(crate) fn set_deadline(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(any(feature = "file", feature = "sqlite"))]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::key::Watch;

    fn record(number: u32) -> Arc<KeyRecord> {
        let id = format!("k{number}").parse().unwrap();
        Arc::new(KeyRecord::builder(id, Digest::of(&number.to_le_bytes())).build())
    }

    /// Whoever is in flight while a file is read again hears of what it takes away; what it leaves is not kept twice.
    #[test]
    fn what_is_replaced_ends_and_what_is_not_is_shared() {
        let records: Vec<_> = (0..3000).map(record).collect();
        let index = Index::of_records(&records, Directory::default());
        let before = index.newest.read(Snapshot::clone);
        let watches: Vec<_> = records.iter().take(3).map(|record| Watch::new(Arc::clone(record))).collect();
        // The same once more, but for one that is revoked and one that is gone.
        let slots = (0..3000).filter(|number| *number != 1).map(|number| {
            let record = if number == 0 {
                record(0).revise().revoked_at(SystemTime::now()).build().into()
            } else {
                record(number)
            };
            (*record.digest(), Slot::Record(record))
        });
        index.replace(slots.collect::<Vec<_>>());
        assert_eq!(watches.iter().map(|watch| watch.end().is_some()).collect::<Vec<_>>(), [true, true, false]);
        let after = index.newest.read(Snapshot::clone);
        let shared = before.parts().zip(after.parts()).filter(|(one, other)| std::ptr::eq(*one, *other)).count();
        assert_eq!(shared, before.parts().count() - 2);
        assert_eq!(index.len(), 2999);
    }
}
