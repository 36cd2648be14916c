//! Finds the keys that lose access by a change of a directory.

use std::collections::HashSet;

use crate::{
    dimension::Dimension,
    directory::{Directory, level::Level},
};

/// Where two directories do not agree.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Whether only one of them declares anything.
    pub(crate) is_first: bool,
    /// For each dimension that has other ancestors in one of them than in the other, itself and all of those.
    pub(crate) moved: Vec<Vec<Dimension>>,
    /// The ids, aliases included, of entities that belong to others or are not known to both, by their dimensions.
    pub(crate) entities: Vec<(Dimension, HashSet<String>)>,
}

impl Difference {
    pub(crate) fn is_none(&self) -> bool {
        !self.is_first && self.moved.is_empty() && self.entities.iter().all(|(_, ids)| ids.is_empty())
    }
}

impl Directory {
    pub(crate) fn difference(&self, other: &Self) -> Difference {
        let mut difference =
            Difference { is_first: self.is_declared() != other.is_declared(), ..Difference::default() };
        if self.is_same(other) {
            return difference;
        }
        let mut dimensions: Vec<(Dimension, Vec<Dimension>)> = Vec::new();
        for dimension in [self, other].into_iter().flat_map(Self::dimensions) {
            let (old, new) = (self.ancestors(&dimension), other.ancestors(&dimension));
            let is_own = |directory: &Self| directory.level(&dimension).is_some_and(Level::is_own);
            if dimensions.iter().any(|(known, _)| *known == dimension) {
                continue;
            }
            if old != new || is_own(self) != is_own(other) {
                difference.moved.push([&dimension].into_iter().chain(&old).chain(&new).cloned().collect());
            }
            dimensions.push((dimension, new));
        }
        // The parent of an entity may have moved. Then a key that loses the entity has lost the parent, too.
        for (dimension, _) in dimensions.into_iter().filter(|(_, ancestors)| !ancestors.is_empty()) {
            let ids = changed(self.level(&dimension), other.level(&dimension));
            difference.entities.push((dimension, ids));
        }
        difference
    }

    /// The dimensions of the hierarchy. Shops and their countries belong to others also where nothing is declared.
    fn dimensions(&self) -> Vec<Dimension> {
        match self.is_declared() {
            true => self.levels().map(|level| level.dimension().clone()).collect(),
            false => Dimension::STANDARD.to_vec(),
        }
    }

    /// The dimensions above this one, the nearest first.
    fn ancestors(&self, dimension: &Dimension) -> Vec<Dimension> {
        match self.level(dimension) {
            Some(level) => level.ancestors().map(|above| above.dimension().clone()).collect(),
            None if self.is_declared() => Vec::new(),
            None if *dimension == Dimension::SHOP => vec![Dimension::COMPANY],
            None if *dimension == Dimension::SHOP_COUNTRY => vec![Dimension::SHOP, Dimension::COMPANY],
            None => Vec::new(),
        }
    }
}

/// The ids of a dimension that do not mean the same in both.
fn changed(old: Option<&Level>, new: Option<&Level>) -> HashSet<String> {
    let mut ids = HashSet::new();
    let levels = [old, new];
    for level in levels.into_iter().flatten() {
        for id in level.ids().iter() {
            let [old, new] = levels.map(|level| level.and_then(|level| described(level, id)));
            if old != new {
                let aliases = levels.into_iter().flatten().flat_map(|level| {
                    level.ids().position(id).into_iter().flat_map(|position| level.aliases_of(position))
                });
                ids.extend(aliases.map(str::to_owned));
                ids.insert(id.to_owned());
            }
        }
    }
    ids
}

/// An entity of a level: its parent and its aliases.
fn described<'l>(level: &'l Level, id: &str) -> Option<(Option<&'l str>, Vec<&'l str>)> {
    let position = level.ids().position(id)?;
    Some((level.parent(position).map(|parent| parent.id()), level.aliases_of(position).collect()))
}
