//! Applies changes, which return when every replica knows of them, and answers administrative reads.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_postgres::Client;

use crate::{
    dimension::Dimension,
    key::{Digest, KeyId},
    store::{
        Action, AuditQuery, AuditRecord, Found, KeyQuery, Page, StoreError, StoreErrorKind, StoreSettings,
        change::{ActorInfo, Applied, Change},
        index::Index,
        lifecycle::{Plan, plan},
        postgres::{
            ReplicaStatus,
            connection::{ConnectOptions, ISOLATION, micros, standby, statement_timeouts, to_store_error},
            propagation::{CommitMark, SETTLE, VOUCHES, await_propagation},
            replica::parse,
            rows::{Fetched, OLD_AUDITS},
            schema,
            write::write,
        },
        row::{COLUMNS, KEY_COLUMNS, RowReader},
        source::Row,
    },
    telemetry,
};

pub(super) struct Admin {
    connect_options: ConnectOptions,
    /// Dimensions with grammars that are code, shared with the replica of this process.
    own: Rc<RefCell<Vec<Dimension>>>,
    /// Wakes the replica of this process.
    wake: Rc<Notify>,
    /// The lease duration of the replica of this process.
    lease: Duration,
    /// Idle connections. Each change in progress has its own: one that waits for a paused replica must not delay the
    /// others.
    idle: RefCell<Vec<Client>>,
    most: Semaphore,
    /// The version of the newest directory that uncached look-ups have seen.
    directory: Cell<i64>,
}

fn silent() -> StoreError {
    StoreError::unavailable("the database does not answer; whether anything was changed is not known")
}

/// The maximum number of concurrent changes and reads.
const CONNECTIONS: usize = 8;

/// The timeout of reads, and of changes without the time that they wait for replicas.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The timeout of a change of very many keys.
const LONG_PATIENCE: Duration = Duration::from_secs(900);

impl Admin {
    pub(super) fn new(
        connect_options: ConnectOptions,
        own: Rc<RefCell<Vec<Dimension>>>,
        wake: Rc<Notify>,
        lease: Duration,
    ) -> Self {
        let (idle, most, directory) = (RefCell::default(), Semaphore::new(CONNECTIONS), Cell::new(-1));
        Self { connect_options, own, wake, lease, idle, most, directory }
    }

    /// Applies a change. It is committed, and known to every replica that may admit, when this returns.
    pub(super) async fn apply(&self, who: &ActorInfo, change: Change) -> Result<Applied, StoreError> {
        let begin = Instant::now();
        let patience = if is_large(&change) { LONG_PATIENCE } else { PATIENCE };
        let work = async |client: &mut Client| {
            let committed = timeout(patience, self.commit_drawing(client, who, change)).await;
            let (mut applied, mark) = committed.map_err(|_| silent())??;
            self.wake.notify_one();
            // Waits as long as the leases of other replicas last; only each single query has a timeout.
            applied.propagation = await_propagation(client, &mark).await?;
            Ok(applied)
        };
        let applied = self.with_connection(Duration::MAX, work).await?;
        telemetry::changed(begin.elapsed());
        Ok(applied)
    }

    /// A new id may collide with that of another key, which shows when it is written. Retry a limited number of times.
    async fn commit_drawing(
        &self,
        client: &mut Client,
        who: &ActorInfo,
        change: Change,
    ) -> Result<(Applied, CommitMark), StoreError> {
        let mut change = Some(change);
        for _ in 0..32 {
            let Some(now) = change.take() else { break };
            change = now.redrawn();
            if let Some(done) = self.commit(client, who, now).await? {
                return Ok(done);
            }
        }
        Err(StoreError::conflict("another key has this id, or no free one was found; use a longer public id"))
    }

    /// Runs a task with a connection, which is reused if the task succeeds, and closed if it does not answer.
    pub(super) async fn with_connection<T>(
        &self,
        patience: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _permit = self.most.acquire().await.map_err(|_| StoreError::unavailable("the key store has stopped"))?;
        let mut client = self.connected().await?;
        let done = timeout(patience, work(&mut client)).await;
        let done = done.map_err(|_| silent())?;
        let is_good = !matches!(&done, Err(error) if error.kind() == StoreErrorKind::Unavailable);
        if is_good && !client.is_closed() {
            self.idle.borrow_mut().push(client);
        }
        done
    }

    async fn connected(&self) -> Result<Client, StoreError> {
        loop {
            let known = self.idle.borrow_mut().pop();
            match known {
                Some(client) if client.is_closed() => {}
                Some(client) => return Ok(client),
                None => break,
            }
        }
        let client = self.connect_options.connect(None).await?;
        // Short enough that other replicas, whose renewals wait for the lock, keep their leases.
        let manners = format!("{ISOLATION}; {}", statement_timeouts(self.lease / 2));
        client.batch_execute(&manners).await.map_err(to_store_error)?;
        Ok(client)
    }

    async fn commit(
        &self,
        client: &mut Client,
        who: &ActorInfo,
        change: Change,
    ) -> Result<Option<(Applied, CommitMark)>, StoreError> {
        let transaction = client.transaction().await.map_err(to_store_error)?;
        if is_large(&change) {
            // Planning a change of very many rows takes longer.
            let longer = statement_timeouts(self.lease.max(Duration::from_secs(30))).replacen("SET", "SET LOCAL", 1);
            transaction.batch_execute(&longer).await.map_err(to_store_error)?;
        }
        // Tell the triggers that these changes are not made by hand.
        transaction.batch_execute("SELECT set_config('authz.writer', 'yes', true)").await.map_err(to_store_error)?;
        // Lock the counter until the commit, so that versions are in commit order.
        let row = transaction.query_one(LOCK.as_str(), &[]).await.map_err(to_store_error)?;
        let (before, now): (i64, SystemTime) = (row.get(0), row.get(2));
        schema::check_oldest(row.get(3))?;
        let (vouches, mut settled_at, queue_is_full): (bool, Option<SystemTime>, bool) =
            (row.get(4), row.get(5), row.get(6));
        let settings = parse(row.get(1), &self.own.borrow())?;
        // From here on every renewal waits for the counter, so a lock on the row of a key must not be waited for at
        // length. Sent together with the first query: nobody waits for another round trip.
        let patience = format!("SET LOCAL lock_timeout = {}", (self.lease / 4).as_millis().max(1));
        let patience = async { transaction.batch_execute(&patience).await.map_err(to_store_error) };
        let load = Fetched::load(&transaction, who, &change, &settings);
        let ((), fetched) = futures::future::try_join(patience, load).await?;
        let Plan { edits, settings, prune, applied } = plan(who, change, &fetched, &settings, now)?;
        Fetched::assert_no_key(&transaction, &edits, settings.as_ref()).await?;
        if !vouches {
            settled_at = Some(
                transaction.query_one(SETTLE.as_str(), &[&micros(self.lease)]).await.map_err(to_store_error)?.get(0),
            );
        }
        let mut version = before;
        if !edits.is_empty() {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|error| StoreError::unavailable(error.to_string()))?;
            let identity = format!("{:032x}", u128::from_ne_bytes(random));
            if let Some(oldest) = prune {
                transaction.execute(&format!("DELETE {OLD_AUDITS}"), &[&oldest]).await.map_err(to_store_error)?;
            }
            let first = before.checked_add(1).ok_or_else(no_more_versions)?;
            let count = i64::try_from(edits.len()).map_err(|_| no_more_versions())?;
            // Stay below the largest number: the triggers count records one by one and must not overflow.
            version = before.checked_add(count).filter(|last| *last < i64::MAX).ok_or_else(no_more_versions)?;
            if !write(&transaction, &edits, first, &identity, now, who).await? {
                return Ok(None);
            }
            let counted = "UPDATE authz_counter SET version = $1, change = $2, settings = coalesce($3, settings)";
            let text = settings.as_ref().map(StoreSettings::to_json).transpose();
            let text = text.map_err(|error| StoreError::invalid(error.to_string()))?;
            transaction.execute(counted, &[&version, &identity, &text]).await.map_err(to_store_error)?;
            // Replicas also poll, so a full notification queue must not prevent a revocation.
            if !queue_is_full {
                transaction.execute("SELECT pg_notify('authz', '')", &[]).await.map_err(to_store_error)?;
            }
        }
        let unsure = |error| {
            StoreError::unavailable(format!("whether the change is made is not known: {}", to_store_error(error)))
        };
        // Wait even if nothing was to be done: whoever made the change may not have waited for every replica.
        transaction.commit().await.map_err(unsure)?;
        if let Some(settings) = settings {
            let mut own = self.own.borrow_mut();
            own.retain(|known| !settings.dimensions.contains(known));
            own.extend(settings.dimensions);
        }
        let settled = settled_at.filter(|time| *time > now);
        Ok(Some((applied, CommitMark { version, settled, settled_at, lease: self.lease })))
    }

    pub(super) async fn page(&self, query: &KeyQuery, index: &Index) -> Result<Page, StoreError> {
        self.with_connection(PATIENCE, async |client| self.page_of(client, query, index).await).await
    }

    async fn page_of(&self, client: &Client, query: &KeyQuery, index: &Index) -> Result<Page, StoreError> {
        let settings = self.settings_of(client).await?;
        let mut reader = RowReader::new(&settings);
        let of_owner = if query.owner.is_some() { "owner = $3" } else { "$3::text IS NULL" };
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id > $1 AND {of_owner} ORDER BY id LIMIT $2");
        let now = SystemTime::now();
        let mut page = Page::default();
        let mut after = query.after.as_ref().map_or(String::new(), ToString::to_string);
        // Filters are evaluated here, as in every store; the database only sorts.
        let chunk = i64::try_from(query.limit + 1).unwrap_or(i64::MAX).max(1000);
        loop {
            let rows = client.query(&sql, &[&after, &chunk, &query.owner]).await.map_err(to_store_error)?;
            for row in &rows {
                if page.records.len() == query.limit {
                    page.next = page.records.last().map(|last| last.id().clone());
                    return Ok(page);
                }
                after = row.get(0);
                match reader.record(row).inspect(|record| index.add_uses([record])) {
                    Ok(record) if query.matches(&record, now) => page.records.push(record),
                    Ok(_) => {}
                    Err(invalid) => page.unreadable.push(invalid.into()),
                }
            }
            if rows.len() < usize::try_from(chunk).unwrap_or(usize::MAX) {
                return Ok(page);
            }
        }
    }

    pub(super) async fn one(&self, id: &KeyId) -> Result<Row, StoreError> {
        let work = async |client: &mut Client| {
            let settings = self.settings_of(client).await?;
            let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = $1");
            let row = client.query_opt(&sql, &[&id.as_str()]).await.map_err(to_store_error)?;
            Ok(row.map(|row| RowReader::new(&settings).record(&row)).into())
        };
        self.with_connection(PATIENCE, work).await
    }

    /// The result of a look-up that queries the database.
    pub(super) async fn by_digest(&self, digest: &Digest, index: &Index) -> Found {
        let work = async |client: &mut Client| {
            // One statement sees one moment: a key is never expanded by roles of another.
            let columns = COLUMNS.split(", ").map(|name| format!("authz_keys.{name}")).collect::<Vec<_>>().join(", ");
            let sql = format!(
                "SELECT {columns}, authz_counter.settings, pg_is_in_recovery(), authz_counter.oldest, authz_counter.version,
                   authz_keys.id IS NOT NULL
                 FROM authz_counter LEFT JOIN authz_keys ON authz_keys.digest = $1"
            );
            let row = client.query_one(&sql, &[&digest.as_bytes().as_slice()]).await.map_err(to_store_error)?;
            let after = |position: usize| KEY_COLUMNS + position;
            if row.get(after(1)) {
                return Err(standby()); // it was the primary once
            }
            schema::check_oldest(row.get(after(2)))?;
            let (settings, version) = (parse(row.get(after(0)), &self.own.borrow())?, row.get(after(3)));
            // A late answer must not replace a newer directory.
            if self.directory.get() <= version {
                self.directory.set(version);
                index.publish([], Some(settings.directory.clone()));
            }
            let is_there: bool = row.get(after(4));
            let read = is_there.then(|| RowReader::new(&settings).record(&row));
            read.transpose().map_err(|invalid| StoreError::unreadable(invalid.why))
        };
        self.with_connection(PATIENCE, work).await
    }

    pub(super) async fn history(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        let order = if query.after.is_some() { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT number, at, who, action, key_id, note, before, after, address, request_id FROM authz_audit
             WHERE number < $1 AND number > $2 AND ($3::text IS NULL OR key_id = $3) ORDER BY number {order} LIMIT $4"
        );
        let number = |number: Option<u64>| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let (before, after) = (number(query.before).unwrap_or(i64::MAX), number(query.after).unwrap_or(-1));
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let key = query.key.as_ref().map(KeyId::as_str);
        let work = async |client: &mut Client| {
            client.query(&sql, &[&before, &after, &key, &limit]).await.map_err(to_store_error)
        };
        let rows = self.with_connection(PATIENCE, work).await?;
        let record = |row: &tokio_postgres::Row| AuditRecord {
            number: u64::try_from(row.get::<_, i64>(0)).unwrap_or_default(),
            at: row.get(1),
            by: row.get(2),
            address: row.get::<_, Option<&str>>(8).and_then(|address| address.parse().ok()),
            request_id: row.get(9),
            action: Action::named(row.get(3)),
            key: row.get::<_, Option<String>>(4).and_then(|key| key.parse().ok()),
            note: row.get(5),
            before: row.get(6),
            after: row.get(7),
        };
        Ok(rows.iter().map(record).collect())
    }

    /// Waits until there may be an audit record after this number: for a notification, and for no longer than a second, as
    /// notifications are lost where their queue is full.
    pub(super) async fn changed_after(&self, number: u64) -> Result<(), StoreError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let wake = Rc::new(Notify::new());
        let client = self.connect_options.connect(Some(Rc::clone(&wake))).await?;
        client.batch_execute("LISTEN authz").await.map_err(to_store_error)?;
        loop {
            let newest = timeout(PATIENCE, client.query_one("SELECT version FROM authz_counter", &[])).await;
            if newest.map_err(|_| silent())?.map_err(to_store_error)?.get::<_, i64>(0) > number {
                return Ok(());
            }
            let _ = timeout(Duration::from_secs(1), wake.notified()).await;
        }
    }

    pub(super) async fn settings(&self) -> Result<StoreSettings, StoreError> {
        self.with_connection(PATIENCE, async |client| self.settings_of(client).await).await
    }

    pub(super) async fn replicas(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        let sql = "SELECT name, applied, version, extract(epoch FROM lease_until - clock_timestamp())::float8
                   FROM authz_replicas, authz_counter ORDER BY name, id";
        let work = async |client: &mut Client| client.query(sql, &[]).await.map_err(to_store_error);
        let rows = self.with_connection(PATIENCE, work).await?;
        let number = |value: i64| u64::try_from(value).unwrap_or_default();
        let status = |row: &tokio_postgres::Row| ReplicaStatus {
            name: row.get(0),
            applied: number(row.get(1)),
            behind: number(row.get::<_, i64>(2).saturating_sub(row.get(1))),
            lease_left: Duration::try_from_secs_f64(row.get(3)).unwrap_or_default(),
        };
        Ok(rows.iter().map(status).collect())
    }

    async fn settings_of(&self, client: &Client) -> Result<StoreSettings, StoreError> {
        let row = client.query_one("SELECT settings FROM authz_counter", &[]).await.map_err(to_store_error)?;
        parse(row.get(0), &self.own.borrow())
    }

    /// Stores when keys were last used; an earlier time never replaces a later one.
    pub(super) async fn put_uses(&self, used: &[(String, SystemTime)]) -> Result<(), StoreError> {
        let (ids, times): (Vec<&str>, Vec<SystemTime>) = used.iter().map(|(id, time)| (id.as_str(), *time)).unzip();
        let sql = "UPDATE authz_keys SET last_used = used.at
                   FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)
                   WHERE authz_keys.id = used.id AND (last_used IS NULL OR last_used < used.at)";
        // Do not wait for a locked row at length: the rows locked so far may be needed by a revocation.
        let work = async |client: &mut Client| {
            let transaction = client.transaction().await.map_err(to_store_error)?;
            transaction.batch_execute("SET LOCAL lock_timeout = '500ms'").await.map_err(to_store_error)?;
            transaction.execute(sql, &[&ids, &times]).await.map_err(to_store_error)?;
            transaction.commit().await.map_err(to_store_error)
        };
        self.with_connection(Duration::from_secs(5), work).await
    }
}

fn no_more_versions() -> StoreError {
    StoreError::unavailable("the store has counted as many changes as it can; its counter was set by hand")
}

fn is_large(change: &Change) -> bool {
    matches!(
        change.unbound().1,
        Change::Import(_)
            | Change::Purge { .. }
            | Change::PruneAudit { .. }
            | Change::RevokeOwner { .. }
            | Change::Settings(_)
            | Change::Role { .. }
    )
}

/// Locks the counter, and reads what a change is planned with.
static LOCK: LazyLock<String> = LazyLock::new(|| {
    let vouches = VOUCHES.as_str();
    format!(
        "SELECT version, settings, clock_timestamp(), oldest, {vouches}, settled_at, pg_notification_queue_usage() > 0.9
         FROM authz_counter FOR UPDATE"
    )
});
