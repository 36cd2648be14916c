//! Rows of the tables, read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use tokio_postgres::{Row as PgRow, Transaction, types::ToSql};

use crate::{
    dimension::Dimension,
    error::ConfigError,
    key::{Digest, Grant, KeyId, KeyRecord},
    store::{
        Action, StoreError,
        audit::Edit,
        change::Change,
        grants::Grants,
        index::Entry,
        lifecycle::{KeySource, Row},
        postgres::connection::to_store_error,
        validate::{contains_secret, texts_of, words},
    },
};

pub(super) const COLUMNS: &str = "id, digest, name, kind, tenant, created_at, not_before, expires_at, revoked_at, \
                                  revocation_reason, may, version, last_used, replaces, replaced_by";

/// Reads records.
pub(super) struct Reader<'d> {
    grants: Grants<'d>,
}

/// A row that makes no record.
pub(super) struct InvalidRow {
    pub(super) id: String,
    pub(super) digest: Option<Digest>,
    pub(super) why: String,
}

impl<'d> Reader<'d> {
    pub(super) fn new(dimensions: &'d [Dimension]) -> Self {
        Self { grants: Grants::new(dimensions) }
    }

    pub(super) fn record(&mut self, row: &PgRow) -> Result<Arc<KeyRecord>, InvalidRow> {
        self.try_record(row).map(Arc::new).map_err(|error| InvalidRow {
            id: row.try_get(0).unwrap_or_else(|_| "?".to_owned()),
            digest: digest_of(row, 1),
            why: error.to_string(),
        })
    }

    /// What look-ups find of a row; and the row, if it makes no record.
    pub(super) fn entry(&mut self, row: &PgRow, entries: &mut Vec<(Digest, Entry)>, broken: &mut Vec<InvalidRow>) {
        match self.record(row) {
            Ok(record) => entries.push((*record.digest(), Entry::Record(record))),
            Err(found) => {
                entries.extend(found.digest.map(|digest| (digest, Entry::Unreadable(found.why.as_str().into()))));
                broken.push(found);
            }
        }
    }

    fn try_record(&mut self, row: &PgRow) -> Result<KeyRecord, ConfigError> {
        let wrong = |error: tokio_postgres::Error| ConfigError::new(error.to_string());
        let text = |position: usize| row.try_get::<_, Option<String>>(position).map_err(wrong);
        let time = |position: usize| row.try_get::<_, Option<SystemTime>>(position).map_err(wrong);
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
            .grant(self.grants.read(row.try_get(10).map_err(wrong)?)?)
            .version(u64::try_from(version).map_err(|_| ConfigError::new("version: it is negative"))?)
            .last_used(time(12)?)
            .replaces(text(13)?.map(|id| id.parse()).transpose()?)
            .replaced_by(text(14)?.map(|id| id.parse()).transpose()?)
            .build())
    }
}

pub(super) fn digest_of(row: &PgRow, position: usize) -> Option<Digest> {
    let bytes: Option<&[u8]> = row.try_get(position).ok()?;
    bytes?.try_into().ok().map(Digest::from_bytes)
}

/// What a change has to know, fetched before it is worked out.
#[derive(Default)]
pub(super) struct Fetched {
    rows: HashMap<KeyId, Row>,
    digests: HashSet<Digest>,
    revoked: HashSet<Digest>,
    many: Vec<Arc<KeyRecord>>,
    old_audits: usize,
}

/// The audit records from before some time, without the newest of them.
pub(super) const OLD_AUDITS: &str =
    "FROM authz_audit WHERE at < $1 AND number < (SELECT max(number) FROM authz_audit WHERE at < $1)";

impl Fetched {
    pub(super) async fn load(
        transaction: &Transaction<'_>,
        who: &str,
        change: &Change,
        dimensions: &[Dimension],
    ) -> Result<Self, StoreError> {
        let mut fetched = Self::default();
        let (mut ids, mut texts, mut digests) = (Vec::new(), vec![who.to_owned()], Vec::new());
        let in_grant = |grant: &Grant| texts_of(grant).map(|(_, text)| text.to_owned()).collect::<Vec<_>>();
        match change {
            Change::Issue(new) => {
                texts.extend([Some(&new.name), new.kind.as_ref(), new.tenant.as_ref()].into_iter().flatten().cloned());
                texts.extend(in_grant(&new.grant));
            }
            Change::Import(records) => {
                for record in records {
                    ids.push(record.id().to_string());
                    digests.push(*record.digest());
                    let own = [Some(record.id().as_str()), Some(record.name()), record.kind(), record.tenant()];
                    let own = own.into_iter().chain([record.revocation_reason()]).flatten();
                    texts.extend(own.map(str::to_owned));
                    texts.extend(in_grant(record.grant()));
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
            Change::PruneAudit { before } => {
                let count = transaction.query_one(&format!("SELECT count(*) {OLD_AUDITS}"), &[before]).await;
                let count: i64 = count.map_err(to_store_error)?.get(0);
                fetched.old_audits = usize::try_from(count).unwrap_or_default();
            }
            Change::Settings(_) => {
                fetched.many(transaction, &format!("SELECT {COLUMNS} FROM authz_keys"), &[], dimensions).await?;
            }
        }
        digests.extend(texts.iter().flat_map(|text| words(text)).map(|word| Digest::from_key(word.as_bytes())));
        fetched.by_ids(transaction, &ids, dimensions).await?;
        let bytes: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        if !bytes.is_empty() {
            let known = "SELECT digest FROM authz_keys WHERE digest = ANY($1)";
            let revoked = "SELECT digest FROM authz_revoked WHERE digest = ANY($1)";
            for (sql, set) in [(known, &mut fetched.digests), (revoked, &mut fetched.revoked)] {
                let rows = transaction.query(sql, &[&bytes]).await.map_err(to_store_error)?;
                set.extend(rows.iter().filter_map(|row| digest_of(row, 0)));
            }
        }
        Ok(fetched)
    }

    /// Refuses a new grant with a whole key in it, where only the database can tell a key from other words. What the grant
    /// is, nobody knows before the change is worked out.
    pub(super) async fn assert_no_key(transaction: &Transaction<'_>, edits: &[Edit]) -> Result<(), StoreError> {
        let changed = edits.iter().filter(|edit| edit.action == Action::GrantChanged);
        let texts = changed.filter_map(|edit| edit.after.as_ref()).flat_map(|record| texts_of(record.grant()));
        let digests: Vec<Digest> =
            texts.flat_map(|(_, text)| words(text)).map(|word| Digest::from_key(word.as_bytes())).collect();
        let bytes: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        let known = "SELECT 1 FROM authz_keys WHERE digest = ANY($1) LIMIT 1";
        match transaction.query_opt(known, &[&bytes]).await.map_err(to_store_error)? {
            None => Ok(()),
            Some(_) => Err(contains_secret("grant")),
        }
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
        let rows = transaction.query(&sql, &[&ids]).await.map_err(to_store_error)?;
        let mut reader = Reader::new(dimensions);
        for row in &rows {
            let (id, row) = match reader.record(row) {
                Ok(record) => (record.id().clone(), Row::Found(record)),
                Err(InvalidRow { id, digest, why }) => match id.parse() {
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
        let rows = transaction.query(sql, values).await.map_err(to_store_error)?;
        let mut reader = Reader::new(dimensions);
        self.many = rows.iter().filter_map(|row| reader.record(row).ok()).collect();
        Ok(())
    }
}

impl KeySource for Fetched {
    fn by_id(&self, id: &KeyId) -> Result<Row, StoreError> {
        Ok(self.rows.get(id).cloned().unwrap_or(Row::Absent))
    }

    fn by_digest(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.digests.contains(digest))
    }

    fn was_revoked(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.revoked.contains(digest))
    }

    fn audit_before(&self, _: SystemTime) -> Result<usize, StoreError> {
        Ok(self.old_audits)
    }

    fn dead_since(&self, _: SystemTime) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.many.clone())
    }

    fn all(&self) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.many.clone())
    }
}
