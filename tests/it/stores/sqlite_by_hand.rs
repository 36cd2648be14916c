//! Tests changes to the file by other programs, and files of earlier versions.

use std::time::{Duration, Instant};

use rusqlite::params;
use tower_authz::{
    Directory, Grant,
    store::{
        Action, AuditQuery, IssuedKey, KeyAdmin as _, KeyStore as _, NewKey, SqliteOptions, SqliteStore, StoreSettings,
    },
};

use super::{
    Fixture as _, Gate, issue,
    sqlite::{Folder, Sqlite, raw},
};

/// Waits until a change is in effect, which should take a second; three are allowed, because the machine may be busy.
async fn becomes(gate: &Gate, key: &IssuedKey, status: u16, what: &str) {
    let begin = Instant::now();
    while gate.get(key).await != status {
        assert!(begin.elapsed() < Duration::from_secs(3), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_changed_by_sql_is_in_force_and_on_record() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let [revoked, deleted, renewed] = [issue(store).await, issue(store).await, issue(store).await];
    let by_hand = raw(&fixture.file());
    let change = |sql: &str, key: &IssuedKey| {
        assert_eq!(by_hand.execute(sql, [key.record.id().as_str()]), Ok(1), "{sql}");
    };
    change("UPDATE keys SET revoked_at = 1 WHERE id = ?1", &revoked);
    becomes(&gate, &revoked, 401, "revoked").await;
    change("DELETE FROM keys WHERE id = ?1", &deleted);
    becomes(&gate, &deleted, 401, "deleted").await;
    change("UPDATE keys SET expires_at = 1 WHERE id = ?1", &renewed);
    becomes(&gate, &renewed, 401, "expired").await;
    change("UPDATE keys SET expires_at = NULL WHERE id = ?1", &renewed);
    becomes(&gate, &renewed, 200, "without an end again").await;
    for key in [&revoked, &deleted] {
        let newest = store.audit(&AuditQuery::new().key(key.record.id().clone()).limit(1)).await.unwrap();
        assert_eq!((newest[0].action, &*newest[0].by), (Action::ChangedBySql, "sql"));
    }
    // A use is not a change, and the store's own changes are recorded only once.
    let before = store.audit(&AuditQuery::new()).await.unwrap().len();
    change("UPDATE keys SET last_used = 7 WHERE id = ?1", &renewed);
    store.as_actor("test").rename(renewed.record.id(), "another").await.unwrap();
    let answer = store.as_actor("test").revoke(revoked.record.id(), "").await.unwrap();
    assert!(!answer.changed, "it was revoked already, and it is refused");
    assert_eq!(store.audit(&AuditQuery::new()).await.unwrap().len(), before + 2);
    assert_eq!(gate.get(&revoked).await, 401);
}

/// The repetition publishes the revocation even if this process was not notified of it, for example without the
/// triggers.
#[tokio::test]
async fn a_revocation_that_is_repeated_is_published_again() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let other = SqliteStore::open(fixture.file()).unwrap();
    let key = issue(fixture.store()).await;
    let (gate, elsewhere) = (Gate::of(fixture.store()), Gate::of(&other));
    becomes(&elsewhere, &key, 200, "known").await;
    let silent = "UPDATE writer SET busy = 1; UPDATE keys SET revoked_at = 1; UPDATE writer SET busy = 0";
    raw(&fixture.file()).execute_batch(&format!("BEGIN; {silent}; COMMIT")).unwrap();
    assert!(!fixture.store().as_actor("test").revoke(key.record.id(), "").await.unwrap().changed);
    assert_eq!(gate.get(&key).await, 401);
    becomes(&elsewhere, &key, 401, "and in every other process").await;
}

/// Keys and directory that one transaction changes take effect at once, in whatever order they are read.
#[tokio::test]
async fn keys_and_directory_of_one_transaction_are_seen_at_once() {
    let of = |company: u8| {
        let directory = Directory::builder().shop("de", Some(&company.to_string())).build().unwrap();
        StoreSettings::new().with_directory(directory)
    };
    let fixture = Sqlite::fresh(of(1)).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let grant = |company: u8| Grant::builder().read("products").only("company", [company]).build().unwrap();
    let key = store.as_actor("test").issue(NewKey::new("k", grant(2))).await.unwrap();
    for _ in 0..300 {
        issue(store).await;
    }
    let mut by_hand = raw(&fixture.file());
    for company in [2, 1, 2, 1] {
        let transaction = by_hand.transaction().unwrap();
        let settings = of(company).to_json().unwrap();
        transaction.execute("UPDATE settings SET value = ?1", [settings]).unwrap();
        let record = format!(
            "{{\"permissions\":{{\"products\":\"read\"}},\"restrictions\":{{\"company\":{{\"include\":[\"{}\"]}}}}}}",
            3 - company
        );
        let sql = "UPDATE keys SET record = ?1, version = version + 1 WHERE id = ?2";
        assert_eq!(transaction.execute(sql, params![record, key.record.id().as_str()]), Ok(1));
        transaction.commit().unwrap();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(400) {
            assert_eq!(gate.get(&key).await, 403, "neither state admits it");
        }
    }
}

/// A file of the first version still remembers which keys were revoked, even if they were deleted or purged since.
#[tokio::test]
async fn files_of_the_first_version_are_migrated() {
    let folder = Folder::new();
    let made = SqliteStore::create(folder.file(), StoreSettings::new()).unwrap();
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(issue(&made).await);
    }
    drop(made);
    let records: Vec<_> = keys.iter().map(|key| tower_authz::KeyRecord::clone(&key.record)).collect();
    // This file has the same content under the first schema. Its log has a revocation, an import of a revoked key,
    // and a purge.
    let first = folder.path().join("first.sqlite");
    let old = raw(&first);
    old.execute_batch(include_str!("../../../src/store/sqlite/schema_1.sql")).unwrap();
    old.execute("ATTACH ?1 AS made", [folder.file().to_str().unwrap()]).unwrap();
    old.execute_batch(
        "INSERT INTO settings SELECT * FROM made.settings; INSERT INTO keys (id, digest, name, may, version)
         SELECT id, digest, record ->> '$.name', json_remove(record, '$.name'), version FROM made.keys",
    )
    .unwrap();
    let log = |number: usize, action: &str, before: &str, after: &str| {
        let sql =
            "INSERT INTO audit (at, who, action, key_id, digest, before, after) VALUES (1, 'x', ?1, ?2, ?3, ?4, ?5)";
        let record = &records[number];
        let values = params![action, record.id().as_str(), record.digest().as_bytes(), before, after];
        old.execute(sql, values).unwrap();
    };
    let (alive, dead) = (r#"{"name":"k"}"#, r#"{"name":"k","revoked_at":"2026-01-01T00:00:00Z"}"#);
    log(0, "revoked", alive, dead);
    log(1, "imported", "", dead);
    log(2, "purged", dead, "");
    log(3, "imported", "no JSON", alive);
    let ids: Vec<_> = records.iter().map(|record| record.id().to_string()).collect();
    for id in &ids[..4] {
        old.execute("DELETE FROM keys WHERE id = ?1", [id]).unwrap();
    }
    old.execute("UPDATE keys SET revoked_at = 5 WHERE id = ?1", [&ids[4]]).unwrap();
    old.execute_batch("DETACH made; PRAGMA user_version = 1; PRAGMA application_id = 1635087464").unwrap();
    drop(old);

    let store = SqliteStore::open(&first).unwrap();
    store.as_actor("test").delete(records[4].id()).await.unwrap();
    let back = store.as_actor("test").import(records.clone()).await.unwrap();
    assert_eq!((back.added, back.refused), (1, 4), "only the one that was never revoked");
    assert_eq!(Gate::of(&store).get(&keys[3]).await, 200);
    let by_hand = raw(&first);
    for sql in ["DELETE FROM revoked", "UPDATE revoked SET digest = zeroblob(32)"] {
        assert!(by_hand.execute_batch(sql).unwrap_err().to_string().contains("stays revoked"), "{sql}");
    }
    let sql = "INSERT INTO keys (id, digest, record, version) VALUES ('k', ?1, '{}', 1)";
    assert!(by_hand.execute(sql, [records[0].digest().as_bytes()]).is_err());
    let sql = "UPDATE keys SET digest = ?1 WHERE id = ?2";
    assert!(by_hand.execute(sql, params![records[0].digest().as_bytes(), ids[3]]).is_err());
}

/// A record with such an origin may already be in the file, and must not make the key unusable elsewhere.
#[tokio::test]
async fn an_origin_that_no_browser_sends_keeps_no_key_from_being_read() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let key = issue(fixture.store()).await;
    let record = r#"{"name":"by hand","permissions":{"products":"read"},"origins":["https://Shop.Example/","*"]}"#;
    raw(&fixture.file()).execute("UPDATE keys SET record = ?1, version = 2", [record]).unwrap();
    let begin = Instant::now();
    while fixture.store().show(key.record.id()).await.unwrap().grant().origins().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(3));
    }
    assert_eq!(Gate::of(fixture.store()).get(&key).await, 200);
}

/// Other processes that have seen the newest record continue, and a revoked key stays revoked.
#[tokio::test]
async fn a_log_that_was_thinned_out_is_followed_as_before() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let other = SqliteStore::open(fixture.file()).unwrap();
    let store = fixture.store();
    let [revoked, living] = [issue(store).await, issue(store).await];
    let record = tower_authz::KeyRecord::clone(&revoked.record);
    store.as_actor("test").revoke(record.id(), "lost").await.unwrap();
    store.as_actor("test").delete(record.id()).await.unwrap();
    let elsewhere = Gate::of(&other);
    becomes(&elsewhere, &revoked, 401, "known").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    raw(&fixture.file()).execute_batch("DROP TRIGGER audit_is_not_changed; UPDATE audit SET at = 1").unwrap();
    // The newest record has changed, so a process that has seen it before would no longer recognize it.
    drop((other, elsewhere));
    let other = SqliteStore::open(fixture.file()).unwrap();
    let elsewhere = Gate::of(&other);
    let store = SqliteStore::open(fixture.file()).unwrap();
    assert_eq!(store.as_actor("anna").prune_audit(crate::stores::in_seconds(-4000)).await.unwrap(), 3);
    let log = store.audit(&AuditQuery::new()).await.unwrap();
    let actions: Vec<_> = log.iter().map(|record| (record.action, record.note.as_deref())).collect();
    assert_eq!(actions, [(Action::AuditPruned, Some("3 records")), (Action::Deleted, None)]);
    assert_eq!(store.as_actor("test").import([record]).await.unwrap().refused, 1);
    store.as_actor("test").revoke(living.record.id(), "lost").await.unwrap();
    becomes(&elsewhere, &living, 401, "and what follows is learnt").await;
}

/// `REPLACE` removes rows without a delete trigger: a replaced key must be as unusable as a deleted one.
#[tokio::test]
async fn what_is_replaced_by_sql_is_gone() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    assert!(store.audit(&AuditQuery::new()).await.unwrap().is_empty(), "a new store has no history");
    let gate = Gate::of(store);
    let [renewed, ousted, moved] = [issue(store).await, issue(store).await, issue(store).await];
    let by_hand = raw(&fixture.file());
    let sql = "REPLACE INTO keys (id, digest, record, version)
               SELECT id, randomblob(32), record, version FROM keys WHERE id = ?1";
    assert_eq!(by_hand.execute(sql, [renewed.record.id().as_str()]), Ok(1));
    becomes(&gate, &renewed, 401, "its secret was replaced").await;
    let sql = "UPDATE OR REPLACE keys SET id = ?1 WHERE id = ?2";
    let ids = [&ousted, &moved].map(|key| key.record.id().as_str());
    assert_eq!(by_hand.execute(sql, ids), Ok(1));
    becomes(&gate, &ousted, 401, "another has its id").await;
    assert_eq!(gate.get(&moved).await, 200);
    let directory = Directory::builder().shop("de", Some("7")).build().unwrap();
    let settings = StoreSettings::new().with_directory(directory).to_json().unwrap();
    by_hand.execute("REPLACE INTO settings VALUES ('settings', ?1)", [settings]).unwrap();
    let begin = Instant::now();
    while store.directory().company_of("de") != Some("7") {
        assert!(begin.elapsed() < Duration::from_secs(3), "settings");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// By settings of before, a key could do what its role no longer allows: without settings nobody is admitted.
#[tokio::test]
async fn settings_that_cannot_be_read_admit_nobody() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let key = issue(fixture.store()).await;
    let options = SqliteOptions::new().stale_after(Duration::from_millis(300)).on_fault(|_| {});
    let store = options.open(fixture.file()).unwrap();
    let gate = Gate::of(&store);
    assert_eq!(gate.get(&key).await, 200);
    let by_hand = raw(&fixture.file());
    let good: String = by_hand.query_row("SELECT value FROM settings", [], |row| row.get(0)).unwrap();
    by_hand.execute("UPDATE settings SET value = 'garbage'", []).unwrap();
    becomes(&gate, &key, 503, "nobody knows what keys may do").await;
    by_hand.execute("UPDATE settings SET value = ?1", [good]).unwrap();
    becomes(&gate, &key, 200, "and now again").await;
}

/// The newest record that another process has seen may be of any age, and that process has not polled yet.
#[tokio::test]
async fn a_process_that_has_not_looked_yet_follows_a_log_that_was_thinned_out() {
    let folder = Folder::new();
    let made = SqliteStore::create(folder.file(), StoreSettings::new()).unwrap();
    let [one, other] = [issue(&made).await, issue(&made).await];
    drop(made);
    raw(&folder.file()).execute_batch("DROP TRIGGER audit_is_not_changed; UPDATE audit SET at = 1").unwrap();
    let (store, late) = (SqliteStore::open(folder.file()).unwrap(), SqliteStore::open(folder.file()).unwrap());
    let gate = Gate::of(&late);
    store.as_actor("anna").revoke(one.record.id(), "lost").await.unwrap();
    assert_eq!(store.as_actor("anna").prune_audit(crate::stores::in_seconds(-4000)).await.unwrap(), 1);
    becomes(&gate, &one, 401, "it goes on").await;
    store.as_actor("anna").revoke(other.record.id(), "lost").await.unwrap();
    becomes(&gate, &other, 401, "and on").await;
}
