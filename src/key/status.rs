use std::fmt;

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
