use std::sync::Arc;

use serde::ser::SerializeMap;

use crate::{
    check::{Check, Demand, Findings, caller},
    denial::{Cause, Denial},
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::Fields,
    principal::Caller,
    route::Pattern,
};

/// Demands a key of one kind. Kinds are not interchangeable: no kind contains another.
///
/// # Example
/// ```
/// use tower_authz::{RequireLayer, check::Kind};
///
/// let admins_only = RequireLayer::new(Kind::new("admin"));
/// # drop(admins_only);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind(Arc<str>);

impl Kind {
    /// The kind that is demanded.
    pub fn new(kind: impl Into<Arc<str>>) -> Self {
        Self(kind.into())
    }

    pub(crate) fn admits(&self, caller: Caller<'_>) -> bool {
        caller.record.kind() == Some(&*self.0)
    }

    fn verdict(&self, caller: Caller<'_>) -> Result<(), Cause> {
        match self.admits(caller) {
            true => Ok(()),
            false => Err(Cause::WrongKind { expected: Arc::clone(&self.0) }),
        }
    }
}

impl Check for Kind {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(self.verdict(caller(head)?)?)
    }
}

impl Demand for Option<Kind> {
    const FIELDS: &'static [&'static str] = &["kind"];

    #[inline]
    fn evaluate(&self, _: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings) {
        if let Some(kind) = self {
            findings.record(|| "kind".to_owned(), kind.verdict(caller));
        }
    }

    fn validate(&self, _: Option<&Pattern>) -> Result<(), ConfigError> {
        match self {
            Some(kind) if kind.0.is_empty() => Err(ConfigError::new("no key has a kind named \"\"")),
            _ => Ok(()),
        }
    }

    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        self.as_ref().map_or(Ok(()), |kind| fields.serialize_entry("kind", &*kind.0))
    }

    fn read(fields: &mut Fields<'_>, _: &dyn Fn(&str) -> Result<Dimension, ConfigError>) -> Result<Self, ConfigError> {
        Ok(fields.take::<String>("kind")?.map(Kind::new))
    }
}
