//! Tests changes to the database without this program: by SQL, by restored dumps, by settings and poolers.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tower_authz::store::{Action, AuditQuery, KeyAdmin as _, PostgresOptions, PostgresStore, StoreSettings};

use super::{
    Gate,
    cluster::pooler,
    issue,
    postgres::{address, raw, server},
    postgres_faults::{LEASE, Proxy, first, replica, soon, try_raw, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_by_sql_is_in_force_on_every_replica_and_on_record() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let b = replica(&address(&database), "second", LEASE).await;
    let gates = [Gate::of(&a), Gate::of(&b)];
    let refused = async |key, what: &str| {
        until(what, async || gates[0].get(key).await == 401 && gates[1].get(key).await == 401).await;
    };
    let [revoked, deleted, other] = [soon(issue(&a)).await, soon(issue(&a)).await, soon(issue(&a)).await];
    let change = async |sql: &str, id: &str| raw(&database, &format!("{sql} WHERE id = '{id}'")).await;
    change("UPDATE authz_keys SET revoked_at = now()", revoked.record.id().as_str()).await;
    refused(&revoked, "revoked").await;
    let again = soon(a.as_actor("anna").revoke(revoked.record.id(), "")).await.unwrap();
    assert!(!again.changed, "it was revoked already, and nobody admits it");
    change("DELETE FROM authz_keys", deleted.record.id().as_str()).await;
    refused(&deleted, "deleted").await;
    for key in [&revoked, &deleted] {
        let records = a.audit(&AuditQuery::new().key(key.record.id().clone())).await.unwrap();
        let by_hand = records.iter().find(|record| record.action == Action::ChangedBySql).unwrap();
        assert_eq!(by_hand.by, "postgres");
    }
    // A use is not a change, and the store's own changes are recorded only once.
    let before = a.audit(&AuditQuery::new()).await.unwrap().len();
    change("UPDATE authz_keys SET last_used = now()", other.record.id().as_str()).await;
    soon(a.as_actor("anna").rename(other.record.id(), "another")).await.unwrap();
    assert_eq!(a.audit(&AuditQuery::new()).await.unwrap().len(), before + 1);
    // Settings are a change as well.
    let directory = tower_authz::Directory::builder().shop("de", Some("1")).build().unwrap();
    let settings = StoreSettings::new().with_directory(directory).to_json().unwrap();
    raw(&database, &format!("UPDATE authz_counter SET settings = '{settings}'")).await;
    let known = || tower_authz::store::KeyStore::directory(&b).company_of("de").map(str::to_owned);
    until("the directory is known", async || known().as_deref() == Some("1")).await;
    raw(&database, "TRUNCATE authz_keys").await;
    refused(&other, "truncated").await;
}

/// Tests the ways in which leases can be lost while a replica still holds one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_are_lost_are_waited_for() {
    let Some(folder) = server() else { return };
    let lease = Duration::from_secs(2);
    for how in [
        "restored",
        "restored in place",
        "DELETE FROM authz_replicas",
        "TRUNCATE authz_replicas",
        "UPDATE authz_replicas SET lease_until = now()",
    ] {
        let (database, a) = first(lease).await;
        let key = soon(issue(&a)).await;
        let run = |program: &str, arguments: &[&str]| {
            let host = folder.to_str().unwrap();
            let done =
                Command::new(program).args(["-h", host, "-U", "postgres", "-d", &database]).args(arguments).output();
            let done = done.unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        };
        let dump = folder.join(format!("{database}.sql"));
        let file = dump.to_str().unwrap().to_owned();
        match how {
            "restored" => drop(run("pg_dump", &["--clean", "--if-exists", "-f", &file])),
            "restored in place" => drop(run("pg_dump", &["--data-only", "-f", &file])),
            _ => {}
        }
        let proxy = Proxy::to(&database).await;
        let b = replica(&proxy.address(), "cut off", lease).await;
        let gate = Gate::of(&b);
        // The pause is longer than any lease in the dump.
        sleep(lease + Duration::from_millis(200)).await;
        drop(a);
        assert_eq!(gate.get(&key).await, 200);
        proxy.stall();
        match how {
            "restored" => drop(run("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-f", &file])),
            "restored in place" => {
                let empty = "TRUNCATE authz_replicas, authz_keys; DELETE FROM authz_counter; \
                             ALTER TABLE authz_audit DISABLE TRIGGER audit_is_kept; DELETE FROM authz_audit; \
                             ALTER TABLE authz_audit ENABLE TRIGGER audit_is_kept";
                run("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-c", empty]);
                run("psql", &["-q", "-v", "ON_ERROR_STOP=1", "-f", &file]);
            }
            sql => raw(&database, sql).await,
        }
        let begin = Instant::now();
        let command =
            soon(PostgresOptions::new().uncached().lease(Duration::from_millis(100)).connect(&address(&database)))
                .await;
        soon(command.unwrap().as_actor("anna").revoke(key.record.id(), "lost")).await.unwrap();
        let status = gate.get(&key).await;
        assert_ne!(status, 200, "{how}: admitted {:?} after the revocation began", begin.elapsed());
        let _ = std::fs::remove_file(dump);
    }
}

/// The leases are lost while a change already waits for them, or because the table was replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_are_lost_while_a_change_waits_are_waited_for() {
    if server().is_none() {
        return;
    }
    let lease = Duration::from_secs(3);
    let anew = "CREATE TABLE saved AS SELECT * FROM authz_replicas WHERE false; \
                CREATE TABLE other (LIKE authz_replicas INCLUDING ALL); DROP TABLE authz_replicas; \
                ALTER TABLE other RENAME TO authz_replicas";
    for (is_before, how) in [
        (false, "DELETE FROM authz_replicas"),
        (false, "TRUNCATE authz_replicas"),
        (false, "UPDATE authz_replicas SET id = id || 'x'"),
        (false, "UPDATE authz_replicas SET applied = applied + 100"),
        (true, "UPDATE authz_replicas SET applied = applied + 100"),
        (true, anew),
        (true, "UPDATE authz_counter SET longest_lease = '0'; DELETE FROM authz_replicas"),
    ] {
        let (database, a) = first(Duration::from_millis(100)).await;
        let key = soon(issue(&a)).await;
        let proxy = Proxy::to(&database).await;
        let b = replica(&proxy.address(), "cut off", lease).await;
        let gate = Gate::of(&b);
        assert_eq!(gate.get(&key).await, 200);
        proxy.stall();
        if is_before {
            raw(&database, how).await;
        }
        let (id, by) = (key.record.id().clone(), a.clone());
        let revoking = tokio::spawn(async move { soon(by.as_actor("anna").revoke(&id, "lost")).await.unwrap() });
        sleep(Duration::from_millis(300)).await;
        if !is_before {
            raw(&database, how).await;
        }
        revoking.await.unwrap();
        assert_ne!(gate.get(&key).await, 200, "before: {is_before}, {how}");
    }
}

/// Overlapping transactions neither restore a revoked key nor remove keys unnoticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_overlap_bring_nobody_back() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let gate = Gate::of(&a);
    let keys = [soon(issue(&a)).await, soon(issue(&a)).await, soon(issue(&a)).await];
    let [id, moved, stays] = [0, 1, 2].map(|index| keys[index].record.id().clone());
    raw(&database, "CREATE TABLE saved AS SELECT id, digest, record, version FROM authz_keys").await;
    let back = |id: &tower_authz::KeyId| {
        format!("INSERT INTO authz_keys (id, digest, record, version) SELECT * FROM saved WHERE id = '{id}'")
    };

    let first = format!(
        "BEGIN; UPDATE authz_keys SET revoked_at = now() WHERE id = '{id}'; DELETE FROM authz_keys WHERE id = '{id}'; \
         SELECT pg_sleep(1); COMMIT"
    );
    let at_work = tokio::spawn({
        let database = database.clone();
        async move { try_raw(&database, &first).await.unwrap() }
    });
    sleep(Duration::from_millis(300)).await;
    let error = try_raw(&database, &back(&id)).await.unwrap_err();
    assert!(error.contains("a revoked key stays revoked"), "{error}");
    at_work.await.unwrap();
    let old = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT set_config('authz.writer', 'yes', true); SELECT 1 FROM authz_keys; \
         {}; COMMIT",
        back(&id)
    );
    let error = try_raw(&database, &old).await.unwrap_err();
    assert!(error.contains("READ COMMITTED"), "{error}");

    let other = "sha256(random()::text::bytea)";
    raw(&database, &format!("UPDATE authz_keys SET revoked_at = now(), digest = {other} WHERE id = '{moved}'")).await;
    let again = back(&moved).replace("SELECT *", "SELECT id || 'x', digest, record, version");
    let error = try_raw(&database, &again).await.unwrap_err();
    assert!(error.contains("a revoked key stays revoked"), "the digest that it had: {error}");

    let truncate = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM authz_keys; SELECT pg_sleep(1); \
                    TRUNCATE authz_keys; COMMIT";
    let truncating = tokio::spawn({
        let database = database.clone();
        async move { try_raw(&database, truncate).await }
    });
    sleep(Duration::from_millis(300)).await;
    soon(issue(&a)).await;
    let error = truncating.await.unwrap().unwrap_err();
    assert!(error.contains("could not serialize"), "{error}");
    until("the others go on", async || gate.get(&keys[2]).await == 200).await;

    raw(&database, "ALTER TABLE authz_keys DISABLE TRIGGER revoked_is_remembered").await;
    let command = soon(PostgresOptions::new().uncached().connect(&address(&database))).await;
    let error = command.err().unwrap().to_string();
    assert!(error.contains("triggers of the tables are missing or disabled"), "{error}");
    drop(stays);
}

/// A transaction that locks the row of a key prevents its revocation, which is reported, and blocks nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_key_holds_nobody_else_up() {
    if server().is_none() {
        return;
    }
    let lease = Duration::from_secs(2);
    let (database, a) = first(lease).await;
    let gate = Gate::of(&a);
    let (locked, other) = (soon(issue(&a)).await, soon(issue(&a)).await);
    let lock = format!(
        "BEGIN; SELECT 1 FROM authz_keys WHERE id = '{}' FOR UPDATE; SELECT pg_sleep(5); COMMIT",
        locked.record.id()
    );
    let holding = tokio::spawn({
        let database = database.clone();
        async move { try_raw(&database, &lock).await.unwrap() }
    });
    sleep(Duration::from_millis(300)).await;
    let revoking = tokio::spawn({
        let (a, id) = (a.clone(), locked.record.id().clone());
        async move { a.as_actor("anna").revoke(&id, "lost").await }
    });
    while !holding.is_finished() {
        assert_eq!(gate.get(&other).await, 200);
        sleep(Duration::from_millis(20)).await;
    }
    let error = revoking.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("nothing was changed, try again"), "{error}");
    soon(a.as_actor("anna").revoke(locked.record.id(), "lost")).await.unwrap();
    assert_eq!(gate.get(&locked).await, 401);
}

/// Each error names its actual cause, such as a pooler or a setting of the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_poolers_are_told_for_what_they_are() {
    let Some(folder) = server() else { return };
    let (database, store) = first(LEASE).await;
    let key = soon(issue(&store)).await;
    let Some(port) = pooler(folder, "statement", 2, 0) else { return };
    let through = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    let error = soon(PostgresStore::connect(&through)).await.unwrap_err().to_string();
    assert!(error.contains("pooler in session mode"), "{error}");
    drop(store);
    raw("postgres", &format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    let command = soon(PostgresOptions::new().uncached().connect(&address(&database))).await;
    let error = match command {
        Ok(command) => soon(command.as_actor("anna").revoke(key.record.id(), "")).await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert!(error.to_string().contains("default_transaction_read_only"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_thinned_out_is_followed_as_before() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let b = replica(&address(&database), "second", LEASE).await;
    let [revoked, living] = [soon(issue(&a)).await, soon(issue(&a)).await];
    let record = tower_authz::KeyRecord::clone(&revoked.record);
    soon(a.as_actor("anna").revoke(record.id(), "lost")).await.unwrap();
    soon(a.as_actor("anna").delete(record.id())).await.unwrap();
    let old = "ALTER TABLE authz_audit DISABLE TRIGGER USER; UPDATE authz_audit SET at = now() - interval '2 hours';
               ALTER TABLE authz_audit ENABLE TRIGGER USER";
    raw(&database, old).await;
    assert_eq!(soon(a.as_actor("anna").prune_audit(super::in_seconds(-4000))).await.unwrap(), 3);
    assert_eq!(a.audit(&AuditQuery::new()).await.unwrap().len(), 2);
    assert_eq!(soon(a.as_actor("anna").import([record])).await.unwrap().refused, 1);
    soon(a.as_actor("anna").revoke(living.record.id(), "lost")).await.unwrap();
    assert_eq!(Gate::of(&b).get(&living).await, 401);
    assert!(b.lease_left() > Duration::ZERO, "it goes on");
}

/// A replica is disconnected for a moment, misses a change, and the audit log is pruned up to that change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_cut_off_follows_a_log_that_was_thinned_out() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let proxy = Proxy::to(&database).await;
    let b = replica(&proxy.address(), "cut off", LEASE).await;
    let [revoked, living] = [soon(issue(&a)).await, soon(issue(&a)).await];
    let gate = Gate::of(&b);
    assert_eq!((gate.get(&revoked).await, gate.get(&living).await), (200, 200));
    let old = "ALTER TABLE authz_audit DISABLE TRIGGER USER; UPDATE authz_audit SET at = now() - interval '2 hours';
               ALTER TABLE authz_audit ENABLE TRIGGER USER";
    raw(&database, old).await;
    proxy.stall();
    soon(a.as_actor("anna").revoke(revoked.record.id(), "lost")).await.unwrap();
    assert_eq!(soon(a.as_actor("anna").prune_audit(super::in_seconds(-4000))).await.unwrap(), 1);
    proxy.open();
    until("it is back", async || {
        assert!([401, 503].contains(&gate.get(&revoked).await), "revoked");
        gate.get(&living).await == 200
    })
    .await;
    assert_eq!(gate.get(&revoked).await, 401);
}

/// Functions that run with the rights of the owner are of no use to any other role.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_may_do_is_done_for_these_tables_alone() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    let stranger = format!("stranger_{database}");
    raw(&database, &format!("CREATE ROLE {stranger} LOGIN")).await;
    let address = address(&database).replace("user=postgres", &format!("user={stranger}"));
    let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
    let driven = tokio::spawn(connection);
    for function in [
        "authz_remember_revoked",
        "authz_refuse_revoked",
        "authz_counter_changes",
        "authz_lease_is_lost",
        "authz_key_changes",
        "authz_keys_are_gone",
    ] {
        let own = format!(
            "CREATE TEMP TABLE own (digest bytea);
             CREATE TRIGGER own AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION {function}()"
        );
        let error = client.batch_execute(&own).await.unwrap_err();
        let message = error.as_db_error().unwrap().message().to_owned();
        assert!(message.contains("permission denied for function"), "{function}: {message}");
    }
    driven.abort();

    // A temporary table cannot shadow one of these tables: the revocation is still remembered.
    let key = soon(issue(&a)).await;
    let record = tower_authz::KeyRecord::clone(&key.record);
    let sql = format!(
        "CREATE TEMP TABLE authz_revoked (digest bytea PRIMARY KEY);
         UPDATE authz_keys SET revoked_at = now() WHERE id = '{id}'; DELETE FROM authz_keys WHERE id = '{id}'",
        id = record.id()
    );
    raw(&database, &sql).await;
    assert_eq!(soon(a.as_actor("anna").import([record])).await.unwrap().refused, 1);
}

/// A permission for a resource of that name must not be taken for a revocation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_an_earlier_version_tell_who_was_revoked() {
    if server().is_none() {
        return;
    }
    let database = super::postgres::database().await;
    let key = |name: &str| tower_authz::Digest::from_key(format!("the key of {name}").as_bytes());
    let log = |number: u8, name: &str, after: &str| {
        let digest = key(name);
        format!(
            "INSERT INTO authz_audit (number, change, at, who, action, key_id, digest, after)
             VALUES ({number}, 'c', now(), 'x', 'imported', '{name}', '\\x{digest}', '{after}')"
        )
    };
    let old = [
        include_str!("../../../src/store/postgres/schema_1.sql").to_owned(),
        include_str!("../../../src/store/postgres/schema_2.sql").to_owned(),
        format!(
            "INSERT INTO authz_counter (version, change, settings, schema, oldest) VALUES (2, 'c', '{}', 2, 1)",
            StoreSettings::new().to_json().unwrap()
        ),
        log(1, "dead", r#"{"revoked_at":"2026-01-01T00:00:00Z"}"#),
        log(2, "alive", r#"{"permissions":{"revoked_at":"write"}}"#),
    ];
    raw(&database, &old.join(";\n")).await;
    soon(PostgresStore::migrate(&address(&database))).await.unwrap();
    let store = soon(PostgresOptions::new().lease(LEASE).connect(&address(&database))).await.unwrap();
    let records =
        ["dead", "alive"].map(|name| tower_authz::KeyRecord::builder(name.parse().unwrap(), key(name)).build());
    let back = soon(store.as_actor("anna").import(records)).await.unwrap();
    assert_eq!((back.added, back.refused), (1, 1));
}

/// A counter that was set to the highest numbers by hand is an error, and does not end the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_has_come_to_its_end_is_an_error() {
    if server().is_none() {
        return;
    }
    let (database, a) = first(LEASE).await;
    drop(a);
    let store = soon(PostgresOptions::new().uncached().lease(LEASE).connect(&address(&database))).await.unwrap();
    for version in [i64::MAX - 1, i64::MAX] {
        raw(&database, &format!("UPDATE authz_counter SET version = {version}")).await;
        let grant = tower_authz::Grant::default();
        let issued = soon(store.as_actor("anna").issue(tower_authz::store::NewKey::new("k", grant))).await;
        let error = issued.unwrap_err().to_string();
        assert!(error.contains("counted as many changes as it can"), "{error}");
    }
}
