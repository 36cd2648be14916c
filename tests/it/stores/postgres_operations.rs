//! Tests operations with many machines: roles, upgrades, poolers, encryption, large backlogs.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tower_authz::{
    Dimension, Grant, IdGrammar, KeyRecord,
    store::{
        IssuedKey, KeyAdmin as _, KeyStore as _, MemoryStore, NewKey, PostgresOptions, PostgresStore, StoreErrorKind,
        StoreSettings, UsageQuery,
    },
};

use crate::stores::{
    Gate,
    cluster::{Cluster, free_port, hand_over, pooler},
    issue,
    postgres::{address, database, raw, raw_at, server},
    postgres_faults::{LEASE, Proxy, first, listening, soon, until},
};

const ROLES: &str = include_str!("../../../src/store/postgres/roles.sql");

/// The documented grants suffice, and allow nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_may_do_what_is_theirs_and_nothing_else() {
    if server().is_none() {
        return;
    }
    let (database, owner) = first(LEASE).await;
    let suffix = &database;
    let roles = ROLES.replace("authz_replica;", &format!("authz_replica_{suffix};"));
    let roles = roles.replace("authz_admin;", &format!("authz_admin_{suffix};"));
    raw(&database, &roles).await;
    for role in ["replica", "admin"] {
        raw(&database, &format!("CREATE ROLE {role}_{suffix} LOGIN IN ROLE authz_{role}_{suffix}")).await;
    }
    let as_role = |role: &str| address(&database).replace("user=postgres", &format!("user={role}_{suffix}"));

    let replica = soon(PostgresOptions::new().lease(LEASE).connect(&as_role("replica"))).await.unwrap();
    let admin = soon(PostgresOptions::new().uncached().connect(&as_role("admin"))).await.unwrap();
    let gate = Gate::of(&replica);
    let (key, other) = (soon(issue(&admin)).await, soon(issue(&admin)).await);
    assert_eq!((gate.get(&key).await, gate.get(&other).await), (200, 200));
    let anna = admin.as_actor("anna");
    let reach = soon(anna.revoke(key.record.id(), "lost")).await.unwrap().propagation;
    assert_eq!((gate.get(&key).await, reach.unacknowledged.len()), (401, 0));
    soon(anna.set_grant(other.record.id(), Grant::builder().read("orders").build().unwrap())).await.unwrap();
    soon(anna.change_settings(|old| Ok(old.clone().with_networks_required_for(["ledger"])))).await.unwrap();
    soon(anna.delete(other.record.id())).await.unwrap();
    assert_eq!(gate.get(&other).await, 401);
    assert_eq!(soon(admin.replicas()).await.unwrap().len(), 2, "the owner and the replica");
    // The server writes down what it has counted, and whoever changes keys reads it.
    let counted = soon(replica.usage(&UsageQuery::new())).await.unwrap();
    assert_eq!(counted.iter().map(|usage| usage.allowed()).sum::<u64>(), 2);
    assert_eq!(soon(admin.usage(&UsageQuery::new())).await.unwrap(), counted);

    // The role of a server can neither change keys nor forge audit records.
    let error = soon(replica.as_actor("eve").issue(NewKey::new("k", Grant::default()))).await.unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
    let third = soon(issue(&owner)).await;
    let error = soon(replica.as_actor("eve").revoke(third.record.id(), "")).await.unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
    for sql in
        ["UPDATE authz_keys SET record = '{}'", "UPDATE authz_counter SET version = 0", "DELETE FROM authz_audit"]
    {
        let client = tokio_postgres::connect(&as_role("replica"), tokio_postgres::NoTls).await.unwrap();
        let driven = tokio::spawn(client.1);
        let error = client.0.batch_execute(sql).await.unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains("permission denied"), "{sql}");
        driven.abort();
    }
    drop((replica, admin, owner));
}

/// An upgrade migrates the tables first, and then replaces one replica after the other, while all of them serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_and_a_new_replica_live_side_by_side() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let (heard, options) = listening();
    let b = soon(options.connect(&address(&database))).await.unwrap();
    let key = soon(issue(&a)).await;
    let gate = Gate::of(&b);
    // This is a migration of a newer version that older programs are compatible with.
    let sql = "BEGIN; LOCK TABLE authz_counter, authz_replicas IN ACCESS EXCLUSIVE MODE; ALTER TABLE authz_keys ADD COLUMN color text;
               ALTER TABLE authz_replicas ADD COLUMN zone text NOT NULL DEFAULT '';
               UPDATE authz_counter SET schema = schema + 1; COMMIT";
    raw(&database, sql).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(gate.get(&key).await, 200, "the old ones hold their leases");
    let second = soon(issue(&a)).await;
    assert_eq!(gate.get(&second).await, 200);
    soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!(gate.get(&key).await, 401);
    let late = soon(PostgresStore::connect(&address(&database))).await.unwrap();
    assert_eq!(Gate::of(&late).get(&second).await, 200);
    assert_eq!(soon(PostgresStore::migrate(&address(&database))).await.unwrap(), 0, "newer tables stay as they are");

    // This migration is incompatible with older programs, so they stop, and report it.
    raw(&database, "UPDATE authz_counter SET oldest = schema").await;
    until("they refuse", async || gate.get(&second).await == 503).await;
    assert!(heard.lock().unwrap().iter().any(|fault| fault.contains("too old")), "{heard:?}");
    let error = soon(a.as_actor("anna").revoke(second.record.id(), "lost")).await.unwrap_err();
    assert!(error.to_string().contains("too old"), "{error}");
    for refused in [
        soon(PostgresStore::connect(&address(&database))).await.map(drop),
        soon(PostgresStore::migrate(&address(&database))).await.map(drop),
    ] {
        assert!(refused.unwrap_err().to_string().contains("too old"));
    }
}

/// Tables of the first version are refused until they are migrated, and the migration keeps their content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_tables_are_migrated_while_an_older_replica_serves() {
    if server().is_none() {
        return;
    }
    let database = database().await;
    let settings = StoreSettings::new().to_json().unwrap();
    let old = format!(
        "{}; INSERT INTO authz_counter (version, change, settings, schema, oldest) VALUES (0, '', '{settings}', 1, 1)",
        include_str!("../../../src/store/postgres/schema_1.sql"),
    );
    raw(&database, &old).await;
    let error = soon(PostgresStore::connect(&address(&database))).await.unwrap_err();
    assert!(error.to_string().contains("authz migrate"), "{error}");
    // This is how the first version requests a lease.
    let lease = "INSERT INTO authz_replicas (id, name, applied, lease_until)
                 VALUES ('old', 'old', (SELECT version FROM authz_counter), clock_timestamp() + interval '4 seconds')
                 ON CONFLICT (id) DO UPDATE SET applied = excluded.applied, lease_until = excluded.lease_until";
    raw(&database, lease).await;
    assert_eq!(soon(PostgresStore::migrate(&address(&database))).await.unwrap(), 6);
    assert_eq!(soon(PostgresStore::migrate(&address(&database))).await.unwrap(), 0);
    raw(&database, lease).await;
    let store = soon(PostgresOptions::new().lease(LEASE).connect(&address(&database))).await.unwrap();
    let key = soon(issue(&store)).await;
    assert_eq!(key.propagation.unacknowledged, ["old"], "who serves by the old way is waited for");
    assert!(key.propagation.waited > Duration::from_secs(2), "as long as its lease is: {:?}", key.propagation);
    assert_eq!(Gate::of(&store).get(&key).await, 200);
}

/// RF020: a pooler that gives each transaction another session is detected, whichever session it chooses, however
/// many it has, and whatever earlier connections have left in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_swaps_sessions_is_told_at_the_start() {
    let Some(folder) = server() else { return };
    let (database, store) = first(LEASE).await;
    let key = soon(issue(&store)).await;
    for (mode, pool_size, round_robin) in
        [("transaction", 1, 0), ("transaction", 20, 0), ("transaction", 20, 1), ("session", 20, 0)]
    {
        let Some(port) = pooler(folder, mode, pool_size, round_robin) else { return };
        let through = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
        if mode == "session" {
            let opened = soon(PostgresOptions::new().lease(LEASE).connect(&through)).await;
            assert_eq!(Gate::of(&opened.unwrap()).get(&key).await, 200);
            continue;
        }
        for others in 0..if pool_size == 1 { 1 } else { 8 } {
            // The pooler opens as many sessions as other clients have used at one time.
            let used = (0..others).map(|_| raw_at(&through, "BEGIN; SELECT pg_sleep(0.05); ROLLBACK"));
            join_all(used).await;
            for options in [PostgresOptions::new().lease(LEASE), PostgresOptions::new().uncached()] {
                let error = soon(options.connect(&through)).await.expect_err("a pooler");
                assert!(error.to_string().contains("pooler"), "{pool_size}, {round_robin}, {others}: {error}");
            }
        }
    }
}

/// RF021: a client that does not fetch notifications fills their queue (8 GB; here a function that shadows
/// PostgreSQL's own reports it), and must not block a revocation, which then waits until the replicas have polled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_of_notifications_delays_and_loses_nothing() {
    if server().is_none() {
        return;
    }
    let (database, owner) = first(Duration::from_secs(2)).await;
    let full = format!(
        "CREATE SCHEMA full_queue;
         CREATE FUNCTION full_queue.pg_notification_queue_usage() RETURNS float8 LANGUAGE sql AS 'SELECT 1.0::float8';
         CREATE FUNCTION full_queue.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS
           $$BEGIN RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000'; END$$;
         ALTER DATABASE {database} SET search_path = full_queue, pg_catalog, public"
    );
    raw(&database, &full).await;
    let a = soon(PostgresOptions::new().connect(&address(&database))).await.unwrap();
    let b = soon(PostgresOptions::new().connect(&address(&database))).await.unwrap();
    let key = soon(issue(&a)).await;
    let gate = Gate::of(&b);
    assert_eq!(gate.get(&key).await, 200);
    let revoked = soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!((gate.get(&key).await, revoked.propagation.unacknowledged.len()), (401, 0));
    // As a control, no change is possible if the notification is sent all the same.
    let lies = "CREATE OR REPLACE FUNCTION full_queue.pg_notification_queue_usage() RETURNS float8
                LANGUAGE sql AS 'SELECT 0.0::float8'";
    raw(&database, lies).await;
    let error = soon(a.as_actor("anna").issue(NewKey::new("k", Grant::default()))).await.unwrap_err();
    assert!(error.to_string().contains("too many notifications"), "{error}");
    drop(owner);
}

/// A replica with a large backlog reads it in parts, and serves again when it has all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_far_behind_catches_up() {
    if server().is_none() {
        return;
    }
    const COUNT: usize = 20_000;
    let lease = Duration::from_secs(2);
    let (database, a) = first(lease).await;
    let proxy = Proxy::to(&database).await;
    let b = soon(PostgresOptions::new().lease(lease).connect(&proxy.address())).await.unwrap();
    let stays = soon(issue(&a)).await;
    proxy.stall();
    let elsewhere = MemoryStore::new();
    let keys = join_all((0..COUNT).map(|_| issue(&elsewhere))).await;
    let records = elsewhere.export().await.unwrap().records().to_vec();
    let imported =
        tokio::time::timeout(Duration::from_secs(60), a.as_actor("anna").import(records)).await.unwrap().unwrap();
    assert_eq!(imported.added, COUNT);
    for key in keys.iter().take(50) {
        soon(a.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    }
    proxy.open();
    let gate = Gate::of(&b);
    until("it is back", async || {
        let status = gate.get(&keys[0]).await;
        assert!([401, 503].contains(&status), "revoked: {status}");
        gate.get(&stays).await == 200
    })
    .await;
    for (place, key) in keys.iter().enumerate().step_by(7) {
        assert_eq!(gate.get(key).await, if place < 50 { 401 } else { 200 }, "{place}");
    }
}

/// A replica that reads a role in one part of its backlog knows it in the next: the keys of the role are not refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_far_behind_learns_of_roles_and_their_keys() {
    if server().is_none() {
        return;
    }
    const COUNT: usize = 12_000;
    let lease = Duration::from_secs(2);
    let (database, a) = first(lease).await;
    let proxy = Proxy::to(&database).await;
    let b = soon(PostgresOptions::new().lease(lease).connect(&proxy.address())).await.unwrap();
    proxy.stall();
    let role = |resource: &'static str| Grant::builder().read(resource).build().unwrap();
    soon(a.as_actor("anna").set_role("r", role("orders"))).await.unwrap();
    let elsewhere = MemoryStore::new();
    let keys = join_all((0..COUNT).map(|_| issue(&elsewhere))).await;
    let record = |key: &IssuedKey| {
        KeyRecord::builder(key.record.id().clone(), *key.record.digest()).name("k").roles(["r"]).build()
    };
    let anna = a.as_actor("anna");
    let imported = anna.import(keys.iter().map(record));
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), imported).await.unwrap().unwrap().added, COUNT);
    soon(a.as_actor("anna").set_role("r", role("products"))).await.unwrap();
    proxy.open();
    let gate = Gate::of(&b);
    until("it is back", async || gate.get(&keys[0]).await == 200).await;
    for key in keys.iter().step_by(7) {
        assert_eq!(gate.get(key).await, 200);
    }
    soon(a.as_actor("anna").set_role("r", role("orders"))).await.unwrap();
    assert_eq!(
        gate.get(&keys[1]).await,
        403,
        "a role that another process narrows is narrow here, when that has returned"
    );
}

/// Whoever follows the log no longer keeps no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_dropped_gives_its_connection_back() {
    if server().is_none() {
        return;
    }
    let (database, store) = first(LEASE).await;
    let key = soon(issue(&store)).await;
    let client = tokio_postgres::connect(&address(&database), tokio_postgres::NoTls).await.unwrap();
    let (client, connection) = client;
    tokio::spawn(connection);
    let connections = async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let before = connections().await;
    for _ in 0..10 {
        let mut log = store.follow_audit(u64::from(u32::MAX));
        let waiting = tokio::time::timeout(Duration::from_millis(50), log.next()).await;
        assert!(waiting.is_err(), "there is nothing new");
    }
    until("the connections are given back", async || connections().await <= before + 1).await;
    drop(key);
}

/// Settings that another process has changed replace those that this one has loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_others_change_are_everybodys() {
    if server().is_none() {
        return;
    }
    let database = database().await;
    let settings = |ids| StoreSettings::new().with_dimension(Dimension::new("project", ids));
    let options = || PostgresOptions::new().lease(LEASE);
    let a = soon(options().create(&address(&database), settings(IdGrammar::Slug))).await.unwrap();
    let b = soon(options().connect(&address(&database))).await.unwrap();
    soon(b.as_actor("anna").change_settings(move |_| Ok(settings(IdGrammar::Opaque)))).await.unwrap();
    let grant = Grant::builder().read("products").only(Dimension::new("project", IdGrammar::Opaque), ["A.b"]);
    let key = soon(b.as_actor("anna").issue(NewKey::new("k", grant.build().unwrap()))).await.unwrap();
    let (on_a, on_b) = (Gate::of(&a), Gate::of(&b));
    assert_eq!((on_a.get(&key).await, on_b.get(&key).await), (200, 200));
    soon(a.as_actor("bob").change_settings(|old| Ok(old.clone().with_networks_required_for(["ledger"]))))
        .await
        .unwrap();
    assert_eq!((on_a.get(&key).await, on_b.get(&key).await), (200, 200));
    assert!(soon(b.settings()).await.unwrap().dimensions()[0].accepts("A.b"));
}

/// A store without a cache queries the database for each look-up, so it finds every change at once, and no writer
/// waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_memory_asks_the_database() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let b = soon(PostgresOptions::new().uncached().connect(&address(&database))).await.unwrap();
    assert_eq!(soon(b.replicas()).await.unwrap().len(), 1, "it is no replica");
    let gate = Gate::of(&b);
    let key = soon(issue(&a)).await;
    assert_eq!(gate.get(&key).await, 200);
    soon(b.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!((gate.get(&key).await, Gate::of(&a).get(&key).await), (401, 401));
    let unknown = soon(issue(&MemoryStore::new())).await;
    assert_eq!(gate.get(&unknown).await, 401);
    raw(&database, &format!("UPDATE authz_keys SET record = 'x' WHERE id = '{}'", key.record.id())).await;
    assert_eq!(gate.get(&key).await, 500, "a record that cannot be read is refused alone");
    raw(&database, "ALTER TABLE authz_keys RENAME TO elsewhere").await;
    assert_eq!(gate.get(&key).await, 503);
}

/// Returns a certificate authority, and a certificate of the database with its key, all as PEM.
fn certificate() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    (authority.pem(), own.pem(), key.serialize_pem())
}

/// With `sslmode=require` nothing is sent to any server but the authenticated one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_is_with_the_one_that_an_authority_vouches_for() {
    let Some(cluster) = Cluster::new() else { return };
    let (authority, own, key) = certificate();
    for (name, text) in [("server.crt", &own), ("server.key", &key)] {
        let path = PathBuf::from(cluster.data()).join(name);
        std::fs::write(&path, text).unwrap();
        std::os::unix::fs::chown(&path, None, None).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        hand_over(&path);
    }
    let port = free_port();
    let port_setting = format!("port={port}");
    std::fs::write(
        PathBuf::from(cluster.data()).join("pg_hba.conf"),
        "local all all trust\nhostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n",
    )
    .unwrap();
    cluster.start_listening(port, &["-c", &port_setting, "-c", "ssl=on", "-c", "listen_addresses=localhost"]);
    let address = |host: &str, mode: &str| format!("postgres://postgres@{host}:{port}/postgres?sslmode={mode}");
    let trusting = || PostgresOptions::new().root_certificates(authority.as_str());

    let store = soon(trusting().create(&address("localhost", "verify-full"), StoreSettings::new())).await.unwrap();
    let second = soon(trusting().connect(&address("localhost", "require"))).await.unwrap();
    let key = soon(issue(&store)).await;
    let gate = Gate::of(&second);
    assert_eq!(gate.get(&key).await, 200);
    soon(store.as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
    assert_eq!(gate.get(&key).await, 401);

    // The connection is refused without encryption, with an unknown authority, and with another host name.
    let refused = [
        (PostgresOptions::new(), address("localhost", "disable"), "pg_hba.conf"),
        (PostgresOptions::new().root_certificates(certificate().0), address("localhost", "require"), "certificate"),
        (PostgresOptions::new(), address("localhost", "require"), "certificate"),
        (trusting(), address("127.0.0.1", "require"), "certificate"),
    ];
    for (options, address, why) in refused {
        let error = soon(options.connect(&address)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains(why), "{address}: {error}");
    }
    let error =
        soon(PostgresOptions::new().root_certificates("nothing").connect(&address("localhost", "require"))).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Invalid);
    // This server does not support encryption.
    let plain = pooler(&cluster.folder, "session", 5, 0);
    if let Some(port) = plain {
        let address = format!("postgres://postgres@localhost:{port}/postgres?sslmode=require");
        assert!(soon(trusting().connect(&address)).await.is_err());
    }
}

/// Tests the metrics of a replica.
#[test]
fn a_replica_is_measured() {
    if server().is_none() {
        return;
    }
    // The store uses the database on a thread of its own, which has the global recorder of the process.
    static RECORDER: std::sync::OnceLock<metrics_util::debugging::Snapshotter> = std::sync::OnceLock::new();
    let snapshotter = RECORDER.get_or_init(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install().unwrap();
        snapshotter
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (_, store) = first(Duration::from_secs(5)).await;
        soon(issue(&store)).await;
        let begin = Instant::now();
        let mut missing = vec![
            "tower_authz_replica_applied_version",
            "tower_authz_replica_lag_versions",
            "tower_authz_replica_lease_left_seconds",
            "tower_authz_change_seconds",
        ];
        while !missing.is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(10), "not measured: {missing:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            for (key, _, _, value) in snapshotter.snapshot().into_vec() {
                let is_sensible = match &value {
                    DebugValue::Gauge(value) => *value >= 0.into(),
                    DebugValue::Histogram(values) => values.iter().all(|value| *value >= 0.0.into()),
                    DebugValue::Counter(_) => true,
                };
                assert!(is_sensible, "{key:?}: {value:?}");
                missing.retain(|name| *name != key.key().name());
            }
        }
        drop(store.lookup(&tower_authz::Digest::from_key(b"k")));
    });
}
