//! Roles: named grants that many keys refer to.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use foldhash::fast::RandomState;

use crate::{
    dimension::Dimension,
    error::ConfigError,
    ids::Ids,
    json::Object,
    key::{Grant, GrantBuilder, GrantFile, KeyRecord, Permission, Restriction},
    name::Name,
};

/// The roles of a store, or of a key file, by their names. A clone is one reference count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles(Arc<BTreeMap<Box<str>, Arc<Grant>>>);

/// The roles that a key refers to, and its own grant, which its roles extend and restrict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoleRefs {
    pub(super) names: Box<[Name]>,
    pub(super) own: Arc<Grant>,
}

/// At most so many roles of one key.
const ROLES_OF_A_KEY: usize = 16;

impl Roles {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Grant>> {
        self.0.get(name)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Arc<Grant>)> {
        self.0.iter().map(|(name, grant)| (&**name, grant))
    }

    /// A role that refers to another, or to itself, has an unknown field.
    pub(crate) fn from_file(
        file: Vec<(String, Object<GrantFile>)>,
        dimensions: &[Dimension],
    ) -> Result<Self, ConfigError> {
        let mut roles = BTreeMap::new();
        for (name, Object(grant)) in file {
            check_role_name(&name).map_err(|error| error.at("roles"))?;
            let grant = grant.read(dimensions).map_err(|error| error.at(format_args!("roles.{name}")))?;
            roles.insert(name.into(), Arc::new(grant));
        }
        Ok(Self(Arc::new(roles)))
    }

    pub(crate) fn to_file(&self) -> Vec<(String, Object<GrantFile>)> {
        self.iter().map(|(name, grant)| (name.to_owned(), Object(GrantFile::from_grant(grant)))).collect()
    }

    /// The same roles, with another grant for one of them, or without it.
    pub(crate) fn with(&self, name: &str, grant: Option<Arc<Grant>>) -> Self {
        let mut roles = BTreeMap::clone(&self.0);
        match grant {
            Some(grant) => roles.insert(name.into(), grant),
            None => roles.remove(name),
        };
        Self(Arc::new(roles))
    }

    /// The grant of a key with these roles and this grant of its own: the permissions of all of them, for the entities,
    /// networks and origins that each of them allows which says anything of it.
    pub(crate) fn expand(&self, own: &Grant, names: &[Name]) -> Result<Grant, ConfigError> {
        let mut expanded = own.clone();
        for name in names {
            let role = self.get(name.as_str()).ok_or_else(|| {
                let known: Vec<&str> = self.iter().map(|(name, _)| name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                // A longer one may be a whole API key.
                let name = if name.as_str().len() <= 32 { name.as_str() } else { "of this name" };
                ConfigError::new(format!("there is no role {name}; there are: {known}")).at("roles")
            })?;
            expanded = combined(&expanded, role)?;
        }
        Ok(expanded)
    }

    /// The record with its roles expanded by these; none if that changes nothing.
    pub(crate) fn expanded(&self, record: &KeyRecord) -> Result<Option<KeyRecord>, ConfigError> {
        Expander::new(self).expand(record)
    }
}

/// Expands the roles of many records. Those with the same roles and the same grant of their own share what comes of both.
pub(crate) struct Expander<'r> {
    roles: &'r Roles,
    /// By the names of the roles, and the address of the own grant.
    known: HashMap<(Box<[Name]>, usize), Expanded, RandomState>,
}

/// It keeps the own grant, whose address stands for it.
struct Expanded {
    refs: Arc<RoleRefs>,
    grant: Arc<Grant>,
}

impl<'r> Expander<'r> {
    pub(crate) fn new(roles: &'r Roles) -> Self {
        Self { roles, known: HashMap::default() }
    }

    /// The record with its roles expanded; none if that changes nothing.
    pub(crate) fn expand(&mut self, record: &KeyRecord) -> Result<Option<KeyRecord>, ConfigError> {
        let Some(refs) = record.role_refs() else { return Ok(None) };
        let (refs, grant) = self.shared(refs)?;
        if *grant == *record.grant() {
            return Ok(None);
        }
        // A copy goes on to share what it has in common with others.
        let mut copy = record.clone();
        copy.grant = grant;
        if let Some(cold) = &mut copy.cold {
            cold.roles = Some(refs);
        }
        Ok(Some(copy))
    }

    /// The same references and what comes of them, as other records have them.
    pub(super) fn shared(&mut self, refs: &Arc<RoleRefs>) -> Result<(Arc<RoleRefs>, Arc<Grant>), ConfigError> {
        let known = match self.known.entry((refs.names.clone(), Arc::as_ptr(&refs.own).addr())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let grant = Arc::new(self.roles.expand(&refs.own, &refs.names)?);
                free.insert(Expanded { refs: Arc::clone(refs), grant })
            }
        };
        Ok((Arc::clone(&known.refs), Arc::clone(&known.grant)))
    }
}

/// Refuses the name of a role that could not be written in a list, or read as something else.
pub(crate) fn check_role_name(name: &str) -> Result<(), ConfigError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match (1..=64).contains(&name.len()) && name.bytes().all(is_part) {
        true => Ok(()),
        false => Err(ConfigError::new("the name of a role is 1 to 64 characters of [A-Za-z0-9._-]")),
    }
}

/// Refuses a role that is given twice, and more than a key can have.
pub(crate) fn check_roles<T: AsRef<str>>(names: &[T]) -> Result<(), ConfigError> {
    if names.len() > ROLES_OF_A_KEY {
        return Err(ConfigError::new(format!("a key has at most {ROLES_OF_A_KEY} roles")).at("roles"));
    }
    for (index, name) in names.iter().enumerate() {
        let name = name.as_ref();
        check_role_name(name).map_err(|error| error.at("roles"))?;
        if names.iter().take(index).any(|earlier| earlier.as_ref() == name) {
            return Err(ConfigError::new("the same role twice").at("roles"));
        }
    }
    Ok(())
}

/// The permissions of both grants, and the restrictions of both: what one of them restricts, the other never opens again.
fn combined(one: &Grant, other: &Grant) -> Result<Grant, ConfigError> {
    let mut permissions: BTreeMap<&str, &Permission> = BTreeMap::new();
    for held in one.permissions().iter().chain(other.permissions()) {
        let known = permissions.entry(held.resource()).or_insert(held);
        if known.access() < held.access() {
            *known = held;
        }
    }
    let mut grant = Grant::builder();
    for held in permissions.into_values() {
        grant = grant.permission(held.name(), held.access());
    }
    for (dimension, restriction) in one.restrictions() {
        let both = match other.listed(dimension) {
            Some((over, more)) => intersection((dimension, restriction), (over, more))?,
            None => restriction.clone(),
        };
        grant = grant.restrict(dimension.clone(), Ok(both));
    }
    for (dimension, restriction) in other.restrictions().iter().filter(|(over, _)| one.restriction(over).is_none()) {
        grant = grant.restrict(dimension.clone(), Ok(restriction.clone()));
    }
    let networks = match (one.networks(), other.networks()) {
        (Some(one), Some(other)) => Some(one.intersection(other)),
        (one, other) => one.or(other).cloned(),
    };
    let origins: Option<Vec<Box<str>>> = match (one.origins(), other.origins()) {
        (Some(one), Some(other)) => Some(one.iter().filter(|origin| other.contains(origin)).cloned().collect()),
        (one, other) => one.or(other).map(<[_]>::to_vec),
    };
    grant = grant.networks(networks);
    // They were checked when they were given.
    origins.into_iter().fold(grant, GrantBuilder::stored_origins).build()
}

/// The restriction that allows an entity if both of these do.
fn intersection(
    (dimension, one): (&Dimension, &Restriction),
    (over, other): (&Dimension, &Restriction),
) -> Result<Restriction, ConfigError> {
    use Restriction::{Exclude, Include};
    // Two lists whose ids are spelt by different rules cannot be compared, so nothing is allowed.
    if dimension.is_within(over) == Some(false) || over.is_within(dimension) == Some(false) {
        return Ids::from_list(Vec::new()).map(Include);
    }
    let filtered = |ids: &Ids, keep: &dyn Fn(&str) -> bool| {
        Ids::from_list(ids.iter().filter(|id| keep(id)).map(Into::into).collect()).map(Include)
    };
    match (one, other) {
        (Include(ids), other) => filtered(ids, &|id| other.allows(id)),
        (one, Include(ids)) => filtered(ids, &|id| one.allows(id)),
        (Exclude(one), Exclude(other)) => {
            Ids::from_list(one.iter().chain(other.iter()).map(Into::into).collect()).map(Exclude)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::{Access, Digest};

    fn roles(list: &[(&str, GrantBuilder)]) -> Roles {
        list.iter().fold(Roles::default(), |roles, (name, grant)| {
            roles.with(name, Some(Arc::new(grant.clone().build().unwrap())))
        })
    }

    fn expanded(own: GrantBuilder, role: GrantBuilder) -> Grant {
        roles(&[("r", role)]).expand(&own.build().unwrap(), &["r".into()]).unwrap()
    }

    #[test]
    fn permissions_are_added_and_restrictions_narrow() {
        let new = Grant::builder;
        for (own, role, both) in [
            (new(), new().read("a"), new().read("a")),
            (new().write("a"), new().read("a").read("b"), new().write("a").read("b")),
            (new().read("a"), new().write("a"), new().write("a")),
            (new().only("shop", ["de", "ch"]), new().only("shop", ["ch", "at"]), new().only("shop", ["ch"])),
            (new().only("shop", ["de"]), new().only("shop", ["ch"]), new().only::<&str>("shop", [])),
            (new().only("shop", ["de", "ch"]), new().except("shop", ["ch"]), new().only("shop", ["de"])),
            (new().except("shop", ["ch"]), new().only("shop", ["de", "ch"]), new().only("shop", ["de"])),
            (new().except("shop", ["de"]), new().except("shop", ["ch"]), new().except("shop", ["de", "ch"])),
            (
                new().only("shop", ["de"]),
                new().except("company", [3]),
                new().only("shop", ["de"]).except("company", [3]),
            ),
            (new(), new().from_networks(["10.0.0.0/8"]), new().from_networks(["10.0.0.0/8"])),
            (
                new().from_networks(["10.1.0.0/16", "192.0.2.0/24"]),
                new().from_networks(["10.0.0.0/8", "192.0.2.7"]),
                new().from_networks(["10.1.0.0/16", "192.0.2.7"]),
            ),
            (new().from_networks(["10.0.0.0/8"]), new().from_networks(["::/0"]), new().from_networks::<&str>([])),
            (
                new().from_origins(["https://a.example", "https://b.example"]),
                new().from_origins(["https://b.example"]),
                new().from_origins(["https://b.example"]),
            ),
        ] {
            assert_eq!(expanded(own.clone(), role.clone()), both.build().unwrap(), "{own:?} {role:?}");
        }
    }

    const SHOPS: [&str; 4] = ["de", "ch", "us", "at"];
    const NETWORKS: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "::/0"];
    const ADDRESSES: [&str; 4] = ["10.1.2.3", "10.2.0.1", "192.0.2.9", "2001:db8::1"];
    const ORIGINS: [&str; 3] = ["https://a.example", "https://b.example", "https://c.example"];

    /// What a grant is made of: access to two resources, a list of shops, networks and origins, each by its bits.
    #[derive(Clone, Debug)]
    struct Parts {
        access: [Option<Access>; 2],
        shops: Option<(bool, Vec<&'static str>)>,
        networks: Option<Vec<&'static str>>,
        origins: Option<Vec<&'static str>>,
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let access = || prop::option::of(prop_oneof![Just(Access::Read), Just(Access::Write)]);
        let shops = prop::option::of((any::<bool>(), prop::sample::subsequence(SHOPS.to_vec(), 0..4)));
        let networks = prop::option::of(prop::sample::subsequence(NETWORKS.to_vec(), 0..4));
        let origins = prop::option::of(prop::sample::subsequence(ORIGINS.to_vec(), 0..3));
        ([access(), access()], shops, networks, origins).prop_map(|(access, shops, networks, origins)| Parts {
            access,
            shops,
            networks,
            origins,
        })
    }

    impl Parts {
        fn grant(&self) -> Grant {
            let mut grant = Grant::builder();
            for (resource, access) in ["a", "b"].into_iter().zip(self.access) {
                grant = access.into_iter().fold(grant, |grant, access| grant.permission(resource.into(), access));
            }
            grant = match &self.shops {
                None => grant,
                Some((true, shops)) => grant.only("shop", shops),
                Some((false, shops)) => grant.except("shop", shops),
            };
            grant = self.networks.iter().fold(grant, |grant, networks| grant.from_networks(networks));
            self.origins.iter().fold(grant, |grant, origins| grant.from_origins(origins)).build().unwrap()
        }

        /// Takes one thing away. (Without a list of origins, no origin passes; so a list is only made shorter.)
        fn narrowed(mut self, what: usize) -> Self {
            match what {
                0 => self.access[0] = None,
                1 => self.access[1] = self.access[1].map(|_| Access::Read),
                2 => match &mut self.shops {
                    Some((true, shops)) => drop(shops.pop()),
                    Some((false, shops)) => shops.extend(SHOPS.iter().find(|shop| !shops.contains(shop))),
                    none => *none = Some((true, vec!["de"])),
                },
                3 => match &mut self.networks {
                    Some(networks) => drop(networks.pop()),
                    none => *none = Some(vec!["10.0.0.0/8"]),
                },
                _ => drop(self.origins.as_mut().and_then(Vec::pop)),
            }
            self
        }
    }

    fn expanded_of(own: &Parts, of: &[Parts]) -> Grant {
        let named = |index: usize| format!("r{index}");
        let roles = of
            .iter()
            .enumerate()
            .fold(Roles::default(), |roles, (index, role)| roles.with(&named(index), Some(Arc::new(role.grant()))));
        let names: Vec<Name> = (0..of.len()).map(|index| Name::from(named(index))).collect();
        roles.expand(&own.grant(), &names).unwrap()
    }

    proptest! {
        /// What an expanded grant allows is what a reading of all of its parts allows, one by one.
        #[test]
        fn an_expanded_grant_is_all_of_its_parts(own in parts(), of in prop::collection::vec(parts(), 0..4)) {
            let expanded = expanded_of(&own, &of);
            let grants: Vec<Grant> = of.iter().chain([&own]).map(Parts::grant).collect();
            for permission in ["a", "b"].into_iter().flat_map(|it| [Permission::read(it), Permission::write(it)]) {
                let any = grants.iter().any(|grant| grant.permits(&permission));
                prop_assert_eq!(expanded.permits(&permission), any, "{}", permission);
            }
            let shop_allowed = |grant: &Grant, shop: &str| {
                grant.restriction(&Dimension::SHOP).is_none_or(|list| list.allows(shop))
            };
            for shop in SHOPS.iter().chain(&["fr"]) {
                let all = grants.iter().all(|grant| shop_allowed(grant, shop));
                prop_assert_eq!(shop_allowed(&expanded, shop), all, "{}", shop);
            }
            for address in ADDRESSES.iter().map(|address| Some(address.parse().unwrap())).chain([None]) {
                let all = grants.iter().all(|grant| grant.allows_address(address));
                prop_assert_eq!(expanded.allows_address(address), all, "{:?}", address);
            }
            for origin in ORIGINS {
                let listed = || grants.iter().filter(|grant| grant.origins().is_some());
                let all = listed().count() > 0 && listed().all(|grant| grant.allows_origin(origin.as_bytes()));
                prop_assert_eq!(expanded.allows_origin(origin.as_bytes()), all, "{}", origin);
            }
        }

        /// To narrow a role, or the grant of a key, opens nothing.
        #[test]
        fn narrowing_a_role_never_opens(
            own in parts(), of in prop::collection::vec(parts(), 1..4), which in any::<prop::sample::Index>(), what in 0_usize..5,
        ) {
            let before = expanded_of(&own, &of);
            let mut narrower = of.clone();
            let role = which.get(&of);
            narrower[which.index(of.len())] = role.clone().narrowed(what);
            prop_assert!(before.covers(&expanded_of(&own, &narrower)), "{:?} {:?}", of, narrower);
            prop_assert!(before.covers(&expanded_of(&own.narrowed(what), &of)));
        }
    }

    /// Ids that are spelt by other rules may name one entity by two names, and an exclude list would miss one.
    #[test]
    fn lists_of_other_spellings_allow_nothing() {
        use crate::dimension::IdGrammar;
        let project = |ids| Dimension::new("project", ids);
        let own = Grant::builder().except(project(IdGrammar::Slug), ["apollo"]);
        let role = Grant::builder().only(project(IdGrammar::Opaque), ["Apollo"]);
        let both = expanded(own, role);
        assert!(!both.restriction(&project(IdGrammar::Slug)).unwrap().allows("Apollo"));
    }

    /// Without its roles nobody knows what the key is restricted to.
    #[test]
    fn a_record_whose_roles_are_not_expanded_may_do_nothing() {
        let own = Grant::builder().write("orders").build().unwrap();
        let record =
            KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(own.clone()).roles(["r"]).build();
        assert_eq!((record.grant(), record.own_grant()), (&Grant::default(), &own));
        let roles = roles(&[("r", Grant::builder().read("a").only("shop", ["de"]))]);
        let expanded = roles.expanded(&record).unwrap().unwrap();
        let both = Grant::builder().write("orders").read("a").only("shop", ["de"]).build().unwrap();
        assert_eq!((expanded.grant(), expanded.own_grant()), (&both, &own));
        assert_eq!(expanded.roles().collect::<Vec<_>>(), ["r"]);
        assert_eq!(roles.expanded(&expanded).unwrap(), None, "it is as it was");
        let error = Roles::default().expanded(&record).unwrap_err().to_string();
        assert!(error.contains("there is no role r"), "{error}");
        assert_eq!(expanded.revise().name("n").build().grant(), &both, "another change keeps it");
        assert_eq!(expanded.revise().grant(own).build().grant(), &Grant::default(), "a new grant is expanded anew");
    }

    #[test]
    fn names_can_be_written_in_lists() {
        for (name, good) in [("shop-partner", true), ("A.b_1", true), ("", false), ("a b", false), ("a,b", false)] {
            assert_eq!(check_role_name(name).is_ok(), good, "{name}");
        }
        assert!(check_role_name(&"a".repeat(65)).is_err());
    }
}
