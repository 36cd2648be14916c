use std::{fmt, str::FromStr};

use ecow::EcoString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    error::ConfigError,
    key::{Alphabet, generate},
};

/// The public part of a key, `l64_abc12345`: it names the key in logs, lists and commands, and opens
/// nothing.
///
/// An id of up to 15 bytes needs no allocation; the clones of a longer one share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(EcoString);

impl KeyId {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id from the system's random source, `key_` and twelve characters, for a key that names none
    /// itself. It says nothing about the key.
    ///
    /// # Errors
    /// If the random source fails.
    pub fn random() -> Result<Self, ConfigError> {
        let drawn = generate::random(Alphabet::Base62, 12).map_err(|error| ConfigError::new(error.to_string()))?;
        format!("key_{}", *drawn).parse()
    }
}

impl FromStr for KeyId {
    type Err = ConfigError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        if !(1..=128).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::new("a key id is 1 to 128 characters of visible ASCII"));
        }
        Ok(Self(id.into()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
