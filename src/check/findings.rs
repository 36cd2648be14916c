//! The names of the checks of a rule, and the trait that records their results.

use std::fmt;

use crate::{
    denial::{Cause, Denial},
    dimension::Dimension,
    key::Access,
};

/// The check that a result belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CheckLabel<'a> {
    Status,
    Route,
    Permission(&'a str, Option<Access>),
    Method,
    Kind,
    Networks,
    Origin,
    Entity(&'a Dimension),
    Restriction(&'a Dimension),
    Custom,
}

/// Records the result of every check of a rule, also of those that pass.
pub(crate) trait Findings {
    /// `demand` is a function because only explanations need the label: while requests are served, it is never called.
    fn record<'a>(&mut self, demand: impl FnOnce() -> CheckLabel<'a>, verdict: Result<(), Cause>);

    /// The same for a check of the user's own.
    fn record_custom(&mut self, verdict: Result<(), Denial>);
}

impl fmt::Display for CheckLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission(resource, Some(access)) => write!(f, "permission {resource}:{access}"),
            Self::Permission(resource, None) => write!(f, "permission {resource}"),
            Self::Status => f.write_str("status"),
            Self::Route => f.write_str("route"),
            Self::Method => f.write_str("method"),
            Self::Kind => f.write_str("kind"),
            Self::Networks => f.write_str("networks"),
            Self::Origin => f.write_str("origin"),
            Self::Entity(dimension) => write!(f, "this {dimension}"),
            Self::Restriction(dimension) => write!(f, "{dimension} declared"),
            Self::Custom => f.write_str("custom check"),
        }
    }
}
