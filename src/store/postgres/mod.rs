//! Keys in PostgreSQL, for many machines.

mod admin;
pub(crate) mod clock;
mod replica;
mod rows;

use std::{
    cell::RefCell,
    fmt,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use futures::{
    channel::oneshot,
    future::{BoxFuture, FutureExt as _, LocalBoxFuture},
};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::LocalSet,
};
use tokio_postgres::Config;

use self::{admin::Admin, replica::Replica};
use crate::{
    Digest, Dimension, Directory, KeyFormat, KeyId, KeyRecord,
    store::{
        AuditQuery, AuditRecord, KeyQuery, KeyStore, Lookup, Page, StoreError, StoreSettings,
        admin::{Ledger, Sealed, SealedOutcome},
        index::{Index, StaleWhenGone},
        lifecycle::{Row, unknown},
        report::{self, Report},
    },
};

/// Keys in PostgreSQL: many replicas share them, and a revocation is true on all of them when it returns.
///
/// Every replica holds all keys in memory and answers look-ups from there; the database is not on the path of a
/// request. A replica admits only while it holds a lease, a row in the database that it renews together with
/// everything that has changed. A change returns when every replica knows of it or has lost its lease: milliseconds
/// where all are well, at most one lease ([`PostgresOptions::lease`]) where one is paused, cut off or dead. A
/// replica without a lease answers 503.
///
/// ```text
///   writer                     database                      replica
///   lock counter ----------->  version 7                     holds a lease, knows 7
///   write, version 8, commit   version 8  -- notify ------>  asks: lease, and what came after 7
///   who is behind? --------->  replica: 7, until 10:00:02
///                              replica: 7, until 10:00:03 <-  (locks the counter against writers)
///                                                            installs 8, then the lease
///                              replica: 8  <--------------   tells that it knows 8
///   nobody is: return
/// ```
///
/// # What it promises
/// If `revoke()` (or `delete`, or a change of grant that takes something away) returned before the admission check of a
/// request began, on any replica that shares the database, that request is not admitted. A replica that cannot know
/// answers 503. `tests/model` explores the protocol exhaustively.
///
/// # What it does not
/// * Effects that a handler has had by then are not undone.
/// * The clocks of a replica and of the database may drift apart by one in a hundred while a lease lasts, and the clock
///   of the database must not leap.
/// * A standby that takes over without an acknowledged change has lost it: replicas that knew of it notice, and refuse
///   until they are restarted; others cannot. Use `synchronous_commit = on` with `synchronous_standby_names`, and let
///   no writer return for one lease after a failover.
/// * The connection is not encrypted by this store yet: use a socket, a private network or a tunnel.
/// * A long import holds up renewals: with a million keys, import before replicas serve.
///
/// # Roles
/// Replicas need `SELECT` on all tables, `UPDATE (guard)` on `authz_counter`, which lets them lock its row, `INSERT`,
/// `UPDATE` and `DELETE` on `authz_replicas`, and `UPDATE (last_used)` on `authz_keys`. Whoever changes keys needs
/// `INSERT`, `UPDATE` and `DELETE` on `authz_keys`, `INSERT` on `authz_audit` and `UPDATE` on `authz_counter` as well.
///
/// # Example
/// ```no_run
/// # async fn open() -> Result<(), tower_authz::store::StoreError> {
/// use tower_authz::store::{KeyAdmin, PostgresStore};
///
/// let store = PostgresStore::connect("postgres://app@localhost/app").await?;
/// let changed = store.by("anna").revoke(&"key_3jWz9Qb2Lx".parse().unwrap(), "the laptop was lost").await?;
/// println!("every replica knows, after {:?}", changed.reach.waited);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore(Arc<Handle>);

struct Handle {
    index: Arc<Index>,
    format: KeyFormat,
    /// None only while it is dropped.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Something to do with the database, on the thread that talks to it.
type Job = Box<dyn FnOnce(Rc<Admin>) -> LocalBoxFuture<'static, ()> + Send>;

/// How often uses are written down.
const FLUSH: Duration = Duration::from_secs(20);

impl PostgresStore {
    /// Loads all keys, and holds a lease when it is done.
    ///
    /// # Errors
    /// If the database cannot be reached, or has no store: see [`create`](Self::create).
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        PostgresOptions::new().connect(url).await
    }

    /// Makes the tables, which must not be there yet, and connects.
    ///
    /// # Errors
    /// If there is a store already, or the database cannot be reached.
    pub async fn create(url: &str, settings: impl Into<StoreSettings>) -> Result<Self, StoreError> {
        PostgresOptions::new().create(url, settings).await
    }

    /// All replicas that share the store, by their names.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn replicas(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        self.ask(async move |admin: Rc<Admin>| admin.replicas().await).await
    }

    /// How long this replica may admit without hearing from the database: for a health check, which fails
    /// when there is nothing left.
    #[must_use]
    pub fn lease_left(&self) -> Duration {
        self.0.index.lease_left()
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl AsyncFnOnce(Rc<Admin>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::unavailable("the key store has stopped");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |admin| {
            let work = async move {
                let _ = answer.send(job(admin).await); // the asker may be gone
            };
            work.boxed_local()
        });
        self.0.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// One of the programs that share a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// What people call it, see [`PostgresOptions::name`].
    pub name: String,
    /// The number of the newest change that it knows of.
    pub applied: u64,
    /// How many changes it does not know of yet.
    pub behind: u64,
    /// How long its lease holds, by the clock of the database. Nothing if it has run out: it admits nobody.
    pub lease_left: Duration,
}

/// How a PostgreSQL store is opened, where the defaults are not enough.
#[derive(Clone)]
#[must_use = "options do nothing until a store is opened"]
pub struct PostgresOptions {
    own: Vec<Dimension>,
    report: Report,
    lease: Duration,
    stale: bool,
    name: String,
}

impl PostgresOptions {
    /// The defaults.
    pub fn new() -> Self {
        let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "replica".to_owned());
        let name = format!("{name}/{}", std::process::id());
        Self { own: Vec::new(), report: report::standard(), lease: Duration::from_secs(2), stale: false, name }
    }

    /// A dimension whose grammar is a function of yours; no database can hold that.
    pub fn dimension(mut self, dimension: Dimension) -> Self {
        self.own.push(dimension);
        self
    }

    /// Who hears of records that cannot be read, and of a database out of reach. Default: the log, with
    /// the feature `tracing`; else standard error.
    pub fn on_fault(mut self, hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.report = report::to(hear);
        self
    }

    /// How long this replica admits without hearing from the database, and so how long a change waits for
    /// it at most. Default: 2 seconds; at least 100 milliseconds.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// Goes on admitting by what was last known when the lease has run out, without end. **A key that is revoked
    /// meanwhile is admitted here**: `revoke()` on another replica returns all the same. Only for those to whom an
    /// outage of the database is worse than that.
    pub const fn dangerously_serve_stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// What people call this replica. Default: the host's name and the number of the process.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// As [`PostgresStore::create`].
    ///
    /// # Errors
    /// The same.
    pub async fn create(mut self, url: &str, settings: impl Into<StoreSettings>) -> Result<PostgresStore, StoreError> {
        let config = configuration(url)?;
        let settings = settings.into();
        let invalid = |error: crate::ConfigError| StoreError::invalid(error.to_string());
        let text = settings.to_json().map_err(invalid)?;
        self.own.extend(settings.dimensions);
        let _ = StoreSettings::parse(&text, &self.own).map_err(invalid)?;
        on_a_thread(move || async move {
            let mut client = replica::connect(&config, None).await?;
            let told = |error: tokio_postgres::Error| failure(&error);
            let transaction = client.transaction().await.map_err(told)?;
            let known = "SELECT to_regclass('authz_counter') IS NOT NULL";
            if transaction.query_one(known, &[]).await.map_err(told)?.get(0) {
                return Err(StoreError::conflict("the database has a key store already"));
            }
            transaction.batch_execute(include_str!("schema_1.sql")).await.map_err(told)?;
            let first = "INSERT INTO authz_counter (version, change, settings, schema) VALUES (0, '', $1, 1)";
            transaction.execute(first, &[&text]).await.map_err(told)?;
            transaction.commit().await.map_err(told)
        })
        .await?;
        self.connect(url).await
    }

    /// As [`PostgresStore::connect`].
    ///
    /// # Errors
    /// The same.
    pub async fn connect(self, url: &str) -> Result<PostgresStore, StoreError> {
        let config = configuration(url)?;
        let (ready, when_ready) = oneshot::channel();
        let (jobs, inbox) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("authz-postgres".to_owned())
            .spawn(move || run(self, config, inbox, ready))
            .map_err(|error| StoreError::unavailable(error.to_string()))?;
        let stopped = |_| StoreError::unavailable("the key store has stopped");
        let (index, format) = when_ready.await.map_err(stopped)??;
        Ok(PostgresStore(Arc::new(Handle { index, format, jobs: Some(jobs), thread: Some(thread) })))
    }
}

type Ready = Result<(Arc<Index>, KeyFormat), StoreError>;

/// The thread that talks to the database: its own, so that a runtime that is busy with requests does not lose the
/// lease.
fn run(
    options: PostgresOptions,
    config: Config,
    mut inbox: mpsc::UnboundedReceiver<Job>,
    ready: oneshot::Sender<Ready>,
) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let work = async move {
        let wake = Rc::new(Notify::new());
        let replica = match start(options, &config, &wake).await {
            Ok(replica) => Rc::new(replica),
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _guard = StaleWhenGone(Arc::clone(&replica.index));
        let (held, first) = oneshot::channel();
        let renewing = tokio::task::spawn_local(Rc::clone(&replica).run(held));
        let format = replica.state.borrow().settings.format.clone();
        let outcome = first.await.unwrap_or_else(|_| Err(StoreError::unavailable("the key store has stopped")));
        let failed = outcome.is_err();
        let _ = ready.send(outcome.map(|()| (Arc::clone(&replica.index), format)));
        if failed {
            return;
        }
        let admin = Admin {
            config,
            own: Rc::clone(&replica.own),
            wake,
            lease: replica.lease,
            idle: RefCell::default(),
            most: Semaphore::new(admin::CONNECTIONS),
        };
        let admin = Rc::new(admin);
        let mut flush = tokio::time::interval(FLUSH);
        let mut used_since = SystemTime::now();
        loop {
            tokio::select! {
                job = inbox.recv() => match job {
                    Some(job) => drop(tokio::task::spawn_local(job(Rc::clone(&admin)))),
                    None => break,
                },
                _ = flush.tick() => flush_uses(&replica, &admin, &mut used_since).await,
            }
        }
        renewing.abort();
        flush_uses(&replica, &admin, &mut used_since).await;
        replica.release().await;
    };
    LocalSet::new().block_on(&runtime, work);
}

async fn start(options: PostgresOptions, config: &Config, wake: &Rc<Notify>) -> Result<Replica, StoreError> {
    let mut client = replica::connect(config, None).await?;
    let (state, slots, broken) = Replica::load(&mut client, &options.own).await?;
    // Of replicas that are gone without a word.
    let swept = "DELETE FROM authz_replicas WHERE lease_until < clock_timestamp() - interval '1 minute'";
    client.execute(swept, &[]).await.map_err(|error| failure(&error))?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| StoreError::unavailable(error.to_string()))?;
    let index = Arc::new(Index::new(slots, state.settings.directory.clone()));
    // Nobody is admitted before the first lease.
    index.set_deadline(0);
    let replica = Replica {
        config: config.clone(),
        index,
        own: Rc::new(RefCell::new(options.own)),
        report: options.report,
        lease: options.lease,
        serves_stale: options.stale,
        id: format!("{:032x}", u128::from_ne_bytes(random)),
        name: options.name,
        wake: Rc::clone(wake),
        state: RefCell::new(state),
    };
    replica.tell_broken(&broken);
    Ok(replica)
}

async fn flush_uses(replica: &Replica, admin: &Admin, since: &mut SystemTime) {
    let until = SystemTime::now();
    // Uses are noted in whole seconds: those of this one may go on.
    let second = Duration::from_secs(1);
    let used = replica.index.used_since(since.checked_sub(second).unwrap_or(*since));
    let used: Vec<_> = used.iter().filter_map(|record| Some((record.id().to_string(), record.last_used()?))).collect();
    if used.is_empty() {
        *since = until;
    } else {
        // Nobody waits for this: neither changes that are to come, nor the end of the process.
        let written = tokio::time::timeout(Duration::from_secs(1), admin.put_uses(used)).await;
        match written.unwrap_or_else(|_| Err(StoreError::unavailable("the database does not answer"))) {
            Ok(()) => *since = until,
            Err(error) => (replica.report)(&format!("when keys were last used could not be written down: {error}")),
        }
    }
}

/// Does something with a runtime of its own, whatever the caller's is.
async fn on_a_thread<T: Send + 'static, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>> + 'static,
{
    let (done, when_done) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("authz-postgres".to_owned()).spawn(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            let _ = done.send(LocalSet::new().block_on(&runtime, work()));
        }
    });
    spawned.map_err(|error| StoreError::unavailable(error.to_string()))?;
    when_done.await.map_err(|_| StoreError::unavailable("the key store has stopped"))?
}

/// The text of a URL may hold a password: it is not repeated.
fn configuration(url: &str) -> Result<Config, StoreError> {
    let mut config: Config =
        url.parse().map_err(|_| StoreError::invalid("the address of the database is malformed"))?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    Ok(config)
}

/// An error in one line for the person in front of it.
pub(super) fn failure(error: &tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        Some(error) if error.code() == &tokio_postgres::error::SqlState::UNDEFINED_TABLE => {
            StoreError::not_found("the database has no key store; `authz init` makes one")
        }
        Some(error) if error.code() == &tokio_postgres::error::SqlState::UNIQUE_VIOLATION => {
            StoreError::conflict("another key has the same id or digest; try again")
        }
        Some(error) => StoreError::unavailable(error.message().to_owned()),
        None => StoreError::unavailable(error.to_string()),
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("lease", &self.lease).field("name", &self.name).finish_non_exhaustive()
    }
}

impl KeyStore for PostgresStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        self.0.index.lookup(digest)
    }

    fn format(&self) -> KeyFormat {
        self.0.format.clone()
    }

    fn directory(&self) -> Directory {
        self.0.index.directory()
    }
}

impl Ledger for PostgresStore {
    fn as_ledger(&self) -> &dyn Ledger {
        self
    }

    fn apply<'a>(&'a self, who: &'a str, change: Sealed) -> BoxFuture<'a, Result<SealedOutcome, StoreError>> {
        let who = who.to_owned();
        self.ask(async move |admin: Rc<Admin>| admin.apply(&who, change.0).await.map(SealedOutcome)).boxed()
    }

    fn page<'a>(&'a self, query: &'a KeyQuery) -> BoxFuture<'a, Result<Page, StoreError>> {
        let query = query.clone();
        self.ask(async move |admin: Rc<Admin>| admin.page(&query).await).boxed()
    }

    fn one<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>> {
        let id = id.clone();
        let read = async move |admin: Rc<Admin>| match admin.one(&id).await? {
            Row::Found(record) => Ok(record),
            Row::Absent => Err(unknown(&id)),
            Row::Unreadable(_, why) => Err(StoreError::unreadable(why)),
        };
        self.ask(read).boxed()
    }

    fn history<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Vec<AuditRecord>, StoreError>> {
        let query = query.clone();
        self.ask(async move |admin: Rc<Admin>| admin.history(&query).await).boxed()
    }

    fn current_settings(&self) -> BoxFuture<'_, Result<StoreSettings, StoreError>> {
        self.ask(async move |admin: Rc<Admin>| admin.settings().await).boxed()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Without senders the thread writes down what it still has, gives the lease back, and ends.
        self.jobs = None;
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("keys", &self.0.index.len()).finish_non_exhaustive()
    }
}
