//! Which entity belongs to which: shop country -> shop -> company, and the same for dimensions of the user's own.

mod builder;
mod difference;
mod file;
mod index;
mod level;

use std::{collections::HashSet, sync::Arc};

pub use self::builder::DirectoryBuilder;
use self::index::Index;
pub(crate) use self::{
    difference::Difference,
    file::DirectoryFile,
    level::{Level, Parent},
};
use crate::{dimension::Dimension, error::ConfigError, ids::Ids};

/// Which entity belongs to which: a shop country to a shop, a shop to a company, and entities of your own dimensions to
/// each other.
///
/// It is what lets a shop country inherit from its shop, and a shop's routes obey company lists. It
/// comes with the key file or is built in code; a clone is one reference count.
///
/// # What it does not know
/// A directory that is given declares that shops belong to companies and shop countries to shops, whatever it holds.
/// Of an entity whose parent it does not know nothing is taken for granted then: a key that is restricted over the
/// parent is refused, as for a foreign one, and whatever else the rule of the route says. So a shop that is missing, or
/// has no company yet, or the last one that was taken out, opens nothing. An empty directory that was
/// [built](Self::builder), and one that a key file gives without shops, is one that is given.
///
/// [`Directory::default`] is the lack of one, as is a key file without `directory`: the application declares no
/// hierarchy. Then a rule decides by what it names alone: a key with a company list gets at a shop if the rule says
/// what companies are to the route, and is refused if it does not.
///
/// # Example
/// ```
/// use tower_authz::Directory;
///
/// let directory = Directory::builder()
///     .shop("de", Some("1"))
///     .country("de", "at", Some("1001"))
///     .build()?;
/// assert_eq!(directory.company_of("de"), Some("1"));
/// assert_eq!(directory.shop_of_country("1001"), Some("de"));
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
///
/// # Your own dimensions
/// A [hierarchy](DirectoryBuilder::hierarchy) declares that each entity of one dimension belongs to one of another. A
/// restriction over the parent then applies to the child, over all levels: a rule that is scoped by environments, filters or
/// defers them, also covers keys that are restricted over projects or workspaces, and a [`Scope`](crate::Scope) of
/// environments is that of the workspaces that the key may see.
///
/// An id that the directory does not know is foreign to every key that is restricted over its dimension or one above.
/// So an exclude list over a dimension that has a hierarchy lets only known entities through: an id that is
/// unknown could be an [alias](DirectoryBuilder::alias) of one that is excluded. (Shops have no aliases, and a list of
/// shops alone needs no directory.) A dimension that belongs to no other one, like workspaces, has no list of known
/// entities, and is decided by the lists of keys alone.
///
/// ```
/// use tower_authz::{Dimension, Directory, IdGrammar};
///
/// const WORKSPACE: Dimension = Dimension::new("workspace", IdGrammar::Slug);
/// const PROJECT: Dimension = Dimension::new("project", IdGrammar::Slug);
/// const ENVIRONMENT: Dimension = Dimension::new("environment", IdGrammar::Slug);
///
/// let directory = Directory::builder()
///     .hierarchy(PROJECT, WORKSPACE)
///     .hierarchy(ENVIRONMENT, PROJECT)
///     .entity(&PROJECT, "apollo", Some("nasa"))
///     .alias(&PROJECT, "prj-11", "apollo")
///     .entity(&ENVIRONMENT, "apollo-live", Some("apollo"))
///     .build()?;
/// assert_eq!(directory.parent_of(&ENVIRONMENT, "apollo-live"), Some("apollo"));
/// assert_eq!(directory.parent_of(&PROJECT, "prj-11"), Some("nasa"));
/// assert_eq!(directory.entities(&PROJECT).collect::<Vec<_>>(), ["apollo"]);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
///
/// A key file or the settings of a store say the same in a field beside `shops`. The dimensions are those that are
/// declared there:
///
/// ```
/// use tower_authz::{Dimension, IdGrammar, KeyFile};
///
/// let own = ["workspace", "project"].map(|name| Dimension::new(name, IdGrammar::Slug));
/// let file = KeyFile::parse_with(
///     r#"{ "keys": [], "directory": { "hierarchies": { "project": { "parent": "workspace", "entities": [
///         { "id": "apollo", "parent": "nasa", "aliases": ["prj-11"] }
///     ] } } } }"#,
///     "keys.json",
///     &own,
/// )?;
/// let [workspace, project] = own;
/// assert_eq!(file.directory().parent_dimension(&project), Some(&workspace));
/// assert_eq!(file.directory().id_of(&project, "prj-11"), Some("apollo"));
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Directory(Option<Arc<Local>>);

/// The reference count that clones share. One index may have several, so that threads need not count in one place.
#[derive(Debug)]
struct Local(Arc<Index>);

impl Directory {
    /// Whether a hierarchy is declared, by a directory that is given: see [above](Self#what-it-does-not-know).
    #[must_use]
    pub const fn is_declared(&self) -> bool {
        self.0.is_some()
    }

    /// A directory to fill.
    #[must_use]
    pub fn builder() -> DirectoryBuilder {
        DirectoryBuilder::default()
    }

    fn from_index(index: Index) -> Self {
        Self(Some(Arc::new(Local(Arc::new(index)))))
    }

    /// The same directory, whose clones are counted apart from those of this one.
    pub(crate) fn local(&self) -> Self {
        Self(self.index().map(|index| Arc::new(Local(Arc::clone(index)))))
    }

    fn index(&self) -> Option<&Arc<Index>> {
        self.0.as_deref().map(|Local(index)| index)
    }

    /// The level of a dimension, if it is in the hierarchy.
    #[inline]
    pub(crate) fn level(&self, dimension: &Dimension) -> Option<&Level> {
        self.index()?.level(dimension)
    }

    fn levels(&self) -> impl Iterator<Item = &Level> {
        self.index().into_iter().flat_map(|index| index.levels())
    }

    /// Whether both are the same one, and not only equal.
    fn is_same(&self, other: &Self) -> bool {
        self.index().zip(other.index()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The parent of the entity, if it is known. The id may be an alias.
    #[must_use]
    pub fn parent_of(&self, dimension: &Dimension, id: &str) -> Option<&str> {
        let level = self.level(dimension)?;
        level.parent(level.find(id)?).map(Parent::id)
    }

    /// The dimension that this one belongs to, if a hierarchy says so.
    #[must_use]
    pub fn parent_dimension(&self, dimension: &Dimension) -> Option<&Dimension> {
        self.level(dimension)?.above().map(Level::dimension)
    }

    /// The id of the entity that an id or an [alias](DirectoryBuilder::alias) names, if the entity is known.
    #[must_use]
    pub fn id_of(&self, dimension: &Dimension, id: &str) -> Option<&str> {
        let level = self.level(dimension)?;
        level.id(level.find(id)?)
    }

    /// The entities of a dimension that are known, in order, without aliases. Of a dimension that belongs to no other,
    /// those that others belong to.
    pub fn entities<'d>(&'d self, dimension: &Dimension) -> impl Iterator<Item = &'d str> + use<'d> {
        self.level(dimension).into_iter().flat_map(|level| level.ids().iter())
    }

    /// The company of a shop, if it is known.
    #[must_use]
    pub fn company_of(&self, shop: &str) -> Option<&str> {
        self.parent_of(&Dimension::SHOP, shop)
    }

    /// The shop of a shop country, by the country's own id.
    #[must_use]
    pub fn shop_of_country(&self, id: &str) -> Option<&str> {
        self.parent_of(&Dimension::SHOP_COUNTRY, id)
    }

    /// The shops that are known, in order.
    pub fn shops(&self) -> impl Iterator<Item = &str> {
        self.entities(&Dimension::SHOP)
    }

    /// The companies that are known to have a shop, in no order, each once.
    pub fn companies(&self) -> impl Iterator<Item = &str> {
        let shops = self.level(&Dimension::SHOP);
        let companies: HashSet<&str> = shops.into_iter().flat_map(Level::parents).map(Parent::id).collect();
        companies.into_iter()
    }

    /// The own ids of the shop countries that are known, in order.
    pub fn countries(&self) -> impl Iterator<Item = &str> {
        self.entities(&Dimension::SHOP_COUNTRY)
    }

    /// All ids by which the entities of a dimension are known, aliases as well.
    pub(crate) fn names<'d>(&'d self, dimension: &Dimension) -> impl Iterator<Item = &'d str> + use<'d> {
        self.level(dimension).into_iter().flat_map(Level::names)
    }

    /// This id, and the other ones of the same entity.
    pub(crate) fn names_of<'a>(
        &'a self,
        dimension: &Dimension,
        id: &'a str,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        let known = self.level(dimension).and_then(|level| Some((level, level.find(id)?)));
        let others = known
            .into_iter()
            .flat_map(|(level, position)| level.id(position).into_iter().chain(level.aliases_of(position)));
        std::iter::once(id).chain(others)
    }

    /// Rejects a list of a key that names an entity by an alias: it would hold for as long as the directory knows the
    /// alias.
    pub(crate) fn check_list(&self, dimension: &Dimension, ids: &Ids) -> Result<(), ConfigError> {
        let Some(level) = self.level(dimension).filter(|level| level.has_aliases()) else { return Ok(()) };
        let Some(alias) = ids.iter().find(|id| level.is_alias(id)) else { return Ok(()) };
        let own = level.find(alias).and_then(|position| level.id(position)).unwrap_or_default();
        let message = format!("{alias:?} is an alias of {own:?}; lists name entities by their own ids");
        Err(ConfigError::new(message).at(format_args!("restrictions.{dimension}")))
    }

    /// The directory as a key file has it, entities in the order of their ids. None if it declares nothing.
    pub(crate) fn to_file(&self) -> Option<DirectoryFile> {
        self.index().map(|index| DirectoryFile::from_index(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ambiguous_is_refused() {
        for broken in [
            Directory::builder().shop("de", None).shop("de", Some("1")),
            Directory::builder().shop("DE", None),
            Directory::builder().shop("de", Some("01")),
            Directory::builder().country("de", "at", Some("1")).country("ch", "at", Some("1")),
            Directory::builder().country("de", "at", Some("10 01")),
            Directory::builder().country("DE", "at", None),
        ] {
            assert!(broken.build().is_err());
        }
    }

    /// An empty directory differs from no directory, also when it is written to a file.
    #[test]
    fn an_empty_directory_is_declared() {
        assert!(!Directory::default().is_declared() && Directory::default().to_file().is_none());
        let empty = Directory::builder().build().unwrap();
        assert!(empty.is_declared());
        let file = empty.to_file().unwrap();
        assert!(file.read(&[]).unwrap().is_declared());
    }

    #[test]
    fn two_countries_of_one_code_may_share_a_shop() {
        let directory =
            Directory::builder().country("ch", "ch", Some("7")).country("ch", "ch", Some("8")).build().unwrap();
        assert_eq!(directory.shop_of_country("8"), Some("ch"));
        assert_eq!(directory.company_of("ch"), None);
        assert_eq!(directory.shops().collect::<Vec<_>>(), ["ch"]);
    }
}
