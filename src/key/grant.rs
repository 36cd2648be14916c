use std::{net::IpAddr, sync::Arc};

use crate::{
    dimension::Dimension,
    directory::Directory,
    error::ConfigError,
    key::{Access, GrantBuilder, Networks, Permission, Restriction},
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
    pub(super) permissions: Box<[Permission]>,
    pub(super) restrictions: Box<[(Dimension, Restriction)]>,
    /// INVARIANT: `None` if there is neither, so that equal grants are equal.
    pub(super) networks_and_origins: Option<Arc<NetworksAndOrigins>>,
}

/// Where requests may come from. Most keys may be used from anywhere, and the lists of the others are often the same:
/// grants that a store has loaded share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct NetworksAndOrigins {
    pub(super) networks: Option<Networks>,
    pub(super) origins: Option<Box<[Box<str>]>>,
}

impl Grant {
    /// A grant to fill.
    pub fn builder() -> GrantBuilder {
        GrantBuilder::default()
    }

    /// A builder that begins with this grant. Whatever is not mentioned afterwards is kept exactly as it is; what is given
    /// anew takes the place of what was there, and the `without_` methods remove.
    ///
    /// To copy a grant by its getters is longer, and a part that is forgotten there widens the key.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, Grant, Permission};
    ///
    /// let grant = Grant::builder()
    ///     .write("products")
    ///     .read("orders")
    ///     .only(Dimension::SHOP, ["de"])
    ///     .from_networks(["10.0.0.0/8"])
    ///     .build()?;
    /// let amended = grant.to_builder().read("products").without_permission("orders").from_anywhere().build()?;
    /// assert_eq!(amended.permissions(), [Permission::read("products")]);
    /// assert_eq!(amended.restrictions(), grant.restrictions(), "they were not mentioned");
    /// assert!(amended.networks().is_none());
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn to_builder(&self) -> GrantBuilder {
        GrantBuilder::from_grant(self)
    }

    /// Whether the grant holds this permission or a wider one.
    #[must_use]
    pub fn permits(&self, demanded: &Permission) -> bool {
        self.allows(demanded.resource(), demanded.access())
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
