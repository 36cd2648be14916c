//! The in-memory index of all keys by digest, from which every store of this crate answers look-ups.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{
    clock,
    directory::{Difference, Directory},
    entity::directory_revokes_access,
    key::{Digest, EndReason, Expander, KeyRecord, Roles, SignalCell},
    store::{
        Lookup, StoreError,
        counts::Counts,
        part::{Entry, EntryRef, Part},
        snapshot::{Snapshot, SnapshotCell},
    },
};

/// All keys of a store. A look-up takes no lock and never waits for a writer.
pub(crate) struct Index {
    newest: SnapshotCell,
    /// Set while the index may be out of date.
    stale: AtomicBool,
    /// When look-ups stop being answered, in nanoseconds of [`clock::now`]; `u64::MAX` if there is no limit.
    deadline: AtomicU64,
    /// None of a store that can tell nobody of them.
    counts: Option<Counts>,
}

impl Index {
    pub(crate) fn new(entries: impl IntoIterator<Item = (Digest, Entry)>, directory: Directory) -> Self {
        Self {
            newest: SnapshotCell::new(Snapshot::new(entries, directory)),
            stale: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
            counts: Some(Counts::default()),
        }
    }

    /// The same, without counts.
    #[cfg(feature = "file")]
    pub(crate) fn uncounted(entries: impl IntoIterator<Item = (Digest, Entry)>, directory: Directory) -> Self {
        Self { counts: None, ..Self::new(entries, directory) }
    }

    /// The decisions that were counted in memory.
    pub(crate) const fn counts(&self) -> Option<&Counts> {
        self.counts.as_ref()
    }

    pub(crate) fn from_records<'a>(
        records: impl IntoIterator<Item = &'a Arc<KeyRecord>>,
        directory: Directory,
    ) -> Self {
        let entry = |record: &Arc<KeyRecord>| (*record.digest(), Entry::Record(Arc::clone(record)));
        Self::new(records.into_iter().map(entry), directory)
    }

    pub(crate) fn lookup(&self, digest: &Digest) -> Lookup {
        match self.find(digest, |record, directory| (Arc::clone(record), directory.clone())) {
            Ok(Some((record, directory))) => Lookup::ready(Ok(Some(record))).with_directory(directory),
            Ok(None) => Lookup::ready(Ok(None)),
            Err(error) => Lookup::ready(Err(error)),
        }
    }

    /// Finds a key, and looks at its record and at the directory of the same moment without counting up either.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        digest: &Digest,
        mut look: impl FnMut(&Arc<KeyRecord>, &Directory) -> T,
    ) -> Result<Option<T>, StoreError> {
        if self.stale.load(Ordering::Acquire) {
            return Err(StoreError::unavailable("the keys in memory may be out of date"));
        }
        // Check the lease before reading the snapshot: a snapshot that was read earlier could be older than the lease.
        let deadline = self.deadline.load(Ordering::Acquire);
        // Read the clock on every look-up: a timer would fire too late after the process was paused or the machine
        // asleep.
        if deadline != u64::MAX && clock::now() >= deadline {
            let why = "the lease has run out: what others have changed since is not known";
            return Err(StoreError::unavailable(why));
        }
        self.newest.read_with_directory(|keys, directory| match keys.get(digest) {
            Some(EntryRef::Record(record)) => Ok(Some(look(record, directory))),
            Some(EntryRef::Unreadable(entry)) => Err(StoreError::unreadable(&*entry.why)),
            None => Ok(None),
        })
    }

    /// Publishes changed entries, and the directory if it has changed, at once: no look-up sees one without the other.
    pub(crate) fn publish(
        &self,
        changes: impl IntoIterator<Item = (Digest, Option<Entry>)>,
        directory: Option<Directory>,
    ) {
        let replaced = self.newest.change(|keys| {
            let directories = directory.map(|directory| Directories::new(keys, directory));
            let mut replaced = Vec::new();
            for (digest, entry) in changes {
                keys.put(&digest, entry, directories.as_ref(), &mut replaced);
            }
            // Keys whose records are unchanged, but which lose access by the new directory.
            let narrowed =
                directories.iter().flat_map(|directories| directories.entries_losing_access(keys)).collect::<Vec<_>>();
            for (digest, entry) in narrowed {
                keys.put(&digest, Some(entry), directories.as_ref(), &mut replaced);
            }
            if let Some(directories) = directories {
                keys.directory = directories.new;
            }
            replaced
        });
        replaced.into_iter().for_each(Replaced::end_requests);
    }

    /// The entries of the keys with roles, as far as these roles give them another grant than they have.
    pub(crate) fn expanded(&self, roles: &Roles) -> Vec<(Digest, Option<Entry>)> {
        let mut expander = Expander::new(roles);
        let mut changed = |(digest, entry): (&Digest, EntryRef<'_>)| match entry {
            EntryRef::Record(record) => Some((*digest, Some(Entry::expanded(record, &mut expander)?))),
            EntryRef::Unreadable(_) => None,
        };
        self.newest.read(|keys| keys.parts().flat_map(Part::iter).filter_map(&mut changed).collect())
    }

    /// Replaces all entries and the directory at once.
    pub(crate) fn replace(&self, entries: impl IntoIterator<Item = (Digest, Entry)>, directory: Directory) {
        let replaced = self.newest.change(|keys| {
            let directories = Directories::new(keys, directory);
            let mut replaced = Vec::new();
            let entries = entries.into_iter().map(|(digest, entry)| {
                let entry = match keys.get(&digest) {
                    Some(old) => {
                        merge_entry(old, Some(entry.clone()), Some(&directories), &mut replaced).unwrap_or(entry)
                    }
                    None => entry,
                };
                (digest, entry)
            });
            let mut new = Snapshot::new(entries, directories.new.clone());
            new.share(keys);
            let gone = keys.parts().flat_map(Part::iter).filter(|(digest, _)| new.get(digest).is_none());
            gone.for_each(|(_, entry)| drop(merge_entry(entry, None, None, &mut replaced)));
            *keys = new;
            replaced
        });
        replaced.into_iter().for_each(Replaced::end_requests);
    }

    pub(crate) fn directory(&self) -> Directory {
        self.newest.read(|keys| keys.directory.clone())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.newest.read(Snapshot::bytes)
    }

    /// The number of keys, including those whose records cannot be read.
    pub(crate) fn len(&self) -> usize {
        self.newest.read(|keys| keys.parts().map(Part::len).sum())
    }
}

/// For stores that load their keys from elsewhere.
impl Index {
    /// Makes every look-up fail, or lets them succeed again.
    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }
}

/// Held by the thread that follows changes: when that thread ends, the index is stale.
pub(crate) struct MarkStaleOnDrop(pub(crate) Arc<Index>);

impl Drop for MarkStaleOnDrop {
    fn drop(&mut self) {
        self.0.set_stale(true);
    }
}

#[cfg(feature = "sqlite")]
impl Index {
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    /// Whether the index holds what the store held before this edit. If not, it has missed a change and must be
    /// reloaded.
    pub(crate) fn holds_state_before(&self, edit: &crate::store::audit::Edit) -> bool {
        let entry = edit.digest.and_then(|digest| self.newest.read(|keys| keys.get(&digest).map(EntryRef::to_entry)));
        match (&edit.key, &edit.before, entry) {
            (None, ..) => true,
            (Some(id), Some(_), Some(Entry::Record(known))) => known.id() == id,
            (Some(_), None, Some(Entry::Unreadable(_))) => true,
            (Some(_), None, None) => edit.after.is_some(),
            _ => false,
        }
    }
}

/// The directory of a snapshot, and the one that replaces it.
struct Directories {
    old: Directory,
    new: Directory,
    difference: Difference,
}

impl Directories {
    fn new(keys: &Snapshot, new: Directory) -> Self {
        let old = keys.directory.clone();
        Self { difference: old.difference(&new), old, new }
    }

    fn revokes_access(&self, old: &KeyRecord, new: &KeyRecord) -> bool {
        directory_revokes_access((old.grant(), &self.old), (new.grant(), &self.new), &self.difference)
    }

    /// The entries of all keys that lose access through the new directory.
    fn entries_losing_access(&self, keys: &Snapshot) -> Vec<(Digest, Entry)> {
        if self.difference.is_none() {
            return Vec::new();
        }
        let narrowed = |entry: EntryRef<'_>| match entry {
            EntryRef::Record(record) if self.revokes_access(record, record) => Some(Entry::Record(Arc::clone(record))),
            _ => None,
        };
        keys.parts().flat_map(Part::iter).filter_map(|(digest, entry)| Some((*digest, narrowed(entry)?))).collect()
    }
}

impl Snapshot {
    /// Replaces or removes an entry.
    fn put(
        &mut self,
        digest: &Digest,
        entry: Option<Entry>,
        directories: Option<&Directories>,
        replaced: &mut Vec<Replaced>,
    ) {
        let Some(part) = self.part_mut(digest) else { return };
        let entry = match part.get(digest) {
            Some(old) => merge_entry(old, entry, directories, replaced),
            None => entry,
        };
        match entry {
            Some(entry) => part.insert(entry),
            None => part.remove(digest),
        }
    }
}

/// A record that was replaced, and why the requests that have found it must end, if they must.
struct Replaced {
    old: Arc<KeyRecord>,
    new: Option<Arc<KeyRecord>>,
    end: Option<EndReason>,
}

impl Replaced {
    /// INVARIANT: the new snapshot is published, so that no look-up finds the old record any more.
    fn end_requests(self) {
        // Requests may have marked the old record as used until now.
        if let (Some(new), Some(time)) = (&self.new, self.old.last_used()) {
            new.mark_used(time);
        }
        if let Some(end) = self.end {
            SignalCell::finish(&self.old, end);
        }
    }
}

/// Chooses the entry to store, and notes the record that it replaces. It is the old entry if nothing has changed and
/// the key loses no access, or if the old record is revoked and the new one is not.
fn merge_entry(
    old: EntryRef<'_>,
    new: Option<Entry>,
    directories: Option<&Directories>,
    replaced: &mut Vec<Replaced>,
) -> Option<Entry> {
    let EntryRef::Record(old) = old else { return new };
    let Some(Entry::Record(record)) = new else {
        replaced.push(Replaced { old: Arc::clone(old), new: None, end: Some(EndReason::Gone) });
        return new;
    };
    if old.revoked_at().is_some() && record.revoked_at().is_none() {
        return Some(Entry::Record(Arc::clone(old))); // a revocation is permanent, even if a backup without it is loaded
    }
    let narrowed = directories.is_some_and(|directories| directories.revokes_access(old, &record));
    if *old == record && !narrowed {
        record.last_used().into_iter().for_each(|time| old.mark_used(time));
        return Some(Entry::Record(Arc::clone(old)));
    }
    // The record is unchanged, but its requests must end: store a copy, which gets a signal of its own.
    let record = if Arc::ptr_eq(old, &record) { Arc::new(KeyRecord::clone(old)) } else { record };
    old.last_used().into_iter().for_each(|time| record.mark_used(time));
    let end = SignalCell::hand_over(old, &record, narrowed);
    replaced.push(Replaced { old: Arc::clone(old), new: Some(Arc::clone(&record)), end });
    Some(Entry::Record(record))
}

/// For stores that record when keys were used.
impl Index {
    /// Copies newer last-use times from memory into records that were read from the database.
    pub(crate) fn add_uses<'r>(&self, records: impl IntoIterator<Item = &'r Arc<KeyRecord>>) {
        for record in records {
            let used = self.newest.read(|keys| match keys.get(record.digest()) {
                Some(EntryRef::Record(known)) => known.last_used(),
                _ => None,
            });
            used.into_iter().for_each(|time| record.mark_used(time));
        }
    }

    /// The keys that were used at this time or later.
    pub(crate) fn used_since(&self, time: std::time::SystemTime) -> Vec<Arc<KeyRecord>> {
        let used = |entry: EntryRef<'_>| match entry {
            EntryRef::Record(record) if record.last_used().is_some_and(|last| last >= time) => Some(Arc::clone(record)),
            _ => None,
        };
        self.newest.read(|keys| keys.parts().flat_map(Part::iter).filter_map(|(_, entry)| used(entry)).collect())
    }
}

/// For stores that other processes change.
impl Index {
    pub(crate) fn lease_left(&self) -> std::time::Duration {
        if self.stale.load(Ordering::Acquire) {
            return std::time::Duration::ZERO;
        }
        let left = self.deadline.load(Ordering::Acquire).saturating_sub(clock::now());
        std::time::Duration::from_nanos(left)
    }

    /// Sets until when look-ups are answered, and returns the previous deadline.
    pub(crate) fn set_deadline(&self, deadline: u64) -> u64 {
        self.deadline.swap(deadline, Ordering::AcqRel)
    }
}

#[cfg(test)]
#[cfg(any(feature = "file", feature = "sqlite"))]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::key::RevocationWatch;

    fn record(number: u32) -> Arc<KeyRecord> {
        let id = format!("k{number}").parse().unwrap();
        Arc::new(KeyRecord::builder(id, Digest::from_key(&number.to_le_bytes())).build())
    }

    /// A request in flight while a file is read again hears of the access that is taken away; an equal record is not kept
    /// twice.
    #[test]
    fn what_is_replaced_ends_and_what_is_not_is_shared() {
        let records: Vec<_> = (0..3000).map(record).collect();
        let index = Index::from_records(&records, Directory::default());
        let before = index.newest.read(Snapshot::clone);
        let watches: Vec<_> = records.iter().take(3).map(|record| RevocationWatch::new(Arc::clone(record))).collect();
        // The same once more, but for one that is revoked and one that is gone.
        let entries = (0..3000).filter(|number| *number != 1).map(|number| {
            let record = if number == 0 {
                record(0).revise().revoked_at(SystemTime::now()).build().into()
            } else {
                record(number)
            };
            (*record.digest(), Entry::Record(record))
        });
        index.replace(entries.collect::<Vec<_>>(), Directory::default());
        assert_eq!(watches.iter().map(|watch| watch.end().is_some()).collect::<Vec<_>>(), [true, true, false]);
        let after = index.newest.read(Snapshot::clone);
        let shared = before.parts().zip(after.parts()).filter(|(one, other)| std::ptr::eq(*one, *other)).count();
        assert_eq!(shared, before.parts().count() - 2);
        assert_eq!(index.len(), 2999);
    }

    /// A request that finds a new version waits for the same end as one that found the version before, at every moment.
    #[test]
    fn a_change_that_takes_nothing_away_ends_nothing_under_load() {
        let first = record(1);
        let digest = *first.digest();
        let index = Index::from_records([&first], Directory::default());
        let waker = std::task::Waker::noop();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..200_000 {
                            let found = futures::executor::block_on(index.lookup(&digest).found());
                            let mut watch = RevocationWatch::new(found.unwrap().unwrap());
                            assert!(watch.poll_end(&std::task::Context::from_waker(waker)).is_pending());
                        }
                    })
                })
                .collect();
            let mut newest = first.clone();
            while !readers.iter().all(|reader| reader.is_finished()) {
                newest = Arc::new(newest.revise().name("another").build());
                index.publish([(digest, Some(Entry::Record(Arc::clone(&newest))))], None);
            }
        });
    }

    /// Records and a directory that are published together are found together.
    #[test]
    fn a_look_up_finds_a_record_and_a_directory_of_one_moment() {
        let of = |company: u8| {
            let grant = crate::key::Grant::builder().only("company", [company]).build().unwrap();
            let directory = Directory::builder().shop("de", Some(&company.to_string())).build().unwrap();
            (Arc::new(KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant).build()), directory)
        };
        let [(first, directory), second] = [of(1), of(2)];
        let index = Index::from_records([&first], directory.clone());
        let moments = [(first, directory), second];
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for _ in 0..200_000 {
                    let (found, directory) =
                        futures::executor::block_on(index.lookup(&Digest::from_key(b"k")).answer());
                    let (record, directory) = (found.unwrap().unwrap(), directory.unwrap());
                    let company = directory.company_of("de").unwrap();
                    assert!(record.grant().restriction(&crate::dimension::Dimension::COMPANY).unwrap().allows(company));
                }
            });
            for (record, directory) in moments.iter().cycle() {
                if reader.is_finished() {
                    break;
                }
                let entry = (*record.digest(), Entry::Record(Arc::clone(record)));
                index.replace([entry.clone()], directory.clone());
                index.publish([(entry.0, Some(entry.1))], Some(directory.clone()));
            }
        });
    }
}
