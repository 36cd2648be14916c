//! A replica: all keys in memory, and a lease without which it admits nobody.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures::{TryStreamExt as _, channel::oneshot, pin_mut};
use tokio::sync::Notify;
use tokio_postgres::{Client, IsolationLevel, Statement, types::ToSql};

use crate::{
    clock,
    dimension::Dimension,
    key::{Digest, Expander},
    store::{
        StoreError, StoreSettings,
        index::Index,
        part::Entry,
        postgres::{
            connection::{ConnectOptions, ISOLATION, micros, silence, to_store_error},
            rows::digest_of,
            schema,
        },
        report::Report,
        row::{COLUMNS, InvalidRow, RowReader, Rows},
    },
};

pub(super) struct Replica {
    pub(super) connect_options: ConnectOptions,
    pub(super) index: Arc<Index>,
    pub(super) own: Rc<RefCell<Vec<Dimension>>>,
    pub(super) report: Report,
    pub(super) lease: Duration,
    pub(super) serves_stale: bool,
    /// Of this process, drawn when it started: a process that takes its place must not vouch for it.
    pub(super) id: String,
    /// For people.
    pub(super) name: String,
    /// Rung when something has changed, as far as is known.
    pub(super) wake: Rc<Notify>,
    pub(super) state: RefCell<State>,
}

/// The copy in memory.
pub(super) struct State {
    pub(super) settings: StoreSettings,
    /// The newest change that the index has in it, and what tells it from another of the same number.
    pub(super) version: i64,
    change: String,
    /// The newest change of all, as far as is known.
    pub(super) newest: i64,
    /// How many changes are read at a time.
    stride: i64,
    backlog: Option<Backlog>,
}

/// Changes that were read, and are not published yet: the directory changes among those that follow, and keys and
/// directory are published at once.
struct Backlog {
    until: i64,
    changed: Vec<(Digest, Option<Entry>)>,
    settings: Option<StoreSettings>,
}

/// Some of the changes that a replica has to learn, with their keys and settings as they are at one moment.
struct Part {
    /// The last of these changes, and what tells it from another of the same number.
    until: i64,
    change: String,
    /// The newest change of that moment.
    newest: i64,
    changed: Vec<(Digest, Option<Entry>)>,
    /// Those of that moment, if any change between the first of these and the newest is one of settings.
    settings: Option<StoreSettings>,
}

/// The result of asking for the lease.
enum Renewed {
    Held,
    /// There is more to read first.
    Behind,
    /// It will never be held again.
    Never(String),
}

/// The lease, given together with the newest version. It is one statement, so that nobody who is paused holds the lock
/// against writers; the lease comes after the lock, whose row is then the newest.
///
/// `lock` is `SHARE`, so that replicas do not wait for each other, except for the first lease of a connection. The server may
/// be another one, which lacks changes that this replica knows of: then a trigger on `authz_replicas` writes the row of the
/// counter, and two replicas that share its lock would wait for each other.
fn renewal(lock: &str) -> String {
    format!(
        "WITH counter AS (SELECT version, oldest FROM authz_counter FOR {lock}),
         lease AS (
           INSERT INTO authz_replicas (id, name, applied, lease, lease_until)
           SELECT $1, $2, $3, $4 * interval '1 microsecond', clock_timestamp() + $4 * interval '1 microsecond' FROM counter
           ON CONFLICT (id) DO UPDATE SET applied = greatest(authz_replicas.applied, excluded.applied),
             lease = excluded.lease, lease_until = excluded.lease_until
         )
         SELECT version, oldest,
           $3 = 0 OR EXISTS (SELECT 1 FROM authz_audit WHERE number = $3 AND authz_audit.change = $5)
         FROM counter"
    )
}

/// So many times in a lease it is renewed. It is given up after two thirds: a few renewals may be lost before.
const RENEWALS: u32 = 6;

/// Why a replica stops for good.
const WENT_BACK: &str = "the database lacks a change that it had: it was restored or failed over to a standby that \
                         was behind; requests are refused until the program is restarted";

/// At most so many changes are read at a time, and at least so many: a replica that has a million to read must not
/// need longer for a part of them than it waits for an answer.
const STRIDE: std::ops::RangeInclusive<i64> = 64..=8192;

impl State {
    /// Reads everything, as it was at one moment.
    pub(super) async fn load(client: &mut Client, own: &[Dimension]) -> Result<(Self, Rows), StoreError> {
        let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let moment = builder.start().await.map_err(to_store_error)?;
        let row = moment
            .query_one("SELECT version, change, settings FROM authz_counter", &[])
            .await
            .map_err(to_store_error)?;
        let settings = parse(row.get(2), own)?;
        let version = row.get(0);
        let state =
            Self { version, change: row.get(1), settings, newest: version, stride: *STRIDE.end(), backlog: None };
        let none: [&(dyn ToSql + Sync); 0] = [];
        let sql = format!("SELECT {COLUMNS} FROM authz_keys");
        let rows = moment.query_raw(&sql, none).await.map_err(to_store_error)?;
        pin_mut!(rows);
        let mut reader = RowReader::new(&state.settings);
        let mut all = Rows::default();
        while let Some(row) = rows.try_next().await.map_err(to_store_error)? {
            reader.entry(&row, &mut all);
        }
        Ok((state, all))
    }
}

impl Replica {
    /// Renews the lease until the store is dropped. Reports the first lease to `held`.
    pub(super) async fn run(self: Rc<Self>, held: oneshot::Sender<Result<(), StoreError>>) {
        let mut held = Some(held);
        let mut is_reported = false;
        loop {
            let error = match self.serve(&mut held, &mut is_reported).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if let Some(held) = held.take() {
                let _ = held.send(Err(error));
                return;
            }
            if !is_reported {
                (self.report)(&format!(
                    "the key store is out of reach, requests are refused when the lease ends: {error}"
                ));
                is_reported = true;
            }
            tokio::time::sleep((self.lease / 8).min(Duration::from_secs(1))).await;
        }
    }

    /// Serves one connection until it fails. Returns `Ok` only if the replica may never serve again.
    async fn serve(
        &self,
        held: &mut Option<oneshot::Sender<Result<(), StoreError>>>,
        is_reported: &mut bool,
    ) -> Result<(), StoreError> {
        let client = self.connect_options.connect(Some(Rc::clone(&self.wake))).await?;
        let prepared = async {
            // A query that is given up must not keep the database busy.
            let patience = format!("SET statement_timeout = {}", self.lease.as_millis());
            client.batch_execute(&format!("{ISOLATION}; {patience}; LISTEN authz")).await?;
            Ok((client.prepare(&renewal("UPDATE")).await?, client.prepare(&renewal("SHARE")).await?))
        };
        let prepared = tokio::time::timeout(self.lease, prepared).await;
        let (first, renewal) = prepared.map_err(|_| silence())?.map_err(to_store_error)?;
        let mut statement = &first;
        loop {
            let renewed = tokio::time::timeout(self.lease, self.renew(&client, statement)).await;
            statement = &renewal;
            let Ok(renewed) = renewed else {
                // Close the connection: a late answer would be taken for that of the next query.
                self.stride(|stride| stride / 2);
                return Err(silence());
            };
            match renewed? {
                Renewed::Held => {}
                Renewed::Behind => {
                    self.stride(|stride| stride * 2);
                    continue;
                }
                Renewed::Never(why) => {
                    self.index.set_stale(true);
                    (self.report)(&why);
                    return Ok(());
                }
            }
            if let Some(held) = held.take() {
                let _ = held.send(Ok(()));
            }
            if std::mem::take(is_reported) {
                (self.report)("the key store is in reach again");
            }
            let _ = tokio::time::timeout(self.lease / RENEWALS, self.wake.notified()).await;
        }
    }

    fn stride(&self, change: impl FnOnce(i64) -> i64) {
        let stride = &mut self.state.borrow_mut().stride;
        *stride = change(*stride).clamp(*STRIDE.start(), *STRIDE.end());
    }

    /// Renews the lease. A concurrent change either commits before, and is read here, or after, and finds the lease.
    async fn renew(&self, client: &Client, renewal: &Statement) -> Result<Renewed, StoreError> {
        let (known, known_change, stride) = {
            let state = self.state.borrow();
            (state.version, state.change.clone(), state.stride)
        };
        let values: [&(dyn ToSql + Sync); 5] = [&self.id, &self.name, &known, &micros(self.lease), &known_change];
        let asked = clock::now();
        let row = client.query_one(renewal, &values).await.map_err(to_store_error)?;
        let (version, oldest, is_there): (i64, i32, bool) = (row.get(0), row.get(1), row.get(2));
        if let Err(error) = schema::check_oldest(oldest) {
            return Ok(Renewed::Never(format!("{error}; requests are refused")));
        }
        if !is_there || version < known {
            return Ok(Renewed::Never(WENT_BACK.to_owned()));
        }
        self.state.borrow_mut().newest = version;
        // Apply the changes before the lease, so that a request that finds the lease finds the changes. The changes may
        // be newer than the lease, which is harmless.
        if version != known && self.catch_up(client, stride).await? < version {
            return Ok(Renewed::Behind);
        }
        let deadline = if self.serves_stale { u64::MAX } else { clock::deadline(asked, self.lease) };
        self.report_lapse(asked, self.index.set_deadline(deadline));
        if version != known {
            let applied = "UPDATE authz_replicas SET applied = greatest(applied, $2) WHERE id = $1";
            client.execute(applied, &[&self.id, &version]).await.map_err(to_store_error)?;
        }
        Ok(Renewed::Held)
    }

    /// Reports a lease that ran out while its renewal waited for the answer. A lost connection is reported elsewhere.
    fn report_lapse(&self, asked: u64, deadline: u64) {
        let now = clock::now();
        if asked < deadline && deadline < now {
            let millis = |nanos: u64| Duration::from_nanos(nanos).as_millis();
            (self.report)(&format!(
                "requests were refused for {} ms because the lease ran out: the database took {} ms to renew it; is a \
                 transaction holding the row of authz_counter, or is the database or its disk overloaded?",
                millis(now - deadline),
                millis(now - asked),
            ));
        }
    }

    /// Reads a batch of changes, and returns the last version that it covers.
    async fn catch_up(&self, client: &Client, stride: i64) -> Result<i64, StoreError> {
        let backlog = self.state.borrow_mut().backlog.take();
        let since = backlog.as_ref().map_or_else(|| self.state.borrow().version, |backlog| backlog.until);
        let known = backlog.as_ref().and_then(|backlog| backlog.settings.clone());
        let part = self.part_of_one_moment(client, since, stride, known).await?;
        let Backlog { mut changed, mut settings, .. } =
            backlog.unwrap_or_else(|| Backlog { until: since, changed: Vec::new(), settings: None });
        changed.extend(part.changed);
        settings = part.settings.or(settings);
        let mut state = self.state.borrow_mut();
        // Rows may be newer than the last of these changes. Without a change of settings each of them is consistent
        // with the known directory; with one, only all of them together are.
        if settings.is_some() && part.until < part.newest {
            state.backlog = Some(Backlog { until: part.until, changed, settings });
            return Ok(part.until);
        }
        let directory = settings.as_ref().map(|settings| settings.directory.clone());
        let expanded = match &settings {
            Some(settings) if settings.roles != state.settings.roles => self.index.expanded(&settings.roles),
            _ => Vec::new(),
        };
        if let Some(settings) = &settings {
            let mut expander = Expander::new(&settings.roles);
            // Some of these may have been read at an earlier moment, with the roles of then.
            for (_, entry) in &mut changed {
                if let Some(Entry::Record(record)) = entry
                    && let Some(now) = Entry::expanded(record, &mut expander)
                {
                    *entry = Some(now);
                }
            }
        }
        // Keys that have changed themselves come last, and have the last word.
        self.index.publish(expanded.into_iter().chain(changed), directory);
        (state.version, state.change) = (part.until, part.change);
        if let Some(settings) = settings {
            state.settings = settings;
        }
        Ok(part.until)
    }

    async fn part_of_one_moment(
        &self,
        client: &Client,
        since: i64,
        stride: i64,
        known: Option<StoreSettings>,
    ) -> Result<Part, StoreError> {
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(to_store_error)?;
        // If it fails, the connection is closed, and the transaction with it.
        let part = self.part(client, since, stride, known).await?;
        client.batch_execute("COMMIT").await.map_err(to_store_error)?;
        Ok(part)
    }

    /// Reads the keys and settings that changed after `since`. `known` are the settings of the backlog, which are newer than
    /// those that are in force.
    async fn part(
        &self,
        client: &Client,
        since: i64,
        stride: i64,
        known: Option<StoreSettings>,
    ) -> Result<Part, StoreError> {
        let sql = "SELECT version, CASE WHEN EXISTS (SELECT 1 FROM authz_audit WHERE number > $1 AND key_id IS NULL)
                     THEN settings END FROM authz_counter";
        let row = client.query_one(sql, &[&since]).await.map_err(to_store_error)?;
        let (newest, settings): (i64, Option<&str>) = (row.get(0), row.get(1));
        let settings = settings.map(|settings| parse(settings, &self.own.borrow())).transpose()?;
        let until = newest.min(since.saturating_add(stride));
        let sql = "SELECT DISTINCT key_id, digest FROM authz_audit WHERE number > $1 AND number <= $2";
        let changed = client.query(sql, &[&since, &until]).await.map_err(to_store_error)?;
        let ids: BTreeSet<String> = changed.iter().filter_map(|row| row.get::<_, Option<String>>(0)).collect();
        let newest_settings = settings.clone().or(known).unwrap_or_else(|| self.state.borrow().settings.clone());
        let ids: Vec<String> = ids.into_iter().collect();
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = ANY($1)");
        let rows = client.query(&sql, &[&ids]).await.map_err(to_store_error)?;
        let mut reader = RowReader::new(&newest_settings);
        let mut found = Rows::default();
        rows.iter().for_each(|row| reader.entry(row, &mut found));
        let Rows { entries: there, invalid } = found;
        InvalidRow::report(&invalid, &self.report);
        // Removals come first, so that entries that exist have the last word.
        let stays: HashSet<[u8; 32]> = there.iter().map(|(digest, _)| *digest.as_bytes()).collect();
        let gone = changed.iter().filter_map(|row| digest_of(row, 1));
        let gone = gone.filter(|digest| !stays.contains(digest.as_bytes())).map(|digest| (digest, None));
        let changed = gone.chain(there.into_iter().map(|(digest, entry)| (digest, Some(entry)))).collect();
        Ok(Part { until, change: identity(client, until).await?, newest, changed, settings })
    }

    /// Gives the lease back, so that no change waits for a replica that has shut down.
    pub(super) async fn release(&self) {
        self.index.set_stale(true);
        let goodbye = async {
            let client = self.connect_options.connect(None).await?;
            // In one transaction, so that the setting applies to this row only.
            let mark = "SELECT set_config('authz.given_back', 'yes', true)";
            let sql = format!("{mark}; DELETE FROM authz_replicas WHERE id = '{}'", self.id);
            client.batch_execute(&sql).await.map_err(to_store_error)
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await; // else the lease runs out
    }
}

/// The identity of the change with this number, which tells it from another after a failover.
async fn identity(client: &Client, number: i64) -> Result<String, StoreError> {
    let sql = "SELECT change FROM authz_audit WHERE number = $1";
    Ok(client.query_one(sql, &[&number]).await.map_err(to_store_error)?.get(0))
}

pub(super) fn parse(text: &str, own: &[Dimension]) -> Result<StoreSettings, StoreError> {
    StoreSettings::parse(text, own)
        .map_err(|error| StoreError::unavailable(format!("the settings of the store cannot be read: {error}")))
}
