//! Directories that are built in code.

use std::collections::HashMap;

use crate::{
    dimension::Dimension,
    directory::{
        Directory,
        file::{CountryEntry, EntityEntry, ShopEntry},
        index::{Draft, HierarchyDraft},
    },
    error::ConfigError,
    json::{Id, Object},
};

/// Collects shops and their countries, and entities of your own dimensions; see [`Directory::builder`].
#[derive(Clone, Debug, Default)]
pub struct DirectoryBuilder {
    shops: Vec<ShopEntry>,
    hierarchies: Vec<HierarchyDraft>,
    entities: Vec<(Dimension, String, Option<String>)>,
    aliases: Vec<(Dimension, String, String)>,
}

impl DirectoryBuilder {
    /// A shop and, if known, its company.
    #[must_use]
    pub fn shop(mut self, key: &str, company: Option<&str>) -> Self {
        self.shops.push(ShopEntry { key: Id::new(key), company: company.map(Id::new), countries: Vec::new() });
        self
    }

    /// A country of a shop, with the id of its own if it has one. A shop that was not added before is
    /// added, of no known company.
    /// One shop may hold two countries of the same code (`ch` in German and in French).
    #[must_use]
    pub fn country(mut self, shop: &str, code: &str, id: Option<&str>) -> Self {
        let country = Object(CountryEntry { code: code.to_owned(), id: id.map(Id::new) });
        match self.shops.iter_mut().find(|entry| entry.key.as_str() == shop) {
            Some(entry) => entry.countries.push(country),
            None => self.shops.push(ShopEntry { key: Id::new(shop), company: None, countries: vec![country] }),
        }
        self
    }

    /// Declares that each entity of one dimension belongs to one of another: a project to a workspace. From then on a
    /// restriction over the parent applies to the child, and to what belongs to that, also while no entity is known.
    /// The parent may belong to another dimension in turn, or be a standard one.
    ///
    /// Example: see [`Directory`](Directory#your-own-dimensions).
    #[must_use]
    pub fn hierarchy(mut self, child: impl Into<Dimension>, parent: impl Into<Dimension>) -> Self {
        let (child, parent) = (child.into(), parent.into());
        if !self.hierarchies.iter().any(|own| own.child == child && own.parent == parent) {
            self.hierarchies.push(HierarchyDraft { child, parent, entities: Vec::new() });
        }
        self
    }

    /// An entity of a dimension that has a [hierarchy](Self::hierarchy) and, if known, what it belongs to.
    #[must_use]
    pub fn entity(mut self, dimension: &Dimension, id: &str, parent: Option<&str>) -> Self {
        self.entities.push((dimension.clone(), id.to_owned(), parent.map(str::to_owned)));
        self
    }

    /// Another id of an entity that is [added](Self::entity) as well: of a project whose key is in some paths and whose
    /// number is in others. Both are looked at in requests as one. The lists of keys name entities by their ids, and
    /// never by an alias.
    #[must_use]
    pub fn alias(mut self, dimension: &Dimension, alias: &str, id: &str) -> Self {
        self.aliases.push((dimension.clone(), alias.to_owned(), id.to_owned()));
        self
    }

    /// The directory, which [declares](Directory::is_declared) a hierarchy even if it is empty.
    ///
    /// # Errors
    /// If an id is malformed, or an entity, a shop, or an id of its own is given twice; if an entity is of a dimension
    /// without a hierarchy, or an alias is that of no entity; if a dimension has two parents, or belongs to itself by
    /// way of others.
    pub fn build(self) -> Result<Directory, ConfigError> {
        self.build_with(&Dimension::SHOP)
    }

    /// The directory of shops whose keys are spelt in a grammar of your own: give the dimension named
    /// `shop` that your rules use.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(self, shops: &Dimension) -> Result<Directory, ConfigError> {
        let Self { shops: entries, mut hierarchies, entities, aliases } = self;
        let mut aliases_of: HashMap<(String, String), Vec<(String, usize)>> = HashMap::new();
        for (number, (dimension, alias, id)) in aliases.into_iter().enumerate() {
            aliases_of.entry((dimension.name().to_owned(), id)).or_default().push((alias, number));
        }
        for (dimension, id, parent) in entities {
            let Some(own) = hierarchies.iter_mut().find(|own| own.child == dimension) else {
                let message = "what the dimension belongs to is not declared; call `hierarchy` for it";
                return Err(ConfigError::new(message).at(format!("directory {dimension} {id:?}")));
            };
            let aliases = aliases_of.remove(&(dimension.name().to_owned(), id.clone())).unwrap_or_default();
            let aliases = aliases.into_iter().map(|(alias, _)| Id::new(alias)).collect();
            own.entities.push(EntityEntry { id: Id::new(id), parent: parent.map(Id::new), aliases });
        }
        let left = aliases_of.into_iter().flat_map(|(of, aliases)| aliases.into_iter().map(move |it| (it, of.clone())));
        if let Some(((alias, _), (dimension, id))) = left.min_by_key(|((_, number), _)| *number) {
            let message = format!("it is to be an alias of {id:?}, which is not there");
            return Err(ConfigError::new(message).at(format!("directory {dimension} {alias:?}")));
        }
        Draft { shops: entries, spelling: shops.clone(), hierarchies }.build()
    }
}
