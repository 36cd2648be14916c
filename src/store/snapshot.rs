//! Immutable snapshots of all keys by digest, and the cell from which threads read the newest one.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

use crate::{
    directory::Directory,
    key::Digest,
    store::part::{Entry, EntryRef, Part},
};

/// Divided into branches of parts: a change copies one branch and one part, and shares all others. With a million keys
/// a part holds about a thousand.
#[derive(Clone)]
pub(crate) struct Snapshot {
    branches: [Arc<Branch>; BRANCHES],
    pub(crate) directory: Directory,
}

#[derive(Clone)]
struct Branch([Arc<Part>; PARTS]);

const BRANCHES: usize = 32;
const PARTS: usize = 32;

impl Snapshot {
    pub(crate) fn new(entries: impl IntoIterator<Item = (Digest, Entry)>, directory: Directory) -> Self {
        let entries = entries.into_iter();
        // Allocated for all entries at once: growing would move them.
        let room = entries.size_hint().0 / (BRANCHES * PARTS);
        let part = || Part::with_capacity(room);
        let mut parts: Vec<Part> = std::iter::repeat_with(part).take(BRANCHES * PARTS).collect();
        for (digest, entry) in entries {
            let (branch, part) = position(&digest);
            if let Some(part) = parts.get_mut(branch * PARTS + part) {
                part.insert(entry);
            }
        }
        let mut parts = parts.into_iter();
        let mut branch = || Arc::new(Branch(std::array::from_fn(|_| Arc::new(parts.next().unwrap_or_default()))));
        Self { branches: std::array::from_fn(|_| branch()), directory }
    }

    /// Reuses the parts of another snapshot that are equal, so that both share the memory.
    pub(crate) fn share(&mut self, other: &Self) {
        for (branch, others) in self.branches.iter_mut().zip(&other.branches) {
            let parts = Arc::make_mut(branch).0.iter_mut().zip(&others.0);
            parts.filter(|(part, other)| are_same(part, other)).for_each(|(part, other)| *part = Arc::clone(other));
        }
    }

    #[inline]
    pub(crate) fn get(&self, digest: &Digest) -> Option<EntryRef<'_>> {
        let (branch, part) = position(digest);
        self.branches.get(branch)?.0.get(part)?.get(digest)
    }

    /// The part of a digest, copied if it is shared.
    pub(crate) fn part_mut(&mut self, digest: &Digest) -> Option<&mut Part> {
        let (branch, part) = position(digest);
        Arc::make_mut(self.branches.get_mut(branch)?).0.get_mut(part).map(Arc::make_mut)
    }

    /// Its size in memory, without the records.
    pub(crate) fn bytes(&self) -> usize {
        let parts: usize = self.parts().map(Part::bytes).sum();
        size_of::<Self>() + BRANCHES * size_of::<Branch>() + parts
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.branches.iter().flat_map(|branch| &branch.0).map(|part| &**part)
    }
}

fn are_same(one: &Part, other: &Part) -> bool {
    one.len() == other.len() && one.iter().all(|(digest, entry)| other.get(digest).is_some_and(|known| known.is(entry)))
}

/// Digests are uniformly distributed, so their first bytes choose a part.
const fn position(digest: &Digest) -> (usize, usize) {
    let [first, second, ..] = *digest.as_bytes();
    (first as usize % BRANCHES, second as usize % PARTS)
}

/// The newest snapshot. Reading it costs no lock and no atomic write: each thread caches the snapshot that it has read
/// last, and fetches another only if there is one. A replaced snapshot stays in memory until every thread that has
/// cached it reads again, or ends.
pub(crate) struct SnapshotCell {
    /// Unique in the process.
    number: u64,
    /// Incremented with each change, before the change returns.
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
    /// Held by the writer.
    writing: Mutex<()>,
}

/// The snapshot that a thread has read last.
struct Cached {
    number: u64,
    generation: u64,
    snapshot: Arc<Snapshot>,
    /// The directory of the snapshot. Every request clones it, so each thread has a reference count of its own.
    directory: Directory,
}

thread_local! {
    static SEEN: RefCell<Option<Cached>> = const { RefCell::new(None) };
}

impl SnapshotCell {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
            snapshot: ArcSwap::from_pointee(snapshot),
            writing: Mutex::new(()),
        }
    }

    /// Reads the newest snapshot: that of the last change that has returned, or a newer one.
    #[inline]
    pub(crate) fn read<T>(&self, mut look: impl FnMut(&Snapshot) -> T) -> T {
        self.read_with_directory(|snapshot, _| look(snapshot))
    }

    /// The same, with the directory of the snapshot, which is cheap to clone on this thread.
    #[inline]
    pub(crate) fn read_with_directory<T>(&self, mut look: impl FnMut(&Snapshot, &Directory) -> T) -> T {
        // Read the version before the snapshot: a snapshot that was read earlier could be older than the version.
        let generation = self.generation.load(Ordering::Acquire);
        let known = SEEN.try_with(|seen| {
            let seen = seen.try_borrow().ok()?;
            let seen = seen.as_ref().filter(|seen| seen.number == self.number && seen.generation == generation)?;
            Some(look(&seen.snapshot, &seen.directory))
        });
        match known {
            Ok(Some(found)) => found,
            _ => {
                let snapshot = self.load(generation);
                look(&snapshot, &snapshot.directory)
            }
        }
    }

    #[cold]
    fn load(&self, generation: u64) -> Arc<Snapshot> {
        let snapshot = self.snapshot.load_full();
        let directory = snapshot.directory.local();
        let seen = Cached { number: self.number, generation, snapshot: Arc::clone(&snapshot), directory };
        let old = SEEN.try_with(|cell| cell.try_borrow_mut().ok().map(|mut cell| cell.replace(seen)));
        // Dropped here, where nothing is borrowed: dropping the last reference to a record may run code that looks
        // something up.
        drop(old);
        snapshot
    }

    /// Publishes a new snapshot. When this returns, no read that begins finds the previous one.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        // A poisoned lock is harmless: a writer that panicked has published nothing.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let result = change(&mut snapshot);
        let old = self.snapshot.swap(Arc::new(snapshot));
        self.generation.fetch_add(1, Ordering::AcqRel);
        // Dropped last: by now every reader finds the new snapshot.
        drop(old);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_of(directory: &Directory) -> usize {
        directory.shops().count()
    }

    fn directory(shops: usize) -> Directory {
        (0..shops).fold(Directory::builder(), |all, shop| all.shop(&shop.to_string(), None)).build().unwrap()
    }

    #[test]
    fn a_change_is_seen_by_every_thread_once_it_has_returned() {
        let newest = Arc::new(SnapshotCell::new(Snapshot::new([], directory(0))));
        let other = SnapshotCell::new(Snapshot::new([], directory(50)));
        std::thread::scope(|scope| {
            let (ask, asked) = std::sync::mpsc::sync_channel::<usize>(0);
            let (answer, answered) = std::sync::mpsc::sync_channel::<usize>(0);
            scope.spawn({
                let newest = Arc::clone(&newest);
                move || asked.iter().for_each(|_| answer.send(newest.read(|it| number_of(&it.directory))).unwrap())
            });
            for shops in 0..20 {
                newest.change(|it| it.directory = directory(shops));
                ask.send(shops).unwrap();
                assert_eq!(answered.recv().unwrap(), shops);
                assert_eq!(newest.read(|it| number_of(&it.directory)), shops);
                assert_eq!(other.read(|it| number_of(&it.directory)), 50, "a thread reads more than one");
            }
        });
    }

    #[test]
    fn no_change_is_lost_to_another() {
        let newest = SnapshotCell::new(Snapshot::new([], directory(0)));
        let add = |it: &mut Snapshot| it.directory = directory(number_of(&it.directory) + 1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| newest.change(add)));
            }
        });
        assert_eq!(newest.read(|it| number_of(&it.directory)), 100);
    }

    #[test]
    fn whoever_looks_may_look_again() {
        let newest = SnapshotCell::new(Snapshot::new([], directory(1)));
        let twice = newest.read(|_| {
            newest.change(|it| it.directory = directory(2));
            newest.read(|it| number_of(&it.directory))
        });
        assert_eq!((twice, newest.read(|it| number_of(&it.directory))), (2, 2));
    }
}
