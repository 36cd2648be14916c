use serde::{Deserialize, Serialize};

use crate::{dimension::Dimension, error::ConfigError, ids::Ids, json::Id};

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

    /// The ids of the list.
    pub(crate) const fn ids(&self) -> &Ids {
        match self {
            Self::Include(ids) | Self::Exclude(ids) => ids,
        }
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
    use super::*;

    #[test]
    fn empty_lists_mean_what_they_say() {
        let none: [&str; 0] = [];
        assert!(!Restriction::include(&Dimension::SHOP, none).unwrap().allows("de"));
        assert!(Restriction::exclude(&Dimension::SHOP, none).unwrap().allows("de"));
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
