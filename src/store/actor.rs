//! The changes that somebody makes.

use std::{net::IpAddr, time::SystemTime};

use crate::{
    error::ConfigError,
    key::{Grant, KeyId, KeyRecord, Metadata},
    store::{
        Ceiling, Changed, Imported, IssuedKey, NewKey, RevokedKeys, RoleChanged, Rotation, StoreError, StoreSettings,
        admin::{Backend, BackendChange},
        change::{ActorInfo, Applied, Change, Modify},
        validate::validate_label,
    },
};

/// The changes that somebody makes; see [`KeyAdmin::as_actor`](crate::store::KeyAdmin::as_actor).
///
/// A future that is dropped before it is done may have made its change or not.
#[derive(Clone)]
pub struct Actor<'a> {
    backend: &'a dyn Backend,
    who: &'a str,
    address: Option<IpAddr>,
    request_id: Option<&'a str>,
    /// Each of them bounds the actor.
    ceilings: Vec<Ceiling>,
}

impl<'a> Actor<'a> {
    pub(super) const fn new(backend: &'a dyn Backend, who: &'a str) -> Self {
        Self { backend, who, address: None, request_id: None, ceilings: Vec::new() }
    }

    /// Sets the address that the actor makes changes from, for the audit log.
    #[must_use]
    pub fn from_address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Sets the id of the request that asks for the changes, for the audit log.
    #[must_use]
    pub fn with_request_id(mut self, id: &'a str) -> Self {
        self.request_id = Some(id);
        self
    }
}

impl Actor<'_> {
    /// Binds the actor to a [`Ceiling`]: a key of the store, its record, or a grant. It then issues, imports, widens and
    /// rotates nothing that is beyond, and changes, revokes or deletes only what is within: any other key is to it as
    /// if there were none. Settings stay as they are, and nothing is purged or pruned.
    ///
    /// It is for interfaces through which people and programs make keys for others: nobody can hand out more than he has
    /// himself. The ceiling is evaluated in the same transaction as the change. An actor that is bound twice is bound by
    /// both. What goes beyond is refused with [`Forbidden`](crate::store::StoreErrorKind::Forbidden), which says what.
    ///
    /// Ids and digests are unique in the store, so that an import can tell that one is taken. Methods that read are not on
    /// the actor: whoever shows keys decides which.
    ///
    /// # Example
    /// ```
    /// # futures::executor::block_on(async {
    /// use tower_authz::{Grant, store::{KeyAdmin, MemoryStore, NewKey, StoreErrorKind}};
    ///
    /// let store = MemoryStore::new();
    /// let grant = Grant::builder().write("orders").build()?;
    /// let own = store.as_actor("root").issue(NewKey::new("anna's", grant.clone())).await?.record;
    /// let anna = store.as_actor("anna").within(own.id().clone());
    /// let issued = anna.issue(NewKey::new("for a job", grant.clone())).await?;
    ///
    /// store.as_actor("root").revoke(own.id(), "she has left").await?;
    /// let error = anna.issue(NewKey::new("one more", grant)).await.unwrap_err();
    /// assert_eq!(error.kind(), StoreErrorKind::Forbidden);
    /// # drop(issued);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn within(mut self, ceiling: impl Into<Ceiling>) -> Self {
        self.ceilings.push(ceiling.into());
        self
    }

    async fn apply(&self, change: Change) -> Result<Applied, StoreError> {
        validate_label("who makes a change", self.who, 256)?;
        validate_label("the id of the request", self.request_id.unwrap_or_default(), 256)?;
        if self.who.is_empty() {
            return Err(StoreError::invalid("say who makes the change"));
        }
        let change = match self.ceilings.is_empty() {
            true => change,
            false => Change::Within { ceilings: self.ceilings.clone(), change: Box::new(change) },
        };
        let (name, request_id) = (self.who.to_owned(), self.request_id.map(str::to_owned));
        let who = ActorInfo { name, address: self.address, request_id };
        Ok(self.backend.apply(&who, BackendChange(change)).await?.0)
    }

    async fn change(&self, change: Change) -> Result<Changed, StoreError> {
        let Applied { mut records, warnings, changed, propagation, .. } = self.apply(change).await?;
        Ok(Changed { record: records.pop(), changed, warnings, propagation })
    }

    async fn secret(&self, change: Change) -> Result<IssuedKey, StoreError> {
        let Applied { records, api_key, warnings, propagation, .. } = self.apply(change).await?;
        let mut records = records.into_iter();
        match (records.next(), api_key) {
            (Some(record), Some(api_key)) => {
                Ok(IssuedKey { api_key, record, replaced: records.next(), warnings, propagation })
            }
            _ => Err(StoreError::unavailable("the store has issued no key")),
        }
    }

    /// Makes a key. Its id is unique in the store. It has the format of its kind, see
    /// [`KeyFormats`](crate::KeyFormats).
    ///
    /// # Errors
    /// If the grant is over a dimension that the store does not know, a date is beyond the year 9999,
    /// or the store or the system's random source fails.
    pub async fn issue(&self, new: NewKey) -> Result<IssuedKey, StoreError> {
        self.secret(Change::Issue(new)).await
    }

    /// Takes keys over that exist already, all of them or none. A key that is there already, by its
    /// digest, is left as it is, and one that was revoked here once does not come back.
    ///
    /// # Errors
    /// If a key has the id of another, or one that keys of another kind have, its grant could not be issued, or the store
    /// fails.
    pub async fn import(&self, records: impl IntoIterator<Item = KeyRecord>) -> Result<Imported, StoreError> {
        let records = records.into_iter().collect();
        let Applied { count, skipped, refused, .. } = self.apply(Change::Import(records)).await?;
        Ok(Imported { added: count, skipped, refused })
    }

    /// Gives a key another name.
    ///
    /// # Errors
    /// If there is no such key, or the store fails.
    pub async fn rename(&self, id: &KeyId, name: impl Into<String>) -> Result<Changed, StoreError> {
        self.change(Change::Rename { id: id.clone(), name: name.into() }).await
    }

    /// Replaces the owner, the note and the labels of a key.
    ///
    /// # Errors
    /// If there is no such key, a text is too long or holds a whole API key, or the store fails.
    pub async fn set_metadata(&self, id: &KeyId, metadata: Metadata) -> Result<Changed, StoreError> {
        self.change_metadata(id, move |_| Ok(metadata)).await
    }

    /// Makes other metadata of those of a key, without losing what somebody else changes at the same time. The function is
    /// called once, and must not block.
    ///
    /// # Errors
    /// As [`set_metadata`](Self::set_metadata), and if the function fails: then nothing is changed.
    pub async fn change_metadata(
        &self,
        id: &KeyId,
        change: impl FnOnce(&Metadata) -> Result<Metadata, ConfigError> + Send + 'static,
    ) -> Result<Changed, StoreError> {
        self.change(Change::Metadata { id: id.clone(), change: Modify::by(change) }).await
    }

    /// Replaces what a key may do. When this has returned, no request that begins later is judged by
    /// the old grant.
    ///
    /// # Errors
    /// If there is no such key, it is revoked, the grant could not be issued, or the store fails.
    pub async fn set_grant(&self, id: &KeyId, grant: Grant) -> Result<Changed, StoreError> {
        self.change_grant(id, move |_| Ok(grant)).await
    }

    /// Makes another grant of what a key may do, without losing what somebody else changes at the same
    /// time. The function is called once, and must not block.
    ///
    /// # Errors
    /// As [`set_grant`](Self::set_grant), and if the function fails: then nothing is changed.
    pub async fn change_grant(
        &self,
        id: &KeyId,
        change: impl FnOnce(&Grant) -> Result<Grant, ConfigError> + Send + 'static,
    ) -> Result<Changed, StoreError> {
        self.change(Change::Grant { id: id.clone(), change: Modify::by(change) }).await
    }

    /// Sets the roles that a key refers to, in place of those that it had. Its own grant stays as it is.
    ///
    /// # Errors
    /// If there is no such key or role, the key is revoked, or the store fails.
    pub async fn set_roles<T: Into<String>>(
        &self,
        id: &KeyId,
        names: impl IntoIterator<Item = T>,
    ) -> Result<Changed, StoreError> {
        let roles = names.into_iter().map(Into::into).collect();
        self.change_roles(id, move |_| Ok(roles)).await
    }

    /// Makes other roles of those that a key refers to, without losing what somebody else changes at the same time. The
    /// function is called once, and must not block.
    ///
    /// # Errors
    /// As [`set_roles`](Self::set_roles), and if the function fails: then nothing is changed.
    pub async fn change_roles(
        &self,
        id: &KeyId,
        change: impl FnOnce(&Vec<String>) -> Result<Vec<String>, ConfigError> + Send + 'static,
    ) -> Result<Changed, StoreError> {
        self.change(Change::Roles { id: id.clone(), change: Modify::by(change) }).await
    }

    /// Makes a role, or gives it another grant, for all keys that refer to it. When this has returned, no request that
    /// begins later is judged by the old grant; one that is in flight with a key that lost something is ended.
    ///
    /// # Errors
    /// If the name is malformed, the grant could not be issued, or the store fails.
    pub async fn set_role(&self, name: impl Into<String>, grant: Grant) -> Result<RoleChanged, StoreError> {
        self.role(Change::Role { name: name.into(), grant: Some(grant) }).await
    }

    /// Deletes a role that no key refers to.
    ///
    /// # Errors
    /// If there is no such role, a key refers to it, or the store fails.
    pub async fn delete_role(&self, name: impl Into<String>) -> Result<RoleChanged, StoreError> {
        self.role(Change::Role { name: name.into(), grant: None }).await
    }

    async fn role(&self, change: Change) -> Result<RoleChanged, StoreError> {
        let Applied { count, changed, warnings, propagation, .. } = self.apply(change).await?;
        Ok(RoleChanged { keys: count, changed, warnings, propagation })
    }

    /// Lets a key end at another time, or never. An earlier end takes effect as a narrower grant does: if it has come
    /// already, requests in flight are ended. Whether an expired key can be renewed, the settings of the store say
    /// ([`StoreSettings::with_renewal_of_expired`]); one that was rotated cannot, as its successor takes its place.
    ///
    /// # Errors
    /// If there is no such key, it is revoked, it has expired and cannot be renewed, the date is beyond the year 9999, or
    /// the store fails.
    pub async fn set_expiry(&self, id: &KeyId, end: impl Into<Option<SystemTime>>) -> Result<Changed, StoreError> {
        self.change(Change::Expiry { id: id.clone(), expires_at: end.into() }).await
    }

    /// Issues a key with the same name, kind, tenant, metadata and access, and lets the old one live as the
    /// [`Rotation`] says (an [`Overlap`](crate::store::Overlap) is enough for most). The new one lives as long as the old
    /// one was issued for, unless the rotation says otherwise. Of one key at most two secrets live: if the old key came of
    /// a rotation itself, the one before it ends at once.
    ///
    /// # Errors
    /// If there is no such key, it is revoked, suspended or expired already, the key that took its place lives, or
    /// the store fails.
    pub async fn rotate(&self, id: &KeyId, rotation: impl Into<Rotation>) -> Result<IssuedKey, StoreError> {
        self.secret(Change::Rotate { id: id.clone(), rotation: rotation.into() }).await
    }

    /// Switches a key off until somebody [resumes](Self::resume) it. Requests with it get 401, and those in flight are
    /// ended. A key that is suspended already stays as it is. The reason, which may be empty, stands in the audit log.
    ///
    /// # Errors
    /// If there is no such key, it is revoked, or the store fails: then assume that the key still lives.
    pub async fn suspend(&self, id: &KeyId, reason: impl Into<String>) -> Result<Changed, StoreError> {
        self.change(Change::Suspend { id: id.clone(), reason: reason.into() }).await
    }

    /// Lets a suspended key be used again, as long as its other dates allow it. A key that is not suspended stays as it is.
    ///
    /// # Errors
    /// If there is no such key, it is revoked, or the store fails.
    pub async fn resume(&self, id: &KeyId) -> Result<Changed, StoreError> {
        self.change(Change::Resume { id: id.clone() }).await
    }

    /// Revokes a key for good: nothing brings it back. When this has returned, no request that begins
    /// later is admitted with it. A key that is revoked already stays as it is. The reason may be
    /// empty.
    ///
    /// # Errors
    /// If there is no such key, or the store fails: then assume that the key still lives.
    pub async fn revoke(&self, id: &KeyId, reason: impl Into<String>) -> Result<Changed, StoreError> {
        self.change(Change::Revoke { id: id.clone(), reason: reason.into() }).await
    }

    /// Revokes all keys of an owner by one change, as [`revoke`](Self::revoke) does one.
    ///
    /// # Errors
    /// If the owner has no key, or the store fails: then assume that all of them still live.
    pub async fn revoke_all_of(
        &self,
        owner: impl Into<String>,
        reason: impl Into<String>,
    ) -> Result<RevokedKeys, StoreError> {
        let change = Change::RevokeOwner { owner: owner.into(), reason: reason.into() };
        let Applied { records, count, unreadable, propagation, .. } = self.apply(change).await?;
        Ok(RevokedKeys { records, unreadable, unchanged: count, propagation })
    }

    /// Forgets a key. It is unknown from then on. To keep a trace of it in lists, revoke instead; its
    /// audit records stay either way.
    ///
    /// # Errors
    /// If there is no such key, or the store fails.
    pub async fn delete(&self, id: &KeyId) -> Result<Changed, StoreError> {
        self.change(Change::Delete { id: id.clone() }).await
    }

    /// Forgets all keys that were revoked or expired by then, and says how many. Their audit records
    /// stay.
    ///
    /// # Errors
    /// If the date is beyond the year 9999, or the store fails.
    pub async fn purge(&self, ended_before: SystemTime) -> Result<usize, StoreError> {
        Ok(self.apply(Change::Purge { ended_before }).await?.count)
    }

    /// Removes audit records that are older than this, and says how many. The newest of them stays, and so does what was
    /// ever revoked: that is remembered elsewhere. A replica or process that has been paused or cut off since before that
    /// time no longer learns what it has missed, and refuses everybody until it is restarted; others go on.
    ///
    /// # Errors
    /// If the date is within the last hour, or the store fails.
    pub async fn prune_audit(&self, before: SystemTime) -> Result<usize, StoreError> {
        Ok(self.apply(Change::PruneAudit { before }).await?.count)
    }

    /// Replaces the settings of the store, roles included, for every request from then on. The key formats stay as
    /// they were when the store was made.
    ///
    /// Settings that are the same are published and recorded again, so that a process which missed them has them then. A
    /// program that sets its own when it starts compares first: all others read the store again.
    ///
    /// # Errors
    /// If a format is another, a key is restricted over a dimension that would be gone, the directory
    /// has shops that the settings could not spell, or the store fails.
    pub async fn set_settings(&self, settings: StoreSettings) -> Result<(), StoreError> {
        self.change_settings(move |_| Ok(settings)).await
    }

    /// Makes other settings of those of the store, without losing what somebody else changes at the same
    /// time. The function is called once, and must not block.
    ///
    /// # Errors
    /// As [`set_settings`](Self::set_settings), and if the function fails: then nothing is changed.
    pub async fn change_settings(
        &self,
        change: impl FnOnce(&StoreSettings) -> Result<StoreSettings, ConfigError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.apply(Change::Settings(Modify::by(change))).await.map(drop)
    }
}

impl std::fmt::Debug for Actor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actor").field("who", &self.who).finish_non_exhaustive()
    }
}
