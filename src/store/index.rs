//! All keys by digest, in memory: what every store of this crate answers look-ups from.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;

use crate::{
    Digest, Directory, KeyRecord,
    store::{Found, Lookup, StoreError},
};

/// A look-up takes no lock and never waits for a writer.
pub(crate) struct Index {
    /// In parts: a change copies one part, not all keys.
    parts: Box<[ArcSwap<Part>]>,
    directory: ArcSwap<Directory>,
    /// Set while what is in memory may be out of date.
    stale: AtomicBool,
}

type Part = HashMap<Digest, Slot, BuildHasherDefault<DigestHasher>>;

#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Record(Arc<KeyRecord>),
    /// The record cannot be read: this one key is refused, the others go on.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only a file can be damaged, or changed by others"))]
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
        for (place, changes) in by_part {
            let Some(part) = self.parts.get(place) else { continue };
            let mut changed = Part::clone(&part.load());
            for (digest, slot) in changes {
                match slot {
                    Some(slot) => changed.insert(digest, slot),
                    None => changed.remove(&digest),
                };
            }
            put(part, changed);
        }
    }

    /// Replaces everything.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only a file can be damaged, or changed by others"))]
    pub(crate) fn replace(&self, slots: impl IntoIterator<Item = (Digest, Slot)>) {
        for (part, new) in self.parts.iter().zip(fill(slots)) {
            put(part, new);
        }
    }

    pub(crate) fn directory(&self) -> Directory {
        Directory::clone(&self.directory.load())
    }

    pub(crate) fn set_directory(&self, directory: Directory) {
        self.directory.store(Arc::new(directory));
    }

    /// From now on every look-up fails, or none does for this reason.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only a file can be damaged, or changed by others"))]
    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }

    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only a file can be damaged, or changed by others"))]
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Keys in memory, those that cannot be read among them.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.load().len()).sum()
    }

    /// The keys that were used at this time or later.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only a file can be damaged, or changed by others"))]
    pub(crate) fn used_since(&self, time: SystemTime) -> Vec<Arc<KeyRecord>> {
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

/// Uses are noted in the records in memory, and a new record may come from where they are not written yet.
fn put(part: &ArcSwap<Part>, new: Part) {
    let new = Arc::new(new);
    let old = part.swap(Arc::clone(&new));
    // After the swap, so that no use in between is left out.
    for (digest, slot) in &*old {
        if let (Slot::Record(old), Some(Slot::Record(new))) = (slot, new.get(digest))
            && !Arc::ptr_eq(old, new)
            && let Some(time) = old.last_used()
        {
            new.mark_used(time);
        }
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
