//! Counts of decisions, written and read.

use rusqlite::{Connection, params};

use crate::{
    key::KeyId,
    store::{
        KeyUsage, LastUse, StoreError, UsageQuery,
        counts::Tally,
        sqlite::{
            rows::{cached, micros},
            schema::to_store_error,
        },
        usage::Totals,
    },
    timestamp,
};

/// Adds counts to those of the tables.
pub(super) fn put_counts(connection: &Connection, counted: &[(KeyId, Tally)]) -> Result<(), StoreError> {
    let add = "INSERT INTO usage (key_id, day, outcome, count) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (key_id, day, outcome) DO UPDATE SET count = count + excluded.count";
    let last = "INSERT INTO last_uses (key_id, at, address, source) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (key_id) DO UPDATE SET at = excluded.at, address = excluded.address, source = excluded.source
                WHERE excluded.at > at";
    let mut add = cached(connection, add).map_err(to_store_error)?;
    let mut last = cached(connection, last).map_err(to_store_error)?;
    for (key, tally) in counted {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (outcome, count) in tally.outcomes() {
            let values = params![key.as_str(), number(tally.day), outcome, number(count)];
            add.execute(values).map_err(to_store_error)?;
        }
        if let Some(LastUse { at, address, source }) = tally.last() {
            let values = params![key.as_str(), micros(Some(at))?, address.map(|address| address.to_string()), source];
            last.execute(values).map_err(to_store_error)?;
        }
    }
    Ok(())
}

/// Forgets the counts of days before this one.
pub(super) fn forget_counts(connection: &Connection, day: u64) -> Result<(), StoreError> {
    let day = i64::try_from(day).unwrap_or_default();
    let micros = day.saturating_mul(86_400_000_000);
    connection.execute("DELETE FROM usage WHERE day < ?1", [day]).map_err(to_store_error)?;
    connection.execute("DELETE FROM last_uses WHERE at < ?1", [micros]).map(drop).map_err(to_store_error)
}

pub(super) fn usage(connection: &Connection, query: &UsageQuery) -> rusqlite::Result<Vec<KeyUsage>> {
    let mut totals = Totals::default();
    let day = |day: u64| i64::try_from(day).unwrap_or(i64::MAX);
    let key = query.key.as_ref().map(KeyId::as_str);
    let sql =
        "SELECT key_id, day, outcome, count FROM usage WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR key_id = ?3)";
    let mut statement = cached(connection, sql)?;
    let mut rows = statement.query(params![day(query.days.0), day(query.days.1), key])?;
    while let Some(row) = rows.next()? {
        let (id, outcome): (String, String) = (row.get(0)?, row.get(2)?);
        let number =
            |position| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(position)?).unwrap_or_default());
        if let Ok(id) = id.parse() {
            totals.add(&id, number(1)?, &outcome, number(3)?);
        }
    }
    let sql = "SELECT key_id, at, address, source FROM last_uses WHERE ?1 IS NULL OR key_id = ?1";
    let mut statement = cached(connection, sql)?;
    let mut rows = statement.query([key])?;
    while let Some(row) = rows.next()? {
        let (id, address): (String, Option<String>) = (row.get(0)?, row.get(2)?);
        if let (Ok(id), Ok(at)) = (id.parse(), timestamp::from_micros(row.get(1)?)) {
            let address = address.and_then(|address| address.parse().ok());
            totals.add_last(&id, LastUse { at, address, source: row.get(3)? });
        }
    }
    Ok(totals.asked_for(query))
}
