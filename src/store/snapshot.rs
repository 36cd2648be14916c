//! All keys by digest as they are at one moment, and how a thread gets at the newest such moment.

use std::{
    cell::RefCell,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use crate::{directory::Directory, key::Digest, store::index::Entry};

/// In parts, and those in branches: a change copies one part and one branch, and shares all others. With a million keys
/// a part has about a thousand.
#[derive(Clone)]
pub(crate) struct Snapshot {
    branches: [Arc<Branch>; BRANCHES],
    pub(crate) directory: Directory,
}

#[derive(Clone)]
struct Branch([Arc<Part>; PARTS]);

pub(crate) type Part = HashMap<Digest, Entry, BuildHasherDefault<DigestHasher>>;

const BRANCHES: usize = 32;
const PARTS: usize = 32;

impl Snapshot {
    pub(crate) fn new(entries: impl IntoIterator<Item = (Digest, Entry)>, directory: Directory) -> Self {
        let entries = entries.into_iter();
        // Room for all from the beginning: to grow, a table moves what it has.
        let room = entries.size_hint().0 / (BRANCHES * PARTS);
        let part = || Part::with_capacity_and_hasher(room, BuildHasherDefault::default());
        let mut parts: Vec<Part> = std::iter::repeat_with(part).take(BRANCHES * PARTS).collect();
        for (digest, entry) in entries {
            let (branch, part) = position(&digest);
            if let Some(part) = parts.get_mut(branch * PARTS + part) {
                part.insert(digest, entry);
            }
        }
        let mut parts = parts.into_iter();
        let mut branch = || Arc::new(Branch(std::array::from_fn(|_| Arc::new(parts.next().unwrap_or_default()))));
        Self { branches: std::array::from_fn(|_| branch()), directory }
    }

    /// Goes on with the parts of another one that are the same, so that whoever keeps both keeps them once.
    #[cfg(any(feature = "file", feature = "sqlite"))]
    pub(crate) fn share(&mut self, other: &Self) {
        for (branch, others) in self.branches.iter_mut().zip(&other.branches) {
            let parts = Arc::make_mut(branch).0.iter_mut().zip(&others.0);
            parts.filter(|(part, other)| are_same(part, other)).for_each(|(part, other)| *part = Arc::clone(other));
        }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<&Entry> {
        let (branch, part) = position(digest);
        self.branches.get(branch)?.0.get(part)?.get(digest)
    }

    /// The part of a digest, which is copied if somebody else has it too. There always is one.
    pub(crate) fn part_mut(&mut self, digest: &Digest) -> Option<&mut Part> {
        let (branch, part) = position(digest);
        Arc::make_mut(self.branches.get_mut(branch)?).0.get_mut(part).map(Arc::make_mut)
    }

    /// What it takes in memory, without the records.
    pub(crate) fn bytes(&self) -> usize {
        let parts: usize = self.parts().map(|part| size_of::<Part>() + part.allocation_size()).sum();
        size_of::<Self>() + BRANCHES * size_of::<Branch>() + parts
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.branches.iter().flat_map(|branch| &branch.0).map(|part| &**part)
    }
}

#[cfg(any(feature = "file", feature = "sqlite"))]
fn are_same(one: &Part, other: &Part) -> bool {
    one.len() == other.len() && one.iter().all(|(digest, entry)| other.get(digest).is_some_and(|known| known.is(entry)))
}

/// Digests are evenly spread, so their first bytes choose a part.
const fn position(digest: &Digest) -> (usize, usize) {
    let [first, second, ..] = *digest.as_bytes();
    (first as usize % BRANCHES, second as usize % PARTS)
}

/// Digests are evenly spread already: eight bytes of one are a hash. Only keys that were issued are ever
/// put into the map, so nobody can fill a bucket at will.
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

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

/// The newest snapshot. To read it costs no lock and no atomic write: each thread keeps the one that it has read last,
/// and asks for another only if there is one. So what has changed since a thread last read anything stays in memory
/// until it reads again, or ends.
pub(crate) struct SnapshotCell {
    /// Tells it from every other one of the process.
    number: u64,
    /// Rises after each change, before whoever made it goes on.
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
    /// Held by whoever changes anything.
    writing: Mutex<()>,
}

/// What a thread has read last.
struct Cached {
    number: u64,
    generation: u64,
    snapshot: Arc<Snapshot>,
    /// That of the snapshot. Every request holds on to it, so each thread counts its own.
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

    /// Looks into the newest snapshot: the one of the last change that has returned, or a newer one.
    #[inline]
    pub(crate) fn read<T>(&self, mut look: impl FnMut(&Snapshot) -> T) -> T {
        self.read_moment(|snapshot, _| look(snapshot))
    }

    /// The same, with the directory of the snapshot in a form that is cheap to clone on this thread.
    #[inline]
    pub(crate) fn read_moment<T>(&self, mut look: impl FnMut(&Snapshot, &Directory) -> T) -> T {
        // Before the snapshot is read: one that was read earlier could be older than this.
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
        // Here, where nothing is borrowed any more: what else ends with the last record of a kind might look something up.
        drop(old);
        snapshot
    }

    /// Makes another one the newest. When it returns, nobody who begins to read finds the one before.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        // Whoever panicked while holding the lock has changed nothing.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let result = change(&mut snapshot);
        let old = self.snapshot.swap(Arc::new(snapshot));
        self.generation.fetch_add(1, Ordering::AcqRel);
        // Only now: whatever ends with it, everybody reads the new one.
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
