//! What people do to the database past this program: by SQL, by dumps that are restored, by settings and poolers.

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
    postgres_faults::{LEASE, Proxy, first, replica, soon, until},
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
    let again = soon(a.by("anna").revoke(revoked.record.id(), "")).await.unwrap();
    assert!(!again.changed, "it was revoked already, and nobody admits it");
    change("DELETE FROM authz_keys", deleted.record.id().as_str()).await;
    refused(&deleted, "deleted").await;
    for key in [&revoked, &deleted] {
        let records = a.audit(&AuditQuery::new().key(key.record.id().clone())).await.unwrap();
        let by_hand = records.iter().find(|record| record.action == Action::ChangedBySql).unwrap();
        assert_eq!(by_hand.by, "postgres");
    }
    // A use is no change, and neither is one of ours told twice.
    let before = a.audit(&AuditQuery::new()).await.unwrap().len();
    change("UPDATE authz_keys SET last_used = now()", other.record.id().as_str()).await;
    soon(a.by("anna").rename(other.record.id(), "another")).await.unwrap();
    assert_eq!(a.audit(&AuditQuery::new()).await.unwrap().len(), before + 1);
    // Settings are a change as well.
    let directory = tower_authz::Directory::builder().shop("de", Some("1")).build().unwrap();
    let settings = StoreSettings::new().directory(directory).to_json().unwrap();
    raw(&database, &format!("UPDATE authz_counter SET settings = '{settings}'")).await;
    let known = || tower_authz::store::KeyStore::directory(&b).company_of("de").map(str::to_owned);
    until("the directory is known", async || known().as_deref() == Some("1")).await;
    raw(&database, "TRUNCATE authz_keys").await;
    refused(&other, "truncated").await;
}

/// How leases can be lost while a replica still holds one.
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
        // Longer than any lease in the dump.
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
        soon(command.unwrap().by("anna").revoke(key.record.id(), "lost")).await.unwrap();
        let status = gate.get(&key).await;
        assert_ne!(status, 200, "{how}: admitted {:?} after the revocation began", begin.elapsed());
        let _ = std::fs::remove_file(dump);
    }
}

/// What stands in the way is told for what it is.
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
        Ok(command) => soon(command.by("anna").revoke(key.record.id(), "")).await.map(drop).unwrap_err(),
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
    soon(a.by("anna").revoke(record.id(), "lost")).await.unwrap();
    soon(a.by("anna").delete(record.id())).await.unwrap();
    let old = "ALTER TABLE authz_audit DISABLE TRIGGER USER; UPDATE authz_audit SET at = now() - interval '2 hours';
               ALTER TABLE authz_audit ENABLE TRIGGER USER";
    raw(&database, old).await;
    assert_eq!(soon(a.by("anna").prune_audit(super::in_seconds(-4000))).await.unwrap(), 3);
    assert_eq!(a.audit(&AuditQuery::new()).await.unwrap().len(), 2);
    assert_eq!(soon(a.by("anna").import([record])).await.unwrap().refused, 1);
    soon(a.by("anna").revoke(living.record.id(), "lost")).await.unwrap();
    assert_eq!(Gate::of(&b).get(&living).await, 401);
    assert!(b.lease_left() > Duration::ZERO, "it goes on");
}
