use serde::ser::SerializeMap;

use crate::{
    denial::{Cause, Denial},
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::Fields,
    principal::Principal,
    route::Pattern,
};

/// One thing that a rule demands of a request: how it is evaluated, what an explanation calls it, and how a policy file
/// writes it.
pub(crate) trait Demand: Sized {
    /// Its fields in a policy file.
    const FIELDS: &'static [&'static str];

    /// Evaluates the demand to its end, and records each result under its name.
    fn evaluate(&self, head: &Head<'_>, principal: &Principal, findings: &mut impl Findings);

    /// Rejects a demand that no request can meet. A fallback has no pattern.
    fn validate(&self, _: Option<&Pattern>) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Whether evaluating it runs user code, which may look for the principal in the extensions.
    fn runs_user_code(&self) -> bool {
        false
    }

    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error>;

    /// Takes its fields. `dimension` finds the dimension of a name.
    fn read(
        fields: &mut Fields<'_>,
        dimension: &dyn Fn(&str) -> Result<Dimension, ConfigError>,
    ) -> Result<Self, ConfigError>;
}

/// Records the result of every check of a rule, also of those that pass.
pub(crate) trait Findings {
    /// `name` is a function because only explanations need it: while requests are served, it is never called.
    fn record(&mut self, name: impl FnOnce() -> String, verdict: Result<(), Cause>);

    /// The same for a check of the user's own.
    fn record_custom(&mut self, verdict: Result<(), Denial>);
}

/// Collects the checks that fail.
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
