use std::{collections::HashSet, path::Path, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    dimension::Dimension,
    directory::{Directory, DirectoryFile},
    error::ConfigError,
    json::{self, Object},
    key::{
        Access, Digest, Grant, KeyId, KeyRecord, KeyRecordBuilder, Metadata, Network, Roles, check_roles,
        grant_file::{GrantFile, Grants},
        restriction::RestrictionFile,
    },
    name::check_tenant,
    timestamp,
};

/// A key file: the records of all keys and the [directory](Directory), as JSON.
///
/// It holds digests, never keys. Fields that are absent or null restrict nothing, except
/// `permissions`, without which a key may do nothing. A list `exclude` that is empty restricts nothing either, and is
/// not kept. A file without `directory` declares no hierarchy, see [`Directory`]. An unknown field, a wrong type, two
/// lists over one dimension, a key id or digest given twice: each is an error that names the file, the key and the
/// field.
///
/// # Example
/// ```
/// use tower_authz::KeyFile;
///
/// let text = r#"{ "keys": [ {
///     "id": "l64_abc12345",
///     "name": "prod-2026-05",
///     "digest": "0f1f3b1d2ad4ba4d6ba1e1a7fd29d6bcb0c2b0ee3c1a96ba2ba4b61e3c6d1c1c",
///     "permissions": { "products": "write" },
///     "restrictions": { "company": { "include": [1, "2"] } },
///     "ip_ranges": ["10.0.0.0/8"]
/// } ] }"#;
/// let file = KeyFile::parse(text, "keys.json")?;
/// assert_eq!(file.records().len(), 1);
///
/// let broken = text.replace("write", "admin");
/// let error = KeyFile::parse(&broken, "keys.json").unwrap_err().to_string();
/// assert!(error.starts_with("keys.json: key l64_abc12345: permissions.products: "), "{error}");
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct KeyFile {
    records: Vec<KeyRecord>,
    directory: Directory,
    roles: Roles,
}

impl KeyFile {
    /// Reads and parses a file whose keys are restricted over companies and shops.
    ///
    /// # Errors
    /// If it cannot be read, or as [`parse`](Self::parse).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::read_with(path, &[])
    }

    /// The same with dimensions of your own.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with(path: impl AsRef<Path>, dimensions: &[Dimension]) -> Result<Self, ConfigError> {
        let (name, text) = json::read_file(path.as_ref())?;
        Self::parse_with(&text, &name, dimensions)
    }

    /// Parses the text of a key file whose keys are restricted over companies and shops; `name` stands
    /// for the file in errors.
    ///
    /// # Errors
    /// At the first thing that is wrong, with the name, the key id and the field.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::parse_with(text, name, &[])
    }

    /// The same with dimensions of your own. A dimension that is not known is an error: of `shops`,
    /// written for `shop`, no rule would ever take notice.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(text: &str, name: &str, dimensions: &[Dimension]) -> Result<Self, ConfigError> {
        Self::parse_unnamed(text, dimensions).map_err(|error| error.at(name))
    }

    fn parse_unnamed(text: &str, dimensions: &[Dimension]) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
            directory: Option<Object<DirectoryFile>>,
            #[serde(default, with = "json::unique")]
            roles: Vec<(String, Object<GrantFile>)>,
        }
        let file: File<'_> = json::from_json(text, true)?;
        let directory = file.directory.map(|Object(directory)| directory.read(dimensions)).transpose()?;
        let directory = directory.unwrap_or_default();
        let roles = Roles::from_file(file.roles, dimensions)?;
        let lists = roles.iter().map(|(name, grant)| (name, grant.check_lists(&directory)));
        for (name, lists) in lists {
            lists.map_err(|error| error.at(format_args!("roles.{name}")))?;
        }
        let mut grants = Grants::new(dimensions, &roles);
        let mut ids = HashSet::new();
        let mut digests = HashSet::new();
        let mut records = Vec::with_capacity(file.keys.len());
        for (index, raw) in file.keys.iter().enumerate() {
            let record =
                KeyEntry::parse(raw.get(), &mut grants).map_err(|error| error.at(location(index, raw.get())))?;
            let is_key = |text: &str| Digest::from_key(text.as_bytes()) == *record.digest();
            if let Some((field, _)) = record.texts().find(|(_, text)| is_key(text)) {
                let wrong = format!(
                    "{field}: this is the whole API key, not its {field}: revoke it, it was in a file in the clear"
                );
                return Err(ConfigError::new(wrong).at(format_args!("keys[{index}]")));
            }
            // Only now, as its errors quote the text.
            let tenant = record.tenant().map_or(Ok(()), check_tenant);
            tenant.and_then(|()| record.metadata().check()).map_err(|error| error.at(location(index, raw.get())))?;
            let lists = record.grant().check_lists(&directory);
            lists.map_err(|error| error.at(location(index, raw.get())))?;
            if !ids.insert(record.id().clone()) {
                return Err(ConfigError::new("duplicate key id").at(location(index, raw.get())));
            }
            if !digests.insert(*record.digest()) {
                return Err(ConfigError::new("digest: another key has the same").at(location(index, raw.get())));
            }
            records.push(record);
        }
        Ok(Self { records, directory, roles })
    }

    /// The records in the order of the file.
    #[must_use]
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }

    /// Which entity belongs to which.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The roles of the file by their names, in order.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Grant)> {
        self.roles.iter().map(|(name, grant)| (name, &**grant))
    }

    /// The same file from records, to write it.
    pub fn new(records: impl IntoIterator<Item = KeyRecord>, directory: Directory) -> Self {
        Self { records: records.into_iter().collect(), directory, roles: Roles::default() }
    }

    /// Adds a role to the file, or gives it another grant. Keys that refer to a role need it there to be read again.
    #[must_use]
    pub fn with_role(mut self, name: &str, grant: impl Into<Arc<Grant>>) -> Self {
        self.roles = self.roles.with(name, Some(grant.into()));
        self
    }

    pub(crate) fn with_roles(mut self, roles: Roles) -> Self {
        self.roles = roles;
        self
    }

    /// The same keys without roles: each has all that it may do in its own grant.
    #[must_use]
    pub fn expanded(mut self) -> Self {
        self.roles = Roles::default();
        let expand = |record: &mut KeyRecord| {
            let grant = record.shared_grant();
            *record = record.to_builder().roles::<String>([]).grant(grant).build();
        };
        self.records.iter_mut().for_each(expand);
        self
    }

    /// The JSON text, in the form that [`parse`](Self::parse) reads.
    ///
    /// # Errors
    /// If a value cannot be written, which no record that was built can have.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        #[derive(Serialize)]
        struct File {
            keys: Vec<KeyEntry>,
            #[serde(skip_serializing_if = "Option::is_none")]
            directory: Option<DirectoryFile>,
            #[serde(with = "json::unique", skip_serializing_if = "Vec::is_empty")]
            roles: Vec<(String, Object<GrantFile>)>,
        }
        let file = File {
            keys: self.records.iter().map(KeyEntry::from_record).collect(),
            directory: self.directory.to_file(),
            roles: self.roles.to_file(),
        };
        serde_json::to_string_pretty(&file).map_err(|error| ConfigError::new(error.to_string()))
    }

    pub(crate) fn into_parts(self) -> (Vec<KeyRecord>, Directory, Roles) {
        (self.records, self.directory, self.roles)
    }
}

/// Names a key in an error: by its id if that can be read, else by its place.
fn location(index: usize, raw: &str) -> String {
    #[derive(Deserialize)]
    struct IdOnly {
        id: KeyId,
    }
    match serde_json::from_str::<IdOnly>(raw) {
        // Longer than any id is likely to be: somebody may have put a whole key there.
        Ok(IdOnly { id }) if id.as_str().len() <= 32 => format!("key {id}"),
        _ => format!("keys[{index}]"),
    }
}

/// One key as JSON: as an entry of a key file, as an audit record without the digest, and as the databases keep it, without
/// the fields that are columns of theirs ([`KeyColumns`]).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<KeyId>,
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(default, with = "json::unique", skip_serializing_if = "Vec::is_empty")]
    labels: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(default, with = "timestamp", skip_serializing_if = "Option::is_none")]
    created_at: Option<SystemTime>,
    #[serde(default, with = "timestamp", skip_serializing_if = "Option::is_none")]
    not_before: Option<SystemTime>,
    #[serde(default, with = "timestamp", skip_serializing_if = "Option::is_none")]
    expires_at: Option<SystemTime>,
    #[serde(default, with = "timestamp", skip_serializing_if = "Option::is_none")]
    suspended_at: Option<SystemTime>,
    #[serde(default, with = "timestamp", skip_serializing_if = "Option::is_none")]
    revoked_at: Option<SystemTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revocation_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<KeyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced_by: Option<KeyId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(default, with = "json::unique")]
    permissions: Vec<(String, Access)>,
    #[serde(default, with = "json::unique", skip_serializing_if = "Vec::is_empty")]
    restrictions: Vec<(String, Option<Object<RestrictionFile>>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip_ranges: Option<Vec<Network>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origins: Option<Vec<String>>,
}

/// The parts of a record that databases keep in columns, because SQL decides by them.
pub(crate) struct KeyColumns {
    pub(crate) id: KeyId,
    pub(crate) digest: Digest,
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) revoked_at: Option<SystemTime>,
    pub(crate) version: u64,
    pub(crate) last_used: Option<SystemTime>,
    pub(crate) owner: Option<String>,
}

impl KeyEntry {
    fn parse(raw: &str, grants: &mut Grants<'_>) -> Result<KeyRecord, ConfigError> {
        // A line counted from the beginning of the key would point at the wrong line of the file.
        let mut entry: Self = json::from_json(raw, false)?;
        for (field, name) in [("kind", &entry.kind), ("tenant", &entry.tenant)] {
            if name.as_deref() == Some("") {
                return Err(ConfigError::new("leave it out, or give it a name").at(field));
            }
        }
        let missing = |field| ConfigError::new(format!("missing field `{field}`"));
        let columns = KeyColumns {
            id: entry.id.take().ok_or_else(|| missing("id"))?,
            digest: entry.digest.take().ok_or_else(|| missing("digest"))?,
            created_at: entry.created_at.take(),
            not_before: entry.not_before.take(),
            expires_at: entry.expires_at.take(),
            revoked_at: entry.revoked_at.take(),
            version: 1,
            last_used: None,
            owner: entry.owner.take(),
        };
        entry.into_record(columns, grants)
    }

    /// Reads the JSON that [`to_row`](Self::to_row) writes. A field that is a column is an error there: of two values,
    /// nobody could tell which one holds.
    pub(crate) fn read_row(json: &str, columns: KeyColumns, grants: &mut Grants<'_>) -> Result<KeyRecord, ConfigError> {
        json::from_json::<Self>(json, false).and_then(|entry| entry.into_record(columns, grants))
    }

    fn into_record(self, columns: KeyColumns, grants: &mut Grants<'_>) -> Result<KeyRecord, ConfigError> {
        // INVARIANT: every field is named here, so that none can be read and then forgotten.
        let Self {
            id: None,
            digest: None,
            created_at: None,
            not_before: None,
            expires_at: None,
            revoked_at: None,
            owner: None,
            name,
            note,
            labels,
            kind,
            tenant,
            suspended_at,
            revocation_reason,
            replaces,
            replaced_by,
            roles,
            permissions,
            restrictions,
            ip_ranges,
            origins,
        } = self
        else {
            return Err(ConfigError::new(
                "the id, the digest, the owner and the dates of a key are columns, and stand only there",
            ));
        };
        check_roles(&roles)?;
        let metadata =
            Metadata::new().with_owner(columns.owner.unwrap_or_default()).with_note(note.unwrap_or_default());
        let metadata = labels.into_iter().fold(metadata, |metadata, (name, value)| metadata.with_label(name, value));
        let grant = grants.read(GrantFile { permissions, restrictions, ip_ranges, origins })?;
        let mut record = KeyRecord::builder(columns.id, columns.digest)
            .created_at(columns.created_at)
            .not_before(columns.not_before)
            .expires_at(columns.expires_at)
            .suspended_at(suspended_at)
            .revoked_at(columns.revoked_at)
            .version(columns.version)
            .last_used(columns.last_used)
            .name(name)
            .kind(kind)
            .tenant(tenant)
            .revocation_reason(revocation_reason)
            .replaces(replaces)
            .replaced_by(replaced_by)
            .metadata(metadata)
            .grant(grant)
            .roles(roles)
            .build();
        grants.finish(&mut record)?;
        Ok(record)
    }

    /// For people and tools that have no use for the digest.
    pub(crate) fn without_digest(record: &KeyRecord) -> Self {
        Self { digest: None, ..Self::from_record(record) }
    }

    /// For a database that keeps [`KeyColumns`] beside it.
    pub(crate) fn to_row(record: &KeyRecord) -> Result<String, ConfigError> {
        Self {
            id: None,
            digest: None,
            created_at: None,
            not_before: None,
            expires_at: None,
            revoked_at: None,
            owner: None,
            ..Self::from_record(record)
        }
        .to_json()
    }

    pub(crate) fn to_json(&self) -> Result<String, ConfigError> {
        serde_json::to_string(self).map_err(|error| ConfigError::new(error.to_string()))
    }

    fn from_record(record: &KeyRecord) -> Self {
        // INVARIANT: every field is named here, so that a new one cannot be left out.
        let KeyRecordBuilder {
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
            expanded: _,
            version: _,
            last_used: _,
        } = record.to_builder();
        let GrantFile { permissions, restrictions, ip_ranges, origins } = GrantFile::from_grant(&grant);
        Self {
            id: Some(id),
            name: name.into(),
            owner: metadata.owner().map(Into::into),
            note: metadata.note().map(Into::into),
            labels: metadata.labels().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            digest: Some(digest),
            kind: kind.as_ref().map(ToString::to_string),
            tenant: tenant.as_ref().map(ToString::to_string),
            created_at,
            not_before,
            expires_at,
            suspended_at,
            revoked_at,
            revocation_reason: revocation_reason.map(Into::into),
            replaces,
            replaced_by,
            roles: roles.iter().map(ToString::to_string).collect(),
            permissions,
            restrictions,
            ip_ranges,
            origins,
        }
    }
}
