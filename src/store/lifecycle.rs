//! Plans changes: validates a change and computes the edits, which every store then carries out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    key::{Digest, KeyId, KeyRecord, Status},
    store::{
        Action, NewKey, Overlap, StoreError, StoreSettings,
        audit::{self, Edit},
        ceiling,
        change::{Applied, Change},
        part::Entry,
        source::{KeySource, Row},
        validate::{
            date, invalid, validate_grant, validate_label, validate_name, validate_no_secret,
            validate_no_secret_in_grant, validate_readable, validate_record, validate_text,
        },
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
    who: &str,
    change: Change,
    table: &impl KeySource,
    settings: &StoreSettings,
    now: SystemTime,
) -> Result<Plan, StoreError> {
    let now = timestamp::whole_micros(now).map_err(invalid)?;
    validate_no_secret("who makes the change", who, table, settings)?;
    let (mut plan, mut is_repeated) = (Plan::default(), false);
    match change {
        Change::Within { ceilings, change } => {
            return ceiling::plan_within(&ceilings, who, *change, table, settings, now);
        }
        Change::Issue(new) => issue(&mut plan, new, None, table, settings, now)?,
        Change::Import(records) => import(&mut plan, records, table, settings)?,
        Change::Rename { id, name } => {
            let old = require_record(table, &id)?;
            validate_key_name(&name, table, settings)?;
            let renamed = old.revise().name(name).build();
            plan.edit(Action::Renamed, Some(old), renamed, None);
        }
        Change::Grant { id, change } => {
            let old = require_record(table, &id)?;
            if old.revoked_at().is_some() {
                return Err(StoreError::conflict(format!("the key {id} is revoked, for good; issue a new one")));
            }
            let grant = change.make(old.grant()).map_err(invalid)?;
            plan.applied.warnings = validate_grant(&grant, settings)?;
            validate_no_secret_in_grant(&grant, table, settings)?;
            let changed = old.revise().grant(grant).build();
            plan.edit(Action::GrantChanged, Some(old), changed, None);
        }
        Change::Rotate { id, overlap } => rotate(&mut plan, &id, overlap, table, settings, now)?,
        Change::Revoke { id, reason } => {
            validate_label("reason", &reason, 1024)?;
            validate_no_secret("reason", &reason, table, settings)?;
            let reason = Some(reason).filter(|reason| !reason.is_empty());
            match table.by_id(&id)? {
                Row::Absent => return Err(unknown(&id)),
                Row::Found(old) if old.revoked_at().is_some() => plan.publish_again(old, reason),
                Row::Found(old) => {
                    let revoked = old.revise().revoked_at(now).revocation_reason(reason.clone()).build();
                    plan.edit(Action::Revoked, Some(old), revoked, reason);
                }
                // Write the revocation although the record cannot be read: it takes effect when the record becomes
                // readable.
                Row::Unreadable(digest, _) => plan.edit_unreadable(Action::Revoked, id, digest, reason),
            }
        }
        Change::Delete { id } => match table.by_id(&id)? {
            Row::Absent => return Err(unknown(&id)),
            Row::Found(old) => plan.remove(Action::Deleted, old),
            Row::Unreadable(digest, _) => plan.edit_unreadable(Action::Deleted, id, digest, None),
        },
        Change::Purge { ended_before } => {
            // Stores cannot represent other times, and each would round differently.
            let ended_before = timestamp::whole_micros(ended_before).map_err(invalid)?;
            for old in table.ended_before(ended_before)? {
                plan.remove(Action::Purged, old);
            }
            plan.applied.count = plan.edits.len();
            plan.applied.records.clear();
        }
        Change::PruneAudit { before } => {
            if now.duration_since(before).unwrap_or_default() < MIN_PRUNE_AGE {
                let message =
                    "audit records of the last hour are kept: other processes learn from them what has changed";
                return Err(StoreError::invalid(message));
            }
            let before = timestamp::whole_micros(before).map_err(invalid)?;
            plan.applied.count = table.audit_before(before)?;
            if plan.applied.count > 0 {
                plan.prune = Some(before);
                let note = Some(format!("{} records", plan.applied.count));
                let action = Action::AuditPruned;
                let nothing = (None, None, None, None, None);
                let (key, digest, before, after, settings) = nothing;
                plan.edits.push(Edit { action, key, digest, before, after, note, settings });
            }
        }
        Change::Settings(change) => {
            let new = change.make(settings).map_err(invalid)?;
            if new.format != settings.format {
                return Err(StoreError::conflict(
                    "the format of keys stays as it was when the store was made: its keys would be malformed",
                ));
            }
            validate_readable(&new, table)?;
            let names =
                new.dimensions.iter().map(|own| own.name()).chain(new.networks_required_for.iter().map(String::as_str));
            for name in names {
                validate_label("settings", name, 256)?;
                validate_no_secret("settings", name, table, settings)?;
            }
            let (before, after) = (settings.to_json().map_err(invalid)?, new.to_json().map_err(invalid)?);
            // Unchanged settings are published again (S18), as the repeated revocation of a key is.
            is_repeated = before == after;
            plan.edits.push(Edit {
                action: Action::SettingsChanged,
                key: None,
                digest: None,
                before: None,
                after: None,
                note: is_repeated.then(|| "they were the same; published again".to_owned()),
                settings: Some(audit::difference(&before, &after).map_err(invalid)?),
            });
            plan.settings = Some(new);
        }
    }
    plan.applied.changed = !is_repeated && plan.edits.iter().any(|edit| edit.action != Action::RevokedAgain);
    Ok(plan)
}

impl Plan {
    fn edit(&mut self, action: Action, before: Option<Arc<KeyRecord>>, after: KeyRecord, note: Option<String>) {
        let after = Arc::new(after);
        self.applied.records.push(Arc::clone(&after));
        let (key, digest) = (Some(after.id().clone()), Some(*after.digest()));
        self.edits.push(Edit { action, key, digest, before, after: Some(after), note, settings: None });
    }

    /// An edit of a key whose record cannot be read.
    fn edit_unreadable(&mut self, action: Action, id: KeyId, digest: Option<Digest>, note: Option<String>) {
        let key = Some(id);
        self.edits.push(Edit { action, key, digest, before: None, after: None, note, settings: None });
    }

    /// Writes no record, but publishes the revocation again, for replicas that missed it.
    fn publish_again(&mut self, record: Arc<KeyRecord>, note: Option<String>) {
        self.applied.records.push(Arc::clone(&record));
        let (key, digest) = (Some(record.id().clone()), Some(*record.digest()));
        let (action, before, after) = (Action::RevokedAgain, Some(Arc::clone(&record)), Some(record));
        self.edits.push(Edit { action, key, digest, before, after, note, settings: None });
    }

    fn remove(&mut self, action: Action, old: Arc<KeyRecord>) {
        self.applied.records.push(Arc::clone(&old));
        let (key, digest) = (Some(old.id().clone()), Some(*old.digest()));
        self.edits.push(Edit { action, key, digest, before: Some(old), after: None, note: None, settings: None });
    }
}

fn issue(
    plan: &mut Plan,
    new: NewKey,
    replaces: Option<&KeyId>,
    table: &impl KeySource,
    settings: &StoreSettings,
    now: SystemTime,
) -> Result<(), StoreError> {
    validate_key_name(&new.name, table, settings)?;
    for (what, text) in [("kind", &new.kind), ("tenant", &new.tenant)] {
        // Before `validate_name`, whose error may quote the text.
        validate_no_secret(what, text.as_deref().unwrap_or_default(), table, settings)?;
        validate_name(what, text.as_deref())?;
    }
    plan.applied.warnings = validate_grant(&new.grant, settings)?;
    validate_no_secret_in_grant(&new.grant, table, settings)?;
    if new.expires_at.is_some_and(|end| end <= now) {
        plan.applied.warnings.push("it is expired already".to_owned());
    }
    // Eight random hex digits collide after some ten thousand keys, so retry a limited number of times.
    for _ in 0..32 {
        let (id, api_key) = settings.format.generate().map_err(|error| StoreError::unavailable(error.to_string()))?;
        let id: KeyId = id.parse().map_err(invalid)?;
        if !matches!(table.by_id(&id)?, Row::Absent) {
            continue;
        }
        let record = KeyRecord::builder(id, api_key.digest())
            .name(new.name)
            .kind(new.kind)
            .tenant(new.tenant)
            .created_at(now)
            .not_before(date(new.not_before)?)
            .expires_at(date(new.expires_at)?)
            .replaces(replaces.cloned())
            .grant(new.grant)
            .build();
        plan.edit(Action::Issued, None, record, replaces.map(|old| format!("in place of {old}")));
        plan.applied.api_key = Some(api_key);
        return Ok(());
    }
    Err(StoreError::conflict("no free key id was found; use a format with a longer public id"))
}

fn rotate(
    plan: &mut Plan,
    id: &KeyId,
    overlap: Overlap,
    table: &impl KeySource,
    settings: &StoreSettings,
    now: SystemTime,
) -> Result<(), StoreError> {
    let old = require_record(table, id)?;
    let is_alive = |record: &KeyRecord| !matches!(record.status(now), Status::Revoked | Status::Expired);
    if !is_alive(&old) {
        return Err(StoreError::conflict(format!("the key {id} is not alive; issue a new one")));
    }
    // At most two secrets of a key are valid at a time. With a second successor there would be three.
    if let Some(successor) = old.replaced_by()
        && let Row::Found(living) = table.by_id(successor)?
        && is_alive(&living)
    {
        let message = format!("{successor} takes the place of {id} already; rotate that, or revoke it first");
        return Err(StoreError::conflict(message));
    }
    issue(plan, NewKey::like(&old), Some(id), table, settings, now)?;
    let successor = plan.applied.records.first().map(|new| new.id().clone());
    let note = successor.as_ref().map(|new| format!("{new} takes its place"));
    let predecessor = old.replaces().cloned();
    let mut ending = old.revise().replaced_by(successor);
    if let Overlap::For(time) = overlap {
        let end = now.checked_add(time).ok_or_else(|| StoreError::invalid("the overlap is too long"))?;
        let end = timestamp::whole_micros(end).map_err(invalid)?;
        // An overlap never extends the validity of a key.
        ending = ending.expires_at(old.expires_at().map_or(end, |own| own.min(end)));
    }
    plan.edit(Action::Rotated, Some(old), ending.build(), note);
    // The predecessor would be a third valid secret, so it expires now.
    if let Some(predecessor) = predecessor
        && let Row::Found(oldest) = table.by_id(&predecessor)?
        && oldest.replaced_by() == Some(id)
        && is_alive(&oldest)
    {
        let ended = oldest.revise().expires_at(now).build();
        plan.edit(Action::Rotated, Some(oldest), ended, Some(format!("{id}, which took its place, was rotated too")));
    }
    Ok(())
}

fn import(
    plan: &mut Plan,
    records: Vec<KeyRecord>,
    table: &impl KeySource,
    settings: &StoreSettings,
) -> Result<(), StoreError> {
    let mut ids = std::collections::HashSet::new();
    let mut digests = std::collections::HashSet::new();
    for record in records {
        if table.by_digest(record.digest())? {
            plan.applied.skipped += 1;
            continue;
        }
        // A revocation is permanent, even if only the digest is remembered.
        if record.revoked_at().is_none() && table.was_revoked(record.digest())? {
            plan.applied.refused += 1;
            continue;
        }
        let id = record.id().clone();
        // First, as other errors name the id.
        validate_text("id", id.as_str(), &record, table, settings)?;
        if !matches!(table.by_id(&id)?, Row::Absent) || !ids.insert(id.clone()) || !digests.insert(*record.digest()) {
            return Err(StoreError::conflict(format!("another key has the id or the digest of {id}")));
        }
        let in_key = |error: StoreError| StoreError::invalid(format!("key {id}: {error}"));
        let record = validate_record(&record, table, settings).map_err(in_key)?;
        plan.edit(Action::Imported, None, record, None);
    }
    plan.applied.count = plan.edits.len();
    plan.applied.records.clear();
    Ok(())
}

fn validate_key_name(name: &str, table: &impl KeySource, settings: &StoreSettings) -> Result<(), StoreError> {
    if name.is_empty() {
        return Err(StoreError::invalid("name: is required"));
    }
    validate_label("name", name, 256)?;
    validate_no_secret("name", name, table, settings)
}

fn require_record(table: &impl KeySource, id: &KeyId) -> Result<Arc<KeyRecord>, StoreError> {
    match table.by_id(id)? {
        Row::Found(record) => Ok(record),
        Row::Absent => Err(unknown(id)),
        Row::Unreadable(_, why) => {
            let message =
                format!("the record of {id} cannot be read, so the key is refused ({why}); revoke or delete it");
            Err(StoreError::unreadable(message))
        }
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
