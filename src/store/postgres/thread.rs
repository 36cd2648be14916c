//! The thread that talks to the database: its own, so that a runtime that is busy with requests does not lose the
//! lease.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{channel::oneshot, future::LocalBoxFuture};
use tokio::{
    sync::{Notify, mpsc},
    task::LocalSet,
    time::interval,
};

use crate::{
    store::{
        StoreError,
        delegate::IndexedKeys,
        index::{Index, MarkStaleOnDrop},
        join::JoinOnDrop,
        postgres::{
            Handle, PostgresOptions, PostgresStore,
            admin::Admin,
            connection::{ConnectOptions, assert_own_session, micros, to_store_error},
            replica::{Replica, State, parse},
            schema,
        },
        row::{InvalidRow, Rows},
    },
    telemetry,
};

/// Something to do with the database.
pub(super) type Job = Box<dyn FnOnce(Rc<Admin>) -> LocalBoxFuture<'static, ()> + Send>;

/// How often uses are written down.
const FLUSH: Duration = Duration::from_secs(20);

/// How often the state of a replica is measured.
const MEASURE: Duration = Duration::from_secs(1);

struct Opened {
    keys: IndexedKeys,
    admin: Rc<Admin>,
    /// None if each look-up asks the database.
    replica: Option<Rc<Replica>>,
}

pub(super) async fn open(
    options: PostgresOptions,
    connect_options: ConnectOptions,
) -> Result<PostgresStore, StoreError> {
    let stopped = |_| StoreError::unavailable("the key store has stopped");
    let (ready, when_ready) = oneshot::channel();
    let (jobs, inbox) = mpsc::unbounded_channel();
    let uncached = options.uncached;
    let thread = std::thread::Builder::new()
        .name("authz-postgres".to_owned())
        .spawn(move || run(options, connect_options, inbox, ready))
        .map_err(|error| StoreError::unavailable(error.to_string()))?;
    let keys = when_ready.await.map_err(stopped)??;
    Ok(PostgresStore(Arc::new(Handle { keys, uncached, jobs, _thread: JoinOnDrop::new(thread) })))
}

/// Does something with a runtime of its own, whatever the caller's is.
pub(super) async fn apart<T: Send + 'static, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, StoreError>
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

fn run(
    options: PostgresOptions,
    connect_options: ConnectOptions,
    inbox: mpsc::UnboundedReceiver<Job>,
    ready: oneshot::Sender<Result<IndexedKeys, StoreError>>,
) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let work = async move {
        let opened = match start(options, connect_options).await {
            Ok(opened) => opened,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _guard = MarkStaleOnDrop(Arc::clone(&opened.keys.index));
        let mut renewing = None;
        if let Some(replica) = &opened.replica {
            let (held, first) = oneshot::channel();
            renewing = Some(tokio::task::spawn_local(Rc::clone(replica).run(held)));
            let outcome = first.await.unwrap_or_else(|_| Err(StoreError::unavailable("the key store has stopped")));
            if let Err(error) = outcome {
                let _ = ready.send(Err(error));
                return;
            }
        }
        let _ = ready.send(Ok(opened.keys.clone()));
        serve(&opened, inbox).await;
        if let (Some(replica), Some(renewing)) = (&opened.replica, renewing) {
            renewing.abort();
            replica.release().await;
        }
    };
    LocalSet::new().block_on(&runtime, work);
}

async fn start(options: PostgresOptions, connect_options: ConnectOptions) -> Result<Opened, StoreError> {
    let mut client = connect_options.connect(None).await?;
    assert_own_session(&connect_options.connect(None).await?, &client).await?;
    schema::check(&client).await?;
    let wake = Rc::new(Notify::new());
    if options.uncached {
        let settings = client.query_one("SELECT settings FROM authz_counter", &[]).await;
        let settings = parse(settings.map_err(to_store_error)?.get(0), &options.own)?;
        let index = Arc::new(Index::new([], settings.directory.clone()));
        let own = Rc::new(RefCell::new(options.own));
        let admin = Rc::new(Admin::new(connect_options, own, wake, options.lease));
        return Ok(Opened { keys: IndexedKeys::new(index, &settings), admin, replica: None });
    }
    let (state, Rows { entries, invalid }) = State::load(&mut client, &options.own).await?;
    // Of replicas that are gone without a word.
    let swept = "DELETE FROM authz_replicas WHERE lease_until < clock_timestamp() - interval '1 minute'";
    client.execute(swept, &[]).await.map_err(to_store_error)?;
    let longest = "UPDATE authz_counter SET longest_lease = $1 * interval '1 microsecond'
                   WHERE longest_lease < $1 * interval '1 microsecond'";
    client.execute(longest, &[&micros(options.lease)]).await.map_err(to_store_error)?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| StoreError::unavailable(error.to_string()))?;
    let index = Arc::new(Index::new(entries, state.settings.directory.clone()));
    // Nobody is admitted before the first lease.
    index.set_deadline(0);
    let own = Rc::new(RefCell::new(options.own));
    let admin = Rc::new(Admin::new(connect_options.clone(), Rc::clone(&own), Rc::clone(&wake), options.lease));
    let replica = Replica {
        connect_options,
        index: Arc::clone(&index),
        own,
        report: options.report,
        lease: options.lease,
        serves_stale: options.stale,
        id: format!("{:032x}", u128::from_ne_bytes(random)),
        name: options.name,
        wake,
        state: RefCell::new(state),
    };
    InvalidRow::report(&invalid, &replica.report);
    let keys = IndexedKeys::new(index, &replica.state.borrow().settings);
    Ok(Opened { keys, admin, replica: Some(Rc::new(replica)) })
}

/// Until nobody has a job any more.
async fn serve(opened: &Opened, mut inbox: mpsc::UnboundedReceiver<Job>) {
    let Opened { admin, replica: Some(replica), .. } = opened else {
        while let Some(job) = inbox.recv().await {
            tokio::task::spawn_local(job(Rc::clone(&opened.admin)));
        }
        return;
    };
    let stop = Rc::new(Notify::new());
    let flushing = tokio::task::spawn_local(flush(Rc::clone(replica), Rc::clone(admin), Rc::clone(&stop)));
    let mut measure = interval(MEASURE);
    loop {
        tokio::select! {
            job = inbox.recv() => match job {
                Some(job) => drop(tokio::task::spawn_local(job(Rc::clone(admin)))),
                None => break,
            },
            _ = measure.tick() => {
                let state = replica.state.borrow();
                telemetry::replica(state.version, state.newest, replica.index.lease_left());
            }
        }
    }
    // Not aborted: what it has taken from memory would be lost.
    stop.notify_one();
    let _ = tokio::time::timeout(Duration::from_secs(1), flushing).await;
    // Nobody waits for this for long, when a process ends.
    let last = async {
        let _ = flush_uses(replica, admin, SystemTime::UNIX_EPOCH).await;
        let _ = admin.flush_counts(&replica.index).await;
    };
    let is_done = tokio::time::timeout(Duration::from_secs(2), last).await.is_ok();
    if !is_done || replica.index.counts().is_some_and(|counts| !counts.take().is_empty()) {
        (replica.report)("the store was closed before all counts of decisions could be written down");
    }
}

/// Writes uses down, now and then, beside all else.
async fn flush(replica: Rc<Replica>, admin: Rc<Admin>, stop: Rc<Notify>) {
    let mut ticks = interval(FLUSH);
    let mut since = SystemTime::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.notified() => return,
        }
        let until = SystemTime::now();
        match flush_uses(&replica, &admin, since).await {
            Ok(()) => since = until,
            Err(error) => (replica.report)(&format!("when keys were last used could not be written down: {error}")),
        }
        if let Err(error) = admin.flush_counts(&replica.index).await {
            (replica.report)(&format!("how often keys were used could not be written down: {error}"));
        }
    }
}

async fn flush_uses(replica: &Replica, admin: &Admin, since: SystemTime) -> Result<(), StoreError> {
    // Uses are noted in whole seconds: those of this one may go on.
    let since = since.checked_sub(Duration::from_secs(1)).unwrap_or(since);
    let used = replica.index.used_since(since);
    let mut used: Vec<_> =
        used.iter().filter_map(|record| Some((record.id().to_string(), record.last_used()?))).collect();
    // Few rows at a time, in one order for all replicas: whoever changes one of these keys waits for them, and holds up
    // everybody's lease meanwhile.
    used.sort_unstable();
    for part in used.chunks(200) {
        admin.put_uses(part).await?;
    }
    Ok(())
}
