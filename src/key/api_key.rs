use std::fmt;

use zeroize::Zeroizing;

use crate::key::Digest;

/// A whole API key in the clear: the secret itself.
///
/// It exists in two places only: in the answer of [`Actor::issue`](crate::store::Actor::issue),
/// once, and in a client that sends it. It has no `Display`, its `Debug` is redacted, and its memory
/// is zeroed when it is dropped. What is *not* protected: copies made through
/// [`expose`](Self::expose), swap, and core dumps.
///
/// # Example
/// ```
/// use tower_authz::ApiKey;
///
/// let key = ApiKey::new("l64_abc12345_0123456789abcdef0123456789abcdef");
/// assert_eq!(format!("{key:?}"), "ApiKey([REDACTED])");
/// assert!(key.expose().starts_with("l64_"));
/// ```
///
/// It cannot be printed by accident:
/// ```compile_fail
/// println!("{}", tower_authz::ApiKey::new("secret"));
/// ```
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Takes the key's text. Nothing is checked here: a [`KeyFormat`](crate::KeyFormat) does that
    /// where keys come in.
    pub fn new(key: impl Into<String>) -> Self {
        Self(Zeroizing::new(key.into()))
    }

    /// The secret in the clear. The one door to it, so that a search for `expose` finds every use.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The digest under which a store knows this key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::from_key(self.0.as_bytes())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([REDACTED])")
    }
}

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        Self::new(key)
    }
}
