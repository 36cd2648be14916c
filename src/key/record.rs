use std::{fmt, sync::Arc, time::SystemTime};

use ecow::EcoString;

use crate::{
    key::{
        Digest, Grant, KeyId, KeyRecordBuilder, Metadata, Status,
        cold::{Cold, is_near},
        last_used::LastUsed,
        packed_time::PackedTime,
        revocation::SignalCell,
        role::RoleRefs,
    },
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
#[derive(Clone, PartialEq, Eq)]
#[repr(C)] // in this order: what every request reads comes first, close together, as each cache line is waited for
pub struct KeyRecord {
    pub(super) grant: Arc<Grant>,
    pub(super) last_used: LastUsed,
    pub(super) signal: SignalCell,
    pub(super) end: End,
    pub(super) digest: Digest,
    pub(super) kind_and_tenant: Option<Arc<KindAndTenant>>,
    /// INVARIANT: `None` if it would be empty, so that records with equal fields are equal.
    pub(super) cold: Option<Box<Cold>>,
    pub(super) id: KeyId,
    pub(super) name: EcoString,
    pub(super) created_at: PackedTime,
    pub(super) version: u64,
}

/// When a key can no longer be used. It is not packed, because most requests compare it with the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Never,
    At(SystemTime),
    /// The key has a beginning, is suspended or was revoked: the dates in the cold part decide.
    Elsewhere,
}

/// The names that requests are compared with. Many keys have the same, and share them when a store has loaded them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct KindAndTenant {
    pub(super) kind: Option<Name>,
    pub(super) tenant: Option<Name>,
}

impl KeyRecord {
    /// A record to fill, with an empty grant.
    pub fn builder(id: KeyId, digest: Digest) -> KeyRecordBuilder {
        KeyRecordBuilder::new(id, digest)
    }

    /// A copy to change, of the same version.
    pub(super) fn to_builder(&self) -> KeyRecordBuilder {
        KeyRecordBuilder {
            id: self.id.clone(),
            digest: self.digest,
            name: self.name.clone(),
            kind: self.kind_and_tenant.as_ref().and_then(|both| both.kind.clone()),
            tenant: self.kind_and_tenant.as_ref().and_then(|both| both.tenant.clone()),
            created_at: self.created_at(),
            not_before: self.not_before(),
            expires_at: self.expires_at(),
            suspended_at: self.suspended_at(),
            revoked_at: self.revoked_at(),
            revocation_reason: self.revocation_reason().map(Into::into),
            replaces: self.replaces().cloned(),
            replaced_by: self.replaced_by().cloned(),
            metadata: self.cold.as_ref().and_then(|cold| cold.metadata.clone()).unwrap_or_default(),
            roles: self.role_names().into(),
            grant: self.role_refs().map_or(&self.grant, |refs| &refs.own).clone(),
            expanded: self.role_refs().map(|_| self.shared_grant()),
            version: self.version,
            last_used: self.last_used.clone(),
        }
    }

    /// A copy to change, one version newer.
    pub(crate) fn revise(&self) -> KeyRecordBuilder {
        // The last version has none after it: a store then finds that nothing is newer, and refuses the change.
        self.to_builder().version(self.version.saturating_add(1))
    }

    /// The same record as another store has it: its first version, in which `date` changes every date.
    pub(crate) fn imported<E>(
        &self,
        date: impl Fn(Option<SystemTime>) -> Result<Option<SystemTime>, E>,
    ) -> Result<Self, E> {
        let mut copy = self.to_builder().version(1);
        let KeyRecordBuilder { created_at, not_before, expires_at, suspended_at, revoked_at, .. } = &mut copy;
        for each in [created_at, not_before, expires_at, suspended_at, revoked_at] {
            *each = date(*each)?;
        }
        Ok(copy.build())
    }

    /// Every text of the record beside its grant, with the name of its field. None may contain a whole key.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        // INVARIANT: every field is named here, so that a new text cannot be forgotten.
        let Self {
            id,
            name,
            kind_and_tenant: _, // by their getters
            cold,
            grant: _,
            last_used: _,
            signal: _,
            end: _,
            digest: _,
            created_at: _,
            version: _,
        } = self;
        let texts =
            [("id", Some(id.as_str())), ("name", Some(&**name)), ("kind", self.kind()), ("tenant", self.tenant())];
        let cold = cold.iter().flat_map(|cold| cold.texts());
        texts.into_iter().filter_map(|(field, text)| Some((field, text?))).chain(cold)
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
        self.kind_and_tenant.as_ref()?.kind.as_ref().map(Name::as_str)
    }

    /// The tenant that it belongs to, if any.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.kind_and_tenant.as_ref()?.tenant.as_ref().map(Name::as_str)
    }

    /// When the key was issued, if that is known.
    #[must_use]
    pub fn created_at(&self) -> Option<SystemTime> {
        match self.created_at {
            PackedTime::ELSEWHERE => self.cold.as_ref()?.created_at,
            packed => packed.time(),
        }
    }

    /// From when on it can be used.
    #[must_use]
    pub fn not_before(&self) -> Option<SystemTime> {
        self.cold.as_ref()?.not_before
    }

    /// From when on it can no longer be used.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        match self.end {
            End::Never => None,
            End::At(end) => Some(end),
            End::Elsewhere => self.cold.as_ref()?.expires_at,
        }
    }

    /// When it was suspended, if it is.
    #[must_use]
    pub fn suspended_at(&self) -> Option<SystemTime> {
        self.cold.as_ref()?.suspended_at
    }

    /// When it was revoked.
    #[must_use]
    pub fn revoked_at(&self) -> Option<SystemTime> {
        self.cold.as_ref()?.revoked_at
    }

    /// Why it was revoked, in the words of whoever did.
    #[must_use]
    pub fn revocation_reason(&self) -> Option<&str> {
        self.cold.as_ref()?.revocation_reason.as_deref()
    }

    /// The key whose place it took, if it came of a rotation.
    #[must_use]
    pub fn replaces(&self) -> Option<&KeyId> {
        self.cold.as_ref()?.replaces.as_ref()
    }

    /// The key that took its place, if it was rotated.
    #[must_use]
    pub fn replaced_by(&self) -> Option<&KeyId> {
        self.cold.as_ref()?.replaced_by.as_ref()
    }

    /// The owner, the note and the labels.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.cold.as_ref().and_then(|cold| cold.metadata.as_deref()).unwrap_or(Metadata::NONE)
    }

    /// The access that the key has, with that of its roles.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The part of the grant that is the key's own, beside that of its roles.
    #[must_use]
    pub fn own_grant(&self) -> &Grant {
        self.role_refs().map_or(&self.grant, |refs| &refs.own)
    }

    /// The names of its roles.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = &str> {
        self.role_names().iter().map(Name::as_str)
    }

    fn role_names(&self) -> &[Name] {
        self.role_refs().map_or(&[], |refs| &refs.names)
    }

    pub(super) fn role_refs(&self) -> Option<&Arc<RoleRefs>> {
        self.cold.as_ref()?.roles.as_ref()
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
    #[inline]
    pub(crate) fn is_turning(&self, now: SystemTime) -> bool {
        match (self.end, &self.cold) {
            (End::Never, _) => false,
            (End::At(end), _) => is_near(end, now),
            (End::Elsewhere, cold) => cold.as_ref().is_some_and(|cold| cold.is_turning(now)),
        }
    }

    /// Whether the key has expired, by a clock that is only asked if it expires at all.
    #[inline]
    pub(super) fn has_expired(&self, now: impl FnOnce() -> SystemTime) -> bool {
        match self.end {
            End::Never => false,
            End::At(end) => end <= now(),
            End::Elsewhere => self.expires_at().is_some_and(|end| end <= now()),
        }
    }

    /// Whether the key can be used at this moment.
    ///
    /// A revoked key is revoked whatever the clock says: a clock that is set back brings nothing to
    /// life again.
    #[must_use]
    #[inline]
    pub fn status(&self, now: SystemTime) -> Status {
        match (self.end, &self.cold) {
            (End::Never, _) => Status::Active,
            (End::At(end), _) if end <= now => Status::Expired,
            (End::At(_), _) => Status::Active,
            (End::Elsewhere, Some(cold)) => cold.status(now),
            // INVARIANT: the cold part is there. If not, nobody is admitted.
            (End::Elsewhere, None) => Status::Expired,
        }
    }
}

/// Shows the fields as they were given.
impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRecord").field(&self.to_builder()).finish()
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

    /// Whatever the form in which a record keeps its fields, they come back as they were given.
    #[test]
    fn what_was_given_is_what_is_read() {
        let far = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let dates = [
            None,
            Some(UNIX_EPOCH),
            Some(UNIX_EPOCH - Duration::new(1, 5)),
            Some(UNIX_EPOCH + Duration::new(1_800_000_000, 123_456_789)),
            Some(far),
        ];
        let builder = || KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k"));
        for created in dates {
            for start in dates {
                for end in dates {
                    let fresh = || builder().created_at(created).not_before(start).expires_at(end);
                    for revoked in [None, Some(far)] {
                        let record = fresh().revoked_at(revoked).build();
                        let read = (record.created_at(), record.not_before(), record.expires_at(), record.revoked_at());
                        assert_eq!(read, (created, start, end, revoked));
                        assert_eq!(record.to_builder().build(), record);
                        assert_eq!(record == fresh().build(), revoked.is_none());
                        let expected = match (revoked, end, start) {
                            (Some(_), ..) => Status::Revoked,
                            (_, Some(end), _) if end <= UNIX_EPOCH => Status::Expired,
                            (_, _, Some(start)) if start > UNIX_EPOCH => Status::NotYetValid,
                            _ => Status::Active,
                        };
                        assert_eq!(record.status(UNIX_EPOCH), expected, "{record:?}");
                    }
                }
            }
        }
        let full = builder().kind("admin".to_owned()).revocation_reason("lost".to_owned());
        let full = full.name("a name that is longer than fifteen bytes").replaces("a".parse::<KeyId>().unwrap());
        let full = full.replaced_by("b".parse::<KeyId>().unwrap()).build();
        let texts: Vec<_> = full.texts().map(|(field, _)| field).collect();
        assert_eq!(texts, ["id", "name", "kind", "revocation_reason", "replaces", "replaced_by"]);
        assert_eq!(full.to_builder().build(), full);
    }
}
