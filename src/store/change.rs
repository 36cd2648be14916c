//! Changes to keys, as data: what every store carries out.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    error::ConfigError,
    key::{ApiKey, Grant, KeyId, KeyRecord, Metadata},
    store::{StoreSettings, ceiling::Ceiling},
};

/// A change to keys, before it is applied.
#[derive(Debug)]
pub(crate) enum Change {
    Issue(NewKey),
    Import(Vec<KeyRecord>),
    Rename {
        id: KeyId,
        name: String,
    },
    Metadata {
        id: KeyId,
        change: Modify<Metadata>,
    },
    Grant {
        id: KeyId,
        change: Modify<Grant>,
    },
    Roles {
        id: KeyId,
        change: Modify<Vec<String>>,
    },
    Expiry {
        id: KeyId,
        expires_at: Option<SystemTime>,
    },
    Rotate {
        id: KeyId,
        rotation: Rotation,
    },
    Suspend {
        id: KeyId,
        reason: String,
    },
    Resume {
        id: KeyId,
    },
    Revoke {
        id: KeyId,
        reason: String,
    },
    RevokeOwner {
        owner: String,
        reason: String,
    },
    Delete {
        id: KeyId,
    },
    Purge {
        ended_before: SystemTime,
    },
    PruneAudit {
        before: SystemTime,
    },
    Settings(Modify<StoreSettings>),
    /// Without a grant the role is deleted.
    Role {
        name: String,
        grant: Option<Grant>,
    },
    /// The change of an actor that is bound to ceilings.
    Within {
        ceilings: Vec<Ceiling>,
        change: Box<Self>,
    },
}

impl Change {
    /// The ceilings that bound the change, and the change itself.
    pub(crate) fn unbound(&self) -> (&[Ceiling], &Self) {
        match self {
            Self::Within { ceilings, change } => (ceilings, change),
            unbound => (&[], unbound),
        }
    }

    /// The same change, if it can be tried again: one that draws an id, which another key may have got meanwhile.
    pub(crate) fn redrawn(&self) -> Option<Self> {
        Some(match self {
            Self::Issue(new) => Self::Issue(new.clone()),
            Self::Rotate { id, rotation } => Self::Rotate { id: id.clone(), rotation: *rotation },
            Self::Within { ceilings, change } => {
                Self::Within { ceilings: ceilings.clone(), change: Box::new(change.redrawn()?) }
            }
            _ => return None,
        })
    }
}

/// The actor of a change, as the audit log names it.
#[derive(Clone, Debug)]
#[expect(unnameable_types, reason = "only stores read it")]
pub struct ActorInfo {
    pub(crate) name: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) request_id: Option<String>,
}

/// Makes something new of something old. It is called once, when nobody else can change the old one any more.
pub(crate) struct Modify<T>(Box<Make<T>>);

type Make<T> = dyn FnOnce(&T) -> Result<T, ConfigError> + Send;

impl<T> Modify<T> {
    pub(crate) fn by(change: impl FnOnce(&T) -> Result<T, ConfigError> + Send + 'static) -> Self {
        Self(Box::new(change))
    }

    pub(crate) fn make(self, old: &T) -> Result<T, ConfigError> {
        self.0(old)
    }
}

impl<T> fmt::Debug for Modify<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Modify")
    }
}

/// The properties of a key to be issued.
#[derive(Clone, Debug)]
#[must_use = "a key is issued by a store"]
pub struct NewKey {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) metadata: Metadata,
    pub(crate) roles: Vec<String>,
    pub(crate) grant: Arc<Grant>,
}

impl NewKey {
    /// A key with a name for people, and what it may do.
    pub fn new(name: impl Into<String>, grant: impl Into<Arc<Grant>>) -> Self {
        Self {
            name: name.into(),
            kind: None,
            tenant: None,
            not_before: None,
            expires_at: None,
            metadata: Metadata::new(),
            roles: Vec::new(),
            grant: grant.into(),
        }
    }

    /// Its kind.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// The tenant that it belongs to.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The owner, see [`Metadata::with_owner`].
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.metadata = self.metadata.with_owner(owner);
        self
    }

    /// The owner, the note and the labels.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The [roles](StoreSettings#roles) that it refers to, beside its own grant.
    pub fn roles<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.roles = names.into_iter().map(Into::into).collect();
        self
    }

    /// When it begins; by default at once.
    pub const fn not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Some(time);
        self
    }

    /// When it ends; by default never.
    pub const fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// The same as an existing key.
    pub(crate) fn like(record: &KeyRecord) -> Self {
        Self {
            name: record.name().to_owned(),
            kind: record.kind().map(str::to_owned),
            tenant: record.tenant().map(str::to_owned),
            not_before: record.not_before(),
            expires_at: record.expires_at(),
            metadata: record.metadata().clone(),
            roles: record.roles().map(str::to_owned).collect(),
            grant: record.own_grant().clone().into(),
        }
    }
}

/// A key that was just issued: the one time that it is in the clear.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedKey {
    /// The whole key. Hand it over and forget it; the store keeps only its digest.
    pub api_key: ApiKey,
    /// The record that the store has of it.
    pub record: Arc<KeyRecord>,
    /// Of a rotation: the key whose place it takes, as it is now.
    pub replaced: Option<Arc<KeyRecord>>,
    /// Settings that are allowed, but hardly meant: a grant without permissions, a network that is everyone, a
    /// resource that demands networks for a key that has none. For people to read.
    pub warnings: Vec<String>,
    /// Which replicas know of it by now.
    pub propagation: Propagation,
}

/// A key that was just changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Changed {
    /// The record as it is now; of a deleted key, its last record. None if its record cannot be read.
    pub record: Option<Arc<KeyRecord>>,
    /// False if it was so already: a key that had been revoked before.
    pub changed: bool,
    /// As [`IssuedKey::warnings`].
    pub warnings: Vec<String>,
    /// Which replicas know of it by now.
    pub propagation: Propagation,
}

/// The keys of an owner, revoked by one change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RevokedKeys {
    /// The keys that were revoked now.
    pub records: Vec<Arc<KeyRecord>>,
    /// How many keys of the owner there are whose records cannot be read; they are revoked as well.
    pub unreadable: usize,
    /// How many had been revoked before.
    pub unchanged: usize,
    /// Which replicas know of it by now.
    pub propagation: Propagation,
}

/// A role that was just changed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RoleChanged {
    /// How many keys refer to it.
    pub keys: usize,
    /// False if it was so already.
    pub changed: bool,
    /// As [`IssuedKey::warnings`].
    pub warnings: Vec<String>,
    /// Which replicas know of it by now.
    pub propagation: Propagation,
}

/// How far a change has got when it returns: with a store that several replicas share, every one of them knows
/// of it, or has lost its lease and admits nobody. Elsewhere there is nothing to wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Propagation {
    /// How long that took after the change was made.
    pub waited: Duration,
    /// The names of the replicas that were not heard of until their leases had run out: paused, cut off or
    /// dead.
    pub unacknowledged: Vec<String>,
}

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Keys that are new.
    pub added: usize,
    /// Keys that were there already, by their digest. They are left as they are.
    pub skipped: usize,
    /// Keys that were revoked here once, and stay so, though they may be forgotten.
    pub refused: usize,
}

/// How long the old key lives when a key is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// Until somebody revokes it.
    UntilRevoked,
    /// For this long, or until it would have expired anyway.
    For(Duration),
}

/// How a key is rotated: how long the old one lives, and until when the new one. An [`Overlap`] alone is a rotation whose new
/// key lives as long as the old one was issued for.
///
/// # Example
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_authz::store::{Overlap, Rotation};
///
/// let day = Duration::from_secs(86_400);
/// let same_length = Rotation::new(Overlap::For(day));
/// let ninety_days = same_length.expires_at(SystemTime::now() + 90 * day);
/// let for_good = same_length.never_expires();
/// # let _ = (ninety_days, for_good);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a rotation is given to a store"]
pub struct Rotation {
    pub(crate) overlap: Overlap,
    pub(crate) end: NewEnd,
}

/// When the new key of a rotation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewEnd {
    SameLength,
    At(SystemTime),
    Never,
}

impl Rotation {
    /// The new key lives as long as the old one was issued for, counted from now: a key that was issued for 90 days and is
    /// rotated on its last day gives one that lives 90 days. A key without an end gives one without an end.
    pub const fn new(overlap: Overlap) -> Self {
        Self { overlap, end: NewEnd::SameLength }
    }

    /// The new key ends at this time.
    pub const fn expires_at(mut self, time: SystemTime) -> Self {
        self.end = NewEnd::At(time);
        self
    }

    /// The new key has no end.
    pub const fn never_expires(mut self) -> Self {
        self.end = NewEnd::Never;
        self
    }
}

impl From<Overlap> for Rotation {
    fn from(overlap: Overlap) -> Self {
        Self::new(overlap)
    }
}

/// The result of a change.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) records: Vec<Arc<KeyRecord>>,
    pub(crate) api_key: Option<ApiKey>,
    pub(crate) warnings: Vec<String>,
    pub(crate) count: usize,
    pub(crate) skipped: usize,
    pub(crate) refused: usize,
    pub(crate) unreadable: usize,
    pub(crate) propagation: Propagation,
    /// Whether anything was written.
    pub(crate) changed: bool,
}
