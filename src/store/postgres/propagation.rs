//! When a change may return: every replica knows of it, or has lost its lease.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use tokio_postgres::{Client, Row, types::ToSql};

use crate::store::{
    Propagation, StoreError,
    postgres::connection::{silence, to_store_error},
};

/// How long the database may take for each answer, while there are leases to be waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every replica has to know before a change returns.
pub(super) struct CommitMark {
    pub(super) version: i64,
    /// When the leases are over that another server than this one has given, as far as that is not past.
    pub(super) settled: Option<SystemTime>,
}

/// Another server than the one that has made the newest change: it may have taken over without the newest leases.
pub(super) const SETTLE: &str = "
    UPDATE authz_counter SET server_since = pg_postmaster_start_time(),
      settled_at = greatest(settled_at, clock_timestamp() + greatest($1 * interval '1 microsecond', longest_lease,
        (SELECT max(coalesce(lease, lease_until - clock_timestamp())) FROM authz_replicas)))
    RETURNING settled_at";

/// Waits until every replica has this version or its lease has run out, by the database's clock. A lease that is
/// given later than the change comes with the change: so no replica is waited for longer than its lease as it is
/// now.
pub(super) async fn await_propagation(client: &Client, mark: &CommitMark) -> Result<Propagation, StoreError> {
    let unsure = |why: StoreError, waiting: &BTreeMap<String, (String, SystemTime)>| {
        let names: Vec<&str> = waiting.values().map(|(name, _)| name.as_str()).collect();
        let who = if names.is_empty() {
            "not everybody is sure to know".to_owned()
        } else {
            format!("{} did not acknowledge it yet", names.join(", "))
        };
        let message = format!("the change is made (version {}), but {who}: {why}; repeat it to be sure", mark.version);
        StoreError::unavailable(message)
    };
    let begin = Instant::now();
    // By another server's clock a lease may seem to last longer than it does. Of those that do not say how long their
    // leases are, nothing better is known.
    let behind = "SELECT id, name, least(lease_until, clock_timestamp() + lease) FROM authz_replicas
                  WHERE applied < $1 AND lease_until > clock_timestamp()";
    let rows = answer(client.query(behind, &[&mark.version])).await.map_err(|why| unsure(why, &BTreeMap::new()))?;
    let mut waiting: BTreeMap<String, (String, SystemTime)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let mut settled = mark.settled;
    let mut unacknowledged = Vec::new();
    let mut pause = Duration::from_millis(1);
    while !waiting.is_empty() || settled.is_some() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
        let ids: Vec<&String> = waiting.keys().collect();
        let still = "SELECT clock_timestamp(), id FROM (SELECT 1) AS always
                     LEFT JOIN authz_replicas ON applied < $1 AND id = ANY($2)";
        let values: [&(dyn ToSql + Sync); 2] = [&mark.version, &ids];
        let rows = answer(client.query(still, &values)).await.map_err(|why| unsure(why, &waiting))?;
        let now: Option<SystemTime> = rows.first().map(|row| row.get(0));
        let is_over = |time: SystemTime| now.is_some_and(|now| time <= now);
        settled = settled.filter(|settled| !is_over(*settled));
        let behind: Vec<String> = rows.iter().filter_map(|row| row.get(1)).collect();
        waiting.retain(|id, (name, until)| {
            let is_behind = behind.contains(id);
            if is_behind && is_over(*until) {
                unacknowledged.push(name.clone());
            }
            is_behind && !is_over(*until)
        });
    }
    Ok(Propagation { waited: begin.elapsed(), unacknowledged })
}

async fn answer(asked: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>) -> Result<Vec<Row>, StoreError> {
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| silence())?.map_err(to_store_error)
}
