use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use crate::{
    dimension::Dimension,
    error::ConfigError,
    json::Object,
    key::{Access, Grant, GrantBuilder, Network, Networks, restriction::RestrictionFile},
};

/// The fields of a key that are its grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GrantFile {
    pub(crate) permissions: Vec<(String, Access)>,
    pub(crate) restrictions: Vec<(String, Option<Object<RestrictionFile>>)>,
    pub(crate) ip_ranges: Option<Vec<Network>>,
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
        self.read_with(dimensions, |grant, origins| grant.from_origins(origins))
    }

    /// The same of a grant that a store has taken already.
    fn read_stored(self, dimensions: &[Dimension]) -> Result<Grant, ConfigError> {
        self.read_with(dimensions, |grant, origins| grant.stored_origins(origins))
    }

    fn read_with(
        self,
        dimensions: &[Dimension],
        with_origins: impl FnOnce(GrantBuilder, Vec<String>) -> GrantBuilder,
    ) -> Result<Grant, ConfigError> {
        let mut grant = Grant::builder().networks(self.ip_ranges.map(Networks::from_iter));
        for (resource, access) in self.permissions {
            grant = grant.permission(resource.into(), access);
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

/// Reads grants, and lets records that have the same one share it.
pub(crate) struct Grants<'d> {
    dimensions: &'d [Dimension],
    /// Whether the grants are in a store already, which has checked them.
    stored: bool,
    known: HashMap<GrantFile, Arc<Grant>, RandomState>,
}

impl<'d> Grants<'d> {
    /// For grants of a file that somebody writes.
    pub(super) fn new(dimensions: &'d [Dimension]) -> Self {
        Self { dimensions, stored: false, known: HashMap::default() }
    }

    /// For grants of a database.
    pub(crate) fn stored(dimensions: &'d [Dimension]) -> Self {
        Self { stored: true, ..Self::new(dimensions) }
    }

    pub(super) fn read(&mut self, file: GrantFile) -> Result<Arc<Grant>, ConfigError> {
        if let Some(known) = self.known.get(&file) {
            return Ok(Arc::clone(known));
        }
        let read = if self.stored { GrantFile::read_stored } else { GrantFile::read };
        let grant = Arc::new(read(file.clone(), self.dimensions)?);
        self.known.insert(file, Arc::clone(&grant));
        Ok(grant)
    }
}
