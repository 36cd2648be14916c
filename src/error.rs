//! Errors of the configuration, found before a request ever arrives.

use std::borrow::Cow;

/// A configuration that cannot mean anything safe: a malformed network, a pattern that can never
/// match, a key file with an unknown field.
///
/// It is returned when the thing is built, never while a request is served. The message says what
/// is wrong, where, and how to write it; it never holds a secret.
///
/// # Example
/// ```
/// use tower_authz::Network;
///
/// let error = "10.0.0.1/8".parse::<Network>().unwrap_err();
/// assert!(error.to_string().contains("10.0.0.0/8"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    message: Cow<'static, str>,
}

impl ConfigError {
    /// An error of your own, for configuration that your code reads before it builds ours.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into() }
    }

    /// The same error, with the place put in front: `ip_ranges[0]: …`.
    pub(crate) fn at(self, location: impl std::fmt::Display) -> Self {
        Self::new(format!("{location}: {}", self.message))
    }
}
