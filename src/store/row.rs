//! Rows of the two databases: columns for what SQL decides by, and the rest of the record as JSON.

use std::sync::Arc;

use crate::{
    error::ConfigError,
    key::{Digest, Grants, KeyColumns, KeyEntry, KeyRecord},
    store::{StoreError, StoreSettings, UnreadableKey, part::Entry, report::Report, source::Row},
};

/// The columns in the order in which [`KeyRow::columns`] and every statement take them. `record` is the JSON.
pub(crate) const COLUMNS: &str =
    "id, digest, created_at, not_before, expires_at, revoked_at, version, last_used, record, owner";

/// How many these are.
#[cfg(feature = "postgres")]
pub(crate) const KEY_COLUMNS: usize = 10;

/// A row as the driver of a database reads it.
pub(crate) trait KeyRow {
    /// The id as far as it can be read, for messages.
    fn id(&self) -> String;

    /// The digest, if it is one.
    fn digest(&self) -> Option<Digest>;

    fn columns(&self) -> Result<KeyColumns, ConfigError>;

    fn json(&self) -> Result<&str, ConfigError>;
}

/// A row from which no record can be read.
pub(crate) struct InvalidRow {
    pub(crate) id: String,
    pub(crate) digest: Option<Digest>,
    pub(crate) why: String,
}

impl InvalidRow {
    /// Reports rows that admit nobody.
    pub(crate) fn report(invalid: &[Self], report: &Report) {
        for Self { id, why, .. } in invalid {
            report(&format!("the record of key {id} cannot be read, so the key is refused: {why}"));
        }
    }
}

impl From<Option<Result<Arc<KeyRecord>, InvalidRow>>> for Row {
    fn from(read: Option<Result<Arc<KeyRecord>, InvalidRow>>) -> Self {
        match read {
            None => Self::Absent,
            Some(Ok(record)) => Self::Found(record),
            Some(Err(invalid)) => Self::Unreadable(invalid.digest, invalid.why),
        }
    }
}

impl From<InvalidRow> for UnreadableKey {
    fn from(InvalidRow { id, why, .. }: InvalidRow) -> Self {
        Self { id, why }
    }
}

/// Reads records from rows.
pub(crate) struct RowReader<'d> {
    grants: Grants<'d>,
}

/// The result of reading many rows.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) entries: Vec<(Digest, Entry)>,
    pub(crate) invalid: Vec<InvalidRow>,
}

impl<'d> RowReader<'d> {
    pub(crate) fn new(settings: &'d StoreSettings) -> Self {
        Self { grants: Grants::stored(&settings.dimensions, &settings.roles) }
    }

    pub(crate) fn record(&mut self, row: &impl KeyRow) -> Result<Arc<KeyRecord>, InvalidRow> {
        let mut read = || {
            let columns = row.columns()?;
            KeyEntry::read_row(row.json()?, columns, &mut self.grants).map_err(|error| error.at("record"))
        };
        read().map(Arc::new).map_err(|error| InvalidRow { id: row.id(), digest: row.digest(), why: error.to_string() })
    }

    /// Reads a row for look-ups. A key whose row is invalid is known all the same, and refused.
    pub(crate) fn entry(&mut self, row: &impl KeyRow, rows: &mut Rows) {
        match self.record(row) {
            Ok(record) => rows.entries.push((*record.digest(), Entry::Record(record))),
            Err(invalid) => {
                let entry = |digest| (digest, Entry::unreadable(digest, &invalid.why));
                rows.entries.extend(invalid.digest.map(entry));
                rows.invalid.push(invalid);
            }
        }
    }
}

/// The JSON of a record for its row.
pub(crate) fn json(record: &KeyRecord) -> Result<String, StoreError> {
    KeyEntry::to_row(record).map_err(|error| StoreError::invalid(error.to_string()))
}

/// The version of a record as databases have it.
pub(crate) fn version(record: &KeyRecord) -> Result<i64, StoreError> {
    i64::try_from(record.version()).map_err(|error| StoreError::invalid(error.to_string()))
}

pub(crate) fn read_version(version: i64) -> Result<u64, ConfigError> {
    u64::try_from(version).map_err(|_| ConfigError::new("version: it is negative"))
}
