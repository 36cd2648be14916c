//! One dimension of a hierarchy: its entities, their aliases, and which entity of the dimension above each belongs to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    iter,
    sync::Arc,
};

use crate::{dimension::Dimension, error::ConfigError, ids::Ids};

/// The entities of one dimension that a directory knows.
#[derive(Debug)]
pub(crate) struct Level {
    dimension: Dimension,
    above: Option<Arc<Self>>,
    is_own: bool,
    /// In a level with no other above it, the entities that others belong to.
    ids: Ids,
    parents: Box<[Parent]>,
    /// For each id, in order, the position of its parent among the parents, or [`NO_PARENT`].
    parent_of: Box<[u32]>,
    aliases: Option<Box<Aliases>>,
}

/// No list is as long.
const NO_PARENT: u32 = u32::MAX;

/// An entity that others belong to.
#[derive(Debug)]
pub(crate) struct Parent {
    id: Box<str>,
    /// Its position in its own level, if it is known there.
    position: Option<usize>,
}

#[derive(Debug)]
struct Aliases {
    ids: Ids,
    /// For each alias, in order, the position of its entity.
    entity_of: Box<[u32]>,
    /// The positions of entity and alias, sorted.
    by_entity: Box<[(u32, u32)]>,
}

impl Parent {
    fn new(id: &str, level: Option<&Level>) -> Self {
        let position = level.and_then(|level| level.find(id));
        let known = level.zip(position).and_then(|(level, position)| level.id(position));
        Self { id: known.unwrap_or(id).into(), position }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) const fn position(&self) -> Option<usize> {
        self.position
    }
}

/// The parts of a level.
#[derive(Debug)]
pub(super) struct Entities {
    pub(super) dimension: Dimension,
    pub(super) is_own: bool,
    /// Each entity with its parent, which may be given by an alias.
    pub(super) parent_of: BTreeMap<Box<str>, Option<Box<str>>>,
    /// Each alias with the id of its entity.
    pub(super) aliases: BTreeMap<Box<str>, Box<str>>,
}

impl Level {
    pub(super) fn new(entities: Entities, above: Option<Arc<Self>>) -> Result<Self, ConfigError> {
        let Entities { dimension, is_own, parent_of, aliases } = entities;
        let named: BTreeSet<&str> = parent_of.values().flatten().map(|parent| &**parent).collect();
        let parents = named.iter().map(|id| Parent::new(id, above.as_deref())).collect();
        let positions: HashMap<&str, u32> = named.into_iter().zip(0..).collect();
        let position_of = |parent: Option<&str>| parent.and_then(|id| positions.get(id).copied()).unwrap_or(NO_PARENT);
        let of: Box<[u32]> = parent_of.values().map(|parent| position_of(parent.as_deref())).collect();
        let ids = Ids::from_list(parent_of.into_keys().collect())?;
        let aliases = match aliases.is_empty() {
            true => None,
            false => Some(Box::new(Aliases::new(aliases, &ids)?)),
        };
        Ok(Self { dimension, above, is_own, ids, parents, parent_of: of, aliases })
    }

    /// The level of the dimension that this one belongs to.
    #[inline]
    pub(crate) fn above(&self) -> Option<&Self> {
        self.above.as_deref()
    }

    /// The levels above, the nearest first.
    #[inline]
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &Self> {
        iter::successors(self.above(), |level| level.above())
    }

    /// Whether the dimension belongs to this other one, over however many levels.
    pub(crate) fn is_below(&self, dimension: &Dimension) -> bool {
        self.ancestors().any(|above| above.dimension == *dimension)
    }

    pub(crate) const fn dimension(&self) -> &Dimension {
        &self.dimension
    }

    /// Whether it is one of the application's own, and not shops or shop countries. An id that such a level does not
    /// know may be an alias that is missing, so it is foreign to every key that is restricted over the dimension.
    pub(crate) const fn is_own(&self) -> bool {
        self.is_own
    }

    /// The position of the entity that an id or an alias names.
    #[inline]
    pub(crate) fn find(&self, id: &str) -> Option<usize> {
        match (self.ids.position(id), &self.aliases) {
            (None, Some(aliases)) => aliases.find(id),
            (position, _) => position,
        }
    }

    /// The id of the entity at a position.
    pub(crate) fn id(&self, position: usize) -> Option<&str> {
        self.ids.get(position)
    }

    /// The parent of the entity at a position.
    #[inline]
    pub(crate) fn parent(&self, position: usize) -> Option<&Parent> {
        self.parents.get(*self.parent_of.get(position)? as usize)
    }

    /// The same with so many levels between them. A parent that is not known has none itself.
    #[inline]
    pub(crate) fn ancestor(&self, position: usize, between: usize) -> Option<&Parent> {
        let (mut level, mut parent) = (self, self.parent(position)?);
        for _ in 0..between {
            level = level.above()?;
            parent = level.parent(parent.position?)?;
        }
        Some(parent)
    }

    /// All parents.
    pub(crate) fn parents(&self) -> &[Parent] {
        &self.parents
    }

    pub(crate) const fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The other ids of the entity at a position.
    pub(crate) fn aliases_of(&self, position: usize) -> impl Iterator<Item = &str> {
        self.aliases.iter().flat_map(move |aliases| aliases.of_entity(position))
    }

    /// All ids of the entities that are known, aliases as well.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().chain(self.aliases.iter().flat_map(|aliases| aliases.ids.iter()))
    }

    pub(crate) const fn has_aliases(&self) -> bool {
        self.aliases.is_some()
    }

    /// Whether this id is an alias.
    pub(crate) fn is_alias(&self, id: &str) -> bool {
        self.aliases.as_ref().is_some_and(|aliases| aliases.ids.contains(id))
    }
}

impl Aliases {
    fn new(aliases: BTreeMap<Box<str>, Box<str>>, entities: &Ids) -> Result<Self, ConfigError> {
        let position = |id: &str| entities.position(id).and_then(|position| u32::try_from(position).ok());
        let known = aliases.into_iter().filter_map(|(alias, id)| Some((alias, position(&id)?)));
        let (ids, entity_of): (Vec<_>, Vec<_>) = known.unzip();
        let mut by_entity: Vec<(u32, u32)> = entity_of.iter().copied().zip(0..).collect();
        by_entity.sort_unstable();
        Ok(Self { ids: Ids::from_list(ids)?, entity_of: entity_of.into(), by_entity: by_entity.into() })
    }

    #[inline(never)]
    fn find(&self, alias: &str) -> Option<usize> {
        self.entity_of.get(self.ids.position(alias)?).map(|position| *position as usize)
    }

    fn of_entity(&self, position: usize) -> impl Iterator<Item = &str> {
        let first = self.by_entity.partition_point(|(entity, _)| (*entity as usize) < position);
        let rest = self.by_entity.get(first..).unwrap_or_default();
        let own = rest.iter().take_while(move |(entity, _)| *entity as usize == position);
        own.filter_map(|(_, alias)| self.ids.get(*alias as usize))
    }
}
