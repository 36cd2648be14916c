use std::{fmt, sync::Arc};

use serde::ser::SerializeMap;

use crate::{
    check::{Check, Demand, Findings},
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::Fields,
    principal::Caller,
};

/// The error for Rust code, which a policy file cannot contain.
pub(super) const RUST_CODE: &str =
    "this is Rust code, which a file cannot hold, and without it the policy would let in more than the code does";

/// User-defined checks. All of them run, so that a denial names everything that is wrong.
#[derive(Clone, Default)]
pub(crate) struct CustomChecks(Vec<Arc<dyn Check>>);

impl CustomChecks {
    pub(crate) fn add(&mut self, check: impl Check) {
        self.0.push(Arc::new(check));
    }

    /// Runs all of them.
    pub(crate) fn evaluate_all(&self, head: &Head<'_>, findings: &mut impl Findings) {
        self.0.iter().for_each(|check| findings.record_custom(check.check(head)));
    }
}

impl Demand for CustomChecks {
    const FIELDS: &'static [&'static str] = &["checks"];

    fn evaluate(&self, head: &Head<'_>, _: Caller<'_>, findings: &mut impl Findings) {
        self.evaluate_all(head, findings);
    }

    fn runs_user_code(&self) -> bool {
        !self.0.is_empty()
    }

    /// Writes their number, so that a review notices when one is added or removed.
    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        match self.0.len() {
            0 => Ok(()),
            count => fields.serialize_entry("checks", &count),
        }
    }

    fn read(fields: &mut Fields<'_>, _: &dyn Fn(&str) -> Result<Dimension, ConfigError>) -> Result<Self, ConfigError> {
        match fields.take_or_default::<usize>("checks")? {
            0 => Ok(Self::default()),
            _ => Err(ConfigError::new(RUST_CODE).at("checks")),
        }
    }
}

impl fmt::Debug for CustomChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.len().fmt(f)
    }
}
