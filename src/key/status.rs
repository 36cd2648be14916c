use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::ConfigError;

/// Whether a key can be used at some moment, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It can.
    Active,
    /// Its first moment has not come.
    NotYetValid,
    /// Its last moment has passed. A key is expired at `expires_at` itself.
    Expired,
    /// It was switched off, until somebody resumes it.
    Suspended,
    /// It was revoked, and stays so.
    Revoked,
}

impl Status {
    const ALL: [Self; 5] = [Self::Active, Self::NotYetValid, Self::Expired, Self::Suspended, Self::Revoked];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::NotYetValid => "not-yet-valid",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        })
    }
}

/// Parses the text that [`Display`](fmt::Display) writes: `not-yet-valid`.
impl FromStr for Status {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|known| known.to_string() == text).ok_or_else(|| {
            let known = Self::ALL.map(|known| known.to_string()).join(", ");
            ConfigError::new(format!("unknown status, expected one of {known}"))
        })
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for status in Status::ALL {
            assert_eq!(status.to_string().parse::<Status>().unwrap(), status);
            let json = serde_json::to_string(&status).unwrap();
            assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
        }
        for text in ["", "Active", "notyetvalid", "gone"] {
            assert!(text.parse::<Status>().is_err(), "{text}");
        }
    }
}
