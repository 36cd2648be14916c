//! Changes of one key, and of those of one owner.

use std::{sync::Arc, time::SystemTime};

use crate::{
    key::{Grant, KeyId, KeyRecord, Metadata},
    store::{
        Action, StoreError,
        change::Modify,
        lifecycle::{Planner, unknown},
        source::{KeySource, Row},
        validate::{date, invalid, validate_grant, validate_metadata, validate_no_secret_in_grant},
    },
};

impl<T: KeySource> Planner<'_, T> {
    pub(super) fn rename(&mut self, id: &KeyId, name: String) -> Result<(), StoreError> {
        let old = self.record(id)?;
        self.validate_key_name(&name)?;
        let renamed = old.revise().name(name).build();
        self.edit(Action::Renamed, Some(old), renamed, None)
    }

    pub(super) fn change_metadata(&mut self, id: &KeyId, change: Modify<Metadata>) -> Result<(), StoreError> {
        let old = self.record(id)?;
        let metadata = change.make(old.metadata()).map_err(invalid)?;
        validate_metadata(&metadata, self.table, self.settings)?;
        let changed = old.revise().metadata(metadata).build();
        self.edit(Action::MetadataChanged, Some(old), changed, None)
    }

    pub(super) fn change_grant(&mut self, id: &KeyId, change: Modify<Grant>) -> Result<(), StoreError> {
        let old = self.living(id)?;
        let grant = change.make(old.own_grant()).map_err(invalid)?;
        validate_grant(&grant, self.settings)?;
        validate_no_secret_in_grant(&grant, self.table, self.settings)?;
        let changed = old.revise().grant(grant).build();
        self.edit(Action::GrantChanged, Some(old), changed, None)?;
        self.warn();
        Ok(())
    }

    pub(super) fn change_roles(&mut self, id: &KeyId, change: Modify<Vec<String>>) -> Result<(), StoreError> {
        let old = self.living(id)?;
        let roles = change.make(&old.roles().map(str::to_owned).collect()).map_err(invalid)?;
        self.validate_roles(&roles)?;
        let changed = old.revise().roles(roles).build();
        self.edit(Action::GrantChanged, Some(old), changed, None)?;
        self.warn();
        Ok(())
    }

    pub(super) fn set_expiry(&mut self, id: &KeyId, end: Option<SystemTime>) -> Result<(), StoreError> {
        let (old, end) = (self.living(id)?, date(end)?);
        if old.expires_at().is_some_and(|end| end <= self.now) {
            self.assert_renewable(&old)?;
        }
        self.is_repeated = old.expires_at() == end;
        let changed = old.revise().expires_at(end).build();
        self.edit(Action::ExpiryChanged, Some(old), changed, None)?;
        self.warn();
        Ok(())
    }

    /// Whether a key that has expired can be given another end.
    fn assert_renewable(&self, old: &KeyRecord) -> Result<(), StoreError> {
        let id = old.id();
        let conflict = |why: String| Err(StoreError::conflict(format!("the key {id} has expired, and {why}")));
        if let Some(successor) = old.replaced_by() {
            return conflict(format!("{successor} took its place; renew that"));
        }
        if let Some(predecessor) = old.replaces()
            && let Row::Found(predecessor) = self.table.by_id(predecessor)?
            && predecessor.replaced_by() != Some(id)
        {
            // Beside that key and its successor, this one would be a third living secret.
            return conflict(format!("{} was rotated again since; issue a new one", predecessor.id()));
        }
        let Some(limit) = self.settings.renew_expired_for else {
            return conflict(
                "the settings of the store do not let expired keys be renewed; issue a new one".to_owned(),
            );
        };
        match old.created_at().map(|issued| self.now.duration_since(issued).unwrap_or_default()) {
            Some(age) if age <= limit => Ok(()),
            Some(_) => conflict("its secret is older than the settings of the store allow; issue a new one".to_owned()),
            None => conflict("the age of its secret is not known; issue a new one".to_owned()),
        }
    }

    pub(super) fn suspend(&mut self, id: &KeyId, reason: String) -> Result<(), StoreError> {
        let (old, reason) = (self.living(id)?, self.reason(reason)?);
        self.is_repeated = old.suspended_at().is_some();
        let suspended = old.revise().suspended_at(old.suspended_at().unwrap_or(self.now)).build();
        self.edit(Action::Suspended, Some(old), suspended, reason)
    }

    pub(super) fn resume(&mut self, id: &KeyId) -> Result<(), StoreError> {
        let old = self.living(id)?;
        self.is_repeated = old.suspended_at().is_none();
        let resumed = old.revise().suspended_at(None).build();
        self.edit(Action::Resumed, Some(old), resumed, None)?;
        self.warn();
        Ok(())
    }

    pub(super) fn revoke(&mut self, id: KeyId, reason: String) -> Result<(), StoreError> {
        let reason = self.reason(reason)?;
        let row = self.table.by_id(&id)?;
        match &row {
            Row::Absent => return Err(unknown(&id)),
            // Of one key the answer has the record, also if nothing is changed.
            Row::Found(old) if old.revoked_at().is_some() => self.plan.applied.records.push(Arc::clone(old)),
            _ => {}
        }
        self.revoke_row(id, row, reason)
    }

    fn revoke_row(&mut self, id: KeyId, row: Row, reason: Option<String>) -> Result<(), StoreError> {
        match row {
            Row::Absent => {}
            Row::Found(old) if old.revoked_at().is_some() => self.plan.publish_again(old, reason),
            Row::Found(old) => {
                let revoked = old.revise().revoked_at(self.now).revocation_reason(reason.clone()).build();
                self.edit(Action::Revoked, Some(old), revoked, reason)?;
            }
            // Write the revocation although the record cannot be read: it takes effect when the record becomes
            // readable.
            Row::Unreadable(digest, _) => self.plan.edit_unreadable(Action::Revoked, id, digest, reason),
        }
        Ok(())
    }

    pub(super) fn revoke_owner(&mut self, owner: &str, reason: String) -> Result<(), StoreError> {
        let metadata = Metadata::new().with_owner(owner);
        validate_metadata(&metadata, self.table, self.settings)?;
        let reason = self.reason(reason)?;
        let keys = if owner.is_empty() { Vec::new() } else { self.table.by_owner(owner)? };
        if keys.is_empty() {
            return Err(StoreError::not_found(format!("the owner {owner:?} has no key")));
        }
        self.plan.applied.unreadable = keys.iter().filter(|(_, row)| matches!(row, Row::Unreadable(..))).count();
        for (id, row) in keys {
            self.revoke_row(id, row, reason.clone())?;
        }
        self.plan.applied.count = self.plan.edits.iter().filter(|edit| edit.action == Action::RevokedAgain).count();
        Ok(())
    }

    pub(super) fn delete(&mut self, id: KeyId) -> Result<(), StoreError> {
        match self.table.by_id(&id)? {
            Row::Absent => return Err(unknown(&id)),
            Row::Found(old) => self.plan.remove(Action::Deleted, old),
            Row::Unreadable(digest, _) => self.plan.edit_unreadable(Action::Deleted, id, digest, None),
        }
        Ok(())
    }
}
