use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::{
    dimension::Dimension,
    error::ConfigError,
    json::{self, Object},
    key::{
        Access, Grant, GrantBuilder, KeyRecord, Metadata, Network, Networks, Roles, grant::NetworksAndOrigins,
        record::KindAndTenant, restriction::RestrictionFile, role::Expander,
    },
    name::Name,
};

/// The fields of a key that are its grant, and a role as files write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantFile {
    #[serde(default, with = "json::unique")]
    pub(crate) permissions: Vec<(String, Access)>,
    #[serde(default, with = "json::unique", skip_serializing_if = "Vec::is_empty")]
    pub(crate) restrictions: Vec<(String, Option<Object<RestrictionFile>>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip_ranges: Option<Vec<Network>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origins: Option<Vec<String>>,
}

impl GrantFile {
    pub(crate) fn from_grant(grant: &Grant) -> Self {
        Self {
            permissions: grant.permissions().iter().map(|held| (held.resource().to_owned(), held.access())).collect(),
            restrictions: grant
                .restrictions()
                .iter()
                .map(|(dimension, restriction)| {
                    (dimension.name().to_owned(), Some(Object(RestrictionFile::from_restriction(restriction))))
                })
                .collect(),
            ip_ranges: grant.networks().map(|networks| networks.iter().collect()),
            origins: grant.origins().map(|origins| origins.iter().map(|origin| origin.to_string()).collect()),
        }
    }

    /// A dimension that is neither a standard one nor among `dimensions` is an error.
    pub(crate) fn read(self, dimensions: &[Dimension]) -> Result<Grant, ConfigError> {
        self.read_with(dimensions, Name::from, |grant, origins| grant.from_origins(origins))
    }

    /// The same for a grant of a key that is in a store already, see [`Grants::stored`].
    pub(crate) fn read_stored(self, dimensions: &[Dimension]) -> Result<Grant, ConfigError> {
        self.read_with(dimensions, Name::from, |grant, origins| grant.stored_origins(origins))
    }

    fn read_with(
        self,
        dimensions: &[Dimension],
        mut name: impl FnMut(String) -> Name,
        with_origins: impl FnOnce(GrantBuilder, Vec<String>) -> GrantBuilder,
    ) -> Result<Grant, ConfigError> {
        let mut grant = Grant::builder().networks(self.ip_ranges.map(Networks::from_iter));
        for (resource, access) in self.permissions {
            grant = grant.permission(name(resource), access);
        }
        for (dimension, lists) in self.restrictions {
            let Some(Object(lists)) = lists else { continue };
            let location = format!("restrictions.{dimension}");
            let unknown =
                || ConfigError::new("no such dimension is declared; company and shop always are").at(&location);
            let dimension = Dimension::among(&dimension, dimensions).ok_or_else(unknown)?;
            let restriction = lists.read(&dimension).map_err(|error| error.at(&location))?;
            grant = grant.restrict(dimension, Ok(restriction));
        }
        if let Some(origins) = self.origins {
            grant = with_origins(grant, origins);
        }
        grant.build()
    }
}

/// Reads grants, and lets records share what they have in common: a grant, or parts of it, or their kind and tenant.
pub(crate) struct Grants<'d> {
    dimensions: &'d [Dimension],
    /// Whether the grants are in a store already, which has checked them.
    stored: bool,
    known: HashMap<GrantFile, Arc<Grant>, RandomState>,
    resources: HashSet<Name, RandomState>,
    networks_and_origins: HashSet<Arc<NetworksAndOrigins>, RandomState>,
    kinds_and_tenants: HashSet<Arc<KindAndTenant>, RandomState>,
    metadata: HashSet<Arc<Metadata>, RandomState>,
    expander: Expander<'d>,
}

impl<'d> Grants<'d> {
    /// For grants of a file that somebody writes.
    pub(super) fn new(dimensions: &'d [Dimension], roles: &'d Roles) -> Self {
        Self {
            dimensions,
            stored: false,
            known: HashMap::default(),
            resources: HashSet::default(),
            networks_and_origins: HashSet::default(),
            kinds_and_tenants: HashSet::default(),
            metadata: HashSet::default(),
            expander: Expander::new(roles),
        }
    }

    /// For grants of a database.
    pub(crate) fn stored(dimensions: &'d [Dimension], roles: &'d Roles) -> Self {
        Self { stored: true, ..Self::new(dimensions, roles) }
    }

    pub(super) fn read(&mut self, file: GrantFile) -> Result<Arc<Grant>, ConfigError> {
        if let Some(known) = self.known.get(&file) {
            return Ok(Arc::clone(known));
        }
        let stored = self.stored;
        let name = |resource: String| shared(&mut self.resources, resource.into());
        let mut grant = file.clone().read_with(self.dimensions, name, |grant, origins| match stored {
            true => grant.stored_origins(origins),
            false => grant.from_origins(origins),
        })?;
        grant.networks_and_origins =
            grant.networks_and_origins.map(|both| shared(&mut self.networks_and_origins, both));
        let grant = Arc::new(grant);
        self.known.insert(file, Arc::clone(&grant));
        Ok(grant)
    }

    /// Expands the roles of the record, and lets it share what it has in common with those that were read before.
    pub(super) fn finish(&mut self, record: &mut KeyRecord) -> Result<(), ConfigError> {
        let own = record.kind_and_tenant.take();
        record.kind_and_tenant = own.map(|both| shared(&mut self.kinds_and_tenants, both));
        let Some(cold) = &mut record.cold else { return Ok(()) };
        cold.metadata = cold.metadata.take().map(|metadata| shared(&mut self.metadata, metadata));
        let Some(refs) = &mut cold.roles else { return Ok(()) };
        (*refs, record.grant) = self.expander.shared(refs)?;
        Ok(())
    }
}

/// Returns the equal value that is known, or makes this one known.
fn shared<T: Clone + Eq + Hash>(known: &mut HashSet<T, RandomState>, new: T) -> T {
    if let Some(known) = known.get(&new) {
        return known.clone();
    }
    known.insert(new.clone());
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyFile;

    /// Keys with grants of their own share the parts that are equal, and the names.
    #[test]
    fn what_repeats_in_a_file_is_kept_once() {
        let key = |number: u8| {
            format!(
                r#"{{"id": "k{number}", "digest": "{number:064x}", "kind": "admin", "permissions": {{"orders": "write"}},
                    "restrictions": {{"shop": {{"include": ["s{number}"]}}}}, "ip_ranges": ["10.0.0.0/8"]}}"#
            )
        };
        let text = format!(r#"{{"keys": [{}, {}]}}"#, key(1), key(2));
        let file = KeyFile::parse(&text, "keys.json").unwrap();
        let [one, other] = file.records() else { panic!("there are two") };
        assert_ne!(one.grant(), other.grant());
        let resource = |record: &KeyRecord| record.grant().permissions()[0].resource().as_ptr();
        assert_eq!(resource(one), resource(other));
        let networks = |record: &KeyRecord| record.grant().networks_and_origins.clone().unwrap();
        assert!(Arc::ptr_eq(&networks(one), &networks(other)));
        let kind = |record: &KeyRecord| record.kind_and_tenant.clone().unwrap();
        assert!(Arc::ptr_eq(&kind(one), &kind(other)));
    }
}
