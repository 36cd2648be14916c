//! Waits until a change is known to every replica, or the replica has lost its lease.

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use tokio_postgres::{Client, Row, types::ToSql};

use crate::store::{
    Propagation, StoreError,
    postgres::connection::{micros, no_counter, silence, to_store_error},
};

/// The timeout of each query while leases are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A committed change that every replica has to acknowledge.
pub(super) struct CommitMark {
    pub(super) version: i64,
    /// When the last lease ends that the table may not show, if that is in the future.
    pub(super) settled: Option<SystemTime>,
    /// The same value as stored in the counter; it changes when another writer settles again.
    pub(super) settled_at: Option<SystemTime>,
    /// The lease duration of this process.
    pub(super) lease: Duration,
}

/// Identifies the table of replicas: another one, in a copy of the database or restored by itself, lacks leases.
pub(super) const LEASES: &str =
    "(SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || 'authz_replicas'::regclass::oid";

/// Whether the counter vouches for the table of replicas: this server has made the newest change, the row was written here
/// and not restored, the table is the one that it was, and no lease was taken away by hand.
pub(super) static VOUCHES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "(server_since IS NOT DISTINCT FROM pg_postmaster_start_time()
          AND written IS NOT DISTINCT FROM authz_counter.xmin::text::bigint AND leases IS NOT DISTINCT FROM {LEASES})"
    )
});

/// Has the counter vouch from now on, and tells when all leases are over that may have been given before.
pub(super) static SETTLE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE authz_counter SET server_since = pg_postmaster_start_time(), leases = {LEASES},
           settled_at = greatest(settled_at, clock_timestamp() + greatest($1 * interval '1 microsecond', longest_lease,
             (SELECT max(coalesce(lease, lease_until - clock_timestamp())) FROM authz_replicas)))
         RETURNING settled_at"
    )
});

/// Waits until every replica has this version or its lease has run out, by the database's clock. A lease that is
/// given later than the change comes with the change: so no replica is waited for longer than its lease as it is
/// now. If the table of replicas loses a lease meanwhile, or did between the change and the first look, the longest lease is
/// waited for: a row that is gone acknowledges nothing, unless its replica has given it back.
pub(super) async fn await_propagation(client: &Client, mark: &CommitMark) -> Result<Propagation, StoreError> {
    let unsure = |why: StoreError, waiting: &BTreeMap<String, (String, SystemTime)>| {
        let names: Vec<&str> = waiting.values().map(|(name, _)| name.as_str()).collect();
        let who = if names.is_empty() {
            "not every replica is sure to know it".to_owned()
        } else {
            format!("{} did not acknowledge it yet", names.join(", "))
        };
        let message = format!("the change is made (version {}), but {who}: {why}; repeat it to be sure", mark.version);
        StoreError::unavailable(message)
    };
    let begin = Instant::now();
    let vouches = VOUCHES.as_str();
    let counter = format!(
        "clock_timestamp(), {vouches} AND settled_at IS NOT DISTINCT FROM $2,
         clock_timestamp() + greatest($3 * interval '1 microsecond', longest_lease)"
    );
    // After a failover to a server with another clock, `lease_until` may be too late; `lease` bounds it, except for old
    // replicas, which do not store it.
    let behind = format!(
        "SELECT {counter}, id, name, least(lease_until, clock_timestamp() + lease)
         FROM authz_counter LEFT JOIN authz_replicas ON applied < $1 AND lease_until > clock_timestamp()"
    );
    let still =
        format!("SELECT {counter}, id FROM authz_counter LEFT JOIN authz_replicas ON applied < $1 AND id = ANY($4)");
    let mut settled = mark.settled;
    let mut is_lost = false;
    let mut notice_loss = |rows: &[Row], settled: &mut Option<SystemTime>| {
        let vouches = rows.first().is_some_and(|row| row.get(1));
        if !vouches && !is_lost {
            is_lost = true;
            *settled = (*settled).max(rows.first().map(|row| row.get(2)));
        }
    };
    let lease = micros(mark.lease);
    let values: [&(dyn ToSql + Sync); 3] = [&mark.version, &mark.settled_at, &lease];
    let rows = answer(client.query(&behind, &values)).await.map_err(|why| unsure(why, &BTreeMap::new()))?;
    notice_loss(&rows, &mut settled);
    let replica = |row: &Row| Some((row.get::<_, Option<String>>(3)?, (row.get(4), row.get(5))));
    let mut waiting: BTreeMap<String, (String, SystemTime)> = rows.iter().filter_map(replica).collect();
    let mut unacknowledged = Vec::new();
    let mut pause = Duration::from_millis(1);
    while !waiting.is_empty() || settled.is_some() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
        let ids: Vec<&String> = waiting.keys().collect();
        let values: [&(dyn ToSql + Sync); 4] = [&mark.version, &mark.settled_at, &lease, &ids];
        let rows = answer(client.query(&still, &values)).await.map_err(|why| unsure(why, &waiting))?;
        notice_loss(&rows, &mut settled);
        let now: Option<SystemTime> = rows.first().map(|row| row.get(0));
        let is_over = |time: SystemTime| now.is_some_and(|now| time <= now);
        settled = settled.filter(|settled| !is_over(*settled));
        let behind: Vec<String> = rows.iter().filter_map(|row| row.get(3)).collect();
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

/// At least one row: that of the counter.
async fn answer(asked: impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>>) -> Result<Vec<Row>, StoreError> {
    let rows = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| silence())?.map_err(to_store_error)?;
    if rows.is_empty() { Err(no_counter()) } else { Ok(rows) }
}
