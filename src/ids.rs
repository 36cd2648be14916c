//! A sorted set of ids, in which one is found at once.

use std::{fmt, hash::BuildHasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::{bytes::head, dimension::Dimension, error::ConfigError};

/// A sorted set of ids. A look-up costs the same however many there are.
#[derive(Clone)]
pub struct Ids {
    list: Box<[Box<str>]>,
    positions: Positions,
}

/// How an id is found in the list.
#[derive(Clone)]
enum Positions {
    /// In turn.
    Few(Box<[KnownId]>),
    /// By hash.
    Many(HashTable<KnownId>, RandomState),
}

/// More are found by hash.
const FEW: usize = 16;

/// Ids of so many bytes are no more than their ends.
const SHORT: usize = 16;

/// The ends and the length of an id, which are compared first: for short ids that is all.
#[derive(Clone, Copy)]
struct KnownId {
    ends: (u64, u64),
    length: u32,
    /// Its index in the list.
    position: u32,
}

/// The first eight bytes and the last eight, which are none if the first are all.
fn ends(id: &str) -> (u64, u64) {
    let last = id.as_bytes().last_chunk().filter(|_| id.len() > 8);
    (head(id.as_bytes()), last.map_or(0, |last| u64::from_le_bytes(*last)))
}

/// Of a long one all of it counts: such ids may all begin and end alike.
fn hash(hasher: &RandomState, id: &str) -> u64 {
    if id.len() > SHORT { hasher.hash_one(id) } else { hasher.hash_one(ends(id)) }
}

impl KnownId {
    fn new(id: &str, position: usize) -> Option<Self> {
        Some(Self { ends: ends(id), length: id.len().try_into().ok()?, position: position.try_into().ok()? })
    }

    fn id<'l>(&self, list: &'l [Box<str>]) -> Option<&'l str> {
        list.get(self.position as usize).map(|id| &**id)
    }
}

impl Ids {
    pub(crate) fn new<T: ToString>(
        dimension: &Dimension,
        ids: impl IntoIterator<Item = T>,
    ) -> Result<Self, ConfigError> {
        let mut list: Vec<Box<str>> = Vec::new();
        for id in ids {
            let id = id.to_string();
            if !dimension.accepts(&id) {
                return Err(ConfigError::new(format!("{id:?} is not the canonical spelling of a {dimension} id")));
            }
            list.push(id.into());
        }
        Self::from_list(list)
    }

    /// The set of these ids, whatever they look like.
    pub(crate) fn from_list(mut list: Vec<Box<str>>) -> Result<Self, ConfigError> {
        list.sort_unstable();
        list.dedup();
        let known =
            list.iter().enumerate().map(|(position, id)| KnownId::new(id, position)).collect::<Option<Vec<_>>>();
        let known = known.ok_or_else(|| ConfigError::new("the list has more ids than can be counted"))?;
        let positions = if list.len() <= FEW {
            Positions::Few(known.into())
        } else {
            let hasher = RandomState::default();
            let hash_of = |known: &KnownId| known.id(&list).map_or(0, |id| hash(&hasher, id));
            let mut table = HashTable::with_capacity(list.len());
            for known in known {
                table.insert_unique(hash_of(&known), known, hash_of);
            }
            Positions::Many(table, hasher)
        };
        Ok(Self { list: list.into(), positions })
    }

    /// Whether the id is one of them.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.position(id).is_some()
    }

    /// The position of the id among them, in order.
    #[inline]
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        let (ends, length) = (ends(id), id.len());
        let is = |known: &&KnownId| {
            known.ends == ends
                && known.length as usize == length
                && (length <= SHORT || known.id(&self.list).is_some_and(|known| known == id))
        };
        let known = match &self.positions {
            Positions::Few(known) => known.iter().find(is),
            Positions::Many(table, hasher) => table.find(hash(hasher, id), |known| is(&known)),
        };
        known.map(|known| known.position as usize)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(AsRef::as_ref)
    }
}

impl PartialEq for Ids {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Ids {}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However many there are, a list holds what it was made of.
        #[test]
        fn what_is_found_is_what_was_listed(
            ids in prop::collection::vec("[a-c_]{1,20}", 0..60),
            probes in prop::collection::vec("[a-c_]{1,20}|[a-c]{0,3}", 1..20),
        ) {
            let list = Ids::new(&Dimension::SHOP, &ids).unwrap();
            for id in ids.iter().chain(&probes) {
                prop_assert_eq!(list.contains(id), ids.contains(id), "{}", id);
            }
            prop_assert!(list.iter().is_sorted());
            prop_assert!(!list.contains("") && !list.contains("a\0"));
        }
    }

    #[test]
    fn ids_that_begin_and_end_alike_are_not_one() {
        let pairs = [("aaaaaaaa1bbbbbbbb", "aaaaaaaa2bbbbbbbb"), ("aaaaaaaabbbbbbbb", "aaaaaaaa1bbbbbbbb")];
        for (one, other) in pairs.into_iter().chain([("aaaaaaaaa", "aaaaaaaaaa"), ("aaaaaaaa", "aaaaaaaaaaaaaaaa")]) {
            for (listed, asked) in [(one, other), (other, one)] {
                for beside in [0, 30] {
                    let ids = (0..beside).map(|number| format!("x{number}")).chain([listed.to_owned()]);
                    let list = Ids::new(&Dimension::SHOP, ids).unwrap();
                    assert!(list.contains(listed) && !list.contains(asked), "{listed} {asked} {beside}");
                }
            }
        }
    }

    /// A change of the list is a change of the record: else a store would go on with the old one.
    #[test]
    fn lists_are_the_same_if_their_ids_are() {
        let list = |ids: &[&str]| Ids::new(&Dimension::SHOP, ids).unwrap();
        assert_eq!(list(&["de", "ch"]), list(&["ch", "de"]));
        for other in [&["de"][..], &["de", "at"], &["de", "ch", "at"], &[]] {
            assert_ne!(list(&["de", "ch"]), list(other), "{other:?}");
        }
        let many =
            |last: &str| Ids::new(&Dimension::SHOP, (0..60).map(|id| id.to_string()).chain([last.to_owned()])).unwrap();
        assert!(many("de") == many("de") && many("de") != many("ch"));
    }
}
