//! Keys in PostgreSQL, for many machines.

mod admin;
mod connection;
mod counted;
mod options;
mod propagation;
mod replica;
mod rows;
mod schema;
mod thread;
#[cfg(feature = "postgres-tls")]
mod tls;
mod write;

use std::{fmt, pin::pin, rc::Rc, sync::Arc, time::Duration};

use futures::{
    channel::oneshot,
    future::{BoxFuture, Either, FutureExt as _, select},
};
use tokio::sync::mpsc;

pub use self::options::PostgresOptions;
use self::{admin::Admin, thread::Job};
use crate::{
    key::{Digest, KeyId, KeyRecord},
    store::{
        AuditQuery, AuditRecord, InMemory, KeyQuery, KeyStore, KeyUsage, Lookup, Page, StoreError, StoreSettings,
        UsageQuery,
        admin::{Backend, BackendChange, BackendOutcome},
        change::ActorInfo,
        delegate::{IndexedKeys, delegate},
        join::JoinOnDrop,
        lifecycle::unknown,
        source::Row,
    },
};

/// Keys in PostgreSQL: many replicas share them, and a revocation is true on all of them when it returns.
///
/// Every replica holds all keys in memory and answers look-ups from there; the database is not on the path of a
/// request. A replica admits only while it holds a lease, a row in the database that it renews together with
/// everything that has changed. A change returns when every replica knows of it or has lost its lease: milliseconds
/// where all are well, at most one lease ([`PostgresOptions::lease`]) where one is paused, cut off or dead; what it
/// returns says how long that was, and for whom ([`Propagation`](crate::store::Propagation)). A replica without a lease answers
/// 503.
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
/// Why so: versions come from one row that writers lock, so their order is that of the commits (numbers of a sequence
/// can become visible out of order, and whoever reads "all after 7" would miss some). A notification only makes a
/// replica ask sooner; without any it asks six times in a lease. A replica counts its lease from before it asked, on
/// a clock that goes on while the machine sleeps, and looks at that clock for each request: a pause, however long, is
/// noticed by the first request after it. `tests/model` explores the protocol exhaustively, and has a variant for each
/// rule that shows what goes wrong without it.
///
/// # What it promises
/// If `revoke()` (or `delete`, or a change of grant that takes something away) returned before the admission check of a
/// request began, on any replica that shares the database, that request is not admitted. A replica that cannot know
/// answers 503, with `Retry-After`.
///
/// # What it does not
/// * Effects that a handler has had by then are not undone. A request in flight on a replica that hears of nothing is
///   ended when it hears again; [`Principal::ensure_live`](crate::Principal::ensure_live) says 503 there.
/// * The clock of a replica may run slower than that of the database by three parts in ten, and the clock of the
///   database must not leap forward. A machine that is suspended notices; one that is stopped from outside, by its
///   host, notices if its clock (`CLOCK_BOOTTIME`) goes on meanwhile, which is for the host to say.
/// * A standby that takes over without an acknowledged change has lost it: replicas that knew of it notice, and refuse
///   until they are restarted; others cannot. So that none is lost: `fsync` and `synchronous_commit` on (as they are
///   unless somebody changed them), `synchronous_standby_names` set, and an old primary that is surely gone. After a
///   change of servers the first change waits for one lease, because the old one may have given leases that the new
///   one has not heard of. Name both in the address: `host=a,b target_session_attrs=read-write`.
/// * A renewal waits for whoever holds the counter's row, and for the disk of the database. If that takes more than half a
///   lease, the lease runs out and requests are answered 503 until the renewal is through, which is reported
///   ([`PostgresOptions::on_fault`]). So does a long import: while a hundred thousand keys are imported, replicas answer
///   503 for some seconds, a million a minute. Import before replicas serve, and choose a longer lease for a database
///   whose answers are slow at times.
///
/// # Connections
/// A replica holds one connection, and up to eight more once it changes keys. A database on another machine is
/// reached with `sslmode=require` in the address (feature `postgres-tls`: the certificate is always verified, by the
/// system's authorities or [`PostgresOptions::root_certificates`]) or with `sslmode=disable`; `prefer`, which anybody
/// in between can turn off, is refused. A pooler has to be in session mode, which is tried when the store is opened.
///
/// # Roles
/// `authz init` and `authz migrate` need the owner of the tables; a server and whoever changes keys need no more than
/// this:
/// ```sql
#[doc = include_str!("roles.sql")]
/// ```
///
/// # Operations
/// [`lease_left`](Self::lease_left) is for the health check of a load balancer; `authz replicas`, or
/// [`replicas`](Self::replicas), shows what each knows. A store that is dropped gives its lease back, so end a server
/// by the end of its `main`, not by a signal. With the feature `metrics`:
///
/// | metric | is |
/// |---|---|
/// | `tower_authz_replica_applied_version` | the newest change that this replica knows |
/// | `tower_authz_replica_lag_versions` | how many it has yet to read |
/// | `tower_authz_replica_lease_left_seconds` | how long it may admit without hearing from the database |
/// | `tower_authz_change_seconds` | how long changes took, until every replica knew (a histogram) |
///
/// # Example
/// ```no_run
/// # async fn open() -> Result<(), tower_authz::store::StoreError> {
/// use tower_authz::store::{KeyAdmin, PostgresStore};
///
/// let store = PostgresStore::connect("postgres://app@localhost/app").await?;
/// let changed = store.as_actor("anna").revoke(&"key_3jWz9Qb2Lx".parse().unwrap(), "the laptop was lost").await?;
/// println!("every replica knows, after {:?}", changed.propagation.waited);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore(Arc<Handle>);

struct Handle {
    keys: IndexedKeys,
    /// Whether look-ups ask the database.
    uncached: bool,
    jobs: mpsc::UnboundedSender<Job>,
    /// Without senders the thread stores what it still has, and ends.
    _thread: JoinOnDrop,
}

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

    /// Brings the tables to the schema of this program, and says how many steps that took. Replicas of the version
    /// before go on serving and changing keys meanwhile and afterwards, so replace them one by one once this is done. If it
    /// is interrupted, run it again.
    ///
    /// A migration that rewrites keys does so in small transactions before it takes any lock that a lease needs. What a
    /// program of before cannot read, a field of a key that is newer than it, say, it refuses.
    ///
    /// # Errors
    /// If there is no store, its tables are newer than this program, or the database cannot be reached.
    pub async fn migrate(url: &str) -> Result<u32, StoreError> {
        PostgresOptions::new().migrate(url).await
    }

    /// All replicas that share the store, by their names.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn replicas(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        self.ask(async move |admin: Rc<Admin>| admin.replicas().await).await
    }

    /// How long this replica may admit without hearing from the database: for a health check, which fails
    /// when there is nothing left. Always nothing of a store [without memory](PostgresOptions::uncached).
    #[must_use]
    pub fn lease_left(&self) -> Duration {
        if self.0.uncached { Duration::ZERO } else { self.0.keys.index.lease_left() }
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
        self.0.jobs.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// One of the programs that share a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// The name of the replica, see [`PostgresOptions::name`].
    pub name: String,
    /// The number of the newest change that it knows of.
    pub applied: u64,
    /// How many changes it does not know of yet.
    pub behind: u64,
    /// How long its lease holds, by the clock of the database. Nothing if it has run out: it admits nobody.
    pub lease_left: Duration,
}

impl KeyStore for PostgresStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        if !self.0.uncached {
            return self.0.keys.index.lookup(digest);
        }
        let (store, digest) = (self.clone(), *digest);
        Lookup::pending(async move {
            let index = Arc::clone(&store.0.keys.index);
            store.ask(async move |admin: Rc<Admin>| admin.by_digest(&digest, &index).await).await
        })
    }

    delegate!(self => self.0.keys; formats directory dimensions);

    fn in_memory(&self) -> Option<InMemory> {
        self.0.keys.in_memory().filter(|_| !self.0.uncached)
    }
}

impl Backend for PostgresStore {
    fn as_backend(&self) -> &dyn Backend {
        self
    }

    fn apply<'a>(
        &'a self,
        who: &'a ActorInfo,
        change: BackendChange,
    ) -> BoxFuture<'a, Result<BackendOutcome, StoreError>> {
        let who = who.clone();
        self.ask(async move |admin: Rc<Admin>| admin.apply(&who, change.0).await.map(BackendOutcome)).boxed()
    }

    fn page<'a>(&'a self, query: &'a KeyQuery) -> BoxFuture<'a, Result<Page, StoreError>> {
        let query = query.clone();
        let index = Arc::clone(&self.0.keys.index);
        self.ask(async move |admin: Rc<Admin>| admin.page(&query, &index).await).boxed()
    }

    fn one<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>> {
        let (id, index) = (id.clone(), Arc::clone(&self.0.keys.index));
        let read = async move |admin: Rc<Admin>| match admin.one(&id).await? {
            Row::Found(record) => {
                index.add_uses([&record]);
                Ok(record)
            }
            Row::Absent => Err(unknown(&id)),
            Row::Unreadable(_, why) => Err(StoreError::unreadable(why)),
        };
        self.ask(read).boxed()
    }

    fn history<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Vec<AuditRecord>, StoreError>> {
        let query = query.clone();
        self.ask(async move |admin: Rc<Admin>| admin.history(&query).await).boxed()
    }

    fn changed_after(&self, number: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let gone = || StoreError::unavailable("the key store has stopped");
            let (mut answer, answered) = oneshot::channel();
            let job: Job = Box::new(move |admin| {
                let work = async move {
                    // Whoever follows no longer must not keep a connection.
                    let ended = {
                        let waiting = pin!(admin.changed_after(number));
                        match select(waiting, answer.cancellation()).await {
                            Either::Left((outcome, _)) => Some(outcome),
                            Either::Right(_) => None,
                        }
                    };
                    if let Some(outcome) = ended {
                        let _ = answer.send(outcome);
                    }
                };
                work.boxed_local()
            });
            self.0.jobs.send(job).map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        }
        .boxed()
    }

    fn usage_of<'a>(&'a self, query: &'a UsageQuery) -> BoxFuture<'a, Result<Vec<KeyUsage>, StoreError>> {
        let (query, index) = (query.clone(), Arc::clone(&self.0.keys.index));
        let read = async move |admin: Rc<Admin>| {
            admin.flush_counts(&index).await?;
            admin.usage(&query).await
        };
        self.ask(read).boxed()
    }

    fn current_settings(&self) -> BoxFuture<'_, Result<StoreSettings, StoreError>> {
        self.ask(async move |admin: Rc<Admin>| admin.settings().await).boxed()
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("keys", &self.0.keys.index.len()).finish_non_exhaustive()
    }
}
