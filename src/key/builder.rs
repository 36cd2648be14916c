use std::{sync::Arc, time::SystemTime};

use ecow::EcoString;

use crate::{
    key::{
        Digest, Grant, KeyId, KeyRecord, Metadata,
        cold::Cold,
        last_used::LastUsed,
        packed_time::PackedTime,
        record::{End, KindAndTenant},
        revocation::SignalCell,
        role::RoleRefs,
    },
    name::Name,
};

/// Fills a [`KeyRecord`].
#[derive(Clone, Debug)]
#[must_use = "a record is made by `build`"]
pub struct KeyRecordBuilder {
    pub(super) id: KeyId,
    pub(super) digest: Digest,
    pub(super) name: EcoString,
    pub(super) kind: Option<Name>,
    pub(super) tenant: Option<Name>,
    pub(super) created_at: Option<SystemTime>,
    pub(super) not_before: Option<SystemTime>,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) suspended_at: Option<SystemTime>,
    pub(super) revoked_at: Option<SystemTime>,
    pub(super) revocation_reason: Option<Box<str>>,
    pub(super) replaces: Option<KeyId>,
    pub(super) replaced_by: Option<KeyId>,
    pub(super) metadata: Arc<Metadata>,
    pub(super) roles: Box<[Name]>,
    /// The key's own grant.
    pub(super) grant: Arc<Grant>,
    /// The grant of a key with roles, once they are expanded.
    pub(super) expanded: Option<Arc<Grant>>,
    pub(super) version: u64,
    pub(super) last_used: LastUsed,
}

impl KeyRecordBuilder {
    pub(super) fn new(id: KeyId, digest: Digest) -> Self {
        Self {
            id,
            digest,
            name: EcoString::new(),
            kind: None,
            tenant: None,
            created_at: None,
            not_before: None,
            expires_at: None,
            suspended_at: None,
            revoked_at: None,
            revocation_reason: None,
            replaces: None,
            replaced_by: None,
            metadata: Arc::default(),
            roles: Box::default(),
            grant: Arc::default(),
            expanded: None,
            version: 1,
            last_used: LastUsed::default(),
        }
    }

    /// A name for people.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into().into();
        self
    }

    /// The kind of key.
    pub fn kind(mut self, kind: impl Into<Option<String>>) -> Self {
        self.kind = kind.into().map(Name::from);
        self
    }

    /// The tenant that the key belongs to.
    pub fn tenant(mut self, tenant: impl Into<Option<String>>) -> Self {
        self.tenant = tenant.into().map(Name::from);
        self
    }

    /// When it was issued.
    pub fn created_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.created_at = time.into();
        self
    }

    /// When it begins.
    pub fn not_before(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.not_before = time.into();
        self
    }

    /// When it ends; at that very moment it is expired.
    pub fn expires_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.expires_at = time.into();
        self
    }

    /// When it was suspended; `None` resumes it.
    pub fn suspended_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.suspended_at = time.into();
        self
    }

    /// When it was revoked. Once set it stays: `None`, or another time, changes nothing.
    pub fn revoked_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.revoked_at = self.revoked_at.or(time.into());
        self
    }

    /// Why it was revoked.
    pub fn revocation_reason(mut self, reason: impl Into<Option<String>>) -> Self {
        self.revocation_reason = reason.into().map(Into::into);
        self
    }

    /// The key whose place it takes.
    pub fn replaces(mut self, id: impl Into<Option<KeyId>>) -> Self {
        self.replaces = id.into();
        self
    }

    /// The key that took its place.
    pub fn replaced_by(mut self, id: impl Into<Option<KeyId>>) -> Self {
        self.replaced_by = id.into();
        self
    }

    /// The owner, the note and the labels.
    pub fn metadata(mut self, metadata: impl Into<Arc<Metadata>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Sets the access that the key has. Keys with the same grant can share it, as an `Arc`.
    pub fn grant(mut self, grant: impl Into<Arc<Grant>>) -> Self {
        self.grant = grant.into();
        self.expanded = None;
        self
    }

    /// The roles of the store that the key refers to. Its grant is then its own part, beside that of its roles. Only a store
    /// knows what its roles are: until one has taken the record over, a key with roles may do nothing.
    pub fn roles<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.roles = names.into_iter().map(|name| Name::from(name.into())).collect();
        self.expanded = None;
        self
    }

    /// When it was last used.
    pub fn last_used(self, time: impl Into<Option<SystemTime>>) -> Self {
        if let Some(time) = time.into() {
            self.last_used.mark(time);
        }
        self
    }

    /// Which version of the record this is; a new one is the first.
    pub(crate) const fn version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// The record.
    #[must_use]
    pub fn build(self) -> KeyRecord {
        let Self {
            id,
            digest,
            name,
            kind,
            tenant,
            created_at,
            not_before,
            expires_at,
            suspended_at,
            revoked_at,
            revocation_reason,
            replaces,
            replaced_by,
            metadata,
            roles,
            grant,
            expanded,
            version,
            last_used,
        } = self;
        let packed_creation = PackedTime::new(created_at);
        let end = match (not_before, suspended_at.or(revoked_at), expires_at) {
            (None, None, None) => End::Never,
            (None, None, Some(end)) => End::At(end),
            _ => End::Elsewhere,
        };
        let cold = Cold {
            created_at: created_at.filter(|_| packed_creation == PackedTime::ELSEWHERE),
            not_before,
            expires_at: expires_at.filter(|_| end == End::Elsewhere),
            suspended_at,
            revoked_at,
            revocation_reason,
            replaces,
            replaced_by,
            metadata: Some(metadata).filter(|metadata| !metadata.is_empty()),
            roles: (!roles.is_empty()).then(|| Arc::new(RoleRefs { names: roles, own: Arc::clone(&grant) })),
        };
        let grant = match (&cold.roles, expanded) {
            (None, _) => grant,
            (Some(_), Some(expanded)) => expanded,
            (Some(_), None) => Arc::default(),
        };
        KeyRecord {
            grant,
            last_used,
            signal: SignalCell::default(),
            end,
            digest,
            kind_and_tenant: match (&kind, &tenant) {
                (None, None) => None,
                _ => Some(Arc::new(KindAndTenant { kind, tenant })),
            },
            cold: (cold != Cold::default()).then(|| Box::new(cold)),
            id,
            name,
            created_at: packed_creation,
            version,
        }
    }
}
