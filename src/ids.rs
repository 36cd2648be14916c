//! A sorted set of ids, in which one is found at once.

use std::{fmt, hash::BuildHasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::{bytes::head, dimension::Dimension, error::ConfigError};

/// A sorted set of ids. A look-up costs the same however many there are.
#[derive(Clone)]
pub struct Ids {
    /// The ids of more than eight bytes, one behind the other.
    text: Box<str>,
    known: KnownIds,
}

#[derive(Clone)]
enum KnownIds {
    /// Searched in turn.
    Few(Box<[KnownId]>),
    /// Searched by hash.
    Many(Box<HashedIds>),
}

/// More are found by hash.
const FEW: usize = 16;

/// An id of up to eight bytes, or the beginning of a longer one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KnownId {
    /// The first eight bytes. Zeros follow if there are fewer.
    head: [u8; SHORT],
    /// Where a longer id stands in the text.
    start: u32,
    length: u32,
}

const SHORT: usize = 8;

#[derive(Clone)]
struct HashedIds {
    list: Box<[KnownId]>,
    positions: HashTable<u32>,
    hasher: RandomState,
}

/// Of a long id all of it counts: such ids may all begin and end alike.
fn hash(hasher: &RandomState, id: &str) -> u64 {
    match id.as_bytes().last_chunk::<8>() {
        Some(last) if id.len() <= 16 => hasher.hash_one((head(id.as_bytes()), u64::from_le_bytes(*last))),
        None => hasher.hash_one((head(id.as_bytes()), 0_u64)),
        _ => hasher.hash_one(id),
    }
}

impl KnownId {
    fn bytes<'t>(&'t self, text: &'t str) -> &'t [u8] {
        let (start, length) = (self.start as usize, self.length as usize);
        let bytes = if length <= SHORT { self.head.get(..length) } else { text.as_bytes().get(start..start + length) };
        bytes.unwrap_or_default()
    }

    fn id<'t>(&'t self, text: &'t str) -> &'t str {
        std::str::from_utf8(self.bytes(text)).unwrap_or_default()
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
        let too_long = |_| ConfigError::new("the list has more ids than can be counted");
        u32::try_from(list.len()).map_err(too_long)?;
        let mut text = String::new();
        let known = list.iter().map(|id| {
            let start = u32::try_from(text.len()).map_err(too_long)?;
            if id.len() > SHORT {
                text.push_str(id);
            }
            let length = u32::try_from(id.len()).map_err(too_long)?;
            Ok(KnownId { head: head(id.as_bytes()).to_le_bytes(), start, length })
        });
        let known = known.collect::<Result<Box<[KnownId]>, ConfigError>>()?;
        let text: Box<str> = text.into();
        let known = match known.len() {
            ..=FEW => KnownIds::Few(known),
            _ => KnownIds::Many(Box::new(HashedIds::new(known, &text))),
        };
        Ok(Self { text, known })
    }

    /// Whether the id is one of them.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.position(id).is_some()
    }

    /// The position of the id among them, in order.
    #[inline]
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        let (first, length) = (head(id.as_bytes()), id.len());
        let is = |known: &KnownId| {
            u64::from_le_bytes(known.head) == first
                && known.length as usize == length
                && (length <= SHORT || self.ends_alike(known, id))
        };
        match &self.known {
            KnownIds::Few(known) => known.iter().position(is),
            KnownIds::Many(many) => many.position(id, is),
        }
    }

    /// The id at a position.
    pub(crate) fn get(&self, position: usize) -> Option<&str> {
        self.list().get(position).map(|known| known.id(&self.text))
    }

    /// Whether the id is the known one, with which it has the length and the first eight bytes in common.
    fn ends_alike(&self, known: &KnownId, id: &str) -> bool {
        let (known, id) = (known.bytes(&self.text), id.as_bytes());
        // Up to sixteen bytes are covered by the first eight and the last eight.
        known.last_chunk::<SHORT>() == id.last_chunk() && (id.len() <= 16 || known == id)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.list().iter().map(|known| known.id(&self.text))
    }

    fn list(&self) -> &[KnownId] {
        match &self.known {
            KnownIds::Few(known) => known,
            KnownIds::Many(many) => &many.list,
        }
    }
}

impl HashedIds {
    fn new(list: Box<[KnownId]>, text: &str) -> Self {
        let hasher = RandomState::default();
        let hash_of = |&position: &u32| list.get(position as usize).map_or(0, |known| hash(&hasher, known.id(text)));
        let mut positions = HashTable::with_capacity(list.len());
        for position in 0..list.len() as u32 {
            positions.insert_unique(hash_of(&position), position, hash_of);
        }
        Self { positions, list, hasher }
    }

    #[inline]
    fn position(&self, id: &str, is: impl Fn(&KnownId) -> bool) -> Option<usize> {
        let is_at = |&position: &u32| self.list.get(position as usize).is_some_and(&is);
        self.positions.find(hash(&self.hasher, id), is_at).map(|&position| position as usize)
    }
}

impl PartialEq for Ids {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.list() == other.list()
    }
}

impl Eq for Ids {}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
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
