//! Which entity belongs to which: shop country -> shop -> company.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    dimension::Dimension,
    error::ConfigError,
    ids::Ids,
    json::{Id, Object},
};

/// Which company a shop belongs to, and which shop a shop country belongs to.
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
#[derive(Clone, Debug, Default)]
pub struct Directory(Option<Arc<Local>>);

/// The reference count that clones share. One index may have several, so that threads need not count in one place.
#[derive(Debug)]
struct Local(Arc<Index>);

#[derive(Debug)]
struct Index {
    shops: Table<ShopEntry>,
    shop_of_country: Table<Box<str>>,
}

/// Values by id, in the order of the ids.
#[derive(Debug)]
struct Table<V> {
    ids: Ids,
    values: Box<[V]>,
}

impl<V> Table<V> {
    fn new(entries: BTreeMap<Box<str>, V>) -> Result<Self, ConfigError> {
        let (ids, values): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        Ok(Self { ids: Ids::from_list(ids)?, values: values.into() })
    }

    #[inline]
    fn get(&self, id: &str) -> Option<&V> {
        self.values.get(self.ids.position(id)?)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.ids.iter().zip(&self.values)
    }
}

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

    /// The same directory, whose clones are counted apart from those of this one.
    pub(crate) fn local(&self) -> Self {
        Self(self.index().map(|index| Arc::new(Local(Arc::clone(index)))))
    }

    fn index(&self) -> Option<&Arc<Index>> {
        self.0.as_deref().map(|Local(index)| index)
    }

    /// The company of a shop, if it is known.
    #[must_use]
    pub fn company_of(&self, shop: &str) -> Option<&str> {
        self.index()?.shops.get(shop)?.company.as_ref().map(Id::as_str)
    }

    /// The shop of a shop country, by the country's own id.
    #[must_use]
    pub fn shop_of_country(&self, id: &str) -> Option<&str> {
        self.index()?.shop_of_country.get(id).map(AsRef::as_ref)
    }

    /// The shops that are known, in order.
    pub fn shops(&self) -> impl Iterator<Item = &str> {
        self.index().into_iter().flat_map(|index| index.shops.ids.iter())
    }

    /// The companies that are known to have a shop, in no order, each once.
    pub fn companies(&self) -> impl Iterator<Item = &str> {
        let companies: HashSet<&str> = self
            .index()
            .into_iter()
            .flat_map(|index| &index.shops.values)
            .filter_map(|shop| shop.company.as_ref().map(Id::as_str))
            .collect();
        companies.into_iter()
    }

    /// The own ids of the shop countries that are known, in order.
    pub fn countries(&self) -> impl Iterator<Item = &str> {
        self.index().into_iter().flat_map(|index| index.shop_of_country.ids.iter())
    }

    /// The entries that differ in another directory: shops of another company, shop countries of another shop, and those that
    /// only one of the two knows.
    pub(crate) fn difference(&self, other: &Self) -> Difference {
        let mut difference =
            Difference { is_first: self.is_declared() != other.is_declared(), ..Difference::default() };
        let (one, two) = match (self.index(), other.index()) {
            (Some(one), Some(two)) if Arc::ptr_eq(one, two) => return difference,
            (one, two) => (one, two),
        };
        let shops = |index: Option<&Arc<Index>>, shop: &str| {
            index.and_then(|index| index.shops.get(shop)).map(|shop| shop.company.clone())
        };
        let shop_of = |index: Option<&Arc<Index>>, country: &str| {
            index.and_then(|index| index.shop_of_country.get(country)).cloned()
        };
        for index in [one, two].into_iter().flatten() {
            let changed = index.shops.ids.iter().filter(|shop| shops(one, shop) != shops(two, shop));
            difference.shops.extend(changed.map(str::to_owned));
            let changed = index.shop_of_country.iter().filter(|(country, shop)| {
                shop_of(one, country) != shop_of(two, country) || difference.shops.contains(&***shop)
            });
            difference.countries.extend(changed.map(|(country, _)| country.to_owned()));
        }
        difference
    }

    /// `shops` says how shop keys are spelt: as [`Dimension::SHOP`] has it, or in a grammar of the user's own.
    pub(crate) fn from_file(file: DirectoryFile, spelling: &Dimension) -> Result<Self, ConfigError> {
        let (mut shops, mut shop_of_country) = (BTreeMap::new(), BTreeMap::new());
        for Object(shop) in file.shops {
            let key = shop.key.as_str().to_owned();
            let location = || format!("directory shop {key:?}");
            if !spelling.accepts(&key) {
                let wrong =
                    "it is not the canonical spelling of a shop key (by default 1 to 64 characters of [a-z0-9_-])";
                return Err(ConfigError::new(wrong).at(location()));
            }
            if shop.company.as_ref().is_some_and(|company| !Dimension::COMPANY.accepts(company.as_str())) {
                return Err(
                    ConfigError::new("a company id is a decimal number without sign or leading zero").at(location())
                );
            }
            for Object(country) in &shop.countries {
                let Some(id) = &country.id else { continue };
                if !Dimension::SHOP_COUNTRY.accepts(id.as_str()) {
                    return Err(
                        ConfigError::new("a shop country id is 1 to 64 characters of [a-z0-9_-]").at(location())
                    );
                }
                if shop_of_country.insert(id.as_str().into(), key.as_str().into()).is_some() {
                    return Err(ConfigError::new(format!("duplicate shop country id {:?}", id.as_str())).at(location()));
                }
            }
            if shops.insert(key.as_str().into(), shop).is_some() {
                return Err(ConfigError::new("duplicate shop").at(location()));
            }
        }
        let index = Index { shops: Table::new(shops)?, shop_of_country: Table::new(shop_of_country)? };
        Ok(Self(Some(Arc::new(Local(Arc::new(index))))))
    }

    /// The directory as a key file has it, shops in the order of their keys. None if it declares nothing.
    pub(crate) fn to_file(&self) -> Option<DirectoryFile> {
        Some(DirectoryFile { shops: self.index()?.shops.values.iter().cloned().map(Object).collect() })
    }
}

/// Entities whose parents two directories do not agree on.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) shops: HashSet<String>,
    pub(crate) countries: HashSet<String>,
    /// Whether only one of them declares anything.
    pub(crate) is_first: bool,
}

impl Difference {
    pub(crate) fn is_none(&self) -> bool {
        !self.is_first && self.shops.is_empty() && self.countries.is_empty()
    }
}

/// Collects shops and their countries; see [`Directory::builder`].
#[derive(Clone, Debug, Default)]
pub struct DirectoryBuilder {
    shops: Vec<ShopEntry>,
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

    /// The directory, which [declares](Directory::is_declared) a hierarchy even if it is empty.
    ///
    /// # Errors
    /// If an id is malformed, or a shop or a shop country id is given twice.
    pub fn build(self) -> Result<Directory, ConfigError> {
        self.build_with(&Dimension::SHOP)
    }

    /// The directory of shops whose keys are spelt in a grammar of your own: give the dimension named
    /// `shop` that your rules use.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(self, shops: &Dimension) -> Result<Directory, ConfigError> {
        Directory::from_file(DirectoryFile { shops: self.shops.into_iter().map(Object).collect() }, shops)
    }
}

/// The `directory` part of a key file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryFile {
    #[serde(default)]
    pub(crate) shops: Vec<Object<ShopEntry>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShopEntry {
    key: Id,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    company: Option<Id>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    countries: Vec<Object<CountryEntry>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountryEntry {
    code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Id>,
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
        assert!(Directory::from_file(file, &Dimension::SHOP).unwrap().is_declared());
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
