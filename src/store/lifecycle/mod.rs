//! Plans changes: validates a change and computes the edits, which every store then carries out.

mod import;
mod issue;
mod key;
mod rotate;
mod settings;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    key::{Digest, KeyId, KeyRecord, Status},
    store::{
        Action, StoreError, StoreSettings,
        audit::Edit,
        ceiling,
        change::{ActorInfo, Applied, Change},
        part::Entry,
        source::{KeySource, Row},
        validate::{invalid, validate_label, validate_no_secret},
    },
    timestamp,
};

/// The edits of a change, to be written in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) edits: Vec<Edit>,
    pub(crate) settings: Option<StoreSettings>,
    /// Audit records older than this are deleted, except the newest of them. A process continues from the last record
    /// that it has read; one that has read anything since that time still finds its position.
    pub(crate) prune: Option<SystemTime>,
    pub(crate) applied: Applied,
}

/// The minimum age of audit records that are pruned: processes that lag behind learn from them what has changed.
const MIN_PRUNE_AGE: Duration = Duration::from_secs(3600);

/// Plans a change. `who` is only validated here; the store writes it with each edit, by `Edit::audit`.
pub(crate) fn plan(
    who: &ActorInfo,
    change: Change,
    table: &impl KeySource,
    settings: &StoreSettings,
    now: SystemTime,
) -> Result<Plan, StoreError> {
    let now = timestamp::whole_micros(now).map_err(invalid)?;
    validate_no_secret("who makes the change", &who.name, table, settings)?;
    validate_no_secret("the id of the request", who.request_id.as_deref().unwrap_or_default(), table, settings)?;
    let mut planner = Planner { table, settings, now, plan: Plan::default(), is_repeated: false };
    match change {
        Change::Issue(new) => planner.issue(new, None)?,
        Change::Import(records) => planner.import(records)?,
        Change::Rename { id, name } => planner.rename(&id, name)?,
        Change::Metadata { id, change } => planner.change_metadata(&id, change)?,
        Change::Grant { id, change } => planner.change_grant(&id, change)?,
        Change::Roles { id, change } => planner.change_roles(&id, change)?,
        Change::Expiry { id, expires_at } => planner.set_expiry(&id, expires_at)?,
        Change::Rotate { id, rotation } => planner.rotate(&id, rotation)?,
        Change::Suspend { id, reason } => planner.suspend(&id, reason)?,
        Change::Resume { id } => planner.resume(&id)?,
        Change::Revoke { id, reason } => planner.revoke(id, reason)?,
        Change::RevokeOwner { owner, reason } => planner.revoke_owner(&owner, reason)?,
        Change::Delete { id } => planner.delete(id)?,
        Change::Purge { ended_before } => planner.purge(ended_before)?,
        Change::PruneAudit { before } => planner.prune_audit(before)?,
        Change::Settings(change) => planner.change_settings(change)?,
        Change::Role { name, grant } => planner.set_role(&name, grant)?,
        Change::Within { ceilings, change } => {
            return ceiling::plan_within(&ceilings, who, *change, table, settings, now);
        }
    }
    let Planner { mut plan, is_repeated, .. } = planner;
    plan.applied.changed = !is_repeated && plan.edits.iter().any(|edit| edit.action != Action::RevokedAgain);
    Ok(plan)
}

/// What a change is planned with, and the plan so far.
struct Planner<'a, T> {
    table: &'a T,
    settings: &'a StoreSettings,
    now: SystemTime,
    plan: Plan,
    /// Whether everything is as it was. It is published again all the same (S18), for replicas that missed it.
    is_repeated: bool,
}

impl<T: KeySource> Planner<'_, T> {
    /// Forgets keys that ended long ago.
    fn purge(&mut self, ended_before: SystemTime) -> Result<(), StoreError> {
        // Stores cannot represent other times, and each would round differently.
        let ended_before = timestamp::whole_micros(ended_before).map_err(invalid)?;
        for old in self.table.ended_before(ended_before)? {
            self.plan.remove(Action::Purged, old);
        }
        self.plan.applied.count = self.plan.edits.len();
        self.plan.applied.records.clear();
        Ok(())
    }

    fn prune_audit(&mut self, before: SystemTime) -> Result<(), StoreError> {
        if self.now.duration_since(before).unwrap_or_default() < MIN_PRUNE_AGE {
            let message = "audit records of the last hour are kept: other processes learn from them what has changed";
            return Err(StoreError::invalid(message));
        }
        let before = timestamp::whole_micros(before).map_err(invalid)?;
        let count = self.table.audit_before(before)?;
        self.plan.applied.count = count;
        if count > 0 {
            self.plan.prune = Some(before);
            self.plan.note(Action::AuditPruned, format!("{count} records"), None);
        }
        Ok(())
    }

    /// Adds an edit of a key, with its roles expanded.
    fn edit(
        &mut self,
        action: Action,
        before: Option<Arc<KeyRecord>>,
        after: KeyRecord,
        note: Option<String>,
    ) -> Result<(), StoreError> {
        let expanded = self.settings.roles.expanded(&after).map_err(invalid)?;
        let after = Arc::new(expanded.unwrap_or(after));
        self.plan.applied.records.push(Arc::clone(&after));
        let (key, digest) = (Some(after.id().clone()), Some(*after.digest()));
        self.plan.edits.push(Edit { action, key, digest, before, after: Some(after), note, settings: None });
        Ok(())
    }

    fn record(&self, id: &KeyId) -> Result<Arc<KeyRecord>, StoreError> {
        match self.table.by_id(id)? {
            Row::Found(record) => Ok(record),
            Row::Absent => Err(unknown(id)),
            Row::Unreadable(_, why) => {
                let message =
                    format!("the record of {id} cannot be read, so the key is refused ({why}); revoke or delete it");
                Err(StoreError::unreadable(message))
            }
        }
    }

    /// The record of a key that was not revoked.
    fn living(&self, id: &KeyId) -> Result<Arc<KeyRecord>, StoreError> {
        let record = self.record(id)?;
        match record.revoked_at() {
            None => Ok(record),
            Some(_) => Err(StoreError::conflict(format!("the key {id} is revoked, for good; issue a new one"))),
        }
    }

    /// Whether the key can be used, or could be again.
    fn is_alive(&self, record: &KeyRecord) -> bool {
        !matches!(record.status(self.now), Status::Revoked | Status::Expired)
    }

    fn validate_key_name(&self, name: &str) -> Result<(), StoreError> {
        if name.is_empty() {
            return Err(StoreError::invalid("name: is required"));
        }
        validate_label("name", name, 256)?;
        self.validate_no_secret("name", name)
    }

    /// The reason of a change, unless it is empty.
    fn reason(&self, reason: String) -> Result<Option<String>, StoreError> {
        validate_label("reason", &reason, 1024)?;
        self.validate_no_secret("reason", &reason)?;
        Ok(Some(reason).filter(|reason| !reason.is_empty()))
    }

    fn validate_no_secret(&self, what: &str, text: &str) -> Result<(), StoreError> {
        validate_no_secret(what, text, self.table, self.settings)
    }
}

impl Plan {
    /// An edit of a key whose record cannot be read.
    fn edit_unreadable(&mut self, action: Action, id: KeyId, digest: Option<Digest>, note: Option<String>) {
        let key = Some(id);
        self.edits.push(Edit { action, key, digest, before: None, after: None, note, settings: None });
    }

    /// Writes no record, but publishes the revocation again, for replicas that missed it.
    fn publish_again(&mut self, record: Arc<KeyRecord>, note: Option<String>) {
        let (key, digest) = (Some(record.id().clone()), Some(*record.digest()));
        let (action, before, after) = (Action::RevokedAgain, Some(Arc::clone(&record)), Some(record));
        self.edits.push(Edit { action, key, digest, before, after, note, settings: None });
    }

    fn remove(&mut self, action: Action, old: Arc<KeyRecord>) {
        self.applied.records.push(Arc::clone(&old));
        let (key, digest) = (Some(old.id().clone()), Some(*old.digest()));
        self.edits.push(Edit { action, key, digest, before: Some(old), after: None, note: None, settings: None });
    }

    /// An edit of the store itself.
    fn note(&mut self, action: Action, note: impl Into<Option<String>>, settings: Option<(String, String)>) {
        let (key, digest, before, after, note) = (None, None, None, None, note.into());
        self.edits.push(Edit { action, key, digest, before, after, note, settings });
    }
}

pub(crate) fn unknown(id: &KeyId) -> StoreError {
    match id.as_str().len() {
        0..=40 => StoreError::not_found(format!("there is no key {id}")),
        // It is too long for an id, and may be a whole API key.
        _ => StoreError::not_found("there is no key with this id"),
    }
}

/// The index entries after these edits.
pub(crate) fn entries(edits: &[Edit]) -> impl Iterator<Item = (Digest, Option<Entry>)> {
    edits.iter().filter_map(|edit| Some((edit.digest?, edit.after.clone().map(Entry::Record))))
}

/// Whether the key was revoked or had expired by this time.
pub(crate) fn ended_before(record: &KeyRecord, time: SystemTime) -> bool {
    [record.revoked_at(), record.expires_at()].into_iter().flatten().any(|end| end <= time)
}
