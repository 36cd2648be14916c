use std::{fmt, hash::BuildHasher as _};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use crate::{bytes::head, dimension::Dimension, error::ConfigError, json::Id};

/// Which entities of one dimension a key may touch: those of a list, or all but those of a list.
///
/// A key without a restriction over a dimension may touch all of it. An empty include list allows
/// none; an empty exclude list allows all, and a [`Grant`](crate::Grant) that is given one has no restriction there.
///
/// # Example
/// ```
/// use tower_authz::{Dimension, Restriction};
///
/// let only_de = Restriction::include(&Dimension::SHOP, ["de"])?;
/// assert!(only_de.allows("de") && !only_de.allows("ch"));
/// let not_3 = Restriction::exclude(&Dimension::COMPANY, [3])?;
/// assert!(not_3.allows("1") && !not_3.allows("3"));
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a list either includes or excludes")]
pub enum Restriction {
    /// These only.
    Include(Ids),
    /// All but these.
    Exclude(Ids),
}

impl Restriction {
    /// Only these ids.
    ///
    /// # Errors
    /// If one is not an id of the dimension in its one spelling.
    pub fn include<T: ToString>(dimension: &Dimension, ids: impl IntoIterator<Item = T>) -> Result<Self, ConfigError> {
        Ids::new(dimension, ids).map(Self::Include)
    }

    /// All but these ids.
    ///
    /// # Errors
    /// If one is not an id of the dimension in its one spelling: an exclude list that names `DE`
    /// would not keep anyone away from `de`.
    pub fn exclude<T: ToString>(dimension: &Dimension, ids: impl IntoIterator<Item = T>) -> Result<Self, ConfigError> {
        Ids::new(dimension, ids).map(Self::Exclude)
    }

    /// Whether the entity with this id is allowed.
    #[must_use]
    pub fn allows(&self, id: &str) -> bool {
        match self {
            Self::Include(ids) => ids.contains(id),
            Self::Exclude(ids) => !ids.contains(id),
        }
    }
}

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
    fn new<T: ToString>(dimension: &Dimension, ids: impl IntoIterator<Item = T>) -> Result<Self, ConfigError> {
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

/// As a key file writes it: one of the two lists, never both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestrictionFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<Vec<Id>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude: Option<Vec<Id>>,
}

impl RestrictionFile {
    pub(crate) fn read(self, dimension: &Dimension) -> Result<Restriction, ConfigError> {
        let texts = |ids: Vec<Id>| ids.into_iter().map(Id::into_string);
        match (self.include, self.exclude) {
            (Some(ids), None) => Restriction::include(dimension, texts(ids)),
            (None, Some(ids)) => Restriction::exclude(dimension, texts(ids)),
            _ => Err(ConfigError::new("give exactly one of the lists, include or exclude")),
        }
    }

    pub(crate) fn from_restriction(restriction: &Restriction) -> Self {
        let list = |ids: &Ids| Some(ids.iter().map(Id::new).collect());
        match restriction {
            Restriction::Include(ids) => Self { include: list(ids), exclude: None },
            Restriction::Exclude(ids) => Self { include: None, exclude: list(ids) },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_lists_mean_what_they_say() {
        let none: [&str; 0] = [];
        assert!(!Restriction::include(&Dimension::SHOP, none).unwrap().allows("de"));
        assert!(Restriction::exclude(&Dimension::SHOP, none).unwrap().allows("de"));
    }

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

    #[test]
    fn numbers_do_not_wrap() {
        let big = Restriction::include(&Dimension::COMPANY, [4_294_967_297_u64]).unwrap();
        assert!(big.allows("4294967297") && !big.allows("1"));
    }

    #[test]
    fn other_spellings_are_errors() {
        assert!(Restriction::exclude(&Dimension::SHOP, ["DE"]).is_err());
        assert!(Restriction::include(&Dimension::COMPANY, ["03"]).is_err());
    }
}
