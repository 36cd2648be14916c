use std::{borrow::Cow, net::IpAddr, sync::Arc};

use crate::{
    dimension::Dimension,
    directory::Directory,
    error::ConfigError,
    key::{Access, Networks, Permission, Restriction, origin},
    name::Name,
};

/// The access that a key has: permissions, restrictions, networks, origins.
///
/// A grant without permissions allows nothing; without restrictions it reaches every entity; without
/// networks it may be used from anywhere.
///
/// # Example
/// ```
/// use tower_authz::{Access, Dimension, Grant, Permission};
///
/// let grant = Grant::builder()
///     .write("products")
///     .read("orders")
///     .only(Dimension::SHOP, ["de", "ch"])
///     .except(Dimension::COMPANY, [3])
///     .from_networks(["10.0.0.0/8"])
///     .build()?;
/// assert!(grant.permits(&Permission::read("products")), "write implies read");
/// assert!(!grant.permits(&Permission::write("orders")));
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    permissions: Box<[Permission]>,
    restrictions: Box<[(Dimension, Restriction)]>,
    /// INVARIANT: `None` if there is neither, so that equal grants are equal.
    pub(super) networks_and_origins: Option<Arc<NetworksAndOrigins>>,
}

/// Where requests may come from. Most keys may be used from anywhere, and the lists of the others are often the same:
/// grants that a store has loaded share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct NetworksAndOrigins {
    networks: Option<Networks>,
    origins: Option<Box<[Box<str>]>>,
}

impl Grant {
    /// A grant to fill.
    pub fn builder() -> GrantBuilder {
        GrantBuilder::default()
    }

    /// Whether the grant holds this permission or a wider one.
    #[must_use]
    pub fn permits(&self, demanded: &Permission) -> bool {
        self.allows(demanded.resource(), demanded.access())
    }

    /// "All but none" is no restriction: a route that says nothing of the dimension has nothing to refuse.
    fn without_void_lists(mut self) -> Self {
        let void = |restriction: &Restriction| matches!(restriction, Restriction::Exclude(ids) if ids.is_empty());
        if self.restrictions.iter().any(|(_, restriction)| void(restriction)) {
            let mut restrictions = std::mem::take(&mut self.restrictions).into_vec();
            restrictions.retain(|(_, restriction)| !void(restriction));
            self.restrictions = restrictions.into();
        }
        self
    }

    pub(crate) fn allows(&self, resource: &str, access: Access) -> bool {
        self.permissions.iter().any(|held| held.access() >= access && held.resource() == resource)
    }

    /// The permissions in order of their resources.
    #[must_use]
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// The restriction over a dimension; none means that all of it is allowed.
    #[must_use]
    pub fn restriction(&self, dimension: &Dimension) -> Option<&Restriction> {
        self.listed(dimension).map(|(_, restriction)| restriction)
    }

    /// The same, with the dimension as the key spells it.
    pub(crate) fn listed(&self, dimension: &Dimension) -> Option<&(Dimension, Restriction)> {
        self.restrictions.iter().find(|(over, _)| over == dimension)
    }

    /// All restrictions with their dimensions.
    #[must_use]
    pub fn restrictions(&self) -> &[(Dimension, Restriction)] {
        &self.restrictions
    }

    /// Rejects lists that name an entity by an alias of this directory.
    pub(crate) fn check_lists(&self, directory: &Directory) -> Result<(), ConfigError> {
        self.restrictions.iter().try_for_each(|(dimension, list)| directory.check_list(dimension, list.ids()))
    }

    /// The networks that the key may be used from; `None` means anywhere, an empty list nowhere.
    #[must_use]
    pub fn networks(&self) -> Option<&Networks> {
        self.networks_and_origins.as_ref()?.networks.as_ref()
    }

    /// Whether the key may be used from this address. An unknown address is allowed only where the
    /// key has no list.
    #[must_use]
    pub fn allows_address(&self, address: Option<IpAddr>) -> bool {
        match (self.networks(), address) {
            (None, _) => true,
            (Some(networks), Some(address)) => networks.contains(address),
            (Some(_), None) => false,
        }
    }

    /// The web origins that the key may be used from, where a rule asks.
    #[must_use]
    pub fn origins(&self) -> Option<&[Box<str>]> {
        self.networks_and_origins.as_ref()?.origins.as_deref()
    }

    /// Whether this origin, compared byte for byte, is one of the key's.
    #[must_use]
    pub fn allows_origin(&self, origin: &[u8]) -> bool {
        self.origins().into_iter().flatten().any(|known| known.as_bytes() == origin)
    }
}

/// Collects a [`Grant`]; the first mistake is told by [`build`](Self::build).
#[derive(Clone, Debug, Default)]
#[must_use = "a grant is made by `build`"]
pub struct GrantBuilder {
    grant: Grant,
    networks_and_origins: NetworksAndOrigins,
    error: Option<ConfigError>,
}

impl GrantBuilder {
    /// May read the resource.
    pub fn read(self, resource: impl Into<Cow<'static, str>>) -> Self {
        self.permission(resource.into().into(), Access::Read)
    }

    /// May write the resource, and so read it.
    pub fn write(self, resource: impl Into<Cow<'static, str>>) -> Self {
        self.permission(resource.into().into(), Access::Write)
    }

    pub(crate) fn permission(mut self, name: Name, access: Access) -> Self {
        let resource = name.as_str();
        if resource.is_empty() || !resource.bytes().all(|byte| byte.is_ascii_graphic()) {
            return self
                .fail(ConfigError::new(format!("{resource:?} is not a resource name: visible ASCII, no spaces")));
        }
        if self.grant.permissions.iter().any(|held| held.resource() == resource) {
            return self
                .fail(ConfigError::new(format!("the resource {resource:?} is granted twice; write implies read")));
        }
        let mut permissions = std::mem::take(&mut self.grant.permissions).into_vec();
        permissions.push(Permission::from_parts(name, access));
        permissions.sort_unstable_by(|a, b| a.resource().cmp(b.resource()));
        self.grant.permissions = permissions.into();
        self
    }

    /// Only these entities of the dimension; an empty list allows none.
    pub fn only<T: ToString>(self, dimension: impl Into<Dimension>, ids: impl IntoIterator<Item = T>) -> Self {
        let dimension = dimension.into();
        let restriction = Restriction::include(&dimension, ids);
        self.restrict(dimension, restriction)
    }

    /// All entities of the dimension but these. An empty list restricts nothing: the grant is as if it had not been
    /// given.
    pub fn except<T: ToString>(self, dimension: impl Into<Dimension>, ids: impl IntoIterator<Item = T>) -> Self {
        let dimension = dimension.into();
        let restriction = Restriction::exclude(&dimension, ids);
        self.restrict(dimension, restriction)
    }

    pub(crate) fn restrict(mut self, dimension: Dimension, restriction: Result<Restriction, ConfigError>) -> Self {
        let problem = if dimension == Dimension::SHOP_COUNTRY {
            Some("a shop country inherits from its shop: restrict the shop")
        } else if self.grant.restriction(&dimension).is_some() {
            Some("the dimension is restricted twice; give one list")
        } else {
            None
        };
        match (problem, restriction) {
            (Some(problem), _) => self.fail(ConfigError::new(problem).at(dimension)),
            (None, Err(error)) => self.fail(error.at(dimension)),
            (None, Ok(restriction)) => {
                let mut restrictions = std::mem::take(&mut self.grant.restrictions).into_vec();
                restrictions.push((dimension, restriction));
                self.grant.restrictions = restrictions.into();
                self
            }
        }
    }

    /// Only from these networks, in CIDR notation; an empty list allows none.
    pub fn from_networks<T: AsRef<str>>(mut self, networks: impl IntoIterator<Item = T>) -> Self {
        match Networks::parse(networks) {
            Ok(networks) => {
                self.networks_and_origins.networks = Some(networks);
                self
            }
            Err(error) => self.fail(error.at("networks")),
        }
    }

    pub(crate) fn networks(mut self, networks: Option<Networks>) -> Self {
        self.networks_and_origins.networks = networks;
        self
    }

    /// Only from pages of these web origins, where a rule demands one. They are compared byte for
    /// byte with the `Origin` header, so they are written as browsers send it: `https://shop.example`, in lower
    /// case, without a default port or a slash at the end. Any other spelling is an error, which says how to write it.
    pub fn from_origins<T: AsRef<str>>(self, origins: impl IntoIterator<Item = T>) -> Self {
        let origins: Vec<Box<str>> = origins.into_iter().map(|origin| origin.as_ref().into()).collect();
        match origins.iter().try_for_each(|given| origin::check(given)) {
            Ok(()) => self.stored_origins(origins),
            Err(error) => self.fail(error),
        }
    }

    /// Those of a key that is in a database already: one that no browser sends lets nobody in, and must not keep the key
    /// from being read.
    pub(crate) fn stored_origins(mut self, origins: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        self.networks_and_origins.origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    fn fail(mut self, error: ConfigError) -> Self {
        self.error.get_or_insert(error);
        self
    }

    /// The grant.
    ///
    /// # Errors
    /// The first of: a malformed resource, id, network or origin; a resource granted twice; two lists
    /// over one dimension; a list of shop countries.
    pub fn build(self) -> Result<Grant, ConfigError> {
        let Self { mut grant, networks_and_origins: both, error } = self;
        grant.networks_and_origins = (both != NetworksAndOrigins::default()).then(|| Arc::new(both));
        match error {
            Some(error) => Err(error),
            None => Ok(grant.without_void_lists()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_compare_exactly() {
        let grant = Grant::builder().write("products").read("*").build().unwrap();
        assert!(grant.permits(&Permission::read("products")));
        assert!(!grant.permits(&Permission::read("product")));
        assert!(!grant.permits(&Permission::read("orders")), "* is a name like any other");
    }

    /// Two lists are an error still, also if one of them is empty.
    #[test]
    fn all_but_none_is_no_restriction() {
        let none: [&str; 0] = [];
        let grant = Grant::builder().except("shop", none).only("company", none).build().unwrap();
        assert_eq!(grant.restriction(&Dimension::SHOP), None);
        assert!(!grant.restriction(&Dimension::COMPANY).unwrap().allows("1"), "only none is none");
        assert!(Grant::builder().except("shop", none).only("shop", ["de"]).build().is_err());
    }

    #[test]
    fn unknown_addresses_are_refused_by_a_list() {
        let open = Grant::default();
        let bound = Grant::builder().from_networks(["10.0.0.0/8"]).build().unwrap();
        let nowhere = Grant::builder().from_networks::<&str>([]).build().unwrap();
        assert!(open.allows_address(None) && !bound.allows_address(None));
        assert!(bound.allows_address(Some("::ffff:10.0.0.1".parse().unwrap())));
        assert!(!nowhere.allows_address(Some("10.0.0.1".parse().unwrap())));
    }

    #[test]
    fn mistakes_are_told() {
        for (broken, message) in [
            (Grant::builder().read("products").write("products"), "granted twice"),
            (Grant::builder().read("two words"), "not a resource name"),
            (Grant::builder().only("shop", ["de"]).except("shop", ["ch"]), "shop: the dimension is restricted twice"),
            (Grant::builder().only("shop_country", ["1001"]), "restrict the shop"),
            (Grant::builder().only("company", ["03"]), "company: \"03\""),
            (Grant::builder().from_networks(["10.0.0.1/8"]), "networks: [0]"),
            (Grant::builder().from_origins(["null"]), "origins"),
        ] {
            let error = broken.build().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
