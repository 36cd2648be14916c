//! Rows of the tables, written: many with one statement.

use std::time::SystemTime;

use tokio_postgres::{Transaction, types::ToSql};

use crate::{
    key::{KeyId, KeyRecord},
    store::{
        Action, StoreError,
        audit::Edit,
        change::ActorInfo,
        postgres::connection::to_store_error,
        row::{self, COLUMNS},
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
    who: &ActorInfo,
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
                    let sql = "UPDATE authz_keys SET revoked_at = $2, version = least(version, 9223372036854775806) + 1
                               WHERE id = $1 AND revoked_at IS NULL";
                    transaction.execute(sql, &[&id.as_str(), &now]).await.map_err(to_store_error)?;
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
         SELECT * FROM unnest($1::text[], $2::bytea[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
           $6::timestamptz[], $7::bigint[], $8::timestamptz[], $9::text[], $10::text[])
         ON CONFLICT (id) DO NOTHING"
    );
    let versions = records.iter().map(|it| row::version(it)).collect::<Result<Vec<_>, _>>()?;
    let texts = records.iter().map(|it| row::json(it)).collect::<Result<Vec<_>, _>>()?;
    /// One value of each record.
    fn column<'r, T>(records: &[&'r KeyRecord], value: impl Fn(&'r KeyRecord) -> T) -> Vec<T> {
        records.iter().map(|record| value(record)).collect()
    }
    let values: [&(dyn ToSql + Sync); 10] = [
        &column(records, |it| it.id().as_str()),
        &column(records, |it| it.digest().as_bytes().as_slice()),
        &column(records, KeyRecord::created_at),
        &column(records, KeyRecord::not_before),
        &column(records, KeyRecord::expires_at),
        &column(records, KeyRecord::revoked_at),
        &versions,
        &column(records, KeyRecord::last_used),
        &texts,
        &column(records, |it| it.metadata().owner()),
    ];
    let written = transaction.execute(&sql, &values).await.map_err(to_store_error)?;
    Ok(usize::try_from(written).is_ok_and(|written| written == records.len()))
}

async fn update(transaction: &Transaction<'_>, record: &KeyRecord) -> Result<(), StoreError> {
    let sql =
        "UPDATE authz_keys SET not_before = $3, expires_at = $4, revoked_at = $5, version = $6::bigint, record = $7,
                 owner = $8
               WHERE id = $1 AND digest = $2 AND version = $6::bigint - 1";
    let values: [&(dyn ToSql + Sync); 8] = [
        &record.id().as_str(),
        &record.digest().as_bytes().as_slice(),
        &record.not_before(),
        &record.expires_at(),
        &record.revoked_at(),
        &row::version(record)?,
        &row::json(record)?,
        &record.metadata().owner(),
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
    who: &ActorInfo,
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
    let address = who.address.map(|address| address.to_string());
    let sql =
        "INSERT INTO authz_audit (change, at, who, address, request_id, number, action, key_id, digest, note, before,
                 after)
               SELECT $1, $2, $3, $4, $5, * FROM unnest($6::bigint[], $7::text[], $8::text[], $9::bytea[], $10::text[],
                 $11::text[], $12::text[])";
    let values: [&(dyn ToSql + Sync); 12] = [
        &change,
        &now,
        &who.name,
        &address,
        &who.request_id,
        &numbers,
        &actions,
        &keys,
        &digests,
        &notes,
        &before,
        &after,
    ];
    transaction.execute(sql, &values).await.map(drop).map_err(to_store_error)
}
