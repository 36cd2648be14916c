//! Changes, which return when every replica knows of them; and questions.

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
        UnreadableKey,
        change::{Applied, Change},
        index::Index,
        lifecycle::{Plan, Row, plan},
        postgres::{
            ReplicaStatus,
            connection::{ConnectOptions, ISOLATION, standby, statement_timeouts, to_store_error},
            propagation::{CommitMark, SETTLE, VOUCHES, await_propagation},
            replica::{micros, parse},
            rows::{COLUMNS, Fetched, InvalidRow, OLD_AUDITS, Reader},
            schema,
            write::write,
        },
    },
    telemetry,
};

pub(super) struct Admin {
    connect_options: ConnectOptions,
    /// Dimensions whose grammar no database can hold, shared with the replica of this process.
    own: Rc<RefCell<Vec<Dimension>>>,
    /// Rings for the replica of this process.
    wake: Rc<Notify>,
    /// That of the replica of this process.
    lease: Duration,
    /// Connections that nobody uses now. One for each change that is under way: a change that waits for a paused
    /// replica must not hold up the others.
    idle: RefCell<Vec<Client>>,
    most: Semaphore,
    /// With which version the directory came that look-ups of a store without memory have seen.
    directory: Cell<i64>,
}

fn silent() -> StoreError {
    StoreError::unavailable("the database does not answer; whether anything was changed is not known")
}

/// So many changes and questions are under way at a time.
const CONNECTIONS: usize = 8;

/// So long questions may take, and changes, beside what they wait for replicas.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same of a change to very many keys.
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

    /// Carries a change out. It is in the database, and known to every replica that may admit, when this is done.
    pub(super) async fn apply(&self, who: &str, change: Change) -> Result<Applied, StoreError> {
        let begin = Instant::now();
        let patience = if is_large(&change) { LONG_PATIENCE } else { PATIENCE };
        let work = async |client: &mut Client| {
            let committed = timeout(patience, self.commit_drawing(client, who, change)).await;
            let (mut applied, mark) = committed.map_err(|_| silent())??;
            self.wake.notify_one();
            // As long as the leases of others last, whatever this process has for its own; each answer in its time.
            applied.propagation = await_propagation(client, &mark).await?;
            Ok(applied)
        };
        let applied = self.with_connection(Duration::MAX, work).await?;
        telemetry::changed(begin.elapsed());
        Ok(applied)
    }

    /// A new id may be another key's: nobody can know before it is written. Draw again, but not forever.
    async fn commit_drawing(
        &self,
        client: &mut Client,
        who: &str,
        change: Change,
    ) -> Result<(Applied, CommitMark), StoreError> {
        let mut change = Some(change);
        for _ in 0..32 {
            let Some(now) = change.take() else { break };
            change = match &now {
                Change::Issue(new) => Some(Change::Issue(new.clone())),
                Change::Rotate { id, overlap } => Some(Change::Rotate { id: id.clone(), overlap: *overlap }),
                _ => None,
            };
            if let Some(done) = self.commit(client, who, now).await? {
                return Ok(done);
            }
        }
        Err(StoreError::conflict("another key has this id, or no free one was found; use a longer public id"))
    }

    /// Does something with a connection, which is kept for the next if it has proved good. One that does not answer
    /// is given up.
    async fn with_connection<T>(
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
        // So short that the others, whose renewals wait for the lock, keep their leases.
        let manners = format!("{ISOLATION}; {}", statement_timeouts(self.lease / 2));
        client.batch_execute(&manners).await.map_err(to_store_error)?;
        Ok(client)
    }

    async fn commit(
        &self,
        client: &mut Client,
        who: &str,
        change: Change,
    ) -> Result<Option<(Applied, CommitMark)>, StoreError> {
        let transaction = client.transaction().await.map_err(to_store_error)?;
        if is_large(&change) {
            // To read or work out very many rows takes its time.
            let longer = statement_timeouts(self.lease.max(Duration::from_secs(30))).replacen("SET", "SET LOCAL", 1);
            transaction.batch_execute(&longer).await.map_err(to_store_error)?;
        }
        // The triggers would take what follows for changes that are made by hand.
        transaction.batch_execute("SELECT set_config('authz.writer', 'yes', true)").await.map_err(to_store_error)?;
        // Locked from here to the end: versions come in the order of the commits.
        let row = transaction.query_one(LOCK.as_str(), &[]).await.map_err(to_store_error)?;
        let (before, now): (i64, SystemTime) = (row.get(0), row.get(2));
        schema::readable(row.get(3))?;
        // Every renewal waits for the counter from here on. Whoever holds the row of a key must not keep it locked.
        let patience = format!("SET LOCAL lock_timeout = {}", (self.lease / 4).as_millis().max(1));
        transaction.batch_execute(&patience).await.map_err(to_store_error)?;
        let (vouches, mut settled_at, queue_is_full): (bool, Option<SystemTime>, bool) =
            (row.get(4), row.get(5), row.get(6));
        let settings = parse(row.get(1), &self.own.borrow())?;
        let fetched = Fetched::load(&transaction, who, &change, &settings.dimensions).await?;
        let Plan { edits, settings, prune, applied } = plan(who, change, &fetched, &settings, now)?;
        Fetched::assert_no_key(&transaction, &edits).await?;
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
            // Not up to the last number of all: whoever counts the records one by one could not go past it.
            version = before.checked_add(count).filter(|last| *last < i64::MAX).ok_or_else(no_more_versions)?;
            if !write(&transaction, &edits, first, &identity, now, who).await? {
                return Ok(None);
            }
            let counted = "UPDATE authz_counter SET version = $1, change = $2, settings = coalesce($3, settings)";
            let text = settings.as_ref().map(StoreSettings::to_json).transpose();
            let text = text.map_err(|error| StoreError::invalid(error.to_string()))?;
            transaction.execute(counted, &[&version, &identity, &text]).await.map_err(to_store_error)?;
            // Replicas ask by themselves as well: whoever fills the queue of notifications keeps nobody from revoking.
            if !queue_is_full {
                transaction.execute("SELECT pg_notify('authz', '')", &[]).await.map_err(to_store_error)?;
            }
        }
        let unsure = |error| {
            StoreError::unavailable(format!("whether the change is made is not known: {}", to_store_error(error)))
        };
        // Where nothing was to be done, whoever did it may not have waited for everybody.
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
        let dimensions = self.settings_of(client).await?.dimensions;
        let mut reader = Reader::new(&dimensions);
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id > $1 ORDER BY id LIMIT $2");
        let now = SystemTime::now();
        let mut page = Page::default();
        let mut after = query.after.as_ref().map_or(String::new(), ToString::to_string);
        // Filters are the same for every store: here only the order is the database's.
        let chunk = i64::try_from(query.limit + 1).unwrap_or(i64::MAX).max(1000);
        loop {
            let rows = client.query(&sql, &[&after, &chunk]).await.map_err(to_store_error)?;
            for row in &rows {
                if page.records.len() == query.limit {
                    page.next = page.records.last().map(|last| last.id().clone());
                    return Ok(page);
                }
                after = row.get(0);
                match reader.record(row).inspect(|record| index.add_uses([record])) {
                    Ok(record) if query.matches(&record, now) => page.records.push(record),
                    Ok(_) => {}
                    Err(InvalidRow { id, why, .. }) => page.unreadable.push(UnreadableKey { id, why }),
                }
            }
            if rows.len() < usize::try_from(chunk).unwrap_or(usize::MAX) {
                return Ok(page);
            }
        }
    }

    pub(super) async fn one(&self, id: &KeyId) -> Result<Row, StoreError> {
        let work = async |client: &mut Client| {
            let dimensions = self.settings_of(client).await?.dimensions;
            let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = $1");
            let row = client.query_opt(&sql, &[&id.as_str()]).await.map_err(to_store_error)?;
            Ok(match row.map(|row| Reader::new(&dimensions).record(&row)) {
                None => Row::Absent,
                Some(Ok(record)) => Row::Found(record),
                Some(Err(broken)) => Row::Unreadable(broken.digest, broken.why),
            })
        };
        self.with_connection(PATIENCE, work).await
    }

    /// What a look-up finds that asks the database.
    pub(super) async fn by_digest(&self, digest: &Digest, index: &Index) -> Found {
        let work = async |client: &mut Client| {
            let sql = "SELECT settings, pg_is_in_recovery(), oldest, version FROM authz_counter";
            let row = client.query_one(sql, &[]).await.map_err(to_store_error)?;
            if row.get(1) {
                return Err(standby()); // it was the primary once
            }
            schema::readable(row.get(2))?;
            let (settings, version) = (parse(row.get(0), &self.own.borrow())?, row.get(3));
            // An answer that was late must not bring an old one back.
            if self.directory.get() <= version {
                self.directory.set(version);
                index.publish([], Some(settings.directory));
            }
            let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE digest = $1");
            let row = client.query_opt(&sql, &[&digest.as_bytes().as_slice()]).await.map_err(to_store_error)?;
            let read = row.map(|row| Reader::new(&settings.dimensions).record(&row));
            read.transpose().map_err(|broken| StoreError::unreadable(broken.why))
        };
        self.with_connection(PATIENCE, work).await
    }

    pub(super) async fn history(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        let sql = "SELECT number, at, who, action, key_id, note, before, after FROM authz_audit
                   WHERE number < $1 AND ($2::text IS NULL OR key_id = $2) ORDER BY number DESC LIMIT $3";
        let before = query.before.and_then(|number| i64::try_from(number).ok()).unwrap_or(i64::MAX);
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let key = query.key.as_ref().map(KeyId::as_str);
        let work =
            async |client: &mut Client| client.query(sql, &[&before, &key, &limit]).await.map_err(to_store_error);
        let rows = self.with_connection(PATIENCE, work).await?;
        let record = |row: &tokio_postgres::Row| AuditRecord {
            number: u64::try_from(row.get::<_, i64>(0)).unwrap_or_default(),
            at: row.get(1),
            by: row.get(2),
            action: Action::named(row.get(3)),
            key: row.get::<_, Option<String>>(4).and_then(|key| key.parse().ok()),
            note: row.get(5),
            before: row.get(6),
            after: row.get(7),
        };
        Ok(rows.iter().map(record).collect())
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

    /// Writes down when keys were last used, never an earlier time over a later one.
    pub(super) async fn put_uses(&self, used: &[(String, SystemTime)]) -> Result<(), StoreError> {
        let (ids, times): (Vec<&str>, Vec<SystemTime>) = used.iter().map(|(id, time)| (id.as_str(), *time)).unzip();
        let sql = "UPDATE authz_keys SET last_used = used.at
                   FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)
                   WHERE authz_keys.id = used.id AND (last_used IS NULL OR last_used < used.at)";
        // Rows that it has locked must not stay locked while it waits for another: a revocation may need them.
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

const fn is_large(change: &Change) -> bool {
    matches!(change, Change::Import(_) | Change::Purge { .. } | Change::PruneAudit { .. } | Change::Settings(_))
}

/// The newest version and all else that a change is worked out by, locked.
static LOCK: LazyLock<String> = LazyLock::new(|| {
    let vouches = VOUCHES.as_str();
    format!(
        "SELECT version, settings, clock_timestamp(), oldest, {vouches}, settled_at, pg_notification_queue_usage() > 0.9
         FROM authz_counter FOR UPDATE"
    )
});
