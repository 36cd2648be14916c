//! Searches for a request that was admitted although it began after a revocation had returned. Three replicas run in
//! processes of their own, and are stopped, killed, restarted and cut off from the database. Writers issue, narrow,
//! widen and revoke keys, and readers send requests all the time. Every request and every change is recorded with its
//! times, and at the end the two are compared.
//!
//! Run `DATABASE_URL=postgres://.. hammer 1000`, with the number of keys that are revoked; the database must be empty.
//! The exit code is 1 if a violation was found. Further settings come from the environment:
//!
//! - `NO_LEASE=1`: the replicas serve stale keys. The run must then find violations.
//! - `CHAOS=none`: there are no faults, to measure how long changes take. `CHAOS=stopped`: before each revocation, a
//!   replica that holds a lease is stopped.
//! - `RESTART='pg_ctl .. restart'`: a command that restarts the database; without it the database is not restarted.
//! - `LEASE_MS`, by default 500; `WRITERS`, by default 8; `LOG=file`, the file to which all records are written.

#![allow(unreachable_pub, reason = "modules of an example")]

mod chaos;
mod log;
mod proxy;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::Write as _,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::{sleep, timeout};
use tower_authz::{
    Authz, Grant, KeyId, Policy, Rule,
    store::{KeyAdmin as _, NewKey, PostgresOptions, PostgresStore, StoreSettings},
};

use chaos::{Chaos, Replica};
use log::{Forbidden, Log, Request, lock};

/// A key that readers use.
#[derive(Clone)]
struct Target {
    number: usize,
    key: Arc<str>,
}

#[derive(Default)]
struct Shared {
    targets: Mutex<Vec<Target>>,
    addresses: Mutex<Vec<String>>,
    log: Log,
    count: AtomicUsize,
    faults: Mutex<BTreeMap<&'static str, usize>>,
}

fn roll(sides: u64) -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes) % sides.max(1)
}

fn number(name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    Ok(env::var(name)
        .ok()
        .map(|text| text.parse())
        .transpose()
        .map_err(|error| format!("{name}: {error}"))?
        .unwrap_or(default))
}

fn options() -> Result<PostgresOptions, Box<dyn Error>> {
    let lease = Duration::from_millis(number("LEASE_MS", 500)?);
    let options = PostgresOptions::new().lease(lease).on_fault(|_| {});
    Ok(if env::var_os("NO_LEASE").is_some() { options.dangerously_serve_stale() } else { options })
}

/// Runs a replica, which serves one guarded route.
async fn replica(url: &str) -> Result<(), Box<dyn Error>> {
    let store = options()?.connect(url).await?;
    let policy = Policy::builder().route("/", Rule::resource("products").unscoped()).build()?;
    let app = Router::new().route("/", get(|| async { "ok" })).layer(Authz::new(store, policy));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    Ok(axum::serve(listener, app).await?)
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Repeats a change until it is known to be made: after an error the caller must assume that it is not.
async fn insist<T, E>(mut change: impl AsyncFnMut() -> Result<T, E>) -> (T, Duration) {
    loop {
        let begin = Instant::now();
        if let Ok(done) = change().await {
            return (done, begin.elapsed());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Issues keys, and waits while they are used; narrows the grants of half of them, and widens them again; and revokes
/// all keys.
async fn write(shared: Arc<Shared>, store: PostgresStore, rounds: usize) -> Outcome {
    let grant = Arc::new(Grant::builder().read("products").build()?);
    let elsewhere = Grant::builder().read("orders").build()?;
    let actor = store.as_actor("hammer");
    for _ in 0..rounds {
        let (issued, _) = insist(async || actor.issue(NewKey::new("target", Arc::clone(&grant))).await).await;
        let id: &KeyId = issued.record.id();
        let key = shared.count.fetch_add(1, Ordering::Relaxed);
        lock(&shared.targets).push(Target { number: key, key: issued.api_key.expose().into() });
        sleep(Duration::from_millis(roll(20))).await;
        if roll(2) == 0 {
            let (_, took) = insist(async || actor.set_grant(id, elsewhere.clone()).await).await;
            let from = Instant::now();
            sleep(Duration::from_millis(roll(30))).await;
            shared.log.forbidden(Forbidden { key, from, until: Some(Instant::now()), took });
            insist(async || actor.set_grant(id, Grant::clone(&grant)).await).await;
            sleep(Duration::from_millis(roll(10))).await;
        }
        let (_, took) = insist(async || actor.revoke(id, "").await).await;
        shared.log.forbidden(Forbidden { key, from: Instant::now(), until: None, took });
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            sleep(Duration::from_millis(400)).await;
            lock(&shared.targets).retain(|known| known.number != key);
        });
    }
    Ok(())
}

/// Uses keys on one of the replicas.
async fn read(shared: Arc<Shared>, index: usize, done: Arc<AtomicBool>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    while !done.load(Ordering::Relaxed) {
        let target = {
            let targets = lock(&shared.targets);
            targets.get(usize::try_from(roll(targets.len() as u64)).unwrap_or(0)).cloned()
        };
        let address = lock(&shared.addresses).get(index).cloned();
        sleep(Duration::from_millis(1)).await;
        let (Some(target), Some(address)) = (target, address) else { continue };
        let request = http::Request::get(format!("http://{address}/")).header("x-api-key", &*target.key);
        let Ok(request) = request.body(Empty::new()) else { continue };
        let begin = Instant::now();
        let Ok(Ok(response)) = timeout(Duration::from_secs(5), client.request(request)).await else { continue };
        let end = Instant::now();
        let admitted = response.status() == 200;
        let _ = response.into_body().collect().await;
        shared.log.request(Request { key: target.number, begin, end, admitted });
    }
}

/// Stops one replica before each revocation, while it holds a lease.
async fn revoke_while_one_is_stopped(
    shared: &Shared,
    store: &PostgresStore,
    replica: &Replica,
    rounds: usize,
) -> Outcome {
    let actor = store.as_actor("hammer");
    let grant = Arc::new(Grant::builder().read("products").build()?);
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    for _ in 0..rounds {
        let (issued, _) = insist(async || actor.issue(NewKey::new("target", Arc::clone(&grant))).await).await;
        let address = lock(&shared.addresses).first().cloned().unwrap_or_default();
        let ask = async || {
            let request = http::Request::get(format!("http://{address}/")).header("x-api-key", issued.api_key.expose());
            let answer = client.request(request.body(Empty::new())?).await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(answer.status() == 200)
        };
        while !ask().await.unwrap_or(false) {
            sleep(Duration::from_millis(5)).await;
        }
        replica.signal("STOP");
        let key = shared.count.fetch_add(1, Ordering::Relaxed);
        let (_, took) = insist(async || actor.revoke(issued.record.id(), "").await).await;
        let from = Instant::now();
        shared.log.forbidden(Forbidden { key, from, until: None, took });
        let asked = async { ask().await.unwrap_or(false) };
        let going_on = async {
            sleep(Duration::from_millis(1)).await;
            replica.signal("CONT");
        };
        let (admitted, ()) = tokio::join!(asked, going_on);
        shared.log.request(Request { key, begin: from, end: Instant::now(), admitted });
    }
    Ok(())
}

async fn run(rounds: usize, url: String) -> Result<bool, Box<dyn Error>> {
    let start = Instant::now();
    let config: tokio_postgres::Config = url.parse().map_err(|_| "DATABASE_URL: it is malformed")?;
    let database = match (config.get_hosts().first(), config.get_ports().first()) {
        (Some(tokio_postgres::config::Host::Tcp(host)), port) => format!("{host}:{}", port.unwrap_or(&5432)),
        _ => return Err("DATABASE_URL: write the database's host".into()),
    };
    let store = options()?.create(&url, StoreSettings::new()).await?;
    let shared = Arc::new(Shared::default());
    let done = Arc::new(AtomicBool::new(false));
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let (replica, address) = Replica::start(&config, &database).await?;
        replicas.push(replica);
        lock(&shared.addresses).push(address);
    }
    let chaos = match env::var("CHAOS").as_deref() {
        Ok("stopped") => {
            let first = replicas.first().ok_or("no replica")?;
            revoke_while_one_is_stopped(&shared, &store, first, rounds).await.map_err(|error| error.to_string())?;
            return report(&shared, start);
        }
        Ok("none") => Chaos::None,
        Err(_) => Chaos::All,
        Ok(_) => return Err("CHAOS: write none or stopped".into()),
    };
    let disorder = std::thread::spawn({
        let (shared, done) = (Arc::clone(&shared), Arc::clone(&done));
        move || {
            if chaos == Chaos::All {
                chaos::rage(&shared, &mut replicas, &config, &done);
            }
            replicas
        }
    });
    let read = |reader: usize| tokio::spawn(read(Arc::clone(&shared), reader % 3, Arc::clone(&done)));
    let readers: Vec<_> = (0..6).map(read).collect();
    let count = usize::try_from(number("WRITERS", 8)?)?.max(1);
    let share = rounds.div_ceil(count);
    let writers = (0..count).map(|_| write(Arc::clone(&shared), store.clone(), share));
    futures::future::try_join_all(writers).await.map_err(|error| error.to_string())?;
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let _ = reader.await;
    }
    drop(disorder.join());
    report(&shared, start)
}

fn report(shared: &Shared, start: Instant) -> Result<bool, Box<dyn Error>> {
    let waits = shared.log.waits();
    let at = |part: usize| waits.get((waits.len() * part / 100).min(waits.len().saturating_sub(1))).copied();
    let millis = |part| at(part).unwrap_or_default().as_secs_f64() * 1000.0;
    let findings = shared.log.check();
    let faults: Vec<String> = lock(&shared.faults).iter().map(|(what, count)| format!("{what} {count}")).collect();
    if let Some(path) = env::var_os("LOG") {
        std::fs::write(path, shared.log.text(start))?;
    }
    writeln!(
        std::io::stdout(),
        "{} keys, {} changes that took something away: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms\n\
         faults: {}\n\
         {} requests, {} admitted; {} were to be refused for sure, {} violations",
        shared.count.load(Ordering::Relaxed),
        waits.len(),
        millis(50),
        millis(99),
        millis(100),
        if faults.is_empty() { "none".to_owned() } else { faults.join(", ") },
        findings.requests,
        findings.admitted,
        findings.judged,
        findings.violations,
    )?;
    // If no request certainly had to be refused, the run has shown nothing.
    if findings.judged == 0 {
        return Err("no request could be judged".into());
    }
    Ok(findings.violations == 0)
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
