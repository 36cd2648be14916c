//! Rows of the tables, read and written.

use std::{sync::Arc, time::SystemTime};

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row as SqlRow, params, types::ValueRef};

use crate::{
    error::ConfigError,
    key::{Digest, KeyColumns, KeyId, KeyRecord},
    store::{
        Action, AuditQuery, AuditRecord, KeyQuery, Page, StoreError, StoreSettings,
        audit::Edit,
        change::ActorInfo,
        row::{self, COLUMNS, KeyRow, RowReader, Rows},
        source::{KeySource, Row},
        sqlite::schema::to_store_error,
    },
    timestamp,
};

/// Whether the row has lost a revocation, the last column that is read.
const LOST: &str = "revoked_at IS NULL AND EXISTS (SELECT 1 FROM revoked WHERE revoked.digest = keys.digest)";

impl KeyRow for SqlRow<'_> {
    fn id(&self) -> String {
        match self.get_ref(0) {
            Ok(ValueRef::Text(id) | ValueRef::Blob(id)) => String::from_utf8_lossy(id).into_owned(),
            _ => "?".to_owned(),
        }
    }

    fn digest(&self) -> Option<Digest> {
        self.get(1).ok().map(Digest::from_bytes)
    }

    fn columns(&self) -> Result<KeyColumns, ConfigError> {
        // This holds whatever has happened to the file: a digest that is remembered as revoked admits nobody.
        if self.get(10).map_err(|error| wrong(&error))? {
            return Err(ConfigError::new("the key was revoked, and its row has lost that; revoke it again"));
        }
        Ok(KeyColumns {
            id: text_of(self, 0)?.parse()?,
            digest: Digest::from_bytes(self.get(1).map_err(|error| wrong(&error))?),
            created_at: time_of(self, 2)?,
            not_before: time_of(self, 3)?,
            expires_at: time_of(self, 4)?,
            revoked_at: time_of(self, 5)?,
            version: row::read_version(self.get(6).map_err(|error| wrong(&error))?)?,
            last_used: time_of(self, 7)?,
            owner: self.get(9).map_err(|error| wrong(&error))?,
        })
    }

    fn json(&self) -> Result<&str, ConfigError> {
        text_of(self, 8)
    }
}

fn wrong(error: &rusqlite::Error) -> ConfigError {
    ConfigError::new(error.to_string())
}

fn text_of<'r>(row: &'r SqlRow<'_>, position: usize) -> Result<&'r str, ConfigError> {
    let value = row.get_ref(position).map_err(|error| wrong(&error))?;
    value.as_str().map_err(|error| ConfigError::new(error.to_string()))
}

fn time_of(row: &SqlRow<'_>, position: usize) -> Result<Option<SystemTime>, ConfigError> {
    let micros: Option<i64> = row.get(position).map_err(|error| wrong(&error))?;
    micros.map(timestamp::from_micros).transpose()
}

pub(super) fn micros(time: Option<SystemTime>) -> Result<Option<i64>, StoreError> {
    time.map(timestamp::to_micros).transpose().map_err(|error| StoreError::invalid(error.to_string()))
}

/// Every key.
pub(super) fn all(connection: &Connection, settings: &StoreSettings) -> rusqlite::Result<Rows> {
    let mut reader = RowReader::new(settings);
    let mut all = Rows::default();
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS}, {LOST} FROM keys"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        reader.entry(row, &mut all);
    }
    Ok(all)
}

pub(super) fn one(connection: &Connection, settings: &StoreSettings, id: &KeyId) -> rusqlite::Result<Row> {
    row_of(connection, settings, "id", [id.as_str()])
}

pub(super) fn by_digest(connection: &Connection, settings: &StoreSettings, digest: &Digest) -> rusqlite::Result<Row> {
    row_of(connection, settings, "digest", [digest.as_bytes()])
}

fn row_of(
    connection: &Connection,
    settings: &StoreSettings,
    column: &str,
    value: impl rusqlite::Params,
) -> rusqlite::Result<Row> {
    let mut statement = cached(connection, &format!("SELECT {COLUMNS}, {LOST} FROM keys WHERE {column} = ?1"))?;
    let read = statement.query_row(value, |row| Ok(RowReader::new(settings).record(row))).optional()?;
    Ok(read.into())
}

/// `known` adds to each record what only memory knows of it, before the query looks at that.
pub(super) fn page(
    connection: &Connection,
    settings: &StoreSettings,
    query: &KeyQuery,
    known: impl Fn(&Arc<KeyRecord>),
) -> rusqlite::Result<Page> {
    let now = SystemTime::now();
    let mut reader = RowReader::new(settings);
    let of_owner = if query.owner.is_some() { "owner = ?2" } else { "?2 IS NULL" };
    let sql = format!("SELECT {COLUMNS}, {LOST} FROM keys WHERE id > ?1 AND {of_owner} ORDER BY id");
    let mut statement = cached(connection, &sql)?;
    let mut rows = statement.query(params![query.after.as_ref().map_or("", KeyId::as_str), query.owner])?;
    let mut page = Page::default();
    while let Some(row) = rows.next()? {
        if page.records.len() == query.limit {
            page.next = page.records.last().map(|last| last.id().clone());
            break;
        }
        match reader.record(row).inspect(&known) {
            Ok(record) if query.matches(&record, now) => page.records.push(record),
            Ok(_) => {}
            Err(invalid) => page.unreadable.push(invalid.into()),
        }
    }
    Ok(page)
}

pub(super) fn history(connection: &Connection, query: &AuditQuery) -> rusqlite::Result<Vec<AuditRecord>> {
    let order = if query.after.is_some() { "ASC" } else { "DESC" };
    let mut statement = cached(
        connection,
        &format!(
            "SELECT number, at, who, action, key_id, note, before, after, address, request_id FROM audit
             WHERE number < ?1 AND number > ?2 AND (?3 IS NULL OR key_id = ?3) ORDER BY number {order} LIMIT ?4"
        ),
    )?;
    let number = |number: Option<u64>| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    let (before, after) = (number(query.before).unwrap_or(i64::MAX), number(query.after).unwrap_or(-1));
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![before, after, query.key.as_ref().map(KeyId::as_str), limit], |row| {
        let odd = |position| rusqlite::Error::InvalidColumnType(position, String::new(), rusqlite::types::Type::Text);
        let key: Option<String> = row.get(4)?;
        Ok(AuditRecord {
            number: u64::try_from(row.get::<_, i64>(0)?).map_err(|_| odd(0))?,
            at: timestamp::from_micros(row.get(1)?).map_err(|_| odd(1))?,
            by: row.get(2)?,
            // One that is none, written by hand, keeps nobody from reading the log.
            address: row.get::<_, Option<String>>(8)?.and_then(|address| address.parse().ok()),
            request_id: row.get(9)?,
            action: Action::named(&row.get::<_, String>(3)?),
            key: key.map(|key| key.parse()).transpose().map_err(|_| odd(4))?,
            note: row.get(5)?,
            before: row.get(6)?,
            after: row.get(7)?,
        })
    })?;
    rows.collect()
}

/// A change as a process remembers it: by its number, and by what tells it from another of that number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommitMark {
    pub(super) number: i64,
    content: String,
}

/// The newest change, or none in a store that was never changed.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<CommitMark> {
    marked(connection, "(SELECT max(number) FROM audit)", [])
}

/// Whether this change still is what it was: another stands there, or none, in a file that was restored.
pub(super) fn is_still(connection: &Connection, mark: &CommitMark) -> rusqlite::Result<bool> {
    Ok(marked(connection, "?1", [mark.number])? == *mark)
}

fn marked(connection: &Connection, number: &str, values: impl rusqlite::Params) -> rusqlite::Result<CommitMark> {
    let content =
        "at || ' ' || who || ' ' || action || ' ' || coalesce(key_id, '') || ' ' || coalesce(hex(digest), '')";
    let mut statement = cached(connection, &format!("SELECT number, {content} FROM audit WHERE number = {number}"))?;
    let found =
        statement.query_row(values, |row| Ok(CommitMark { number: row.get(0)?, content: row.get(1)? })).optional();
    Ok(found?.unwrap_or_default())
}

/// Moves with each commit of others, as this connection learns of them, and with none of its own.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    cached(connection, "PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// The id and the digest of a key that has changed; no id stands for the settings.
pub(super) type ChangedKey = (Option<String>, Option<Digest>);

/// The keys that have changed since this audit record.
pub(super) fn changed_since(connection: &Connection, number: i64) -> rusqlite::Result<Vec<ChangedKey>> {
    let mut statement = cached(connection, "SELECT DISTINCT key_id, digest FROM audit WHERE number > ?1")?;
    let changed = statement.query_map([number], |row| {
        // A digest that is none is no reason to stop: without it everything is read anew.
        Ok((row.get::<_, Option<String>>(0).unwrap_or_default(), row.get(1).ok().map(Digest::from_bytes)))
    })?;
    changed.collect()
}

/// Writes one change with its audit record, in the transaction that the caller has begun.
pub(super) fn write(connection: &Connection, edit: &Edit, now: SystemTime, who: &ActorInfo) -> Result<(), StoreError> {
    match (&edit.key, &edit.after, edit.action) {
        (_, _, Action::RevokedAgain) => {}
        (_, Some(record), _) => put(connection, record)?,
        // Only of a record that cannot be read is there nothing to write afterwards.
        (Some(id), None, Action::Revoked) => {
            let sql = "UPDATE keys SET revoked_at = ?2, version = min(version, 9223372036854775806) + 1
                       WHERE id = ?1 AND revoked_at IS NULL";
            let values = params![id.as_str(), micros(Some(now))?];
            cached(connection, sql).and_then(|mut statement| statement.execute(values)).map_err(to_store_error)?;
        }
        (Some(id), None, _) => {
            cached(connection, "DELETE FROM keys WHERE id = ?1")
                .and_then(|mut it| it.execute([id.as_str()]))
                .map_err(to_store_error)?;
        }
        (None, None, _) => {}
    }
    let audit = edit.audit(0, now, who).map_err(|error| StoreError::invalid(error.to_string()))?;
    let values = params![
        micros(Some(now))?,
        who.name,
        edit.action.name(),
        audit.key.as_ref().map(KeyId::as_str),
        edit.digest.as_ref().map(Digest::as_bytes),
        audit.note,
        audit.before,
        audit.after,
        audit.address.map(|address| address.to_string()),
        audit.request_id,
    ];
    let sql = "INSERT INTO audit (at, who, action, key_id, digest, note, before, after, address, request_id)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    cached(connection, sql).and_then(|mut statement| statement.execute(values)).map_err(to_store_error)?;
    Ok(())
}

/// A new record, or the next version of one: a newer one is never written over.
fn put(connection: &Connection, record: &KeyRecord) -> Result<(), StoreError> {
    let values = params![
        record.id().as_str(),
        record.digest().as_bytes(),
        micros(record.created_at())?,
        micros(record.not_before())?,
        micros(record.expires_at())?,
        micros(record.revoked_at())?,
        row::version(record)?,
        micros(record.last_used())?,
        row::json(record)?,
        record.metadata().owner(),
    ];
    let sql = format!(
        "INSERT INTO keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET not_before = ?4, expires_at = ?5, revoked_at = ?6, version = ?7, record = ?9,
           owner = ?10
         WHERE digest = ?2 AND version = ?7 - 1"
    );
    let written = cached(connection, &sql).and_then(|mut statement| statement.execute(values));
    match written.map_err(to_store_error)? {
        1 => Ok(()),
        _ => Err(StoreError::conflict(format!("the key {} was changed meanwhile", record.id()))),
    }
}

/// The audit records from before some time, without the newest of them.
const OLD_AUDITS: &str = "FROM audit WHERE at < ?1 AND number < (SELECT max(number) FROM audit WHERE at < ?1)";

/// Removes them.
pub(super) fn prune(connection: &Connection, before: SystemTime) -> Result<(), StoreError> {
    let deleted = connection.execute(&format!("DELETE {OLD_AUDITS}"), [micros(Some(before))?]);
    deleted.map(drop).map_err(to_store_error)
}

/// Writes down when keys were last used, never an earlier time over a later one.
pub(super) fn put_uses(connection: &Connection, used: &[Arc<KeyRecord>]) -> Result<(), StoreError> {
    let sql = "UPDATE keys SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1";
    let mut statement = cached(connection, sql).map_err(to_store_error)?;
    for record in used {
        let time = micros(record.last_used())?;
        statement.execute(params![record.id().as_str(), time]).map_err(to_store_error)?;
    }
    Ok(())
}

pub(super) fn cached<'c>(connection: &'c Connection, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}

/// The tables inside of the transaction that a change is written in.
pub(super) struct SqliteKeySource<'c> {
    pub(super) connection: &'c Connection,
    pub(super) settings: &'c StoreSettings,
}

impl SqliteKeySource<'_> {
    /// The records that can be read, in the order of their ids.
    fn records(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let read = || {
            let mut reader = RowReader::new(self.settings);
            let sql = format!("SELECT {COLUMNS}, {LOST} FROM keys WHERE {condition} ORDER BY id");
            let mut statement = cached(self.connection, &sql)?;
            let rows = statement.query_map(values, |row| Ok(reader.record(row).ok()))?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(to_store_error)
    }
}

impl KeySource for SqliteKeySource<'_> {
    fn by_id(&self, id: &KeyId) -> Result<Row, StoreError> {
        one(self.connection, self.settings, id).map_err(to_store_error)
    }

    fn by_digest(&self, digest: &Digest) -> Result<bool, StoreError> {
        cached(self.connection, "SELECT 1 FROM keys WHERE digest = ?1")
            .and_then(|mut statement| statement.exists([digest.as_bytes()]))
            .map_err(to_store_error)
    }

    fn by_owner(&self, owner: &str) -> Result<Vec<(KeyId, Row)>, StoreError> {
        let read = || {
            let mut reader = RowReader::new(self.settings);
            let sql = format!("SELECT {COLUMNS}, {LOST} FROM keys WHERE owner = ?1 ORDER BY id");
            let mut statement = cached(self.connection, &sql)?;
            let rows = statement.query_map([owner], |row| {
                let id: Option<KeyId> = KeyRow::id(row).parse().ok();
                Ok(id.map(|id| (id, Some(reader.record(row)).into())))
            })?;
            rows.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(to_store_error)
    }

    fn was_revoked(&self, digest: &Digest) -> Result<bool, StoreError> {
        cached(self.connection, "SELECT 1 FROM revoked WHERE digest = ?1")
            .and_then(|mut statement| statement.exists([digest.as_bytes()]))
            .map_err(to_store_error)
    }

    fn ended_before(&self, time: SystemTime) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.records("revoked_at <= ?1 OR expires_at <= ?1", [micros(Some(time))?])
    }

    fn audit_before(&self, time: SystemTime) -> Result<usize, StoreError> {
        let sql = format!("SELECT count(*) {OLD_AUDITS}");
        let count = |mut statement: CachedStatement<'_>, time| statement.query_row([time], |row| row.get::<_, i64>(0));
        let time = micros(Some(time))?;
        let count = cached(self.connection, &sql).and_then(|statement| count(statement, time));
        Ok(usize::try_from(count.map_err(to_store_error)?).unwrap_or_default())
    }

    fn all(&self) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.records("true", [])
    }
}
