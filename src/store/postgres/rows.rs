//! Rows of the tables, read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use tokio_postgres::{Row as PgRow, Transaction, types::ToSql};

use crate::{
    error::ConfigError,
    key::{Digest, Grant, KeyColumns, KeyId, KeyRecord, Metadata},
    store::{
        Action, StoreError, StoreSettings,
        audit::Edit,
        change::{ActorInfo, Change},
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
            owner: self.try_get(9).map_err(wrong)?,
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
    of_owner: Vec<(KeyId, Row)>,
    old_audits: usize,
}

/// The audit records from before some time, without the newest of them.
pub(super) const OLD_AUDITS: &str =
    "FROM authz_audit WHERE at < $1 AND number < (SELECT max(number) FROM authz_audit WHERE at < $1)";

impl Fetched {
    pub(super) async fn load(
        transaction: &Transaction<'_>,
        who: &ActorInfo,
        change: &Change,
        settings: &StoreSettings,
    ) -> Result<Self, StoreError> {
        let mut fetched = Self::default();
        let (mut ids, mut texts, mut digests) = (Vec::new(), vec![who.name.clone()], Vec::new());
        texts.extend(who.request_id.clone());
        let in_grant = |grant: &Grant| texts_of(grant).map(|(_, text)| text.to_owned()).collect::<Vec<_>>();
        let in_metadata = |metadata: &Metadata| metadata.texts().map(|(_, text)| text.to_owned()).collect::<Vec<_>>();
        let (ceilings, change) = change.unbound();
        ids.extend(ceilings.iter().filter_map(|ceiling| Some(ceiling.key()?.to_string())));
        match change {
            Change::Issue(new) => {
                texts.extend([Some(&new.name), new.kind.as_ref(), new.tenant.as_ref()].into_iter().flatten().cloned());
                texts.extend(in_metadata(&new.metadata));
                texts.extend(new.roles.iter().cloned());
                texts.extend(in_grant(&new.grant));
            }
            Change::Import(records) => {
                for record in records {
                    ids.push(record.id().to_string());
                    digests.push(*record.digest());
                    texts.extend(record.texts().map(|(_, text)| text.to_owned()));
                    texts.extend(in_grant(record.own_grant()));
                }
            }
            Change::Rename { id, name } => {
                ids.push(id.to_string());
                texts.push(name.clone());
            }
            Change::Revoke { id, reason } | Change::Suspend { id, reason } => {
                ids.push(id.to_string());
                texts.push(reason.clone());
            }
            Change::Metadata { id, .. }
            | Change::Grant { id, .. }
            | Change::Roles { id, .. }
            | Change::Resume { id }
            | Change::Delete { id } => ids.push(id.to_string()),
            Change::RevokeOwner { owner, reason } => {
                texts.extend([owner.clone(), reason.clone()]);
                fetched.of_owner(transaction, owner, settings).await?;
            }
            Change::Role { name, grant } => {
                texts.push(name.clone());
                texts.extend(grant.iter().flat_map(in_grant));
                // Few keys may have roles, and every renewal of a lease waits meanwhile.
                let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE record LIKE '%\"roles\"%'");
                fetched.many(transaction, &sql, &[], settings).await?;
            }
            Change::Rotate { id, .. } | Change::Expiry { id, .. } => {
                fetched.by_ids(transaction, &[id.to_string()], settings).await?;
                if let Some(Row::Found(record)) = fetched.rows.get(id) {
                    let record = Arc::clone(record);
                    ids.extend(
                        [record.replaces(), record.replaced_by()].into_iter().flatten().map(ToString::to_string),
                    );
                    texts.push(record.name().to_owned());
                    texts.extend(in_metadata(record.metadata()));
                }
            }
            Change::Purge { ended_before } => {
                let sql =
                    format!("SELECT {COLUMNS} FROM authz_keys WHERE revoked_at <= $1 OR expires_at <= $1 ORDER BY id");
                fetched.many(transaction, &sql, &[ended_before], settings).await?;
            }
            Change::PruneAudit { before } => {
                let count = transaction.query_one(&format!("SELECT count(*) {OLD_AUDITS}"), &[before]).await;
                let count: i64 = count.map_err(to_store_error)?.get(0);
                fetched.old_audits = usize::try_from(count).unwrap_or_default();
            }
            Change::Settings(_) => {
                fetched.many(transaction, &format!("SELECT {COLUMNS} FROM authz_keys"), &[], settings).await?;
            }
            // A change is bound once, and this one is not what it is bound to.
            Change::Within { .. } => {}
        }
        digests.extend(texts.iter().flat_map(|text| words(text)).map(|word| Digest::from_key(word.as_bytes())));
        fetched.by_ids(transaction, &ids, settings).await?;
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
    pub(super) async fn assert_no_key(
        transaction: &Transaction<'_>,
        edits: &[Edit],
        settings: Option<&StoreSettings>,
    ) -> Result<(), StoreError> {
        let is_made = |edit: &&Edit| matches!(edit.action, Action::GrantChanged | Action::MetadataChanged);
        let changed = edits.iter().filter(is_made).filter_map(|edit| edit.after.as_deref());
        let texts = changed.flat_map(|record: &KeyRecord| {
            let in_metadata = record.metadata().texts().map(|(_, text)| text);
            texts_of(record.own_grant()).map(|(_, text)| text).chain(in_metadata).chain(record.roles())
        });
        let roles = settings.into_iter().flat_map(StoreSettings::roles);
        let texts = texts.chain(roles.flat_map(|(_, grant)| texts_of(grant).map(|(_, text)| text)));
        let digests: Vec<Digest> = texts.flat_map(words).map(|word| Digest::from_key(word.as_bytes())).collect();
        let bytes: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        let known = "SELECT 1 FROM authz_keys WHERE digest = ANY($1) LIMIT 1";
        match transaction.query_opt(known, &[&bytes]).await.map_err(to_store_error)? {
            None => Ok(()),
            Some(_) => Err(contains_secret("a text of the change")),
        }
    }

    async fn by_ids(
        &mut self,
        transaction: &Transaction<'_>,
        ids: &[String],
        settings: &StoreSettings,
    ) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = ANY($1)");
        let rows = transaction.query(&sql, &[&ids]).await.map_err(to_store_error)?;
        let mut reader = RowReader::new(settings);
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

    async fn of_owner(
        &mut self,
        transaction: &Transaction<'_>,
        owner: &str,
        settings: &StoreSettings,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE owner = $1 ORDER BY id");
        let rows = transaction.query(&sql, &[&owner]).await.map_err(to_store_error)?;
        let mut reader = RowReader::new(settings);
        let key = |row: &PgRow| Some((KeyRow::id(row).parse().ok()?, Some(reader.record(row)).into()));
        self.of_owner = rows.iter().filter_map(key).collect();
        Ok(())
    }

    async fn many(
        &mut self,
        transaction: &Transaction<'_>,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
        settings: &StoreSettings,
    ) -> Result<(), StoreError> {
        let rows = transaction.query(sql, values).await.map_err(to_store_error)?;
        let mut reader = RowReader::new(settings);
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

    fn by_owner(&self, _: &str) -> Result<Vec<(KeyId, Row)>, StoreError> {
        Ok(self.of_owner.clone())
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
