//! Tests faults between replicas and their database: connections that stall, break or stay silent, replicas that are
//! gone, a database that was restored. Several stores on one database act as several replicas. The numbers are those
//! of the fault table (`revocation_faults`) that the guarantee is tested with.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::executor::block_on;
use http::{Request, header::RETRY_AFTER};
use http_body_util::Full;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    sync::watch,
    time::{sleep, timeout},
};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_authz::{
    AuthenticateLayer, Grant, RequireLayer, Rule,
    store::{
        IssuedKey, KeyAdmin as _, KeyStore as _, MemoryStore, Overlap, PostgresOptions, PostgresStore, StoreErrorKind,
        StoreSettings,
    },
};

use crate::{
    stores::{
        Gate, issue,
        postgres::{address, database, raw, server},
    },
    support::Handler,
};

/// The lease is short where a test waits for it to expire.
pub const LEASE: Duration = Duration::from_millis(800);
/// The tolerance for delays on a machine that is busy with other work.
const SLACK: Duration = Duration::from_millis(1500);

/// Fails if the operation takes too long, so that no test hangs.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), work).await.expect("it hangs")
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Returns a database with a store in it, and one replica.
pub async fn first(lease: Duration) -> (String, PostgresStore) {
    let database = database().await;
    let options = PostgresOptions::new().lease(lease).name("first");
    let store = soon(options.create(&address(&database), StoreSettings::new())).await.unwrap();
    (database, store)
}

pub async fn replica(address: &str, name: &str, lease: Duration) -> PostgresStore {
    soon(PostgresOptions::new().lease(lease).name(name).connect(address)).await.unwrap()
}

/// Returns a list of the reported faults, and options that report them to it.
pub fn listening() -> (Arc<Mutex<Vec<String>>>, PostgresOptions) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let options = PostgresOptions::new().lease(LEASE).on_fault({
        let heard = Arc::clone(&heard);
        move |fault: &str| heard.lock().unwrap().push(fault.to_owned())
    });
    (heard, options)
}

/// Executes SQL that the database may refuse.
pub async fn try_raw(database: &str, sql: &str) -> Result<(), String> {
    let (client, connection) =
        tokio_postgres::connect(&address(database), tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
    let driven = tokio::spawn(connection);
    let done = client.batch_execute(sql).await;
    drop(client);
    let _ = driven.await;
    done.map_err(|error| error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned()))
}

/// Terminates every connection to the database except the current one.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Open,
    /// Bytes are read and held back.
    Held,
    Cut,
}

/// The traffic that is held back when the replica sends certain text.
#[derive(Clone, Copy)]
enum Trap {
    /// Holds back the text, and everything after it.
    Words(&'static str),
    /// Holds back the answer to the text.
    Answer(&'static str),
}

/// Both directions of all connections of the current generation.
#[derive(Clone)]
struct Flows {
    up: Arc<watch::Sender<Flow>>,
    down: Arc<watch::Sender<Flow>>,
}

impl Flows {
    fn open() -> Self {
        Self { up: Arc::new(watch::Sender::new(Flow::Open)), down: Arc::new(watch::Sender::new(Flow::Open)) }
    }
}

/// A proxy between a replica and the database.
pub struct Proxy {
    database: String,
    port: u16,
    shared: Arc<Shared>,
    /// The flows of abandoned connections, which must stay as they are.
    lost: Mutex<Vec<Flows>>,
}

struct Shared {
    socket: PathBuf,
    flows: Mutex<Flows>,
    trap: Mutex<Option<Trap>>,
    /// Makes the replica listen to another channel, on which no notification is sent.
    deaf: AtomicBool,
    /// Counts how often a `LISTEN` was changed in this way.
    deafened: AtomicUsize,
    connections: AtomicUsize,
}

impl Proxy {
    pub async fn to(database: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            socket: server().unwrap().join(".s.PGSQL.5432"),
            flows: Mutex::new(Flows::open()),
            trap: Mutex::new(None),
            deaf: AtomicBool::new(false),
            deafened: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((replica, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                let flows = accepting.flows.lock().unwrap().clone();
                let Ok(database) = UnixStream::connect(&accepting.socket).await else { continue };
                let ((from_replica, to_replica), (from_database, to_database)) =
                    (replica.into_split(), database.into_split());
                tokio::spawn(pump(from_replica, to_database, flows.up.subscribe(), Some(Arc::clone(&accepting))));
                tokio::spawn(pump(from_database, to_replica, flows.down.subscribe(), None));
            }
        });
        Self { database: database.to_owned(), port, shared, lost: Mutex::default() }
    }

    pub fn address(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={} connect_timeout=1", self.port, self.database)
    }

    fn set(&self, up: Option<Flow>, down: Option<Flow>) {
        let flows = self.shared.flows.lock().unwrap();
        for (flow, sender) in [(up, &flows.up), (down, &flows.down)] {
            let _ = flow.map(|flow| sender.send_replace(flow));
        }
    }

    /// Holds back every byte, of future connections too.
    pub fn stall(&self) {
        self.set(Some(Flow::Held), Some(Flow::Held));
    }

    /// Lets all held traffic continue.
    pub fn open(&self) {
        self.set(Some(Flow::Open), Some(Flow::Open));
    }

    /// Ends the connections, and lets no more bytes through.
    pub fn cut(&self) {
        self.set(Some(Flow::Cut), Some(Flow::Cut));
    }

    /// Holds the present connections back for ever, as when a network loses their state; new ones work.
    fn lose(&self) {
        self.stall();
        let lost = std::mem::replace(&mut *self.shared.flows.lock().unwrap(), Flows::open());
        self.lost.lock().unwrap().push(lost);
    }

    fn set_trap(&self, trap: Trap) {
        *self.shared.trap.lock().unwrap() = Some(trap);
    }

    async fn sprung(&self) {
        until("the trap is sprung", async || self.shared.trap.lock().unwrap().is_none()).await;
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flow: watch::Receiver<Flow>,
    watched: Option<Arc<Shared>>,
) {
    let mut buffer = vec![0; 65536];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = flow.wait_for(|flow| *flow == Flow::Cut) => return,
        };
        let Ok(length @ 1..) = read else { return };
        let bytes = &mut buffer[..length];
        if let Some(shared) = &watched {
            shared.look_at(bytes);
        }
        if !matches!(flow.wait_for(|flow| *flow != Flow::Held).await.as_deref(), Ok(Flow::Open)) {
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn look_at(&self, bytes: &mut [u8]) {
        let position_of = |words: &str, bytes: &[u8]| bytes.windows(words.len()).position(|it| it == words.as_bytes());
        if self.deaf.load(Ordering::Relaxed)
            && let Some(at) = position_of("LISTEN authz", bytes)
        {
            bytes[at..at + 12].copy_from_slice(b"LISTEN other");
            self.deafened.fetch_add(1, Ordering::Relaxed);
        }
        let mut trap = self.trap.lock().unwrap();
        let Some((words, held)) = trap.map(|trap| match trap {
            Trap::Words(words) => (words, true),
            Trap::Answer(words) => (words, false),
        }) else {
            return;
        };
        if position_of(words, bytes).is_some() {
            let flows = self.flows.lock().unwrap();
            let _ = if held { &flows.up } else { &flows.down }.send_replace(Flow::Held);
            *trap = None;
        }
    }
}

/// Threads that send requests to one replica with one key after another, and record when the last admitted request of
/// each key began.
struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<(usize, Vec<Option<Instant>>)>>,
}

impl Readers {
    fn of(store: &PostgresStore, keys: &Arc<Mutex<Vec<IssuedKey>>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = || {
            let (gate, stop, keys) = (Gate::of(store), Arc::clone(&stop), Arc::clone(keys));
            std::thread::spawn(move || {
                let (mut asked, mut last) = (0, Vec::new());
                while !stop.load(Ordering::SeqCst) {
                    // Each thread uses the newest key, and the one before it.
                    let keys: Vec<_> = {
                        let keys = keys.lock().unwrap();
                        keys.iter().cloned().enumerate().skip(keys.len().saturating_sub(2)).collect()
                    };
                    for (round, key) in keys {
                        last.resize(last.len().max(round + 1), None);
                        let begin = Instant::now();
                        asked += 1;
                        if block_on(gate.get(&key)) == 200 {
                            last[round] = Some(begin);
                        }
                    }
                    std::thread::yield_now();
                }
                (asked, last)
            })
        };
        Self { threads: vec![thread(), thread()], stop }
    }

    /// Returns the number of requests, of keys that were admitted, and of those that were admitted by a request that
    /// began after their revocation had returned.
    fn check(self, returned: &[Instant]) -> (usize, usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let (mut asked, mut admitted, mut wrong) = (0, 0, 0);
        for thread in self.threads {
            let (count, last) = thread.join().unwrap();
            asked += count;
            admitted += last.iter().flatten().count();
            wrong += last.iter().zip(returned).filter(|(last, end)| last.is_some_and(|last| last > **end)).count();
        }
        (asked, admitted, wrong)
    }
}

/// Returns the status of a request with this key, and its `Retry-After`.
async fn answer(store: &PostgresStore, key: &IssuedKey) -> (u16, Option<String>) {
    let rule = RequireLayer::new(Rule::resource("products").unscoped());
    let service = ServiceBuilder::new().layer(AuthenticateLayer::new(store.clone())).layer(rule);
    let request = Request::builder().header("x-api-key", key.api_key.expose());
    let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
    let response = service.service(Handler::default()).oneshot(request).await.unwrap();
    let retry = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), retry)
}

async fn assert_unavailable(store: &PostgresStore, key: &IssuedKey) {
    assert_eq!(answer(store, key).await, (503, Some("1".to_owned())));
    assert_eq!(store.lookup(key.record.digest()).found().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
}

/// Covers RF001, RF013, RF016, RF034, RF037.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_returned_on_one_replica_holds_on_the_other() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(Duration::from_secs(10)).await;
    let b = replica(&address(&database), "second", Duration::from_secs(10)).await;
    let gate = Gate::of(&b);
    let keys = Arc::new(Mutex::new(Vec::new()));
    let readers = Readers::of(&b, &keys);
    let mut returned = Vec::new();
    let elsewhere = || Grant::builder().read("orders").build().unwrap();
    for round in 0..200 {
        let key = soon(issue(&a)).await;
        assert_eq!(gate.get(&key).await, 200, "issued, round {round}");
        keys.lock().unwrap().push(key.clone());
        if round % 3 == 0 {
            // The pause gives the readers time to find the key, or almost.
            sleep(Duration::from_micros(200 * (round % 7))).await;
        }
        let (id, anna) = (key.record.id(), a.as_actor("anna"));
        let reach = match round % 4 {
            0 => soon(anna.revoke(id, "lost")).await.unwrap().propagation,
            1 => soon(anna.delete(id)).await.unwrap().propagation,
            2 => soon(anna.set_grant(id, elsewhere())).await.unwrap().propagation,
            _ => {
                let new = soon(anna.rotate(id, Overlap::For(Duration::ZERO))).await.unwrap();
                assert_eq!(gate.get(&new).await, 200, "rotated, round {round}");
                new.propagation
            }
        };
        returned.push(Instant::now());
        assert_eq!(gate.get(&key).await, if round % 4 == 2 { 403 } else { 401 }, "round {round}");
        assert!(reach.unacknowledged.is_empty() && reach.waited < Duration::from_secs(5), "{reach:?}");
    }
    let (asked, admitted, wrong) = readers.check(&returned);
    assert_eq!(wrong, 0, "admitted though they began after the change had returned");
    assert!(admitted > 20, "of {asked} requests the readers had {admitted} admitted: they were not there");
}

/// Covers RF002, RF028, RF041.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_cut_off_is_waited_for_and_refuses_until_it_is_back() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "stalled", LEASE).await;
    let (key, other) = (soon(issue(&a)).await, soon(issue(&a)).await);
    let gate = Gate::of(&b);
    assert_eq!((gate.get(&key).await, gate.get(&other).await), (200, 200));

    proxy.stall();
    let begin = Instant::now();
    let revoked = soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_unavailable(&b, &key).await;
    assert_unavailable(&b, &other).await;
    assert!(begin.elapsed() < LEASE + SLACK, "{:?}", begin.elapsed());
    assert_eq!(revoked.propagation.unacknowledged, ["stalled"]);
    assert!(revoked.propagation.waited > Duration::ZERO && revoked.propagation.waited <= begin.elapsed());
    assert_eq!(Gate::of(&a).get(&other).await, 200, "who can reach the database goes on");

    // A second change does not wait for the same replica again.
    let begin = Instant::now();
    let again = soon(a.as_actor("anna").rename(other.record.id(), "another name")).await.unwrap();
    assert!(again.propagation.unacknowledged.is_empty() && begin.elapsed() < SLACK, "{again:?}");

    proxy.open();
    until("the replica is back", async || {
        assert!([401, 503].contains(&gate.get(&key).await), "revoked");
        gate.get(&other).await == 200
    })
    .await;
    assert_eq!(gate.get(&key).await, 401);
}

/// RF002: the replica learns of a thousand changes when it reconnects, and admits no request before it has applied
/// all of them. RF024: the changes arrive all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_revocations_reaches_every_replica() {
    if server().is_none() {
        return;
    }
    const COUNT: usize = 1000;
    let (database, a) = first(Duration::from_secs(5)).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&address(&database), "second", Duration::from_secs(5)).await;
    let c = replica(&proxy.address(), "stalled", LEASE).await;
    let elsewhere = MemoryStore::new();
    let mut keys = Vec::new();
    for _ in 0..=COUNT {
        keys.push(issue(&elsewhere).await);
    }
    let records = elsewhere.export().await.unwrap().records().to_vec();
    assert_eq!(
        timeout(Duration::from_secs(60), a.as_actor("anna").import(records)).await.unwrap().unwrap().added,
        COUNT + 1
    );
    let stays = keys.pop().unwrap();
    let keys = Arc::new(keys);
    let gates = [Gate::of(&a), Gate::of(&b), Gate::of(&c)];
    until("all admit", async || gates[2].get(&stays).await == 200).await;
    for gate in &gates {
        assert_eq!((gate.get(&keys[0]).await, gate.get(&stays).await), (200, 200));
    }

    proxy.stall();
    until("the lease has run out", async || gates[2].get(&stays).await == 503).await;
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (keys, store) = (Arc::clone(&keys), if task % 2 == 0 { a.clone() } else { b.clone() });
            tokio::spawn(async move {
                for key in keys.iter().skip(task).step_by(4) {
                    soon(store.as_actor("anna").revoke(key.record.id(), "burst")).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        timeout(Duration::from_secs(120), task).await.unwrap().unwrap();
    }
    for key in keys.iter() {
        assert_eq!((gates[0].get(key).await, gates[1].get(key).await, gates[2].get(key).await), (401, 401, 503));
    }

    // All revocations have returned, so each request that is admitted from now on is an error.
    let stop = Arc::new(AtomicBool::new(false));
    let hammer = {
        let (gate, keys, stop) = (gates[2].clone(), Arc::clone(&keys), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut admitted = 0;
            while !stop.load(Ordering::SeqCst) {
                for key in keys.iter().step_by(97) {
                    admitted += usize::from(block_on(gate.get(key)) == 200);
                }
            }
            admitted
        })
    };
    proxy.open();
    until("the replica is back", async || gates[2].get(&stays).await == 200).await;
    for key in keys.iter() {
        assert_eq!(gates[2].get(key).await, 401);
    }
    stop.store(true, Ordering::SeqCst);
    assert_eq!(hammer.join().unwrap(), 0, "admitted by keys that were revoked before");
}

/// A lease counts from the moment its renewal was sent, however late the answer arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_makes_no_lease_longer() {
    if server().is_none() {
        return;
    }
    let lease = Duration::from_secs(1);
    let (database, a) = first(lease).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "slow", lease).await;
    let key = soon(issue(&a)).await;
    assert_eq!(Gate::of(&b).get(&key).await, 200);
    // The renewal is a prepared statement, of which only the name of the replica is visible in the traffic.
    proxy.set_trap(Trap::Answer("slow"));
    proxy.sprung().await;
    let asked = Instant::now();
    // From here on the replica can send nothing, while its lease is renewed in the database.
    proxy.set(Some(Flow::Held), None);
    let revoking = tokio::spawn({
        let (a, id) = (a.clone(), key.record.id().clone());
        async move { soon(a.as_actor("anna").revoke(&id, "lost")).await.unwrap() }
    });
    sleep(Duration::from_millis(700).saturating_sub(asked.elapsed())).await;
    proxy.set(None, Some(Flow::Open));
    let revoked = revoking.await.unwrap();
    assert_eq!(Gate::of(&b).get(&key).await, 503);
    assert_eq!(revoked.propagation.unacknowledged, ["slow"]);
}

/// A change waits for leases of any length, and reports success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_waits_for_a_lease_longer_than_any_question_takes() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let key = soon(issue(&a)).await;
    // The lease is longer than the timeout for one answer of the database (30 s).
    let gone = "INSERT INTO authz_replicas (id, name, applied, lease, lease_until)
                VALUES ('0', 'gone', 0, interval '36 s', clock_timestamp() + interval '36 s')";
    raw(&database, gone).await;
    let begin = Instant::now();
    let revoked = timeout(Duration::from_secs(60), a.as_actor("anna").revoke(key.record.id(), "lost")).await;
    let revoked = revoked.expect("it hangs").unwrap();
    assert_eq!(revoked.propagation.unacknowledged, ["gone"]);
    assert!(begin.elapsed() > Duration::from_secs(35), "{:?}", begin.elapsed());
    assert_eq!(Gate::of(&a).get(&key).await, 401);
}

/// A renewal waits for the transaction that locks the counter. The report distinguishes a lease that expires
/// meanwhile from a database that cannot be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_runs_out_behind_a_writer_is_reported() {
    if server().is_none() {
        return;
    }
    let lease = Duration::from_secs(2);
    let (database, a) = first(lease).await;
    let key = soon(issue(&a)).await;
    let (heard, options) = listening();
    let b = soon(options.lease(lease).connect(&address(&database))).await.unwrap();
    let gate = Gate::of(&b);
    let hold = |seconds: f64| {
        let database = database.clone();
        let sql = format!("BEGIN; SELECT * FROM authz_counter FOR UPDATE; SELECT pg_sleep({seconds}); COMMIT");
        tokio::spawn(async move { try_raw(&database, &sql).await.unwrap() })
    };
    // The lease lasts while the lock is held for a third of it, but not for four fifths.
    let held = hold(lease.as_secs_f64() / 3.0);
    while !held.is_finished() {
        assert_eq!(gate.get(&key).await, 200);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(heard.lock().unwrap().is_empty());
    let held = hold(lease.as_secs_f64() * 0.8);
    until("the lease runs out", async || gate.get(&key).await == 503).await;
    held.await.unwrap();
    until("it is renewed", async || gate.get(&key).await == 200).await;
    let heard = heard.lock().unwrap().clone();
    assert!(heard.len() == 1 && heard[0].contains("because the lease ran out"), "{heard:?}");
}

/// A renewal reads the changes and gets its lease in one step, so that no change can be committed in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_comes_between_what_a_renewal_reads_and_the_lease() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "second", LEASE).await;
    let key = soon(issue(&a)).await;
    let gate = Gate::of(&b);
    assert_eq!(gate.get(&key).await, 200);
    proxy.stall();
    until("the lease has run out", async || gate.get(&key).await == 503).await;
    // The replica is about to request a lease for the version that it knew: the renewal is a prepared statement,
    // which contains only its name.
    proxy.set_trap(Trap::Words("second"));
    proxy.open();
    proxy.sprung().await;
    let revoking = tokio::spawn({
        let (a, id) = (a.clone(), key.record.id().clone());
        async move { soon(a.as_actor("anna").revoke(&id, "lost")).await.unwrap() }
    });
    sleep(LEASE / 4).await;
    // The lease is granted, but the changes are not read yet, so it must not count.
    proxy.set_trap(Trap::Words("SELECT DISTINCT"));
    proxy.open();
    revoking.await.unwrap();
    let begin = Instant::now();
    while begin.elapsed() < LEASE {
        let status = gate.get(&key).await;
        assert!([401, 503].contains(&status), "{status} after the revocation");
        sleep(Duration::from_millis(1)).await;
    }
}

/// RF018: a lost connection loses its notifications, but no change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_survives_the_end_of_every_connection() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let b = replica(&address(&database), "second", LEASE).await;
    let gate = Gate::of(&b);
    let stays = soon(issue(&a)).await;
    for round in 0..10 {
        // The first use of a terminated admin connection is an error, after which the change may or may not have been
        // made.
        let key = loop {
            let grant = Grant::builder().read("products").build().unwrap();
            match soon(a.as_actor("anna").issue(tower_authz::store::NewKey::new("k", grant))).await {
                Ok(key) => break key,
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
            }
        };
        until("it is admitted", async || gate.get(&key).await == 200).await;
        raw(&database, TERMINATE).await;
        let mut tries = 0;
        while let Err(error) = soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
            tries += 1;
            assert!(tries < 20, "{error}");
        }
        let status = gate.get(&key).await;
        assert!([401, 503].contains(&status), "round {round}: {status}");
    }
    until("the replica is back", async || gate.get(&stays).await == 200).await;
}

/// A replica that receives no notifications polls by itself, six times in a lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_notification_is_needed() {
    if server().is_none() {
        return;
    }
    let lease = Duration::from_secs(4);
    let (database, a) = first(lease).await;
    let proxy = Proxy::to(&database).await;
    proxy.shared.deaf.store(true, Ordering::Relaxed);
    let b = replica(&proxy.address(), "deaf", lease).await;
    let gate = Gate::of(&b);
    let key = soon(issue(&a)).await;
    assert_eq!(gate.get(&key).await, 200);
    let revoked = soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!(gate.get(&key).await, 401);
    assert_eq!(revoked.propagation.unacknowledged, [""; 0]);
    assert!(revoked.propagation.waited < lease / 4 + SLACK, "{:?}", revoked.propagation);
    assert!(proxy.shared.deafened.load(Ordering::Relaxed) > 0, "it was not deaf");
}

/// Covers RF025.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_there_is_no_store() {
    if server().is_none() {
        return;
    }
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    // This server accepts connections and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for port in [nobody, mute.local_addr().unwrap().port()] {
        let address = format!("host=127.0.0.1 port={port} user=postgres dbname=x connect_timeout=1");
        let error = soon(PostgresStore::connect(&address)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        let error = soon(PostgresStore::create(&address, StoreSettings::new())).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    }
    let error = soon(PostgresStore::connect(&address("no_such_database"))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let error = soon(PostgresStore::connect(&address(&database().await))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("authz init"), "{error}");
}

/// Changes the tables as a restore would: the newest change is missing, and the key is not revoked.
const SET_BACK: &str = "
    ALTER TABLE authz_audit DISABLE TRIGGER audit_is_kept;
    ALTER TABLE authz_keys DISABLE TRIGGER USER;
    DELETE FROM authz_audit WHERE number = (SELECT max(number) FROM authz_audit);
    UPDATE authz_keys SET revoked_at = NULL, revocation_reason = NULL, version = 1;
    UPDATE authz_counter SET (version, change) =
      (SELECT number, change FROM authz_audit ORDER BY number DESC LIMIT 1);
    ALTER TABLE authz_audit ENABLE TRIGGER audit_is_kept;
    ALTER TABLE authz_keys ENABLE TRIGGER USER;";

/// Adds another change with the number of the lost one.
const GO_ON: &str = "
    INSERT INTO authz_audit (number, change, at, who, action)
      SELECT version + 1, 'another', now(), 'bob', 'settings' FROM authz_counter;
    UPDATE authz_counter SET version = version + 1, change = 'another';";

/// Covers RF033.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_refuses_a_database_that_was_set_back() {
    if server().is_none() {
        return;
    }
    for (how, sql) in [
        ("shorter", format!("BEGIN; {SET_BACK} COMMIT")),
        ("as long", format!("BEGIN; {SET_BACK} {GO_ON} COMMIT")),
        ("longer", format!("BEGIN; {SET_BACK} {GO_ON} {GO_ON} COMMIT").replacen("'another'", "'a third'", 2)),
    ] {
        let (database, a) = first(LEASE).await;
        let (heard, options) = listening();
        let b = soon(options.connect(&address(&database))).await.unwrap();
        let (stays, key) = (soon(issue(&a)).await, soon(issue(&a)).await);
        soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
        let gate = Gate::of(&b);
        assert_eq!((gate.get(&stays).await, gate.get(&key).await), (200, 401));
        soon(raw(&database, &sql)).await;
        until("it is noticed", async || {
            let status = gate.get(&key).await;
            assert!([401, 503].contains(&status), "{how}: {status}");
            // On a busy machine the database may be reported as out of reach first.
            let is_reported = heard.lock().unwrap().iter().any(|fault| fault.contains("restored"));
            status == 503 && gate.get(&stays).await == 503 && is_reported
        })
        .await;
        // The refusal is permanent: no lease, later change or renewal ends it.
        sleep(LEASE * 3 / 2).await;
        assert_unavailable(&b, &stays).await;
        assert_unavailable(&b, &key).await;
        assert_unavailable(&a, &key).await;
        let heard = heard.lock().unwrap().clone();
        assert_eq!(heard.iter().filter(|fault| fault.contains("restored")).count(), 1, "{how}: {heard:?}");
        drop((a, b));
        // A replica that was restarted, which acknowledges the restore, serves the present data.
        let fresh = replica(&address(&database), "fresh", LEASE).await;
        assert_eq!(Gate::of(&fresh).get(&stays).await, 200, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_ends_gives_its_lease_back() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(Duration::from_secs(30)).await;
    let b = replica(&address(&database), "second", Duration::from_secs(30)).await;
    let key = soon(issue(&a)).await;
    assert_eq!(Gate::of(&b).get(&key).await, 200);
    drop(b);
    let begin = Instant::now();
    let revoked = soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert!(revoked.propagation.unacknowledged.is_empty() && begin.elapsed() < SLACK, "{:?}", begin.elapsed());
}

/// Dropping a store waits for the database, but only for a limited time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_ends_though_its_database_does_not_answer() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "second", LEASE).await;
    let key = soon(issue(&a)).await;
    // There is a use to be written, over a connection that has worked before.
    assert_eq!(Gate::of(&b).get(&key).await, 200);
    soon(b.show(key.record.id())).await.unwrap();
    proxy.stall();
    let begin = Instant::now();
    let dropped = tokio::task::spawn_blocking(move || drop(b));
    timeout(Duration::from_secs(5), dropped).await.expect("it hangs").unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// RF002: the replica is gone, but its lease is still valid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_dead_is_waited_for_once() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let rest = Duration::from_millis(800);
    let dead = format!(
        "INSERT INTO authz_replicas (id, name, applied, lease_until)
         VALUES ('0', 'dead', 0, clock_timestamp() + interval '{} milliseconds')",
        rest.as_millis()
    );
    let key = soon(issue(&a)).await;
    raw(&database, &dead).await;
    let begin = Instant::now();
    let revoked = soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    let took = begin.elapsed();
    assert_eq!(revoked.propagation.unacknowledged, ["dead"]);
    assert!(took > rest / 2 && took < rest + SLACK, "{took:?}");
    let begin = Instant::now();
    let issued = soon(issue(&a)).await;
    assert!(issued.propagation.unacknowledged.is_empty() && begin.elapsed() < SLACK, "{:?}", issued.propagation);

    // This replica really ran before.
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "crashed", LEASE).await;
    assert_eq!(Gate::of(&b).get(&issued).await, 200);
    proxy.cut();
    let begin = Instant::now();
    let revoked = soon(a.as_actor("anna").revoke(issued.record.id(), "lost")).await.unwrap();
    assert_eq!(Gate::of(&b).get(&issued).await, 503);
    assert_eq!(revoked.propagation.unacknowledged, ["crashed"]);
    assert!(begin.elapsed() < LEASE + SLACK);
    let begin = Instant::now();
    assert!(soon(issue(&a)).await.propagation.unacknowledged.is_empty() && begin.elapsed() < SLACK);
}

/// A key that is already revoked may still be unknown to some replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_is_repeated_waits_like_the_first() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(Duration::from_secs(2)).await;
    let c = replica(&address(&database), "third", Duration::from_secs(2)).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "stalled", Duration::from_secs(2)).await;
    let key = soon(issue(&a)).await;
    let gate = Gate::of(&b);
    assert_eq!(gate.get(&key).await, 200);
    proxy.stall();
    let revoking = tokio::spawn({
        let (a, id) = (a.clone(), key.record.id().clone());
        async move { soon(a.as_actor("anna").revoke(&id, "lost")).await.unwrap() }
    });
    until("it is committed", async || c.show(key.record.id()).await.unwrap().revoked_at().is_some()).await;
    assert_eq!(gate.get(&key).await, 200, "not known there yet, so that there is something to wait for");
    let again = soon(c.as_actor("bob").revoke(key.record.id(), "again")).await.unwrap();
    assert_eq!(gate.get(&key).await, 503);
    assert!(!again.changed);
    assert_eq!(again.propagation.unacknowledged, ["stalled"]);
    assert!(revoking.await.unwrap().changed);
}

/// Covers RF038.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_itself_keeps_what_is_revoked_and_the_audit_records() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let key = soon(issue(&a)).await;
    let revoked = soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap().record.unwrap();
    for (sql, why) in [
        ("UPDATE authz_keys SET revoked_at = NULL", "stays revoked"),
        ("UPDATE authz_keys SET revoked_at = now() + interval '1 hour'", "stays revoked"),
        ("UPDATE authz_keys SET name = 'x', revoked_at = NULL, revocation_reason = NULL", "stays revoked"),
        ("DELETE FROM authz_audit", "are kept"),
        ("UPDATE authz_audit SET who = 'somebody else'", "are kept"),
    ] {
        let refused = try_raw(&database, sql).await.unwrap_err();
        assert!(refused.contains(why), "{sql}: {refused}");
    }
    try_raw(&database, "UPDATE authz_keys SET last_used = now()").await.unwrap();
    assert_eq!(soon(a.show(key.record.id())).await.unwrap().revoked_at(), revoked.revoked_at());
    assert_eq!(Gate::of(&a).get(&key).await, 401);
}

/// A renewal locks out writers, so a replica that is paused in the middle of one must not hold the lock for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_paused_in_a_renewal_keeps_nobody_from_writing() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "paused", LEASE).await;
    let key = soon(issue(&a)).await;
    assert_eq!(Gate::of(&b).get(&key).await, 200);
    // The renewal is one statement, so a replica that does not read its answer holds no lock.
    proxy.set_trap(Trap::Answer("paused"));
    proxy.sprung().await;
    proxy.stall();
    let begin = Instant::now();
    soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!(Gate::of(&b).get(&key).await, 503);
    assert!(begin.elapsed() < LEASE + SLACK, "{:?}", begin.elapsed());
}

/// A writer that is paused during a change would lock out all others, and let all leases expire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_paused_in_a_change_keeps_nobody_out() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "paused", LEASE).await;
    let (key, other) = (soon(issue(&a)).await, soon(issue(&a)).await);
    proxy.set_trap(Trap::Answer("INSERT INTO authz_audit"));
    let paused = tokio::spawn({
        let (b, id) = (b.clone(), other.record.id().clone());
        async move { b.as_actor("bob").revoke(&id, "lost").await.map(drop) }
    });
    proxy.sprung().await;
    proxy.stall();
    let begin = Instant::now();
    soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert!(begin.elapsed() < LEASE * 2 + SLACK, "{:?}", begin.elapsed());
    let gate = Gate::of(&a);
    until("the others are back", async || gate.get(&other).await == 200).await;
    assert_eq!(gate.get(&key).await, 401);
    proxy.open();
    // The database has rolled the change back, which the writer gets as an error.
    assert_eq!(soon(paused).await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
    soon(b.as_actor("bob").revoke(other.record.id(), "lost")).await.unwrap();
    assert_eq!(gate.get(&other).await, 401);
}

/// RF042: a writer is disconnected during a change, before or after the database has received the commit. The writer
/// cannot know the outcome; but once the change is committed, it takes effect everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_dies_in_a_change_leaves_all_of_it_or_nothing() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let gate = Gate::of(&a);
    for (trap, is_made) in [(Trap::Words("pg_notify"), false), (Trap::Answer("COMMIT"), true)] {
        let proxy = Proxy::to(&database).await;
        let options = PostgresOptions::new().uncached().lease(LEASE);
        let b = soon(options.connect(&proxy.address())).await.unwrap();
        let key = soon(issue(&a)).await;
        proxy.set_trap(trap);
        let dying = tokio::spawn({
            let (b, id) = (b.clone(), key.record.id().clone());
            async move { b.as_actor("bob").revoke(&id, "lost").await.map(drop) }
        });
        proxy.sprung().await;
        if is_made {
            until("it is made", async || gate.get(&key).await == 401).await;
        }
        proxy.cut();
        assert_eq!(soon(dying).await.unwrap().unwrap_err().kind(), StoreErrorKind::Unavailable);
        if !is_made {
            sleep(LEASE).await;
            assert_eq!(gate.get(&key).await, 200);
            soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
        }
        assert_eq!(gate.get(&key).await, 401);
    }
}

/// Connections whose state the network has lost are abandoned, including those that were still being established.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_lost_in_silence_are_made_anew() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "second", LEASE).await;
    let key = soon(issue(&a)).await;
    let gate = Gate::of(&b);
    assert_eq!(gate.get(&key).await, 200);
    proxy.stall();
    let made = proxy.shared.connections.load(Ordering::Relaxed);
    until("a connection is tried", async || proxy.shared.connections.load(Ordering::Relaxed) > made).await;
    proxy.lose();
    until("the replica is back", async || gate.get(&key).await == 200).await;
    soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert!([401, 503].contains(&gate.get(&key).await));
}
