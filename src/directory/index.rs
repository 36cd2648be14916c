//! All levels of a directory, and how they are checked and put together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    dimension::Dimension,
    directory::{
        Directory,
        file::{CountryEntry, EntityEntry, ShopEntry},
        level::{Entities, Level},
    },
    error::ConfigError,
    json::{Id, Object},
};

#[derive(Debug)]
pub(super) struct Index {
    companies: Arc<Level>,
    shops: Arc<Level>,
    shop_countries: Arc<Level>,
    /// Those of other dimensions, what belongs to others after these.
    others: Box<[Arc<Level>]>,
    /// The countries of each shop, in the order of the shops, as a file has them.
    countries: Countries,
}

type Countries = Box<[Box<[Object<CountryEntry>]>]>;

impl Index {
    /// The level of a dimension, if it is in the hierarchy.
    #[inline]
    pub(super) fn level(&self, dimension: &Dimension) -> Option<&Level> {
        if *dimension == Dimension::SHOP {
            Some(&self.shops)
        } else if *dimension == Dimension::COMPANY {
            Some(&self.companies)
        } else if *dimension == Dimension::SHOP_COUNTRY {
            Some(&self.shop_countries)
        } else {
            self.others.iter().map(|level| &**level).find(|level| level.dimension() == dimension)
        }
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = &Level> {
        [&self.companies, &self.shops, &self.shop_countries].into_iter().chain(&self.others).map(|level| &**level)
    }

    pub(super) fn shops(&self) -> impl Iterator<Item = ShopEntry> {
        let shops = self.shops.ids().iter().zip(&self.countries).enumerate();
        shops.map(|(position, (key, countries))| ShopEntry {
            key: Id::new(key),
            company: self.shops.parent(position).map(|company| Id::new(company.id())),
            countries: countries.clone().into_vec(),
        })
    }
}

/// The parts of a directory, before it is checked.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) shops: Vec<ShopEntry>,
    /// How shop keys are spelt: as [`Dimension::SHOP`] has it, or in a grammar of the user's own.
    pub(super) spelling: Dimension,
    pub(super) hierarchies: Vec<HierarchyDraft>,
}

#[derive(Clone, Debug)]
pub(super) struct HierarchyDraft {
    pub(super) child: Dimension,
    pub(super) parent: Dimension,
    pub(super) entities: Vec<EntityEntry>,
}

impl Draft {
    pub(super) fn build(self) -> Result<Directory, ConfigError> {
        check_shape(&self.hierarchies)?;
        let Self { shops, spelling, hierarchies } = self;
        let spelling = Dimension::new("shop", spelling.ids());
        // One dimension is spelt in one way: as its own entities are, or as it is first named as a parent.
        let mut spelt: Vec<Dimension> = hierarchies.iter().map(|own| own.child.clone()).collect();
        spelt.extend([Dimension::COMPANY, spelling.clone(), Dimension::SHOP_COUNTRY]);
        spelt.extend(hierarchies.iter().map(|own| own.parent.clone()));
        let as_spelt =
            |dimension: &Dimension| spelt.iter().find(|known| *known == dimension).unwrap_or(dimension).clone();
        let company = as_spelt(&Dimension::COMPANY);
        let (shops, shop_countries, countries) = shop_levels(shops, spelling, &company)?;
        let mut drafts = vec![(shops, Some(company)), (shop_countries, Some(Dimension::SHOP))];
        for HierarchyDraft { child, parent, entities } in hierarchies {
            let parent = as_spelt(&parent);
            drafts.push((own_level(child, &parent, entities)?, Some(parent)));
        }
        add_roots(&mut drafts);
        let mut levels = connect(drafts)?;
        let mut take = |dimension: &Dimension| {
            let position = levels.iter().position(|level| level.dimension() == dimension);
            position.map(|position| levels.remove(position)).ok_or_else(|| ConfigError::new("a level is missing"))
        };
        let [companies, shops, shop_countries] = Dimension::STANDARD.map(|dimension| take(&dimension));
        Ok(Directory::from_index(Index {
            companies: companies?,
            shops: shops?,
            shop_countries: shop_countries?,
            others: levels.into(),
            countries,
        }))
    }
}

/// The entities of a level, and the dimension that they belong to.
type LevelDraft = (Entities, Option<Dimension>);

/// Adds the dimensions that belong to no other: of those, what others belong to is known.
fn add_roots(drafts: &mut Vec<LevelDraft>) {
    let mut roots: Vec<Entities> = Vec::new();
    for (entities, parent) in &*drafts {
        let Some(parent) = parent.as_ref().filter(|parent| drafts.iter().all(|(it, _)| it.dimension != **parent))
        else {
            continue;
        };
        let mentioned = entities.parent_of.values().flatten().map(|id| (id.clone(), None));
        match roots.iter_mut().find(|root| root.dimension == *parent) {
            Some(root) => root.parent_of.extend(mentioned),
            None => roots.push(Entities {
                dimension: parent.clone(),
                is_own: false,
                parent_of: mentioned.collect(),
                aliases: BTreeMap::new(),
            }),
        }
    }
    drafts.extend(roots.into_iter().map(|root| (root, None)));
}

/// Makes the levels, each after the one that it belongs to.
fn connect(mut drafts: Vec<LevelDraft>) -> Result<Vec<Arc<Level>>, ConfigError> {
    let mut levels: Vec<Arc<Level>> = Vec::with_capacity(drafts.len());
    while !drafts.is_empty() {
        let before = levels.len();
        let mut later = Vec::new();
        for (entities, parent) in drafts {
            let above = parent.as_ref().map(|parent| levels.iter().find(|level| level.dimension() == parent).cloned());
            match above {
                Some(None) => later.push((entities, parent)),
                above => levels.push(Arc::new(Level::new(entities, above.flatten())?)),
            }
        }
        // INVARIANT: the dimensions form no circle, and every parent has a level.
        if levels.len() == before {
            return Err(ConfigError::new("the dimensions form a circle").at("directory.hierarchies"));
        }
        drafts = later;
    }
    Ok(levels)
}

/// Requests walk up the dimensions, and so does whoever frees a directory.
const MOST: usize = 64;

/// Rejects what is no hierarchy: each dimension belongs to one other, and none to itself by way of others.
fn check_shape(hierarchies: &[HierarchyDraft]) -> Result<(), ConfigError> {
    let [company, shop, shop_country] = &Dimension::STANDARD.map(|dimension| dimension.name().to_owned());
    let mut parents: HashMap<&str, &str> = HashMap::from([(&**shop, &**company), (shop_country, shop)]);
    let wrong =
        |child: &str, message: String| Err(ConfigError::new(message).at(format_args!("directory.hierarchies.{child}")));
    for (child, parent) in hierarchies.iter().map(|own| (own.child.name(), own.parent.name())) {
        if child == shop || child == shop_country {
            let message = "shops belong to companies and shop countries to shops; add them to `shops`";
            return wrong(child, message.to_owned());
        }
        if let Some(other) = parents.insert(child, parent) {
            return wrong(child, format!("it cannot belong to both {other} and {parent}; a dimension has one parent"));
        }
    }
    if hierarchies.len() > MOST {
        let message = format!("more than {MOST} dimensions belong to others");
        return Err(ConfigError::new(message).at("directory.hierarchies"));
    }
    for child in hierarchies.iter().map(|own| own.child.name()) {
        let mut path = vec![child];
        // A path that never comes back to the child leads into a circle of others, which is found there.
        while let Some(&above) = path.last().and_then(|last| parents.get(last)).filter(|_| path.len() <= parents.len())
        {
            path.push(above);
            if above == child {
                return wrong(child, format!("the dimensions form a circle: {}", path.join(" belongs to ")));
            }
        }
    }
    Ok(())
}

/// The levels of shops and shop countries, and the countries of each shop in the order of the shops.
fn shop_levels(
    shops: Vec<ShopEntry>,
    spelling: Dimension,
    companies: &Dimension,
) -> Result<(Entities, Entities, Countries), ConfigError> {
    let (mut known, mut shop_of_country) = (BTreeMap::new(), BTreeMap::new());
    for ShopEntry { key, company, countries } in shops {
        let key = key.into_string();
        let location = || format!("directory shop {key:?}");
        let wrong = |message: String| Err(ConfigError::new(message).at(location()));
        if !spelling.accepts(&key) {
            let expected = "by default 1 to 64 characters of [a-z0-9_-]";
            return wrong(format!("it is not the canonical spelling of a shop key ({expected})"));
        }
        if company.as_ref().is_some_and(|company| !Dimension::COMPANY.accepts(company.as_str())) {
            return wrong("a company id is a decimal number without sign or leading zero".to_owned());
        }
        if let Some(company) = company.as_ref().map(Id::as_str).filter(|company| !companies.accepts(company)) {
            return wrong(format!("company: {company:?} is not the canonical spelling of a company id"));
        }
        for Object(country) in &countries {
            let Some(id) = &country.id else { continue };
            if !Dimension::SHOP_COUNTRY.accepts(id.as_str()) {
                return wrong("a shop country id is 1 to 64 characters of [a-z0-9_-]".to_owned());
            }
            if shop_of_country.insert(id.as_str().into(), Some(key.as_str().into())).is_some() {
                return wrong(format!("duplicate shop country id {:?}", id.as_str()));
            }
        }
        let company = company.map(|company| company.into_string().into_boxed_str());
        if known.insert(key.as_str().into(), (company, countries.into_boxed_slice())).is_some() {
            return wrong("duplicate shop".to_owned());
        }
    }
    let (companies, countries): (Vec<_>, Vec<_>) =
        known.into_iter().map(|(key, (company, countries))| ((key, company), countries)).unzip();
    let entities = |dimension: Dimension, parent_of: BTreeMap<_, _>| Entities {
        dimension,
        is_own: false,
        parent_of,
        aliases: BTreeMap::new(),
    };
    let shops = entities(spelling, companies.into_iter().collect());
    Ok((shops, entities(Dimension::SHOP_COUNTRY, shop_of_country), countries.into()))
}

/// The level of a dimension that the application has declared.
fn own_level(child: Dimension, parent: &Dimension, entities: Vec<EntityEntry>) -> Result<Entities, ConfigError> {
    let (mut parent_of, mut aliases) = (BTreeMap::new(), BTreeMap::new());
    for EntityEntry { id: own, parent: of, aliases: others } in entities {
        let id: Box<str> = own.into_string().into();
        let wrong = |message: String| Err(ConfigError::new(message).at(format!("directory {child} {id:?}")));
        if !child.accepts(&id) {
            return wrong(format!("it is not the canonical spelling of a {child} id"));
        }
        if let Some(of) = of.as_ref().map(Id::as_str).filter(|of| !parent.accepts(of)) {
            return wrong(format!("parent: {of:?} is not the canonical spelling of a {parent} id"));
        }
        for alias in others.into_iter().map(Id::into_string) {
            if !child.accepts(&alias) {
                return wrong(format!("aliases: {alias:?} is not the canonical spelling of a {child} id"));
            }
            if aliases.contains_key(&*alias) {
                return wrong(format!("aliases: duplicate {child} id {alias:?}"));
            }
            aliases.insert(alias.into(), id.clone());
        }
        if parent_of.contains_key(&id) {
            return wrong(format!("duplicate {child}"));
        }
        parent_of.insert(id, of.map(|of| of.into_string().into()));
    }
    if let Some((alias, id)) = aliases.iter().find(|(alias, _)| parent_of.contains_key(*alias)) {
        let message = format!("aliases: {alias:?} is the id of another {child}, or its own");
        return Err(ConfigError::new(message).at(format!("directory {child} {id:?}")));
    }
    Ok(Entities { dimension: child, is_own: true, parent_of, aliases })
}
