use serde::{Deserialize, Serialize};

use crate::{
    dimension::Dimension,
    error::ConfigError,
    json::{self, Object},
    key::{Access, Grant, GrantBuilder, Networks, restriction::RestrictionFile},
};

/// A grant as key files and databases write it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantFile {
    #[serde(default, with = "json::unique")]
    pub(crate) permissions: Vec<(String, Access)>,
    #[serde(default, with = "json::unique", skip_serializing_if = "Vec::is_empty")]
    pub(crate) restrictions: Vec<(String, Option<Object<RestrictionFile>>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip_ranges: Option<Networks>,
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
            ip_ranges: grant.networks().cloned(),
            origins: grant.origins().map(|origins| origins.iter().map(|origin| origin.to_string()).collect()),
        }
    }

    /// A dimension that is neither a standard one nor among `dimensions` is an error.
    pub(crate) fn read(self, dimensions: &[Dimension]) -> Result<Grant, ConfigError> {
        self.read_with(dimensions, |grant, origins| grant.from_origins(origins))
    }

    /// The same of a grant that a store has taken already.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn read_stored(self, dimensions: &[Dimension]) -> Result<Grant, ConfigError> {
        self.read_with(dimensions, |grant, origins| grant.stored_origins(origins))
    }

    fn read_with(
        self,
        dimensions: &[Dimension],
        with_origins: impl FnOnce(GrantBuilder, Vec<String>) -> GrantBuilder,
    ) -> Result<Grant, ConfigError> {
        let mut grant = Grant::builder().networks(self.ip_ranges);
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
