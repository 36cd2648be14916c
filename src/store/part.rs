//! A part of a snapshot: entries by their digests.

use std::sync::Arc;

use hashbrown::{HashTable, hash_table};

use crate::key::{Digest, Expander, KeyRecord};

#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Record(Arc<KeyRecord>),
    /// The record cannot be read: this one key is refused, the others go on.
    Unreadable(Arc<UnreadableEntry>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnreadableEntry {
    digest: Digest,
    pub(crate) why: Box<str>,
}

impl UnreadableEntry {
    const fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Entry {
    /// The entry of a key whose roles are now these, unless it stays as it is. A key whose role is gone is refused.
    pub(crate) fn expanded(record: &KeyRecord, expander: &mut Expander<'_>) -> Option<Self> {
        match expander.expand(record) {
            Ok(changed) => changed.map(|record| Self::Record(Arc::new(record))),
            Err(error) => Some(Self::unreadable(*record.digest(), &error.to_string())),
        }
    }

    pub(crate) fn unreadable(digest: Digest, why: &str) -> Self {
        Self::Unreadable(Arc::new(UnreadableEntry { digest, why: why.into() }))
    }
}

/// An entry of a snapshot.
#[derive(Clone, Copy)]
pub(crate) enum EntryRef<'s> {
    Record(&'s Arc<KeyRecord>),
    Unreadable(&'s Arc<UnreadableEntry>),
}

impl<'s> EntryRef<'s> {
    fn digest(self) -> &'s Digest {
        match self {
            Self::Record(record) => record.digest(),
            Self::Unreadable(unreadable) => &unreadable.digest,
        }
    }

    /// Whether both are the same entry.
    pub(super) fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Record(one), Self::Record(other)) => Arc::ptr_eq(one, other),
            (Self::Unreadable(one), Self::Unreadable(other)) => one == other,
            _ => false,
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn to_entry(self) -> Entry {
        match self {
            Self::Record(record) => Entry::Record(Arc::clone(record)),
            Self::Unreadable(unreadable) => Entry::Unreadable(Arc::clone(unreadable)),
        }
    }
}

/// Entries by their digests, which stand in the records: a key takes no more room here than a pointer.
#[derive(Clone, Default)]
pub(crate) struct Part {
    records: HashTable<Arc<KeyRecord>>,
    /// These are in a table of their own because there are hardly any: an entry that may be either takes twice the room.
    unreadable: HashTable<Arc<UnreadableEntry>>,
}

impl Part {
    pub(super) fn with_capacity(room: usize) -> Self {
        Self { records: HashTable::with_capacity(room), unreadable: HashTable::new() }
    }

    /// The digest is compared whole, in constant time.
    #[inline]
    pub(crate) fn get(&self, digest: &Digest) -> Option<EntryRef<'_>> {
        match self.records.find(hash(digest), |record| record.digest() == digest) {
            Some(record) => Some(EntryRef::Record(record)),
            None if self.unreadable.is_empty() => None,
            None => self.get_unreadable(digest),
        }
    }

    #[cold]
    fn get_unreadable(&self, digest: &Digest) -> Option<EntryRef<'_>> {
        self.unreadable.find(hash(digest), |known| known.digest == *digest).map(EntryRef::Unreadable)
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        match entry {
            Entry::Record(record) => {
                remove(&mut self.unreadable, UnreadableEntry::digest, record.digest());
                insert(&mut self.records, KeyRecord::digest, record);
            }
            Entry::Unreadable(unreadable) => {
                remove(&mut self.records, KeyRecord::digest, &unreadable.digest);
                insert(&mut self.unreadable, UnreadableEntry::digest, unreadable);
            }
        }
    }

    pub(crate) fn remove(&mut self, digest: &Digest) {
        remove(&mut self.records, KeyRecord::digest, digest);
        remove(&mut self.unreadable, UnreadableEntry::digest, digest);
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.unreadable.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Digest, EntryRef<'_>)> {
        let entries = self.records.iter().map(EntryRef::Record);
        entries.chain(self.unreadable.iter().map(EntryRef::Unreadable)).map(|entry| (entry.digest(), entry))
    }

    /// Its size in memory, without the records.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.records.allocation_size() + self.unreadable.allocation_size()
    }
}

fn insert<T>(table: &mut HashTable<Arc<T>>, digest_of: fn(&T) -> &Digest, new: Arc<T>) {
    let digest = digest_of(&new);
    match table.entry(hash(digest), |known| digest_of(known) == digest, |known| hash(digest_of(known))) {
        hash_table::Entry::Occupied(mut known) => *known.get_mut() = new,
        hash_table::Entry::Vacant(free) => drop(free.insert(new)),
    }
}

fn remove<T>(table: &mut HashTable<Arc<T>>, digest_of: fn(&T) -> &Digest, digest: &Digest) {
    if let Ok(known) = table.find_entry(hash(digest), |known| digest_of(known) == digest) {
        known.remove();
    }
}

/// Digests are uniformly distributed, so the last eight bytes of one serve as its hash: the first two have chosen the part.
/// Only issued keys are in the table, so nobody can fill a bucket at will.
fn hash(digest: &Digest) -> u64 {
    digest.as_bytes().last_chunk().map_or(0, |last| u64::from_le_bytes(*last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest has one entry, whatever it was before: a record that cannot be read any more is served no longer.
    #[test]
    fn what_becomes_unreadable_is_served_no_longer() {
        let digest = Digest::from_key(b"k");
        let record = || Entry::Record(KeyRecord::builder("k".parse().unwrap(), digest).build().into());
        let mut part = Part::default();
        for (entry, is_readable) in
            [(record(), true), (Entry::unreadable(digest, "odd"), false), (record(), true), (record(), true)]
        {
            part.insert(entry);
            assert_eq!(matches!(part.get(&digest), Some(EntryRef::Record(_))), is_readable);
            assert_eq!((part.len(), part.iter().count()), (1, 1));
        }
        part.insert(Entry::unreadable(digest, "odd"));
        part.remove(&digest);
        assert!(part.get(&digest).is_none() && part.len() == 0);
    }
}
