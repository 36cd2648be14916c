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
    key::{Digest, Grant, KeyColumns, KeyId, KeyRecord},
    store::{
        Action, StoreError,
        audit::Edit,
        change::Change,
        postgres::connection::to_store_error,
        row::{self, COLUMNS, InvalidRow, KeyRow, RowReader},
        source::{KeySource, Row},
        validate::{contains_secret, texts_of, words},
    },
};

impl KeyRow for PgRow {
    fn id(&self) -> String {
        self.try_get(0).unwrap_or_else(|_| "?".to_owned())
    }

    fn digest(&self) -> Option<Digest> {
        digest_of(self, 1)
    }

    fn columns(&self) -> Result<KeyColumns, ConfigError> {
        let time = |position: usize| self.try_get(position).map_err(wrong);
        Ok(KeyColumns {
            id: self.try_get::<_, &str>(0).map_err(wrong)?.parse()?,
            digest: digest_of(self, 1).ok_or_else(|| ConfigError::new("digest: it has not 32 bytes"))?,
            created_at: time(2)?,
            not_before: time(3)?,
            expires_at: time(4)?,
            revoked_at: time(5)?,
            version: row::read_version(self.try_get(6).map_err(wrong)?)?,
            last_used: time(7)?,
        })
    }

    fn json(&self) -> Result<&str, ConfigError> {
        self.try_get(8).map_err(wrong)
    }
}

fn wrong(error: tokio_postgres::Error) -> ConfigError {
    ConfigError::new(error.to_string())
}

pub(super) fn digest_of(row: &PgRow, position: usize) -> Option<Digest> {
    let bytes: Option<&[u8]> = row.try_get(position).ok()?;
    bytes?.try_into().ok().map(Digest::from_bytes)
}

/// The rows that a change needs, fetched before it is worked out.
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
        let (ceilings, change) = change.unbound();
        ids.extend(ceilings.iter().filter_map(|ceiling| Some(ceiling.key()?.to_string())));
        match change {
            Change::Issue(new) => {
                texts.extend([Some(&new.name), new.kind.as_ref(), new.tenant.as_ref()].into_iter().flatten().cloned());
                texts.extend(in_grant(&new.grant));
            }
            Change::Import(records) => {
                for record in records {
                    ids.push(record.id().to_string());
                    digests.push(*record.digest());
                    texts.extend(record.texts().map(|(_, text)| text.to_owned()));
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
            Change::Purge { ended_before } => {
                let sql =
                    format!("SELECT {COLUMNS} FROM authz_keys WHERE revoked_at <= $1 OR expires_at <= $1 ORDER BY id");
                fetched.many(transaction, &sql, &[ended_before], dimensions).await?;
            }
            Change::PruneAudit { before } => {
                let count = transaction.query_one(&format!("SELECT count(*) {OLD_AUDITS}"), &[before]).await;
                let count: i64 = count.map_err(to_store_error)?.get(0);
                fetched.old_audits = usize::try_from(count).unwrap_or_default();
            }
            Change::Settings(_) => {
                fetched.many(transaction, &format!("SELECT {COLUMNS} FROM authz_keys"), &[], dimensions).await?;
            }
            // A change is bound once, and this one is not what it is bound to.
            Change::Within { .. } => {}
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
        let mut reader = RowReader::new(dimensions);
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
        let mut reader = RowReader::new(dimensions);
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

    fn ended_before(&self, _: SystemTime) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.many.clone())
    }

    fn all(&self) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.many.clone())
    }
}
