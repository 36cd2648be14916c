use serde::ser::SerializeMap;

use crate::{
    denial::{Cause, Denial},
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::Fields,
    principal::Caller,
    route::Pattern,
};

/// A requirement of a rule: its evaluation, its name in explanations, and its fields in a policy file.
pub(crate) trait Demand: Sized {
    /// Its fields in a policy file.
    const FIELDS: &'static [&'static str];

    /// Evaluates all parts of the demand, also after one has failed, and records each result.
    fn evaluate(&self, head: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings);

    /// Rejects contradictions, and demands that no request can meet. `pattern` is `None` for the rule of a fallback.
    fn validate(&self, _: Option<&Pattern>) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Whether evaluating it runs user code, which may read the `Principal` from the extensions.
    fn runs_user_code(&self) -> bool {
        false
    }

    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error>;

    /// Reads the demand from a policy file, and removes its fields from `fields`. `dimension` resolves the name of a
    /// dimension.
    fn read(
        fields: &mut Fields<'_>,
        dimension: &dyn Fn(&str) -> Result<Dimension, ConfigError>,
    ) -> Result<Self, ConfigError>;
}

/// Records the result of every check of a rule, also of those that pass.
pub(crate) trait Findings {
    /// Only explanations need the name, so it is built lazily.
    fn record(&mut self, name: impl FnOnce() -> String, verdict: Result<(), Cause>);

    /// Records the result of a user-defined check.
    fn record_custom(&mut self, verdict: Result<(), Denial>);
}

/// Enforcement keeps only the failures, merged into one denial.
impl Findings for Option<Denial> {
    #[inline]
    fn record(&mut self, _: impl FnOnce() -> String, verdict: Result<(), Cause>) {
        if let Err(cause) = verdict {
            add(self, cause.into());
        }
    }

    fn record_custom(&mut self, verdict: Result<(), Denial>) {
        if let Err(denial) = verdict {
            add(self, denial);
        }
    }
}

#[cold]
fn add(denial: &mut Option<Denial>, found: Denial) {
    *denial = Some(match denial.take() {
        None => found,
        Some(denial) => denial.merge(found),
    });
}
