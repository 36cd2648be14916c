//! Changes, which return when every replica knows of them; and questions.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Config};

use crate::{
    Dimension, KeyId,
    store::{
        Action, AuditQuery, AuditRecord, KeyQuery, Page, Reach, StoreError, StoreSettings, UnreadableKey,
        change::{Applied, Change},
        lifecycle::{Plan, Row, plan},
        postgres::{
            ReplicaStatus, failure,
            replica::{ISOLATION, connect, impatience, parse},
            rows::{self, Broken, COLUMNS, Fetched, Reader},
        },
    },
};

pub(super) struct Admin {
    pub(super) config: Config,
    /// Dimensions whose grammar no database can hold, shared with the replica of this process.
    pub(super) own: Rc<RefCell<Vec<Dimension>>>,
    /// Rings for the replica of this process.
    pub(super) wake: Rc<Notify>,
    /// That of the replica of this process.
    pub(super) lease: Duration,
    /// Connections that nobody uses now. One for each change that is under way: a change that waits for a paused
    /// replica must not hold up the others.
    pub(super) idle: RefCell<Vec<Client>>,
    pub(super) most: Semaphore,
}

/// So many changes and questions are under way at a time.
pub(super) const CONNECTIONS: usize = 8;

/// A connection that goes back to the idle ones if it is still good.
struct Borrowed<'a> {
    idle: &'a RefCell<Vec<Client>>,
    client: Option<Client>,
    _permit: SemaphorePermit<'a>,
}

impl Borrowed<'_> {
    fn get(&mut self) -> Result<&mut Client, StoreError> {
        self.client.as_mut().ok_or_else(|| StoreError::unavailable("there is no connection"))
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|client| !client.is_closed()) {
            self.idle.borrow_mut().push(client);
        }
    }
}

impl Admin {
    /// Carries a change out. It is in the database, and known to every replica that may admit, when this is done.
    pub(super) async fn apply(&self, who: &str, change: Change) -> Result<Applied, StoreError> {
        let mut borrowed = self.connected().await?;
        let client = borrowed.get()?;
        let (mut applied, version) = self.commit_drawing(client, who, change).await?;
        self.wake.notify_one();
        applied.reach = reach(client, version).await?;
        Ok(applied)
    }

    /// A new id may be another key's: nobody can know before it is written. Draw again, but not forever.
    async fn commit_drawing(
        &self,
        client: &mut Client,
        who: &str,
        change: Change,
    ) -> Result<(Applied, i64), StoreError> {
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

    async fn connected(&self) -> Result<Borrowed<'_>, StoreError> {
        let permit = self.most.acquire().await.map_err(|_| StoreError::unavailable("the key store has stopped"))?;
        let known = loop {
            let known = self.idle.borrow_mut().pop();
            if known.as_ref().is_none_or(|client| !client.is_closed()) {
                break known;
            }
        };
        let client = match known {
            Some(client) => client,
            None => {
                let client = connect(&self.config, None).await?;
                // So short that the others, whose renewals wait for the lock, keep their leases.
                let manners = format!("{ISOLATION}; {}", impatience(self.lease / 2));
                client.batch_execute(&manners).await.map_err(|error| failure(&error))?;
                client
            }
        };
        Ok(Borrowed { idle: &self.idle, client: Some(client), _permit: permit })
    }

    async fn commit(
        &self,
        client: &mut Client,
        who: &str,
        change: Change,
    ) -> Result<Option<(Applied, i64)>, StoreError> {
        let told = |error: tokio_postgres::Error| failure(&error);
        let transaction = client.transaction().await.map_err(told)?;
        if matches!(change, Change::Import(_) | Change::Purge { .. } | Change::Settings(_)) {
            // To read or work out very many rows takes its time.
            let longer = impatience(self.lease.max(Duration::from_secs(30))).replacen("SET", "SET LOCAL", 1);
            transaction.batch_execute(&longer).await.map_err(told)?;
        }
        // Locked from here to the end: versions come in the order of the commits.
        let sql = "SELECT version, settings, clock_timestamp() FROM authz_counter FOR UPDATE";
        let row = transaction.query_one(sql, &[]).await.map_err(told)?;
        let (before, now): (i64, SystemTime) = (row.get(0), row.get(2));
        let settings = parse(row.get(1), &self.own.borrow())?;
        let fetched = Fetched::of(&transaction, &change, &settings.dimensions).await?;
        let Plan { edits, settings, applied } = plan(change, &fetched, &settings, now)?;
        if edits.is_empty() {
            // As it was; but who made it so may not have waited for everybody.
            return Ok(Some((applied, before)));
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| StoreError::unavailable(error.to_string()))?;
        let identity = format!("{:032x}", u128::from_ne_bytes(random));
        let mut version = before;
        for edit in &edits {
            version += 1;
            if !rows::write(&transaction, edit, version, &identity, now, who).await? {
                return Ok(None);
            }
        }
        let counted = "UPDATE authz_counter SET version = $1, change = $2, settings = coalesce($3, settings)";
        let text = settings.as_ref().map(StoreSettings::to_json).transpose();
        let text = text.map_err(|error| StoreError::invalid(error.to_string()))?;
        transaction.execute(counted, &[&version, &identity, &text]).await.map_err(told)?;
        transaction.execute("SELECT pg_notify('authz', '')", &[]).await.map_err(told)?;
        let unsure =
            |error| StoreError::unavailable(format!("whether the change is made is not known: {}", failure(&error)));
        if let Some(settings) = settings {
            let mut own = self.own.borrow_mut();
            own.retain(|known| !settings.dimensions.contains(known));
            own.extend(settings.dimensions);
        }
        transaction.commit().await.map_err(unsure)?;
        Ok(Some((applied, version)))
    }

    pub(super) async fn page(&self, query: &KeyQuery) -> Result<Page, StoreError> {
        let told = |error: tokio_postgres::Error| failure(&error);
        let mut borrowed = self.connected().await?;
        let client = borrowed.get()?;
        let dimensions = self.settings_of(client).await?.dimensions;
        let mut reader = Reader::new(&dimensions);
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id > $1 ORDER BY id LIMIT $2");
        let now = SystemTime::now();
        let mut page = Page::default();
        let mut after = query.after.as_ref().map_or(String::new(), ToString::to_string);
        // Filters are the same for every store: here only the order is the database's.
        let chunk = i64::try_from(query.limit + 1).unwrap_or(i64::MAX).max(1000);
        loop {
            let rows = client.query(&sql, &[&after, &chunk]).await.map_err(told)?;
            for row in &rows {
                if page.records.len() == query.limit {
                    page.next = page.records.last().map(|last| last.id().clone());
                    return Ok(page);
                }
                after = row.get(0);
                match reader.record(row) {
                    Ok(record) if query.matches(&record, now) => page.records.push(record),
                    Ok(_) => {}
                    Err(Broken { id, why, .. }) => page.unreadable.push(UnreadableKey { id, why }),
                }
            }
            if rows.len() < usize::try_from(chunk).unwrap_or(usize::MAX) {
                return Ok(page);
            }
        }
    }

    pub(super) async fn one(&self, id: &KeyId) -> Result<Row, StoreError> {
        let mut borrowed = self.connected().await?;
        let client = borrowed.get()?;
        let dimensions = self.settings_of(client).await?.dimensions;
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = $1");
        let row = client.query_opt(&sql, &[&id.as_str()]).await.map_err(|error| failure(&error))?;
        Ok(match row.map(|row| Reader::new(&dimensions).record(&row)) {
            None => Row::Absent,
            Some(Ok(record)) => Row::Found(record),
            Some(Err(broken)) => Row::Unreadable(broken.digest, broken.why),
        })
    }

    pub(super) async fn history(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        let mut borrowed = self.connected().await?;
        let client = borrowed.get()?;
        let sql = "SELECT number, at, who, action, key_id, note, before, after FROM authz_audit
                   WHERE number < $1 AND ($2::text IS NULL OR key_id = $2) ORDER BY number DESC LIMIT $3";
        let before = query.before.and_then(|number| i64::try_from(number).ok()).unwrap_or(i64::MAX);
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let key = query.key.as_ref().map(KeyId::as_str);
        let rows = client.query(sql, &[&before, &key, &limit]).await.map_err(|error| failure(&error))?;
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
        let mut borrowed = self.connected().await?;
        let client = borrowed.get()?;
        self.settings_of(client).await
    }

    pub(super) async fn replicas(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        let mut borrowed = self.connected().await?;
        let client = borrowed.get()?;
        let sql = "SELECT name, applied, version, extract(epoch FROM lease_until - clock_timestamp())::float8
                   FROM authz_replicas, authz_counter ORDER BY name, id";
        let rows = client.query(sql, &[]).await.map_err(|error| failure(&error))?;
        let number = |value: i64| u64::try_from(value).unwrap_or_default();
        let status = |row: &tokio_postgres::Row| ReplicaStatus {
            name: row.get(0),
            applied: number(row.get(1)),
            behind: number(row.get::<_, i64>(2) - row.get::<_, i64>(1)),
            lease_left: Duration::try_from_secs_f64(row.get(3)).unwrap_or_default(),
        };
        Ok(rows.iter().map(status).collect())
    }

    async fn settings_of(&self, client: &Client) -> Result<StoreSettings, StoreError> {
        let row = client.query_one("SELECT settings FROM authz_counter", &[]).await.map_err(|error| failure(&error))?;
        parse(row.get(0), &self.own.borrow())
    }

    /// Writes down when keys were last used, never an earlier time over a later one.
    pub(super) async fn put_uses(&self, used: Vec<(String, SystemTime)>) -> Result<(), StoreError> {
        let mut borrowed = self.connected().await?;
        let client = borrowed.get()?;
        let (ids, times): (Vec<String>, Vec<SystemTime>) = used.into_iter().unzip();
        let sql = "UPDATE authz_keys SET last_used = greatest(last_used, used.at)
                   FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at) WHERE authz_keys.id = used.id";
        client.execute(sql, &[&ids, &times]).await.map(drop).map_err(|error| failure(&error))
    }
}

/// Waits until every replica has this version or its lease has run out, by the database's clock. A lease that is
/// given later than the change comes with the change: so no replica is waited for longer than its lease as it is
/// now.
async fn reach(client: &Client, version: i64) -> Result<Reach, StoreError> {
    let unsure = |error| {
        StoreError::unavailable(format!("the change is made, but not everybody is sure to know: {}", failure(&error)))
    };
    let begin = Instant::now();
    let behind =
        "SELECT id, name, lease_until FROM authz_replicas WHERE applied < $1 AND lease_until > clock_timestamp()";
    let rows = client.query(behind, &[&version]).await.map_err(unsure)?;
    let mut waiting: BTreeMap<String, (String, SystemTime)> =
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
    let mut silent = Vec::new();
    let mut pause = Duration::from_millis(1);
    while !waiting.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
        let ids: Vec<&String> = waiting.keys().collect();
        let still = "SELECT clock_timestamp(), id FROM (SELECT 1) AS always
                     LEFT JOIN authz_replicas ON applied < $1 AND id = ANY($2)";
        let rows = client.query(still, &[&version, &ids]).await.map_err(unsure)?;
        let now: Option<SystemTime> = rows.first().map(|row| row.get(0));
        let behind: Vec<String> = rows.iter().filter_map(|row| row.get(1)).collect();
        waiting.retain(|id, (name, until)| {
            let expired = now.is_some_and(|now| *until <= now);
            let is_behind = behind.contains(id);
            if is_behind && expired {
                silent.push(name.clone());
            }
            is_behind && !expired
        });
    }
    Ok(Reach { waited: begin.elapsed(), silent })
}
