//! The `directory` of a key file and of settings.

use serde::{Deserialize, Serialize};

use crate::{
    dimension::Dimension,
    directory::{
        Directory,
        index::{Draft, HierarchyDraft, Index},
    },
    error::ConfigError,
    json::{self, Id, Object},
};

/// The `directory` part of a key file. A directory of nothing but shops is written as it was before there were
/// hierarchies of other dimensions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryFile {
    #[serde(default)]
    shops: Vec<Object<ShopEntry>>,
    #[serde(default, skip_serializing_if = "Hierarchies::is_empty")]
    hierarchies: Object<Hierarchies>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Hierarchies(#[serde(with = "json::unique")] Vec<(String, Object<HierarchyFile>)>);

impl Hierarchies {
    const fn is_empty(Object(Self(hierarchies)): &Object<Self>) -> bool {
        hierarchies.is_empty()
    }
}

/// The parents of the entities of one dimension.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HierarchyFile {
    parent: String,
    entities: Vec<Object<EntityEntry>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntityEntry {
    pub(super) id: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Id>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<Id>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShopEntry {
    pub(super) key: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) company: Option<Id>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) countries: Vec<Object<CountryEntry>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountryEntry {
    pub(super) code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Id>,
}

impl DirectoryFile {
    /// `dimensions` are those that are declared beside companies, shops and shop countries, or in place of them: they
    /// say how ids are spelt.
    pub(crate) fn read(self, dimensions: &[Dimension]) -> Result<Directory, ConfigError> {
        let shops = self.shops.into_iter().map(|Object(shop)| shop).collect();
        let Object(Hierarchies(files)) = self.hierarchies;
        let mut hierarchies = Vec::with_capacity(files.len());
        for (child, Object(file)) in files {
            let location = || format!("directory.hierarchies.{child}");
            let declared = |name: &str| {
                let unknown = || ConfigError::new(format!("no such dimension is declared: {name:?}"));
                Dimension::among(name, dimensions).ok_or_else(unknown)
            };
            hierarchies.push(HierarchyDraft {
                child: declared(&child).map_err(|error| error.at(location()))?,
                parent: declared(&file.parent).map_err(|error| error.at(format!("{}.parent", location())))?,
                entities: file.entities.into_iter().map(|Object(entity)| entity).collect(),
            });
        }
        let spelling = Dimension::among(Dimension::SHOP.name(), dimensions).unwrap_or(Dimension::SHOP);
        Draft { shops, spelling, hierarchies }.build()
    }

    pub(super) fn from_index(index: &Index) -> Self {
        let id = |id: &str| Id::new(id);
        let own = index.levels().filter(|level| level.is_own());
        let hierarchies = own.filter_map(|level| {
            let parent = level.above()?.dimension();
            let entities = level.ids().iter().enumerate().map(|(position, own)| {
                Object(EntityEntry {
                    id: id(own),
                    parent: level.parent(position).map(|parent| id(parent.id())),
                    aliases: level.aliases_of(position).map(id).collect(),
                })
            });
            let file = HierarchyFile { parent: parent.name().to_owned(), entities: entities.collect() };
            Some((level.dimension().name().to_owned(), Object(file)))
        });
        Self { shops: index.shops().map(Object).collect(), hierarchies: Object(Hierarchies(hierarchies.collect())) }
    }
}
