//! Rows of the tables, written: many with one statement.

use std::time::SystemTime;

use tokio_postgres::{Transaction, types::ToSql};

use crate::{
    key::{GrantFile, KeyId, KeyRecord},
    store::{
        Action, StoreError,
        audit::Edit,
        postgres::{connection::to_store_error, rows::COLUMNS},
    },
};

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
    let mut first = first;
    for edits in edits.chunks(BATCH) {
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for edit in edits {
            match (&edit.key, &edit.after, edit.action) {
                (_, _, Action::RevokedAgain) => {}
                (_, Some(record), _) if edit.before.is_none() => new.push(&**record),
                (_, Some(record), _) => update(transaction, record).await?,
                // Only of a record that cannot be read is there nothing to write afterwards.
                (Some(id), None, Action::Revoked) => {
                    let sql = "UPDATE authz_keys SET revoked_at = $2, revocation_reason = $3,
                                 version = least(version, 9223372036854775806) + 1
                               WHERE id = $1 AND revoked_at IS NULL";
                    transaction.execute(sql, &[&id.as_str(), &now, &edit.note]).await.map_err(to_store_error)?;
                }
                (Some(id), None, _) => gone.push(id.as_str()),
                (None, None, _) => {}
            }
        }
        if !gone.is_empty() {
            transaction.execute("DELETE FROM authz_keys WHERE id = ANY($1)", &[&gone]).await.map_err(to_store_error)?;
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
    let written = transaction.execute(&sql, &values).await.map_err(to_store_error)?;
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
    match transaction.execute(sql, &values).await.map_err(to_store_error)? {
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
    transaction.execute(sql, &values).await.map(drop).map_err(to_store_error)
}

fn may(record: &KeyRecord) -> Result<String, StoreError> {
    serde_json::to_string(&GrantFile::from_grant(record.grant()))
        .map_err(|error| StoreError::invalid(error.to_string()))
}

fn number(version: u64) -> Result<i64, StoreError> {
    i64::try_from(version).map_err(|error| StoreError::invalid(error.to_string()))
}
