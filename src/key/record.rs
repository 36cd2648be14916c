use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    key::{Digest, Grant, KeyId, Status, last_used::LastUsed, revocation::SignalCell},
    name::Name,
};

/// All that a store knows of one key. It holds the digest, never the key.
///
/// Records are immutable and shared; a change is a new record in place of the old.
///
/// # Example
/// ```
/// use std::time::SystemTime;
/// use tower_authz::{ApiKey, Grant, KeyRecord, Status};
///
/// let digest = ApiKey::new("l64_abc12345_0123456789abcdef0123456789abcdef").digest();
/// let record = KeyRecord::builder("l64_abc12345".parse()?, digest)
///     .name("prod-2026-05")
///     .grant(Grant::builder().read("products").build()?)
///     .build();
/// assert_eq!(record.status(SystemTime::now()), Status::Active);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)] // in this order: what every request reads comes first, close together, as each cache line is waited for
pub struct KeyRecord {
    pub(super) grant: Arc<Grant>,
    pub(super) last_used: LastUsed,
    pub(super) signal: SignalCell,
    pub(super) revoked_at: Option<SystemTime>,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) not_before: Option<SystemTime>,
    pub(super) digest: Digest,
    pub(super) tenant: Option<Name>,
    pub(super) kind: Option<Name>,
    pub(super) id: KeyId,
    pub(super) name: Box<str>,
    pub(super) created_at: Option<SystemTime>,
    pub(super) revocation_reason: Option<Box<str>>,
    pub(super) replaces: Option<KeyId>,
    pub(super) replaced_by: Option<KeyId>,
    pub(super) version: u64,
}

impl KeyRecord {
    /// A record to fill, with an empty grant.
    pub fn builder(id: KeyId, digest: Digest) -> KeyRecordBuilder {
        KeyRecordBuilder(Self {
            id,
            digest,
            name: Box::default(),
            kind: None,
            tenant: None,
            created_at: None,
            not_before: None,
            expires_at: None,
            revoked_at: None,
            revocation_reason: None,
            replaces: None,
            replaced_by: None,
            grant: Arc::default(),
            version: 1,
            last_used: LastUsed::default(),
            signal: SignalCell::default(),
        })
    }

    /// A copy to change, one version newer.
    pub(crate) fn revise(&self) -> KeyRecordBuilder {
        let mut copy = self.clone();
        // The last version has none after it: a store then finds that nothing is newer, and refuses the change.
        copy.version = copy.version.saturating_add(1);
        KeyRecordBuilder(copy)
    }

    /// The same record as another store has it: its first version, in which `date` changes every date.
    pub(crate) fn imported<E>(
        &self,
        date: impl Fn(Option<SystemTime>) -> Result<Option<SystemTime>, E>,
    ) -> Result<Self, E> {
        let mut copy = Self { version: 1, ..self.clone() };
        for each in [&mut copy.created_at, &mut copy.not_before, &mut copy.expires_at, &mut copy.revoked_at] {
            *each = date(*each)?;
        }
        Ok(copy)
    }

    /// Every text of the record beside its grant, with the name of its field. None may contain a whole key.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        // INVARIANT: every field is named here, so that a new text cannot be forgotten.
        let Self {
            id,
            name,
            kind,
            tenant,
            revocation_reason,
            grant: _,
            last_used: _,
            signal: _,
            revoked_at: _,
            expires_at: _,
            not_before: _,
            digest: _,
            created_at: _,
            replaces,
            replaced_by,
            version: _,
        } = self;
        let texts = [
            ("id", Some(id.as_str())),
            ("name", Some(&**name)),
            ("kind", kind.as_ref().map(Name::as_str)),
            ("tenant", tenant.as_ref().map(Name::as_str)),
            ("revocation_reason", revocation_reason.as_deref()),
            ("replaces", replaces.as_ref().map(KeyId::as_str)),
            ("replaced_by", replaced_by.as_ref().map(KeyId::as_str)),
        ];
        texts.into_iter().filter_map(|(field, text)| Some((field, text?)))
    }

    /// The key's public id.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// The digest of the whole key.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The name that people gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind (`admin`, `runtime`), if it has one. Kinds are not interchangeable.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_ref().map(Name::as_str)
    }

    /// The tenant that it belongs to, if any.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_ref().map(Name::as_str)
    }

    /// When the key was issued, if that is known.
    #[must_use]
    pub const fn created_at(&self) -> Option<SystemTime> {
        self.created_at
    }

    /// From when on it can be used.
    #[must_use]
    pub const fn not_before(&self) -> Option<SystemTime> {
        self.not_before
    }

    /// From when on it can no longer be used.
    #[must_use]
    pub const fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// When it was revoked.
    #[must_use]
    pub const fn revoked_at(&self) -> Option<SystemTime> {
        self.revoked_at
    }

    /// Why it was revoked, in the words of whoever did.
    #[must_use]
    pub fn revocation_reason(&self) -> Option<&str> {
        self.revocation_reason.as_deref()
    }

    /// The key whose place it took, if it came of a rotation.
    #[must_use]
    pub const fn replaces(&self) -> Option<&KeyId> {
        self.replaces.as_ref()
    }

    /// The key that took its place, if it was rotated.
    #[must_use]
    pub const fn replaced_by(&self) -> Option<&KeyId> {
        self.replaced_by.as_ref()
    }

    /// The access that the key has.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(crate) fn shared_grant(&self) -> Arc<Grant> {
        Arc::clone(&self.grant)
    }

    /// When it was last used for a request, to the second; none if never, as far as is known. In
    /// memory it is exact; the durable stores write it down within a minute.
    #[must_use]
    pub fn last_used(&self) -> Option<SystemTime> {
        self.last_used.get()
    }

    pub(crate) const fn signal_cell(&self) -> &SignalCell {
        &self.signal
    }

    /// Notes a use. Only the first use in a second writes: the others leave the cache line alone.
    pub(crate) fn mark_used(&self, now: SystemTime) {
        self.last_used.mark(now);
    }

    /// Rises by one with every change; a store never replaces a record by an older one.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether the status may be another one within a few seconds of this moment: then it matters what time it is
    /// exactly.
    pub(crate) fn is_turning(&self, now: SystemTime) -> bool {
        const FEW: Duration = Duration::from_secs(3);
        let apart = |date: SystemTime| date.duration_since(now).unwrap_or_else(|ago| ago.duration());
        [self.expires_at, self.not_before].into_iter().flatten().any(|date| apart(date) <= FEW)
    }

    /// Whether the key can be used at this moment.
    ///
    /// A revoked key is revoked whatever the clock says: a clock that is set back brings nothing to
    /// life again.
    #[must_use]
    pub fn status(&self, now: SystemTime) -> Status {
        if self.revoked_at.is_some() {
            Status::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Status::Expired
        } else if self.not_before.is_some_and(|start| now < start) {
            Status::NotYetValid
        } else {
            Status::Active
        }
    }
}

/// Fills a [`KeyRecord`].
#[derive(Clone, Debug)]
#[must_use = "a record is made by `build`"]
pub struct KeyRecordBuilder(KeyRecord);

impl KeyRecordBuilder {
    /// A name for people.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = name.into().into();
        self
    }

    /// The kind of key.
    pub fn kind(mut self, kind: impl Into<Option<String>>) -> Self {
        self.0.kind = kind.into().map(Name::from);
        self
    }

    /// The tenant that the key belongs to.
    pub fn tenant(mut self, tenant: impl Into<Option<String>>) -> Self {
        self.0.tenant = tenant.into().map(Name::from);
        self
    }

    /// When it was issued.
    pub fn created_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.0.created_at = time.into();
        self
    }

    /// When it begins.
    pub fn not_before(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.0.not_before = time.into();
        self
    }

    /// When it ends; at that very moment it is expired.
    pub fn expires_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.0.expires_at = time.into();
        self
    }

    /// When it was revoked. Once set it stays: `None`, or another time, changes nothing.
    pub fn revoked_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.0.revoked_at = self.0.revoked_at.or(time.into());
        self
    }

    /// Why it was revoked.
    pub fn revocation_reason(mut self, reason: impl Into<Option<String>>) -> Self {
        self.0.revocation_reason = reason.into().map(Into::into);
        self
    }

    /// The key whose place it takes.
    pub fn replaces(mut self, id: impl Into<Option<KeyId>>) -> Self {
        self.0.replaces = id.into();
        self
    }

    /// The key that took its place.
    pub fn replaced_by(mut self, id: impl Into<Option<KeyId>>) -> Self {
        self.0.replaced_by = id.into();
        self
    }

    /// Sets the access that the key has. Keys with the same grant can share it, as an `Arc`.
    pub fn grant(mut self, grant: impl Into<Arc<Grant>>) -> Self {
        self.0.grant = grant.into();
        self
    }

    /// When it was last used.
    pub fn last_used(self, time: impl Into<Option<SystemTime>>) -> Self {
        if let Some(time) = time.into() {
            self.0.last_used.mark(time);
        }
        self
    }

    /// Which version of the record this is; a new one is the first.
    pub(crate) const fn version(mut self, version: u64) -> Self {
        self.0.version = version;
        self
    }

    /// The record.
    #[must_use]
    pub fn build(self) -> KeyRecord {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn status_at_the_edges() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let record =
            KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).not_before(at(100)).expires_at(at(200));
        let fresh = record.clone().build();
        for (now, status) in
            [(99, Status::NotYetValid), (100, Status::Active), (199, Status::Active), (200, Status::Expired)]
        {
            assert_eq!(fresh.status(at(now)), status, "{now}");
        }
        for (now, turning) in
            [(96, false), (97, true), (103, true), (104, false), (196, false), (200, true), (204, false)]
        {
            assert_eq!(fresh.is_turning(at(now)), turning, "{now}");
        }
        let revoked = record.revoked_at(at(150)).build();
        for now in [0, 100, 150, 300] {
            assert_eq!(revoked.status(at(now)), Status::Revoked);
        }
        assert_eq!(revoked.revise().revoked_at(None).build().status(at(120)), Status::Revoked, "terminal");
    }
}
