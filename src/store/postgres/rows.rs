//! Rows of the tables, read and written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use tokio_postgres::{Row as PgRow, Transaction, types::ToSql};

use crate::{
    ConfigError, Digest, Dimension, Grant, KeyId, KeyRecord,
    key::GrantFile,
    store::{
        Action, StoreError,
        audit::Edit,
        change::Change,
        index::Slot,
        judge::words,
        lifecycle::{Row, Table},
        postgres::connection::failure,
    },
    text,
};

pub(super) const COLUMNS: &str = "id, digest, name, kind, tenant, created_at, not_before, expires_at, revoked_at, \
                                  revocation_reason, may, version, last_used, replaces, replaced_by";

/// Reads records, and lets those with the same grant share it.
pub(super) struct Reader<'d> {
    dimensions: &'d [Dimension],
    grants: HashMap<Box<str>, Arc<Grant>>,
}

/// A row that makes no record.
pub(super) struct Broken {
    pub(super) id: String,
    pub(super) digest: Option<Digest>,
    pub(super) why: String,
}

impl<'d> Reader<'d> {
    pub(super) fn new(dimensions: &'d [Dimension]) -> Self {
        Self { dimensions, grants: HashMap::new() }
    }

    pub(super) fn record(&mut self, row: &PgRow) -> Result<Arc<KeyRecord>, Broken> {
        self.try_record(row).map(Arc::new).map_err(|error| Broken {
            id: row.try_get(0).unwrap_or_else(|_| "?".to_owned()),
            digest: digest_of(row, 1),
            why: error.to_string(),
        })
    }

    /// What look-ups find of a row; and the row, if it makes no record.
    pub(super) fn slot(&mut self, row: &PgRow, slots: &mut Vec<(Digest, Slot)>, broken: &mut Vec<Broken>) {
        match self.record(row) {
            Ok(record) => slots.push((*record.digest(), Slot::Record(record))),
            Err(found) => {
                slots.extend(found.digest.map(|digest| (digest, Slot::Unreadable(found.why.as_str().into()))));
                broken.push(found);
            }
        }
    }

    fn try_record(&mut self, row: &PgRow) -> Result<KeyRecord, ConfigError> {
        let wrong = |error: tokio_postgres::Error| ConfigError::new(error.to_string());
        let text = |place: usize| row.try_get::<_, Option<String>>(place).map_err(wrong);
        let time = |place: usize| row.try_get::<_, Option<SystemTime>>(place).map_err(wrong);
        let id: &str = row.try_get(0).map_err(wrong)?;
        let digest = digest_of(row, 1).ok_or_else(|| ConfigError::new("digest: it has not 32 bytes"))?;
        let version: i64 = row.try_get(11).map_err(wrong)?;
        Ok(KeyRecord::builder(id.parse()?, digest)
            .name(row.try_get::<_, String>(2).map_err(wrong)?)
            .kind(text(3)?)
            .tenant(text(4)?)
            .created_at(time(5)?)
            .not_before(time(6)?)
            .expires_at(time(7)?)
            .revoked_at(time(8)?)
            .revocation_reason(text(9)?)
            .grant(self.grant(row.try_get(10).map_err(wrong)?).map_err(|error| error.at("may"))?)
            .version(u64::try_from(version).map_err(|_| ConfigError::new("version: it is negative"))?)
            .last_used(time(12)?)
            .replaces(text(13)?.map(|id| id.parse()).transpose()?)
            .replaced_by(text(14)?.map(|id| id.parse()).transpose()?)
            .build())
    }

    fn grant(&mut self, text: &str) -> Result<Arc<Grant>, ConfigError> {
        if let Some(known) = self.grants.get(text) {
            return Ok(Arc::clone(known));
        }
        let grant = Arc::new(text::from_json::<GrantFile>(text, false)?.read(self.dimensions)?);
        self.grants.insert(text.into(), Arc::clone(&grant));
        Ok(grant)
    }
}

pub(super) fn digest_of(row: &PgRow, place: usize) -> Option<Digest> {
    let bytes: Option<&[u8]> = row.try_get(place).ok()?;
    bytes?.try_into().ok().map(Digest::from_bytes)
}

/// What a change has to know, fetched before it is worked out.
#[derive(Default)]
pub(super) struct Fetched {
    rows: HashMap<KeyId, Row>,
    digests: HashSet<Digest>,
    revoked: HashSet<Digest>,
    many: Vec<Arc<KeyRecord>>,
}

impl Fetched {
    pub(super) async fn of(
        transaction: &Transaction<'_>,
        change: &Change,
        dimensions: &[Dimension],
    ) -> Result<Self, StoreError> {
        let mut fetched = Self::default();
        let (mut ids, mut texts, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        match change {
            Change::Issue(new) => {
                texts.extend([Some(&new.name), new.kind.as_ref(), new.tenant.as_ref()].into_iter().flatten().cloned());
            }
            Change::Import(records) => {
                for record in records {
                    ids.push(record.id().to_string());
                    digests.push(*record.digest());
                    let own = [Some(record.id().as_str()), Some(record.name()), record.kind(), record.tenant()];
                    let own = own.into_iter().chain([record.revocation_reason()]).flatten();
                    texts.extend(own.map(str::to_owned));
                }
            }
            Change::Rename { id, name } => {
                ids.push(id.to_string());
                texts.push(name.clone());
            }
            Change::Revoke { id, reason } => {
                ids.push(id.to_string());
                texts.push(reason.clone());
            }
            Change::Grant { id, .. } | Change::Delete { id } => ids.push(id.to_string()),
            Change::Rotate { id, .. } => {
                fetched.by_ids(transaction, &[id.to_string()], dimensions).await?;
                if let Some(Row::Found(record)) = fetched.rows.get(id) {
                    let record = Arc::clone(record);
                    ids.extend(
                        [record.replaces(), record.replaced_by()].into_iter().flatten().map(ToString::to_string),
                    );
                    texts.push(record.name().to_owned());
                }
            }
            Change::Purge { dead_since } => {
                let sql =
                    format!("SELECT {COLUMNS} FROM authz_keys WHERE revoked_at <= $1 OR expires_at <= $1 ORDER BY id");
                fetched.many(transaction, &sql, &[dead_since], dimensions).await?;
            }
            Change::Settings(_) => {
                fetched.many(transaction, &format!("SELECT {COLUMNS} FROM authz_keys"), &[], dimensions).await?;
            }
        }
        digests.extend(texts.iter().flat_map(|text| words(text)).map(|word| Digest::of(word.as_bytes())));
        fetched.by_ids(transaction, &ids, dimensions).await?;
        let bytes: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        if !bytes.is_empty() {
            let known = "SELECT digest FROM authz_keys WHERE digest = ANY($1)";
            let revoked = "SELECT digest FROM authz_audit WHERE digest = ANY($1) AND action = 'revoked'";
            for (sql, set) in [(known, &mut fetched.digests), (revoked, &mut fetched.revoked)] {
                let rows = transaction.query(sql, &[&bytes]).await.map_err(|error| failure(&error))?;
                set.extend(rows.iter().filter_map(|row| digest_of(row, 0)));
            }
        }
        Ok(fetched)
    }

    async fn by_ids(
        &mut self,
        transaction: &Transaction<'_>,
        ids: &[String],
        dimensions: &[Dimension],
    ) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = ANY($1)");
        let rows = transaction.query(&sql, &[&ids]).await.map_err(|error| failure(&error))?;
        let mut reader = Reader::new(dimensions);
        for row in &rows {
            let (id, row) = match reader.record(row) {
                Ok(record) => (record.id().clone(), Row::Found(record)),
                Err(Broken { id, digest, why }) => match id.parse() {
                    Ok(id) => (id, Row::Unreadable(digest, why)),
                    Err(_) => continue,
                },
            };
            self.rows.insert(id, row);
        }
        Ok(())
    }

    async fn many(
        &mut self,
        transaction: &Transaction<'_>,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
        dimensions: &[Dimension],
    ) -> Result<(), StoreError> {
        let rows = transaction.query(sql, values).await.map_err(|error| failure(&error))?;
        let mut reader = Reader::new(dimensions);
        self.many = rows.iter().filter_map(|row| reader.record(row).ok()).collect();
        Ok(())
    }
}

impl Table for Fetched {
    fn by_id(&self, id: &KeyId) -> Result<Row, StoreError> {
        Ok(self.rows.get(id).cloned().unwrap_or(Row::Absent))
    }

    fn by_digest(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.digests.contains(digest))
    }

    fn was_revoked(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.revoked.contains(digest))
    }

    fn dead_since(&self, _: SystemTime) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.many.clone())
    }

    fn all(&self) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.many.clone())
    }
}

/// So many rows are written by one statement.
const BATCH: usize = 1000;

/// Writes a change with its audit records, which are numbered from `first` on. False if a new key was to have an id
/// that another has: then draw again.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    edits: &[Edit],
    first: i64,
    change: &str,
    now: SystemTime,
    who: &str,
) -> Result<bool, StoreError> {
    let told = |error: tokio_postgres::Error| failure(&error);
    let mut first = first;
    for edits in edits.chunks(BATCH) {
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for edit in edits {
            match (&edit.key, &edit.after, edit.action) {
                (_, Some(record), _) if edit.before.is_none() => new.push(&**record),
                (_, Some(record), _) => update(transaction, record).await?,
                // Only of a record that cannot be read is there nothing to write afterwards.
                (Some(id), None, Action::Revoked) => {
                    let sql = "UPDATE authz_keys SET revoked_at = $2, revocation_reason = $3, version = version + 1
                               WHERE id = $1 AND revoked_at IS NULL";
                    transaction.execute(sql, &[&id.as_str(), &now, &edit.note]).await.map_err(told)?;
                }
                (Some(id), None, _) => gone.push(id.as_str()),
                (None, None, _) => {}
            }
        }
        if !gone.is_empty() {
            transaction.execute("DELETE FROM authz_keys WHERE id = ANY($1)", &[&gone]).await.map_err(told)?;
        }
        if !new.is_empty() && !insert(transaction, &new).await? {
            return Ok(false);
        }
        record(transaction, edits, first, change, now, who).await?;
        first += i64::try_from(edits.len()).unwrap_or(0);
    }
    Ok(true)
}

/// Writes new keys. False if one of them has an id that another has.
async fn insert(transaction: &Transaction<'_>, records: &[&KeyRecord]) -> Result<bool, StoreError> {
    let sql = format!(
        "INSERT INTO authz_keys ({COLUMNS})
         SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
           $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::bigint[],
           $13::timestamptz[], $14::text[], $15::text[])
         ON CONFLICT (id) DO NOTHING"
    );
    let of = |id: Option<&KeyId>| id.map(ToString::to_string);
    let grants = records.iter().map(|it| may(it)).collect::<Result<Vec<_>, _>>()?;
    let versions = records.iter().map(|it| number(it.version())).collect::<Result<Vec<_>, _>>()?;
    /// One value of each record.
    fn column<'r, T>(records: &[&'r KeyRecord], of: impl Fn(&'r KeyRecord) -> T) -> Vec<T> {
        records.iter().map(|record| of(record)).collect()
    }
    let values: [&(dyn ToSql + Sync); 15] = [
        &column(records, |it| it.id().as_str()),
        &column(records, |it| it.digest().as_bytes().as_slice()),
        &column(records, KeyRecord::name),
        &column(records, KeyRecord::kind),
        &column(records, KeyRecord::tenant),
        &column(records, KeyRecord::created_at),
        &column(records, KeyRecord::not_before),
        &column(records, KeyRecord::expires_at),
        &column(records, KeyRecord::revoked_at),
        &column(records, KeyRecord::revocation_reason),
        &grants,
        &versions,
        &column(records, KeyRecord::last_used),
        &column(records, |it| of(it.replaces())),
        &column(records, |it| of(it.replaced_by())),
    ];
    let written = transaction.execute(&sql, &values).await.map_err(|error| failure(&error))?;
    Ok(usize::try_from(written).is_ok_and(|written| written == records.len()))
}

async fn update(transaction: &Transaction<'_>, record: &KeyRecord) -> Result<(), StoreError> {
    let sql = "UPDATE authz_keys SET name = $3, kind = $4, tenant = $5, not_before = $6, expires_at = $7,
                 revoked_at = $8, revocation_reason = $9, may = $10, version = $11::bigint, replaced_by = $12
               WHERE id = $1 AND digest = $2 AND version = $11::bigint - 1";
    let values: [&(dyn ToSql + Sync); 12] = [
        &record.id().as_str(),
        &record.digest().as_bytes().as_slice(),
        &record.name(),
        &record.kind(),
        &record.tenant(),
        &record.not_before(),
        &record.expires_at(),
        &record.revoked_at(),
        &record.revocation_reason(),
        &may(record)?,
        &number(record.version())?,
        &record.replaced_by().map(ToString::to_string),
    ];
    match transaction.execute(sql, &values).await.map_err(|error| failure(&error))? {
        1 => Ok(()),
        _ => Err(StoreError::conflict(format!("the key {} was changed meanwhile", record.id()))),
    }
}

async fn record(
    transaction: &Transaction<'_>,
    edits: &[Edit],
    first: i64,
    change: &str,
    now: SystemTime,
    who: &str,
) -> Result<(), StoreError> {
    let audits = edits.iter().map(|edit| edit.audit(0, now, who)).collect::<Result<Vec<_>, _>>();
    let audits = audits.map_err(|error| StoreError::invalid(error.to_string()))?;
    let numbers: Vec<i64> = (first..).take(edits.len()).collect();
    let actions: Vec<&str> = edits.iter().map(|edit| edit.action.name()).collect();
    let keys: Vec<Option<&str>> = edits.iter().map(|edit| edit.key.as_ref().map(KeyId::as_str)).collect();
    let digests: Vec<Option<&[u8]>> =
        edits.iter().map(|edit| edit.digest.as_ref().map(|digest| digest.as_bytes().as_slice())).collect();
    let notes: Vec<Option<&str>> = edits.iter().map(|edit| edit.note.as_deref()).collect();
    let before: Vec<Option<&str>> = audits.iter().map(|audit| audit.before.as_deref()).collect();
    let after: Vec<Option<&str>> = audits.iter().map(|audit| audit.after.as_deref()).collect();
    let sql = "INSERT INTO authz_audit (change, at, who, number, action, key_id, digest, note, before, after)
               SELECT $1, $2, $3, * FROM unnest($4::bigint[], $5::text[], $6::text[], $7::bytea[], $8::text[],
                 $9::text[], $10::text[])";
    let values: [&(dyn ToSql + Sync); 10] =
        [&change, &now, &who, &numbers, &actions, &keys, &digests, &notes, &before, &after];
    transaction.execute(sql, &values).await.map(drop).map_err(|error| failure(&error))
}

fn may(record: &KeyRecord) -> Result<String, StoreError> {
    serde_json::to_string(&GrantFile::of(record.grant())).map_err(|error| StoreError::invalid(error.to_string()))
}

fn number(version: u64) -> Result<i64, StoreError> {
    i64::try_from(version).map_err(|error| StoreError::invalid(error.to_string()))
}
