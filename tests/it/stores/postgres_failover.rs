//! Tests real PostgreSQL servers that stop, restart, and take over from one another.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tower_authz::store::{KeyAdmin as _, PostgresOptions, PostgresStore, StoreErrorKind, StoreSettings};

use crate::stores::{
    Gate,
    cluster::Cluster,
    issue,
    postgres::raw_at,
    postgres_faults::{LEASE, listening, soon, until},
};

/// Returns the address of both servers, of which the one that accepts writes is used.
fn either(first: &Cluster, second: &Cluster) -> String {
    let (first, second) = (first.folder.display(), second.folder.display());
    format!("host={first},{second} user=postgres dbname=postgres target_session_attrs=read-write")
}

/// Returns a primary, a standby that follows it, and a store.
async fn pair(lease: Duration) -> Option<(Cluster, Cluster, String, PostgresStore)> {
    let primary = Cluster::new()?;
    primary.start(&[]);
    let options = PostgresOptions::new().lease(lease).name("first");
    drop(soon(options.clone().create(&primary.address("postgres"), StoreSettings::new())).await.unwrap());
    let standby = Cluster::standby(&primary)?;
    standby.start(&[]);
    let address = either(&primary, &standby);
    let store = soon(options.connect(&address)).await.unwrap();
    Some((primary, standby, address, store))
}

fn promote(standby: &Cluster) {
    standby.run("pg_ctl", &["-D", &standby.data(), "-w", "promote"]);
}

/// RF032: the data of a standby may be outdated, so it must not be used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_no_place_to_ask() {
    let Some((_primary, standby, _, store)) = pair(LEASE).await else { return };
    let key = soon(issue(&store)).await;
    let error = soon(PostgresStore::connect(&standby.address("postgres"))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("standby"), "{error}");
    let uncached = soon(PostgresOptions::new().uncached().connect(&standby.address("postgres"))).await;
    assert!(uncached.unwrap_err().to_string().contains("standby"));
    assert_eq!(Gate::of(&store).get(&key).await, 200);
}

/// With synchronous replication the standby has every acknowledged change, so the replicas continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_was_in_step_takes_over() {
    let lease = Duration::from_secs(3);
    let Some((primary, standby, address, a)) = pair(lease).await else { return };
    raw_at(&primary.address("postgres"), "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    raw_at(&primary.address("postgres"), "SELECT pg_reload_conf()").await;
    let b = soon(PostgresOptions::new().lease(lease).name("second").connect(&address)).await.unwrap();
    let (key, stays) = (soon(issue(&a)).await, soon(issue(&a)).await);
    let gate = Gate::of(&b);
    soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!((gate.get(&key).await, gate.get(&stays).await), (401, 200));
    primary.kill();
    promote(&standby);
    raw_at(&standby.address("postgres"), "ALTER SYSTEM SET synchronous_standby_names = ''").await;
    raw_at(&standby.address("postgres"), "SELECT pg_reload_conf()").await;
    until("the replica is back", async || {
        assert!([401, 503].contains(&gate.get(&key).await));
        gate.get(&stays).await == 200
    })
    .await;
    // The first change waits for the leases of the old server, wherever their rows are; later ones do not.
    let waited = soon(a.as_actor("anna").rename(stays.record.id(), "one")).await;
    let waited = match waited {
        Ok(renamed) => renamed.propagation.waited,
        // The connection had ended with the old server, which the store could not know before.
        Err(_) => soon(a.as_actor("anna").rename(stays.record.id(), "two")).await.unwrap().propagation.waited,
    };
    assert!(waited > lease / 2, "{waited:?}");
    let waited = soon(a.as_actor("anna").rename(stays.record.id(), "three")).await.unwrap().propagation.waited;
    assert!(waited < lease / 2, "{waited:?}");
}

/// RF033: a standby that lacks an acknowledged change takes over. Replicas that knew of the change refuse requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_was_behind_is_noticed() {
    let Some((primary, standby, address, a)) = pair(LEASE).await else { return };
    let (heard, options) = listening();
    let b = soon(options.connect(&address)).await.unwrap();
    let (key, stays) = (soon(issue(&a)).await, soon(issue(&a)).await);
    let gate = Gate::of(&b);
    let late = standby.address("postgres");
    let known = format!(
        "DO $$ BEGIN LOOP EXIT WHEN (SELECT count(*) FROM authz_keys WHERE id = '{}') = 1;
         PERFORM pg_sleep(0.01); END LOOP; END $$",
        stays.record.id()
    );
    soon(raw_at(&late, &known)).await;
    standby.kill();
    soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!((gate.get(&key).await, gate.get(&stays).await), (401, 200));
    primary.kill();
    standby.start(&[]);
    promote(&standby);
    until("it is noticed", async || {
        assert!([401, 503].contains(&gate.get(&key).await));
        heard.lock().unwrap().iter().any(|fault| fault.contains("failed over"))
    })
    .await;
    assert_eq!((gate.get(&key).await, gate.get(&stays).await), (503, 503), "for good");
}

/// The writer waits for leases that the old server has granted, although the new one has no record of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_were_lost_in_a_failover_are_waited_for() {
    let lease = Duration::from_secs(12);
    let Some((primary, standby, _, a)) = pair(lease).await else { return };
    let key = soon(issue(&a)).await;
    let known = format!(
        "DO $$ BEGIN LOOP EXIT WHEN (SELECT count(*) FROM authz_keys WHERE id = '{}') = 1;
         PERFORM pg_sleep(0.01); END LOOP; END $$",
        key.record.id()
    );
    soon(raw_at(&standby.address("postgres"), &known)).await;
    drop(a);
    standby.kill();
    // The replica starts now, and cannot reach the new server.
    let options = PostgresOptions::new().lease(lease).name("lost").on_fault(|_| {});
    let b = soon(options.connect(&primary.address("postgres"))).await.unwrap();
    let gate = Gate::of(&b);
    assert_eq!(gate.get(&key).await, 200);
    primary.kill();
    standby.start(&[]);
    promote(&standby);
    // The lease of the writer itself is a different one.
    let writer = PostgresOptions::new().uncached().connect(&standby.address("postgres")).await.unwrap();
    assert_eq!(gate.get(&key).await, 200, "its lease is not over yet: else this shows nothing");
    let begin = Instant::now();
    let revoked = timeout(lease * 2, writer.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap().unwrap();
    assert_eq!(gate.get(&key).await, 503);
    assert!(revoked.propagation.waited > lease / 2 && begin.elapsed() < lease * 2, "{revoked:?}");
}

/// After a crash of the database nothing is lost, and no replica admits a request without a lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_starts_again_is_the_same() {
    let Some(cluster) = Cluster::new() else { return };
    cluster.start(&[]);
    let options = PostgresOptions::new().lease(LEASE).on_fault(|_| {});
    let a = soon(options.clone().create(&cluster.address("postgres"), StoreSettings::new())).await.unwrap();
    let b = soon(options.name("second").connect(&cluster.address("postgres"))).await.unwrap();
    let (key, stays) = (soon(issue(&a)).await, soon(issue(&a)).await);
    let gate = Gate::of(&b);
    soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!((gate.get(&key).await, gate.get(&stays).await), (401, 200));
    cluster.kill();
    until("the lease has run out", async || gate.get(&stays).await == 503).await;
    assert_eq!(gate.get(&key).await, 503);
    cluster.start(&[]);
    until("the replica is back", async || {
        assert!([401, 503].contains(&gate.get(&key).await));
        gate.get(&stays).await == 200
    })
    .await;
    let revoke = async || soon(a.as_actor("anna").revoke(stays.record.id(), "lost")).await;
    if revoke().await.is_err() {
        revoke().await.unwrap();
    }
    assert_eq!(gate.get(&stays).await, 401);
}
