//! The audit log: who changed which key, and when.

use std::{collections::HashMap, fmt, net::IpAddr, time::SystemTime};

use serde_json::{Map, Value};

use crate::{
    error::ConfigError,
    key::{Digest, KeyEntry, KeyId, KeyRecord},
    store::change::ActorInfo,
};

/// One change, as a store remembers it. It is written together with the change, or neither is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditRecord {
    /// Rises with every change of the store.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// Who, in the words of the caller of [`KeyAdmin::as_actor`](crate::store::KeyAdmin::as_actor).
    pub by: String,
    /// From which address, where the interface that the change came by knows it.
    pub address: Option<IpAddr>,
    /// The id of the request that asked for the change, where the interface knows one.
    pub request_id: Option<String>,
    /// The kind of change.
    pub action: Action,
    /// To which key; none if the settings were changed.
    pub key: Option<KeyId>,
    /// The reason of a revocation, the other key of a rotation.
    pub note: Option<String>,
    /// The state before: the record as a key file writes it, without the digest, as JSON. Of settings only what differs,
    /// and of a directory only the shops and other entities that do.
    pub before: Option<String>,
    /// The state afterwards.
    pub after: Option<String>,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// A key was made.
    Issued,
    /// A key that existed elsewhere was taken over.
    Imported,
    /// It got another name.
    Renamed,
    /// Its owner, its note or its labels were changed.
    MetadataChanged,
    /// It may do something else from then on.
    GrantChanged,
    /// It ends at another time.
    ExpiryChanged,
    /// Another key took its place; the note says which.
    Rotated,
    /// It was suspended; the note says why.
    Suspended,
    /// It was resumed.
    Resumed,
    /// It was revoked; the note says why.
    Revoked,
    /// Somebody revoked it though it was revoked already; it was published once more.
    RevokedAgain,
    /// It was forgotten.
    Deleted,
    /// It was forgotten, long after it was dead.
    Purged,
    /// The settings of the store were changed.
    SettingsChanged,
    /// A role was made, changed or deleted; the note says which, and how many keys refer to it.
    RoleChanged,
    /// Old audit records were removed; the note says how many.
    AuditPruned,
    /// Somebody changed the key, or without a key the settings, past this program, by SQL.
    ChangedBySql,
    /// Something that this program does not know: a newer one has done it.
    Unknown,
}

impl Action {
    const ALL: [Self; 17] = [
        Self::Issued,
        Self::Imported,
        Self::Renamed,
        Self::MetadataChanged,
        Self::GrantChanged,
        Self::ExpiryChanged,
        Self::Rotated,
        Self::Suspended,
        Self::Resumed,
        Self::Revoked,
        Self::RevokedAgain,
        Self::Deleted,
        Self::Purged,
        Self::SettingsChanged,
        Self::RoleChanged,
        Self::AuditPruned,
        Self::ChangedBySql,
    ];

    /// Its name: `issued`, `grant-changed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Imported => "imported",
            Self::Renamed => "renamed",
            Self::MetadataChanged => "metadata-changed",
            Self::ExpiryChanged => "expiry-changed",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::RoleChanged => "role-changed",
            Self::GrantChanged => "grant-changed",
            Self::Rotated => "rotated",
            Self::Revoked => "revoked",
            Self::RevokedAgain => "revoked-again",
            Self::Deleted => "deleted",
            Self::Purged => "purged",
            Self::SettingsChanged => "settings-changed",
            Self::AuditPruned => "audit-pruned",
            Self::ChangedBySql => "changed-by-sql",
            Self::Unknown => "unknown",
        }
    }

    /// The action of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|action| action.name() == name).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which audit records to read; the newest come first, unless they are to be [after](Self::after) another.
///
/// # Example
/// ```
/// use tower_authz::store::AuditQuery;
///
/// let last_ten = AuditQuery::new().key("l64_abc12345".parse()?).limit(10);
/// # drop(last_ten);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a query is given to a store"]
pub struct AuditQuery {
    pub(crate) key: Option<KeyId>,
    pub(crate) before: Option<u64>,
    pub(crate) after: Option<u64>,
    pub(crate) limit: usize,
}

impl AuditQuery {
    /// The newest hundred of all keys.
    pub const fn new() -> Self {
        Self { key: None, before: None, after: None, limit: 100 }
    }

    /// Of this key only.
    pub fn key(mut self, key: KeyId) -> Self {
        self.key = Some(key);
        self
    }

    /// Older than the one with this number: for the next page.
    pub const fn before(mut self, number: u64) -> Self {
        self.before = Some(number);
        self
    }

    /// Newer than the one with this number, and the oldest of them first: to follow the log.
    pub const fn after(mut self, number: u64) -> Self {
        self.after = Some(number);
        self
    }

    /// At most so many. Default: 100; at most 10,000.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, 10_000);
        self
    }
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self::new()
    }
}

/// One record that changes, before it is written.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) action: Action,
    pub(crate) key: Option<KeyId>,
    /// Of the key; a look-up is by it.
    pub(crate) digest: Option<Digest>,
    pub(crate) before: Option<std::sync::Arc<KeyRecord>>,
    pub(crate) after: Option<std::sync::Arc<KeyRecord>>,
    pub(crate) note: Option<String>,
    /// Of a change to the settings: what they were and are, as far as it differs.
    pub(crate) settings: Option<(String, String)>,
}

/// Of two settings, as JSON, the fields that differ, and of their directories the entities that do: a log that kept all of
/// a large directory with each change of it would soon be larger than everything else.
pub(crate) fn difference(before: &str, after: &str) -> Result<(String, String), ConfigError> {
    let read = |text: &str| {
        serde_json::from_str::<Map<String, Value>>(text).map_err(|error| ConfigError::new(error.to_string()))
    };
    let (before, after) = (read(before)?, read(after)?);
    let only = |one: &Map<String, Value>, other: &Map<String, Value>| {
        let differs = one.iter().filter(|(name, value)| other.get(*name) != Some(*value));
        let differs = differs.map(|(name, value)| {
            let value = match (name.as_str(), other.get(name)) {
                ("directory", Some(known)) => without_entities_of(value, known),
                ("roles", Some(known)) => without_members_of(value, known),
                _ => value.clone(),
            };
            (name.clone(), value)
        });
        Value::Object(differs.collect()).to_string()
    };
    Ok((only(&before, &after), only(&after, &before)))
}

/// A directory without the shops and other entities that another has in the same way.
fn without_entities_of(directory: &Value, other: &Value) -> Value {
    let mut rest = Map::from_iter([("shops".to_owned(), without(directory.get("shops"), other.get("shops"), "key"))]);
    let hierarchies =
        |directory: &Value| directory.get("hierarchies").and_then(Value::as_object).cloned().unwrap_or_default();
    let known = hierarchies(other);
    let differs = hierarchies(directory).into_iter().filter(|(name, own)| known.get(name) != Some(own));
    let differs: Map<String, Value> = differs
        .map(|(name, mut own)| {
            let entities = without(own.get("entities"), known.get(&name).and_then(|known| known.get("entities")), "id");
            if let Some(own) = own.as_object_mut() {
                own.insert("entities".to_owned(), entities);
            }
            (name, own)
        })
        .collect();
    if !differs.is_empty() {
        rest.insert("hierarchies".to_owned(), Value::Object(differs));
    }
    Value::Object(rest)
}

/// A list of objects without those that another list has in the same way; `key` is the field that names them.
fn without(list: Option<&Value>, other: Option<&Value>, key: &str) -> Value {
    let name = |entity: &Value| entity.get(key).map(Value::to_string).unwrap_or_default();
    let all = |list: Option<&Value>| list.and_then(Value::as_array).cloned().unwrap_or_default();
    let known: HashMap<String, Value> = all(other).into_iter().map(|entity| (name(&entity), entity)).collect();
    Value::Array(all(list).into_iter().filter(|entity| known.get(&name(entity)) != Some(entity)).collect())
}

/// Of an object the members that another has not, or has otherwise.
fn without_members_of(object: &Value, other: &Value) -> Value {
    let differs = |(name, value): &(&String, &Value)| other.get(name.as_str()) != Some(*value);
    let members = object.as_object().into_iter().flatten().filter(differs);
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

impl Edit {
    pub(crate) fn audit(&self, number: u64, at: SystemTime, by: &ActorInfo) -> Result<AuditRecord, ConfigError> {
        let text = |record: &Option<std::sync::Arc<KeyRecord>>| {
            record.as_ref().map(|record| KeyEntry::without_digest(record).to_json()).transpose()
        };
        let (before, after) = match &self.settings {
            Some((before, after)) => (Some(before.clone()), Some(after.clone())),
            None => (text(&self.before)?, text(&self.after)?),
        };
        Ok(AuditRecord {
            number,
            at,
            by: by.name.clone(),
            address: by.address,
            request_id: by.request_id.clone(),
            action: self.action,
            key: self.key.clone(),
            note: self.note.clone(),
            before,
            after,
        })
    }
}
