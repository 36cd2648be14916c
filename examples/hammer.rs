//! Looks for a request that was admitted although it began after the revocation of its key had returned: three
//! replicas in processes of their own, which are stopped, continued, killed and cut off from the database, writers that
//! issue and revoke, and readers that hammer.
//!
//! `DATABASE_URL=postgres://.. hammer 1000` (revocations); the database is to be empty. `NO_LEASE=1` serves stale: then
//! it has to find something. Ends with 1 if it found something.

use std::{
    env,
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower_authz::{
    Authz, Grant, Policy, Rule,
    store::{KeyAdmin as _, NewKey, PostgresOptions, PostgresStore, StoreSettings},
};

const LEASE: Duration = Duration::from_millis(500);

/// A key that readers use, and since when it is revoked everywhere.
#[derive(Clone)]
struct Target {
    key: String,
    revoked: Arc<Mutex<Option<Instant>>>,
}

#[derive(Default)]
struct Shared {
    targets: Mutex<Vec<Target>>,
    addresses: Mutex<Vec<String>>,
    done: AtomicBool,
    revoked: AtomicUsize,
    admitted: AtomicUsize,
    refused: AtomicUsize,
    /// Requests that began after the revocation of their key had returned.
    late: AtomicUsize,
    violations: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
}

fn roll(sides: u64) -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes) % sides.max(1)
}

/// What each replica does: one guarded route.
async fn replica(url: &str) -> Result<(), Box<dyn Error>> {
    let mut options = PostgresOptions::new().lease(LEASE).on_fault(|_| {});
    if env::var_os("NO_LEASE").is_some() {
        options = options.dangerously_serve_stale();
    }
    let store = options.connect(url).await?;
    let policy = Policy::builder().route("/", Rule::resource("products").unscoped()).build()?;
    let app = Router::new().route("/", get(|| async { "ok" })).layer(Authz::new(store, policy));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    Ok(axum::serve(listener, app).await?)
}

fn spawn() -> Result<(Child, String), Box<dyn Error>> {
    let mut child = Command::new(env::current_exe()?).arg("replica").stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    let mut address = String::new();
    BufReader::new(out).read_line(&mut address)?;
    Ok((child, address.trim().to_owned()))
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
}

/// Stops, continues, kills and cuts off, one replica after the other.
fn chaos(shared: &Shared, replicas: &mut [Child], url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    while !shared.done.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100 + roll(400)));
        let place = usize::try_from(roll(replicas.len() as u64)).unwrap_or(0);
        let Some(child) = replicas.get_mut(place) else { continue };
        match roll(10) {
            0 => {
                signal(child, "KILL");
                let _ = child.wait();
                if let Ok((new, address)) = spawn() {
                    *child = new;
                    let mut addresses = shared.addresses.lock().unwrap_or_else(|error| error.into_inner());
                    if let Some(old) = addresses.get_mut(place) {
                        *old = address;
                    }
                }
            }
            1 | 2 => {
                let cut = async {
                    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
                    let driven = tokio::spawn(connection);
                    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                               AND query LIKE '%authz_replicas%' AND random() < 0.5";
                    let outcome = client.execute(sql, &[]).await;
                    driven.abort();
                    outcome
                };
                if let Ok(runtime) = &runtime {
                    let _ = runtime.block_on(cut);
                }
            }
            _ => {
                signal(child, "STOP");
                std::thread::sleep(Duration::from_millis(roll(1500)));
                signal(child, "CONT");
            }
        }
    }
}

/// Issues keys, lets them be used for a moment, and revokes them.
async fn write(shared: Arc<Shared>, store: PostgresStore, rounds: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let grant = Arc::new(Grant::builder().read("products").build()?);
    for _ in 0..rounds {
        let Ok(issued) = store.by("hammer").issue(NewKey::new("target", Arc::clone(&grant))).await else { continue };
        let target = Target { key: issued.api_key.expose().to_owned(), revoked: Arc::default() };
        lock(&shared.targets).push(target.clone());
        tokio::time::sleep(Duration::from_millis(roll(20))).await;
        // An error says: assume that it lives; so it is tried until it is known.
        loop {
            let begin = Instant::now();
            if store.by("hammer").revoke(issued.record.id(), "").await.is_ok() {
                *lock(&target.revoked) = Some(Instant::now());
                lock(&shared.waits).push(begin.elapsed());
                break;
            }
        }
        shared.revoked.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            lock(&shared.targets).retain(|known| known.key != target.key);
        });
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|error| error.into_inner())
}

/// Uses keys on one of the replicas, dead ones above all.
async fn read(shared: Arc<Shared>, place: usize) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    while !shared.done.load(Ordering::Relaxed) {
        let target = {
            let targets = lock(&shared.targets);
            let index = usize::try_from(roll(targets.len() as u64)).unwrap_or(0);
            targets.get(index).cloned()
        };
        let address = lock(&shared.addresses).get(place).cloned();
        let (Some(target), Some(address)) = (target, address) else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let request = Request::get(format!("http://{address}/")).header("x-api-key", &target.key).body(Empty::new());
        let Ok(request) = request else { continue };
        let was_revoked = lock(&target.revoked).is_some();
        // From here on: what was revoked before is revoked for this request.
        let answer = tokio::time::timeout(Duration::from_secs(5), client.request(request)).await;
        let Ok(Ok(response)) = answer else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        let admitted = response.status() == 200;
        let _ = response.into_body().collect().await;
        let count = if admitted { &shared.admitted } else { &shared.refused };
        count.fetch_add(1, Ordering::Relaxed);
        if was_revoked {
            shared.late.fetch_add(1, Ordering::Relaxed);
            if admitted {
                shared.violations.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn run(rounds: usize, url: String) -> Result<bool, Box<dyn Error>> {
    let store = PostgresOptions::new().lease(LEASE).on_fault(|_| {}).create(&url, StoreSettings::new()).await?;
    let shared = Arc::new(Shared::default());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let (child, address) = spawn()?;
        replicas.push(child);
        lock(&shared.addresses).push(address);
    }
    let (watched, chaos_url) = (Arc::clone(&shared), url.clone());
    let disorder = std::thread::spawn(move || {
        chaos(&watched, &mut replicas, &chaos_url);
        for mut child in replicas {
            signal(&child, "KILL");
            let _ = child.wait();
        }
    });
    let readers: Vec<_> = (0..6).map(|reader| tokio::spawn(read(Arc::clone(&shared), reader % 3))).collect();
    const WRITERS: usize = 8;
    let share = rounds.div_ceil(WRITERS);
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(write(Arc::clone(&shared), store.clone(), share))).collect();
    for writer in writers {
        writer.await?.map_err(|error| error.to_string())?;
    }
    shared.done.store(true, Ordering::Relaxed);
    for reader in readers {
        let _ = reader.await;
    }
    let _ = disorder.join();
    let mut waits = lock(&shared.waits).clone();
    waits.sort_unstable();
    let at = |part: usize| {
        waits.get((waits.len() * part / 100).min(waits.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    let violations = count(&shared.violations);
    writeln!(
        std::io::stdout(),
        "{} revocations (p50 {:?}, p99 {:?}, longest {:?}), {} requests admitted, {} refused, {} begun after the \
         revocation had returned: {violations} violations",
        count(&shared.revoked),
        at(50),
        at(99),
        at(100),
        count(&shared.admitted),
        count(&shared.refused),
        count(&shared.late),
    )?;
    Ok(violations == 0)
}

#[tokio::main]
async fn main() -> ExitCode {
    let url = env::var("DATABASE_URL").unwrap_or_default();
    let first = env::args().nth(1).unwrap_or_default();
    let outcome = match first.parse::<usize>() {
        _ if first == "replica" => replica(&url).await.map(|()| true),
        Ok(rounds) if !url.is_empty() => run(rounds, url).await,
        _ => Err("write DATABASE_URL=postgres://.. hammer 1000".into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
