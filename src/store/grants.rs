//! Grants as the databases keep them, as text.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use crate::{
    dimension::Dimension,
    error::ConfigError,
    json,
    key::{Grant, GrantFile},
};

/// Reads grants, and lets records with the same one share it.
pub(crate) struct Grants<'d> {
    dimensions: &'d [Dimension],
    known: HashMap<Box<str>, Arc<Grant>, RandomState>,
}

impl<'d> Grants<'d> {
    pub(crate) fn new(dimensions: &'d [Dimension]) -> Self {
        Self { dimensions, known: HashMap::default() }
    }

    pub(crate) fn read(&mut self, text: &str) -> Result<Arc<Grant>, ConfigError> {
        if let Some(known) = self.known.get(text) {
            return Ok(Arc::clone(known));
        }
        let grant = json::from_json::<GrantFile>(text, false).and_then(|file| file.read_stored(self.dimensions));
        let grant = Arc::new(grant.map_err(|error| error.at("may"))?);
        self.known.insert(text.into(), Arc::clone(&grant));
        Ok(grant)
    }
}
