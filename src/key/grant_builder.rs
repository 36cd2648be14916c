//! Collects a grant, from nothing or from another grant.

use std::{borrow::Cow, sync::Arc};

use crate::{
    dimension::Dimension,
    error::ConfigError,
    key::{Access, Grant, Networks, Permission, Restriction, grant::NetworksAndOrigins, origin},
    name::Name,
};

/// Collects a [`Grant`]; [`build`](Self::build) reports the first mistake.
///
/// [`Grant::builder`] begins with nothing, [`Grant::to_builder`] with a grant that is to be amended.
#[derive(Clone, Debug, Default)]
#[must_use = "a grant is made by `build`"]
pub struct GrantBuilder {
    permissions: Vec<Permission>,
    restrictions: Vec<(Dimension, Restriction)>,
    networks_and_origins: NetworksAndOrigins,
    /// What an amended grant had and nobody has mentioned yet. To give it again replaces it, where otherwise it would be
    /// given twice.
    kept: Kept,
    error: Option<ConfigError>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    resources: Vec<Box<str>>,
    dimensions: Vec<Dimension>,
}

impl GrantBuilder {
    pub(super) fn from_grant(grant: &Grant) -> Self {
        let Grant { permissions, restrictions, networks_and_origins } = grant;
        let kept = Kept {
            resources: permissions.iter().map(|held| held.resource().into()).collect(),
            dimensions: restrictions.iter().map(|(dimension, _)| dimension.clone()).collect(),
        };
        Self {
            permissions: permissions.to_vec(),
            restrictions: restrictions.to_vec(),
            networks_and_origins: networks_and_origins.as_deref().cloned().unwrap_or_default(),
            kept,
            error: None,
        }
    }

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
        if let Err(error) = Permission::check_resource(resource) {
            return self.fail(error);
        }
        if take(&mut self.kept.resources, |kept| **kept == *resource) {
            self.permissions.retain(|held| held.resource() != resource);
        } else if self.permissions.iter().any(|held| held.resource() == resource) {
            return self
                .fail(ConfigError::new(format!("the resource {resource:?} is granted twice; write implies read")));
        }
        self.permissions.push(Permission::from_parts(name, access));
        self
    }

    /// Removes the permission for this resource, if there is one, whatever its access level.
    pub fn without_permission(mut self, resource: &str) -> Self {
        take(&mut self.kept.resources, |kept| **kept == *resource);
        self.permissions.retain(|held| held.resource() != resource);
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
        if dimension == Dimension::SHOP_COUNTRY {
            let problem = ConfigError::new("a shop country inherits from its shop: restrict the shop");
            return self.fail(problem.at(dimension));
        }
        let restriction = match restriction {
            Ok(restriction) => restriction,
            Err(error) => return self.fail(error.at(dimension)),
        };
        let was_kept = take(&mut self.kept.dimensions, |kept| *kept == dimension);
        match self.restrictions.iter_mut().find(|(over, _)| *over == dimension) {
            // In its place, so that a list that is given again as it was makes no other grant.
            Some(known) if was_kept => *known = (dimension, restriction),
            Some(_) => {
                let problem = ConfigError::new("the dimension is restricted twice; give one list");
                return self.fail(problem.at(dimension));
            }
            None => self.restrictions.push((dimension, restriction)),
        }
        self
    }

    /// Removes the restriction over the dimension, if there is one: the key then reaches all of it.
    pub fn without_restriction(mut self, dimension: impl Into<Dimension>) -> Self {
        let dimension = dimension.into();
        take(&mut self.kept.dimensions, |kept| *kept == dimension);
        self.restrictions.retain(|(over, _)| *over != dimension);
        self
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

    /// Removes the list of networks, if there is one: the key may then be used from any address.
    pub fn from_anywhere(self) -> Self {
        self.networks(None)
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

    /// Removes the list of origins, if there is one: a rule that demands an origin then refuses the key.
    pub fn without_origins(mut self) -> Self {
        self.networks_and_origins.origins = None;
        self
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
        let Self { mut permissions, mut restrictions, networks_and_origins: both, kept: _, error } = self;
        if let Some(error) = error {
            return Err(error);
        }
        permissions.sort_unstable_by(|a, b| a.resource().cmp(b.resource()));
        // "All but none" is no restriction: a route that says nothing of the dimension has nothing to refuse.
        restrictions.retain(|(_, restriction)| !matches!(restriction, Restriction::Exclude(ids) if ids.is_empty()));
        Ok(Grant {
            permissions: permissions.into(),
            restrictions: restrictions.into(),
            networks_and_origins: (both != NetworksAndOrigins::default()).then(|| Arc::new(both)),
        })
    }
}

/// Removes the one item that is meant, and returns whether it was there.
fn take<T>(items: &mut Vec<T>, is_meant: impl FnMut(&T) -> bool) -> bool {
    let found = items.iter().position(is_meant);
    found.map(|position| items.swap_remove(position)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimension::IdGrammar;

    const PROJECT: Dimension =
        Dimension::new("project", IdGrammar::Custom(|id| id.bytes().all(|byte| byte.is_ascii_uppercase())));

    fn full() -> Grant {
        Grant::builder()
            .write("products")
            .read("orders")
            .only("shop", ["de", "ch"])
            .except(PROJECT, ["APOLLO"])
            .from_networks(["10.0.0.0/8", "10.0.0.0/9"])
            // As a database may hold them, although no browser sends this one.
            .stored_origins(["https://Shop.example/"])
            .build()
            .unwrap()
    }

    /// One call changes one thing, and everything else is as it was: functions and stored origins included.
    #[test]
    fn what_is_not_mentioned_is_kept() {
        let grant = full();
        assert_eq!(grant.to_builder().build().unwrap(), grant);
        let spelt = |grant: &Grant| grant.restrictions().iter().map(|(over, _)| over.is_within(&PROJECT)).collect();
        let same: Vec<Option<bool>> = spelt(&grant);
        assert_eq!(same, [Some(false), Some(true)]);
        type Amend = fn(GrantBuilder) -> GrantBuilder;
        let amendments: [(Amend, &str); 10] = [
            (|builder| builder.read("products"), "permissions"),
            (|builder| builder.write("customers"), "permissions"),
            (|builder| builder.without_permission("orders"), "permissions"),
            (|builder| builder.only("shop", ["us"]), "shop"),
            (|builder| builder.except("shop", ["us"]), "shop"),
            (|builder| builder.without_restriction("shop"), "shop"),
            (|builder| builder.from_networks::<&str>([]), "networks"),
            (GrantBuilder::from_anywhere, "networks"),
            (|builder| builder.from_origins(["https://a.example"]), "origins"),
            (GrantBuilder::without_origins, "origins"),
        ];
        for (index, (amend, changed)) in amendments.into_iter().enumerate() {
            let amended = amend(grant.to_builder()).build().unwrap();
            for (part, is_same) in [
                ("permissions", amended.permissions() == grant.permissions()),
                ("shop", amended.restriction(&Dimension::SHOP) == grant.restriction(&Dimension::SHOP)),
                ("project", amended.restriction(&PROJECT) == grant.restriction(&PROJECT)),
                ("networks", amended.networks() == grant.networks()),
                ("origins", amended.origins() == grant.origins()),
            ] {
                assert_eq!(is_same, part != changed, "{index}: {part}");
            }
            assert_eq!(amended.listed(&PROJECT).unwrap().0.is_within(&PROJECT), Some(true), "{index}: the function");
        }
    }

    #[test]
    fn the_same_again_is_the_same_grant() {
        let again = |builder: GrantBuilder| builder.write("products").only("shop", ["ch", "de"]);
        assert_eq!(again(full().to_builder()).build().unwrap(), full());
    }

    /// To replace is to name a part once: twice is the mistake that it is without a grant to begin with.
    #[test]
    fn a_part_is_replaced_once() {
        for (broken, message) in [
            (full().to_builder().read("products").write("products"), "granted twice"),
            (
                full().to_builder().only("shop", ["de"]).except("shop", ["ch"]),
                "shop: the dimension is restricted twice",
            ),
            (full().to_builder().read("customers").read("customers"), "granted twice"),
            (full().to_builder().without_permission("products").read("two words"), "not a resource name"),
        ] {
            let error = broken.build().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let moved = full().to_builder().read("products").without_permission("products").write("products");
        assert!(moved.build().unwrap().permits(&Permission::write("products")));
        let absent = full().to_builder().without_permission("customers").without_restriction("company");
        assert_eq!(absent.build().unwrap(), full(), "what is not there is not missed");
    }

    #[test]
    fn all_but_none_takes_the_restriction_away() {
        let none: [&str; 0] = [];
        assert_eq!(full().to_builder().except("shop", none).build().unwrap().restriction(&Dimension::SHOP), None);
    }
}
