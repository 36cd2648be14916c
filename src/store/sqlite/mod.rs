//! Keys in a SQLite file.

mod counted;
mod identity;
mod rows;
mod schema;
mod view;
mod worker;

use std::{
    fmt,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use futures::{
    channel::oneshot,
    future::{BoxFuture, FutureExt as _},
};

use self::worker::{Job, Worker};
use crate::{
    dimension::Dimension,
    directory::Directory,
    key::{Digest, KeyId, KeyRecord},
    store::{
        AuditQuery, AuditRecord, InMemory, KeyQuery, KeyStore, KeyUsage, Lookup, Page, StoreError, StoreErrorKind,
        StoreSettings, UsageQuery,
        admin::{Backend, BackendChange, BackendOutcome},
        change::ActorInfo,
        delegate::{IndexedKeys, delegate},
        join::JoinOnDrop,
        lifecycle::unknown,
        report::{self, Report},
        source::Row,
    },
};

/// Keys in a SQLite file: the durable store for one machine.
///
/// # What it promises
/// * Look-ups are answered from memory, and never wait for the disk.
/// * A change is on the disk when its future is done, and in force in this process. Killed at any
///   moment, the program finds every change that was acknowledged, and no half one.
/// * Several processes may have the file open; one serves, and `authz` changes keys. A change by
///   another process is in force within a second, and so is one that somebody makes by SQL: triggers leave an
///   audit record of it (`changed-by-sql`).
/// * Revoked is for good: a digest that was ever revoked in the file is remembered there, and no change, no
///   import and no SQL brings the key back.
/// * A record that cannot be read is refused alone, with 500, and reported. A file that is damaged, or
///   empty, or missing, is an error when it is opened, never a store without keys.
/// * A full disk or a locked file is an error to whoever changes something, and nothing to look-ups.
/// * When a key was last used is kept in memory and written down within a minute.
///
/// # What it does not
/// * Two stores of one process on one file are as two processes: use clones of one store.
/// * It is for one machine: SQLite's locks and shared memory do not work over a network file system.
/// * Whoever restores an old copy of the file brings back the keys that were revoked since. A program that has the file open
///   notices, and refuses everybody with 503 until it is restarted.
/// * A process that was paused for longer than [`SqliteOptions::stale_after`] looks at the file before it admits anybody; one
///   that was paused for less may admit by what it knew for 200 ms after it goes on.
/// * What others do in the lower or upper directory of an overlay, or to a directory that takes the place of one that is
///   mounted into a container, is done to another file.
/// * A file of an earlier version is migrated by the first program of this version that opens it, and that must have it
///   alone: stop the programs of the earlier version first. They cannot open it afterwards.
/// * A full disk keeps the file from being opened anew: a server that is restarted then does not start.
/// * If the file can no longer be read, or another stands in its place, or somebody removes, replaces or writes over it or
///   what SQLite keeps beside it (`-wal`, `-shm`), requests go on for a few seconds ([`SqliteOptions::stale_after`]) and
///   are then refused with 503, and changes fail. The same holds if it was changed by another name meanwhile, moved away
///   and back, say. Nothing more is written to it then: what others have changed stays, and a restart finds it. A `-shm`
///   that is truncated ends the process (SIGBUS); it admits nobody.
/// * Whoever writes over `-wal` or `-shm` in place writes over the store itself: changes can be lost, as from any file that
///   is written over.
///
/// # Containers, links and copies
/// **Mount the directory of the file, never the file alone.** SQLite names `-wal` and `-shm` after the path: a process that
/// comes to the file by another name, a hard link or a mount of the single file, would have others, and see no change of
/// the others. Such a file is not opened, and a link that is made later is a fault. (A mount is told by Linux, from
/// 5.8 on or where `/proc` is there. Symbolic links are followed, and do no harm.) All containers and programs that
/// mount the directory have to run on one machine, by one kernel. Copy a store that is open with
/// `sqlite3 STORE '.backup COPY'`, and bring a copy back only while no program has the store open, after removing `-wal`
/// and `-shm`: what stands in them would be played over the copy.
///
/// The work is done by one thread of its own (and by another, while the file is opened); any async runtime will do.
/// Dropping the last handle waits for that thread.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use tower_authz::{Grant, store::{KeyAdmin, NewKey, SqliteStore, StoreSettings}};
///
/// # let folder = std::env::temp_dir().join(format!("tower-authz-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("keys.sqlite");
/// let store = SqliteStore::open_or_create(&path, StoreSettings::new())?;
/// let grant = Grant::builder().read("products").build()?;
/// let issued = store.as_actor("setup").issue(NewKey::new("prod-2026-05", grant)).await?;
///
/// drop(store);
/// let store = SqliteStore::open(&path)?;
/// assert_eq!(store.show(issued.record.id()).await?.name(), "prod-2026-05");
/// # drop(store);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct SqliteStore(Arc<Handle>);

/// How long a query waits for others who write, to write down what was counted before it.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

struct Handle {
    keys: IndexedKeys,
    is_cached: bool,
    jobs: mpsc::Sender<Job>,
    /// Without senders the thread stores what it still has, and ends.
    _thread: JoinOnDrop,
}

impl SqliteStore {
    /// Opens a store that exists.
    ///
    /// # Errors
    /// If there is none, the file is something else, is damaged, or has a schema that is newer than
    /// this program.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        SqliteOptions::new().open(path)
    }

    /// Makes a store in a file that must not exist yet; only its owner can read it.
    ///
    /// # Errors
    /// If the file exists, or cannot be written; if the settings could not be read back.
    pub fn create(path: impl AsRef<Path>, settings: impl Into<StoreSettings>) -> Result<Self, StoreError> {
        SqliteOptions::new().create(path, settings)
    }

    /// Opens a store, and makes it if there is none. The settings count only if it is made.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(path: impl AsRef<Path>, settings: impl Into<StoreSettings>) -> Result<Self, StoreError> {
        match Self::open(&path) {
            Err(error) if error.kind() == StoreErrorKind::NotFound => match Self::create(&path, settings) {
                // Another process was faster.
                Err(error) if error.kind() == StoreErrorKind::Conflict => Self::open(&path),
                created => created,
            },
            opened => opened,
        }
    }

    /// Has the thread do something, and waits for what comes of it.
    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::unavailable("the key store has stopped");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            let _ = answer.send(job(worker)); // the asker may be gone
        });
        self.0.jobs.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// How a SQLite store is opened, where the defaults are not enough.
#[derive(Clone)]
#[must_use = "options do nothing until a store is opened"]
pub struct SqliteOptions {
    own: Vec<Dimension>,
    report: Report,
    stale_after: Duration,
    is_cached: bool,
}

impl SqliteOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { own: Vec::new(), report: report::standard(), stale_after: Duration::from_secs(5), is_cached: true }
    }

    /// A dimension whose grammar is a function of yours; no file can hold that. Without it, and so for
    /// `authz`, every id of the dimension is taken as it is.
    pub fn dimension(mut self, dimension: Dimension) -> Self {
        self.own.push(dimension);
        self
    }

    /// Sets the function that hears of records that cannot be read, and of a file that is gone. Default: the log, with
    /// the feature `tracing`; else standard error.
    pub fn on_fault(mut self, report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.report = report::to(report);
        self
    }

    /// How long look-ups are answered while the file cannot be read, before they fail with 503. A file
    /// that is merely locked does not count. Default: 5 seconds.
    pub const fn stale_after(mut self, time: Duration) -> Self {
        self.stale_after = time;
        self
    }

    /// Keeps no keys in memory: for programs that change a few and end. Opening such a store takes no longer with a
    /// million keys than with one, nor is all of the file checked; a look-up asks the file.
    pub const fn uncached(mut self) -> Self {
        self.is_cached = false;
        self
    }

    /// As [`SqliteStore::open`].
    ///
    /// # Errors
    /// The same.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref();
        let is_cached = self.is_cached;
        let file = schema::find(path)?;
        let worker = Worker::new(schema::open(path)?, file, self)?;
        let keys = IndexedKeys::new(Arc::clone(&worker.view.index), &worker.view.settings);
        let (jobs, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("authz-sqlite".to_owned())
            .spawn(move || worker.run(&inbox))
            .map_err(|error| StoreError::unavailable(error.to_string()))?;
        Ok(SqliteStore(Arc::new(Handle { keys, is_cached, jobs, _thread: JoinOnDrop::new(thread) })))
    }

    /// As [`SqliteStore::create`].
    ///
    /// # Errors
    /// The same.
    pub fn create(self, path: impl AsRef<Path>, settings: impl Into<StoreSettings>) -> Result<SqliteStore, StoreError> {
        let settings = settings.into();
        // Else the file would be made, and could not be opened.
        let read_back = settings.to_json().and_then(|text| StoreSettings::parse(&text, &self.own));
        read_back.map(drop).map_err(|error| StoreError::invalid(error.to_string()))?;
        schema::create(path.as_ref(), &settings)?;
        self.open(path)
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions").field("stale_after", &self.stale_after).finish_non_exhaustive()
    }
}

impl KeyStore for SqliteStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        if self.0.is_cached {
            return self.0.keys.index.lookup(digest);
        }
        let (store, digest) = (self.clone(), *digest);
        Lookup::pending_with_directory(async move {
            let found = store.ask(move |worker| worker.by_digest(&digest)).await;
            match found {
                Ok((found, directory)) => (found, directory),
                Err(error) => (Err(error), Directory::default()),
            }
        })
    }

    delegate!(self => self.0.keys; formats directory dimensions);

    fn in_memory(&self) -> Option<InMemory> {
        self.0.keys.in_memory().filter(|_| self.0.is_cached)
    }
}

impl Backend for SqliteStore {
    fn as_backend(&self) -> &dyn Backend {
        self
    }

    fn apply<'a>(
        &'a self,
        who: &'a ActorInfo,
        change: BackendChange,
    ) -> BoxFuture<'a, Result<BackendOutcome, StoreError>> {
        let who = who.clone();
        self.ask(move |worker| worker.apply(&who, change.0).map(BackendOutcome)).boxed()
    }

    fn page<'a>(&'a self, query: &'a KeyQuery) -> BoxFuture<'a, Result<Page, StoreError>> {
        let query = query.clone();
        let read = move |worker: &mut Worker| {
            worker.is_there()?;
            let uses = |record: &Arc<KeyRecord>| worker.view.index.add_uses([record]);
            let page = rows::page(&worker.connection, &worker.view.settings, &query, uses);
            page.map_err(schema::to_store_error)
        };
        self.ask(read).boxed()
    }

    fn one<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>> {
        let id = id.clone();
        let read = move |worker: &mut Worker| {
            worker.is_there()?;
            match rows::one(&worker.connection, &worker.view.settings, &id) {
                Ok(Row::Found(record)) => {
                    worker.view.index.add_uses([&record]);
                    Ok(record)
                }
                Ok(Row::Absent) => Err(unknown(&id)),
                Ok(Row::Unreadable(_, why)) => Err(StoreError::unreadable(why)),
                Err(error) => Err(schema::to_store_error(error)),
            }
        };
        self.ask(read).boxed()
    }

    fn history<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Vec<AuditRecord>, StoreError>> {
        let query = query.clone();
        let read = move |worker: &mut Worker| {
            worker.is_there()?;
            rows::history(&worker.connection, &query).map_err(schema::to_store_error)
        };
        self.ask(read).boxed()
    }

    fn changed_after(&self, number: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (news, told) = oneshot::channel();
            let follow = move |worker: &mut Worker| {
                worker.is_there()?;
                worker.follow(number, news);
                Ok(())
            };
            self.ask(follow).await?;
            told.await.map_err(|_| StoreError::unavailable("the key store has stopped"))
        }
        .boxed()
    }

    fn usage_of<'a>(&'a self, query: &'a UsageQuery) -> BoxFuture<'a, Result<Vec<KeyUsage>, StoreError>> {
        let query = query.clone();
        let read = move |worker: &mut Worker| {
            worker.is_there()?;
            worker.flush(FLUSH_PATIENCE)?;
            counted::usage(&worker.connection, &query).map_err(schema::to_store_error)
        };
        self.ask(read).boxed()
    }

    fn current_settings(&self) -> BoxFuture<'_, Result<StoreSettings, StoreError>> {
        self.ask(|worker| Ok(worker.view.settings.clone())).boxed()
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("keys", &self.0.keys.index.len()).finish_non_exhaustive()
    }
}
