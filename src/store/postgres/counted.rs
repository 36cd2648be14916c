//! Counts of decisions, written and read.

use std::time::{Duration, SystemTime};

use tokio_postgres::{Client, types::ToSql};

use crate::{
    key::KeyId,
    store::{
        KeyUsage, LastUse, StoreError, UsageQuery,
        counts::{Counts, Tally},
        index::Index,
        postgres::{
            admin::{Admin, PATIENCE},
            connection::to_store_error,
        },
        usage::{self, Totals},
    },
};

/// The counts of so many keys are written by one transaction.
const BATCH: usize = 200;

impl Admin {
    /// Writes down what this process has counted. Counts that cannot be written are kept for the next time.
    pub(super) async fn flush_counts(&self, index: &Index) -> Result<(), StoreError> {
        let Some(counts) = index.counts() else { return Ok(()) };
        let mut counted = Counts::take(counts);
        // In one order for all replicas, which would wait for each other else.
        counted.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        while !counted.is_empty() {
            let rest = counted.split_off(counted.len().min(BATCH));
            if let Err(error) = self.put_counts(&counted).await {
                counts.give_back(counted);
                counts.give_back(rest);
                return Err(error);
            }
            counted = rest;
        }
        Ok(())
    }

    async fn put_counts(&self, counted: &[(KeyId, Tally)]) -> Result<(), StoreError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (mut keys, mut days, mut outcomes, mut numbers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, tally) in counted {
            for (outcome, count) in tally.outcomes() {
                keys.push(key.as_str());
                days.push(number(tally.day));
                outcomes.push(outcome);
                numbers.push(number(count));
            }
        }
        // A statement may change a row once only: of several counts of one key and day, their sum.
        let add = "INSERT INTO authz_usage (key_id, day, outcome, count)
                   SELECT key_id, day, outcome, sum(count)::bigint
                   FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) AS new (key_id, day, outcome, count)
                   GROUP BY key_id, day, outcome ORDER BY key_id, day, outcome
                   ON CONFLICT (key_id, day, outcome) DO UPDATE SET count = authz_usage.count + excluded.count";
        let used: Vec<(&str, LastUse)> =
            counted.iter().filter_map(|(key, tally)| Some((key.as_str(), tally.last()?))).collect();
        let column =
            |value: &dyn Fn(&LastUse) -> Option<String>| used.iter().map(|(_, last)| value(last)).collect::<Vec<_>>();
        let users: Vec<&str> = used.iter().map(|(key, _)| *key).collect();
        let times: Vec<SystemTime> = used.iter().map(|(_, last)| last.at).collect();
        let addresses = column(&|last| last.address.map(|address| address.to_string()));
        let sources = column(&|last| last.source.clone());
        let last = "INSERT INTO authz_last_uses (key_id, at, address, source)
                    SELECT DISTINCT ON (key_id) key_id, at, address, source
                    FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) AS new (key_id, at, address, source)
                    ORDER BY key_id, at DESC
                    ON CONFLICT (key_id) DO UPDATE
                      SET at = excluded.at, address = excluded.address, source = excluded.source
                      WHERE excluded.at > authz_last_uses.at";
        let work = async |client: &mut Client| {
            let transaction = client.transaction().await.map_err(to_store_error)?;
            transaction.batch_execute("SET LOCAL lock_timeout = '500ms'").await.map_err(to_store_error)?;
            let values: [&(dyn ToSql + Sync); 4] = [&keys, &days, &outcomes, &numbers];
            transaction.execute(add, &values).await.map_err(to_store_error)?;
            let values: [&(dyn ToSql + Sync); 4] = [&users, &times, &addresses, &sources];
            transaction.execute(last, &values).await.map_err(to_store_error)?;
            let oldest = number(usage::day(SystemTime::now()).saturating_sub(usage::KEPT_DAYS));
            transaction.execute("DELETE FROM authz_usage WHERE day < $1", &[&oldest]).await.map_err(to_store_error)?;
            let forgotten = "DELETE FROM authz_last_uses WHERE at < to_timestamp($1::bigint * 86400)";
            transaction.execute(forgotten, &[&oldest]).await.map_err(to_store_error)?;
            transaction.commit().await.map_err(to_store_error)
        };
        self.with_connection(Duration::from_secs(5), work).await
    }

    pub(super) async fn usage(&self, query: &UsageQuery) -> Result<Vec<KeyUsage>, StoreError> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (from, until, key) = (number(query.days.0), number(query.days.1), query.key.as_ref().map(KeyId::as_str));
        let counts = "SELECT key_id, day, outcome, count FROM authz_usage
                      WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR key_id = $3)";
        let lasts = "SELECT key_id, at, address, source FROM authz_last_uses WHERE $1::text IS NULL OR key_id = $1";
        let work = async |client: &mut Client| {
            let counts = client.query(counts, &[&from, &until, &key]).await.map_err(to_store_error)?;
            let lasts = client.query(lasts, &[&key]).await.map_err(to_store_error)?;
            Ok((counts, lasts))
        };
        let (counts, lasts) = self.with_connection(PATIENCE, work).await?;
        let mut totals = Totals::default();
        for row in &counts {
            let number = |position| u64::try_from(row.get::<_, i64>(position)).unwrap_or_default();
            if let Ok(key) = row.get::<_, &str>(0).parse() {
                totals.add(&key, number(1), row.get(2), number(3));
            }
        }
        for row in &lasts {
            let address = row.get::<_, Option<&str>>(2).and_then(|address| address.parse().ok());
            if let Ok(key) = row.get::<_, &str>(0).parse() {
                totals.add_last(&key, LastUse { at: row.get(1), address, source: row.get(3) });
            }
        }
        Ok(totals.asked_for(query))
    }
}
