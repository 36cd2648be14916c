//! All keys by digest, in memory: what every store of this crate answers look-ups from.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(feature = "postgres")]
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;

use crate::{
    Digest, Directory, KeyRecord,
    key::LifeCell,
    store::{Found, Lookup, StoreError},
};

/// A look-up takes no lock and never waits for a writer.
pub(crate) struct Index {
    /// In parts: a change copies one part, not all keys.
    parts: Box<[ArcSwap<Part>]>,
    directory: ArcSwap<Directory>,
    /// Set while what is in memory may be out of date.
    stale: AtomicBool,
    /// Until when the lease holds, if there is one.
    #[cfg(feature = "postgres")]
    deadline: AtomicU64,
}

type Part = HashMap<Digest, Slot, BuildHasherDefault<DigestHasher>>;

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

/// With a million keys a change copies about a thousand.
const PARTS: usize = 1024;

impl Index {
    pub(crate) fn new(slots: impl IntoIterator<Item = (Digest, Slot)>, directory: Directory) -> Self {
        Self {
            parts: fill(slots).into_iter().map(ArcSwap::from_pointee).collect(),
            directory: ArcSwap::from_pointee(directory),
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
        let part = self.parts.get(part_of(digest)).map(ArcSwap::load);
        match part.as_ref().and_then(|part| part.get(digest)) {
            Some(Slot::Record(record)) => Ok(Some(Arc::clone(record))),
            Some(Slot::Unreadable(why)) => Err(StoreError::unreadable(&**why)),
            None => Ok(None),
        }
    }

    /// Makes digests known, changed or unknown, for every look-up from now on.
    pub(crate) fn publish(&self, changes: impl IntoIterator<Item = (Digest, Option<Slot>)>) {
        let mut by_part: HashMap<usize, Vec<(Digest, Option<Slot>)>> = HashMap::new();
        for change in changes {
            by_part.entry(part_of(&change.0)).or_default().push(change);
        }
        let mut replaced = Vec::new();
        for (place, changes) in by_part {
            let Some(part) = self.parts.get(place) else { continue };
            let mut changed = Part::clone(&part.load());
            for (digest, slot) in changes {
                match slot {
                    Some(slot) => {
                        let slot = settled(changed.get(&digest), slot);
                        let old = changed.insert(digest, slot.clone());
                        replaced.extend(old.map(|old| (old, Some(slot))));
                    }
                    None => replaced.extend(changed.remove(&digest).map(|old| (old, None))),
                }
            }
            part.store(Arc::new(changed));
        }
        // After they are found no more: a request that has found the old one hears of it, whenever that was.
        replaced.iter().for_each(|(old, new)| succeed(old, new.as_ref()));
    }

    /// Replaces everything.
    #[cfg(any(feature = "file", feature = "sqlite"))]
    pub(crate) fn replace(&self, slots: impl IntoIterator<Item = (Digest, Slot)>) {
        for (part, new) in self.parts.iter().zip(fill(slots)) {
            let old = part.load_full();
            let new = new.into_iter().map(|(digest, slot)| (digest, settled(old.get(&digest), slot)));
            let new = Arc::new(new.collect::<Part>());
            part.store(Arc::clone(&new));
            old.iter().for_each(|(digest, slot)| succeed(slot, new.get(digest)));
        }
    }

    pub(crate) fn directory(&self) -> Directory {
        Directory::clone(&self.directory.load())
    }

    pub(crate) fn set_directory(&self, directory: Directory) {
        self.directory.store(Arc::new(directory));
    }

    /// Keys in memory, those that cannot be read among them.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.load().len()).sum()
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
        let slot = edit.digest.and_then(|digest| self.parts.get(part_of(&digest))?.load().get(&digest).cloned());
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
        let mut used = Vec::new();
        for part in &self.parts {
            used.extend(part.load().values().filter_map(|slot| match slot {
                Slot::Record(record) if record.last_used().is_some_and(|last| last >= time) => Some(Arc::clone(record)),
                _ => None,
            }));
        }
        used
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

fn fill(slots: impl IntoIterator<Item = (Digest, Slot)>) -> Vec<Part> {
    let mut parts: Vec<Part> = (0..PARTS).map(|_| Part::default()).collect();
    for (digest, slot) in slots {
        if let Some(part) = parts.get_mut(part_of(&digest)) {
            part.insert(digest, slot);
        }
    }
    parts
}

/// Digests are evenly spread already: eight bytes of one are a hash. Only keys that were issued are ever
/// put into the map, so nobody can fill a bucket at will.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The last eight: the first two have chosen the part.
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }
}

/// Digests are evenly spread, so their first bits choose a part.
const fn part_of(digest: &Digest) -> usize {
    let [first, second, ..] = *digest.as_bytes();
    (first as usize * 256 + second as usize) % PARTS
}
