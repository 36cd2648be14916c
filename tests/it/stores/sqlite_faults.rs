//! Tests faults while a SQLite store is open: rows that cannot be read, a full disk, a file that is locked or
//! missing.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::Method;
use rusqlite::params;
use tower_authz::{
    Grant, KeyRecord,
    store::{
        Action, IssuedKey, KeyAdmin as _, KeyQuery, NewKey, Overlap, SqliteOptions, SqliteStore, StoreErrorKind,
        StoreSettings,
    },
};

use crate::stores::{
    Durable as _, Fixture as _, Gate, all, audit,
    child::Process,
    issue,
    sqlite::{Folder, Sqlite, raw},
};

/// Returns a list of the reported faults, and options that report them to it.
fn listening() -> (Arc<Mutex<Vec<String>>>, SqliteOptions) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let options = SqliteOptions::new().on_fault({
        let heard = Arc::clone(&heard);
        move |fault: &str| heard.lock().unwrap().push(fault.to_owned())
    });
    (heard, options)
}

/// Returns a file with one valid key, and one for each way in which a row can be invalid.
async fn with_broken_rows() -> (Folder, IssuedKey, Vec<IssuedKey>) {
    const BREAKS: [&str; 11] = [
        "record = 'garbage'",
        "record = '{\"permissions\":{\"products\":\"admin\"}}'",
        "record = '{\"restrictions\":{\"shops\":{\"include\":[\"de\"]}}}'",
        "record = '[]'",
        // Of two values, nobody could tell which one holds.
        "record = '{\"permissions\":{\"products\":\"read\"},\"permissions\":{}}'",
        "record = json_insert(record, '$.expires_at', '2200-01-01T00:00:00Z')",
        "record = json_insert(record, '$.digest', lower(hex(digest)))",
        // A newer program may restrict the key by a field that this one does not know.
        "record = json_insert(record, '$.hours', 'office')",
        "version = -1",
        "expires_at = 9223372036854775807",
        "record = CAST(x'7b226e616d65223a22ff227d' AS TEXT)",
    ];
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let good = issue(fixture.store()).await;
    let mut broken = Vec::new();
    for _ in BREAKS {
        broken.push(issue(fixture.store()).await);
    }
    let folder = fixture.close();
    let file = raw(&folder.file());
    for (key, how) in broken.iter().zip(BREAKS) {
        let id = key.record.id().as_str();
        assert_eq!(file.execute(&format!("UPDATE keys SET {how} WHERE id = ?1"), [id]).unwrap(), 1);
    }
    (folder, good, broken)
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_refused_alone_and_reported() {
    let (folder, good, broken) = with_broken_rows().await;
    let (heard, options) = listening();
    let store = options.open(folder.file()).unwrap();
    let gate = Gate::of(&store);
    assert_eq!(gate.get(&good).await, 200);
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), broken.len(), "{heard:?}");
    let page = store.list(&KeyQuery::new()).await.unwrap();
    assert_eq!(page.records, std::slice::from_ref(&good.record));
    assert_eq!(page.unreadable.len(), broken.len());
    for key in &broken {
        let id = key.record.id();
        assert_eq!(gate.get(key).await, 500, "{id} admits nobody, and is not thrown away either");
        assert!(heard.iter().any(|fault| fault.contains(id.as_str())), "{heard:?}");
        assert!(page.unreadable.iter().any(|listed| listed.id == id.as_str() && !listed.why.is_empty()));
        let shown = store.show(id).await.unwrap_err();
        assert_eq!(shown.kind(), StoreErrorKind::Unreadable, "{shown}");
        for refused in [
            store.as_actor("test").rename(id, "n").await.unwrap_err(),
            store.as_actor("test").rotate(id, Overlap::UntilRevoked).await.unwrap_err(),
        ] {
            assert_eq!(refused.kind(), StoreErrorKind::Unreadable);
            assert!(refused.to_string().ends_with("; revoke or delete it"), "{refused}");
        }
        let revoked = store.as_actor("test").revoke(id, "nobody can read it").await.unwrap();
        assert!(revoked.changed && revoked.record.is_none(), "whoever can read it again some day finds it revoked");
        let exported = store.export().await.unwrap_err().to_string();
        assert!(exported.contains("key "), "an export that leaves keys out would be taken for all: {exported}");
        assert!(store.as_actor("test").delete(id).await.unwrap().changed);
        assert_eq!(gate.get(key).await, 401, "deleted");
    }
    assert_eq!(store.export().await.unwrap().records().len(), 1);
    let deleted = audit(&store).await.into_iter().filter(|record| record.action == Action::Deleted);
    assert_eq!(deleted.count(), broken.len());
}

/// A key that nobody can read is revoked with the others of its owner.
#[tokio::test]
async fn all_keys_of_an_owner_are_revoked_also_those_that_nobody_can_read() {
    let folder = Folder::new();
    let store = SqliteStore::create(folder.file(), StoreSettings::new()).unwrap();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let grant = Grant::builder().read("products").build().unwrap();
        keys.push(store.as_actor("test").issue(NewKey::new("k", grant).owner("acct-7")).await.unwrap());
    }
    let broken = keys[0].record.id().as_str();
    raw(&folder.file()).execute("UPDATE keys SET record = 'garbage' WHERE id = ?1", [broken]).unwrap();
    let revoked = store.as_actor("test").revoke_all_of("acct-7", "").await.unwrap();
    assert_eq!((revoked.records.len(), revoked.unreadable), (1, 1));
    let left: i64 = raw(&folder.file())
        .query_row("SELECT count(*) FROM keys WHERE revoked_at IS NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

/// With pages of one key, each invalid row is on exactly one page.
#[tokio::test]
async fn unreadable_rows_stand_on_one_page_each() {
    let (folder, _, broken) = with_broken_rows().await;
    let store = listening().1.open(folder.file()).unwrap();
    issue(&store).await;
    issue(&store).await;
    let mut query = KeyQuery::new().limit(1);
    let (mut ids, mut unreadable) = (Vec::new(), Vec::new());
    loop {
        let page = store.list(&query).await.unwrap();
        ids.extend(page.records);
        unreadable.extend(page.unreadable.into_iter().map(|listed| listed.id));
        let Some(last) = page.next else { break };
        query = query.after(last);
    }
    let mut expected: Vec<_> = broken.iter().map(|key| key.record.id().to_string()).collect();
    expected.sort();
    assert_eq!((ids.len(), unreadable), (3, expected));
}

/// The digest can no longer be looked up, so the key is unknown. Other keys must not be affected.
#[tokio::test]
async fn a_digest_of_another_length_is_refused_alone_and_reported() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let (good, broken) = (issue(fixture.store()).await, issue(fixture.store()).await);
    let folder = fixture.close();
    let file = raw(&folder.file());
    file.pragma_update(None, "ignore_check_constraints", true).unwrap();
    file.execute("UPDATE keys SET digest = x'00' WHERE id = ?1", [broken.record.id().as_str()]).unwrap();
    drop(file);
    let (heard, options) = listening();
    let store = options.open(folder.file()).unwrap();
    let gate = Gate::of(&store);
    assert_eq!((gate.get(&good).await, gate.get(&broken).await), (200, 401));
    assert!(heard.lock().unwrap()[0].contains(broken.record.id().as_str()));
    assert_eq!(store.list(&KeyQuery::new()).await.unwrap().unreadable.len(), 1);
    assert!(store.as_actor("test").revoke(broken.record.id(), "lost").await.unwrap().changed);
    // The row can also be changed by SQL.
    let file = raw(&folder.file());
    for sql in ["UPDATE keys SET record = '{}' WHERE id = ?1", "DELETE FROM keys WHERE id = ?1"] {
        assert_eq!(file.execute(sql, [broken.record.id().as_str()]), Ok(1), "{sql}");
    }
    assert!(store.list(&KeyQuery::new()).await.unwrap().unreadable.is_empty());
}

/// Another process, of a newer version, writes a row that this one cannot read.
#[tokio::test]
async fn a_row_that_becomes_unreadable_is_refused_from_then_on() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let (heard, options) = listening();
    let store = options.open(fixture.file()).unwrap();
    let (good, broken) = (issue(fixture.store()).await, issue(fixture.store()).await);
    let file = raw(&fixture.file());
    let id = broken.record.id().as_str();
    let gate = Gate::of(&store);
    let begin = Instant::now();
    // It has read the row before.
    while gate.get(&broken).await != 200 {
        assert!(begin.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    file.execute("UPDATE keys SET record = 'garbage' WHERE id = ?1", [id]).unwrap();
    let sql = "INSERT INTO audit (at, who, action, key_id, digest) VALUES (0, 'raw', 'grant-changed', ?1, ?2)";
    file.execute(sql, params![id, broken.record.digest().as_bytes()]).unwrap();
    let begin = Instant::now();
    while gate.get(&broken).await != 500 {
        assert!(begin.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(gate.get(&good).await, 200);
    assert!(heard.lock().unwrap().iter().any(|fault| fault.contains(id)));
}

#[tokio::test]
async fn a_locked_file_is_an_error_to_the_writer_and_nothing_to_look_ups() {
    for lock in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let fixture = Sqlite::fresh(StoreSettings::new()).await;
        // The limit is shorter than the lock: a locked file must not be taken for an unreadable one.
        let store = &SqliteOptions::new().stale_after(Duration::from_millis(500)).open(fixture.file()).unwrap();
        let gate = Gate::of(store);
        let key = issue(store).await;
        let file = raw(&fixture.file());
        file.execute_batch(lock).unwrap();

        let begin = Instant::now();
        let writer = tokio::spawn({
            let (store, id) = (store.clone(), key.record.id().clone());
            async move { store.as_actor("test").revoke(&id, "").await.map(drop) }
        });
        let (mut look_ups, mut slow) = (0, 0);
        while !writer.is_finished() {
            let one = Instant::now();
            assert_eq!(gate.get(&key).await, 200);
            slow += usize::from(one.elapsed() > Duration::from_millis(50));
            look_ups += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let error = writer.await.unwrap().unwrap_err();
        let waited = begin.elapsed();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(error.to_string(), "another process holds the file locked");
        assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&waited), "it waited {waited:?}");
        // The system may have interrupted this thread now and then.
        assert!(look_ups > 100 && slow * 100 <= look_ups, "{slow} of {look_ups} look-ups took more than 50 ms");

        // Reads continue as well, and a waiting writer proceeds as soon as the lock is released.
        assert_eq!(all(store).await.len(), 1);
        let release = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(300));
            file.execute_batch("ROLLBACK").unwrap();
        });
        store.as_actor("test").revoke(key.record.id(), "").await.unwrap();
        assert_eq!(gate.get(&key).await, 401);
        release.await.unwrap();
        let changes: Vec<_> = audit(store).await.iter().map(|record| record.action).collect();
        assert_eq!(changes, [Action::Issued, Action::Revoked], "what failed has left nothing");
    }
}

/// The writes really fail, because the process may not enlarge its files.
#[tokio::test]
async fn a_full_disk_is_an_error_to_the_writer_and_nothing_to_look_ups() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let first = issue(fixture.store()).await;
    let place = fixture.place();
    let folder = fixture.close();
    let mut child = Process::start_limited::<Sqlite>(&place, 600);
    let mut issued = Vec::new();
    let message = loop {
        let answer = child.ask(&format!("issue key-{}", issued.len()));
        match answer.split(' ').collect::<Vec<_>>()[..] {
            ["issued", id, secret] => issued.push((id.to_owned(), secret.to_owned())),
            _ => break answer,
        }
        assert!(issued.len() < 2000, "the limit has no effect");
    };
    assert!(["error: the disk is full", "error: disk I/O error; is the disk full?"].contains(&&*message), "{message}");
    assert!(issued.len() > 5, "{}", issued.len());
    // Further attempts are errors as well, and look-ups are not affected. A small change may still fit.
    let mut revoked = Vec::new();
    for (id, secret) in issued.iter().rev().take(5) {
        assert_eq!(child.ask(&format!("get {secret}")), "200");
        match &*child.ask(&format!("revoke {id} full")) {
            "done" => revoked.push(id.clone()),
            message => assert!(message.starts_with("error: "), "{message}"),
        }
        let status = if revoked.contains(id) { "401" } else { "200" };
        assert_eq!(child.ask(&format!("get {secret}")), status, "what failed is not in force");
    }
    assert!(revoked.len() < 5, "the disk is not full any more");
    assert_eq!(child.ask(&format!("get {}", first.api_key.expose())), "200");
    child.kill();

    Sqlite::assert_sound(&place).await;
    let store = SqliteStore::open(folder.file()).unwrap();
    let gate = Gate::of(&store);
    for (id, secret) in &issued {
        let status = if revoked.contains(id) { 401 } else { 200 };
        assert_eq!(gate.ask(Method::GET, "de", secret).await, status, "{id} was acknowledged");
    }
    assert_eq!(all(&store).await.len(), issued.len() + 1, "and nothing that was not");
    assert_eq!(audit(&store).await.len(), issued.len() + 1 + revoked.len());
    issue(&store).await;
}

#[tokio::test]
async fn look_ups_end_when_the_file_is_gone_or_another() {
    for replaced in [false, true] {
        let fixture = Sqlite::fresh(StoreSettings::new()).await;
        let key = issue(fixture.store()).await;
        let folder = fixture.close();
        let (heard, options) = listening();
        let store = options.stale_after(Duration::from_millis(600)).open(folder.file()).unwrap();
        let gate = Gate::of(&store);
        let aside = folder.path().join("aside");
        if replaced {
            SqliteStore::create(&aside, StoreSettings::new()).unwrap();
        }
        let begin = Instant::now();
        if replaced {
            std::fs::rename(folder.file(), folder.path().join("old")).unwrap();
            std::fs::rename(&aside, folder.file()).unwrap();
        } else {
            std::fs::rename(folder.file(), &aside).unwrap();
        }
        let refused = store.as_actor("test").revoke(key.record.id(), "").await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Unavailable, "a change would go where nobody sees it");
        assert!(!refused.to_string().contains(char::is_control));
        while gate.get(&key).await == 200 {
            assert!(begin.elapsed() < Duration::from_secs(2), "it goes on for ever");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(550), "a moment is allowed: {:?}", begin.elapsed());
        assert_eq!(gate.get(&key).await, 503);
        let reported = heard.lock().unwrap().clone();
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(reported[0].starts_with("the key store cannot be read, requests are refused: "), "{reported:?}");
        if !replaced {
            // An administrator restores the file.
            std::fs::rename(&aside, folder.file()).unwrap();
            let begin = Instant::now();
            while gate.get(&key).await != 200 {
                assert!(begin.elapsed() < Duration::from_secs(2));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            store.as_actor("test").revoke(key.record.id(), "").await.unwrap();
            assert_eq!(gate.get(&key).await, 401);
        }
    }
}

/// A dump was restored in place, which may have lost revocations, so every request is refused until an administrator
/// has checked it.
#[tokio::test]
async fn a_file_that_goes_back_in_time_is_served_no_more() {
    for goes_on in [false, true] {
        let fixture = Sqlite::fresh(StoreSettings::new()).await;
        let (heard, options) = listening();
        let store = options.stale_after(Duration::from_millis(300)).open(fixture.file()).unwrap();
        let (old, new) = (issue(&store).await, issue(&store).await);
        let gate = Gate::of(&store);
        assert_eq!((gate.get(&old).await, gate.get(&new).await), (200, 200));
        // This restores the state before the second key, after which as many other changes follow as were lost.
        let restore = format!(
            "DROP TRIGGER audit_is_kept; UPDATE writer SET busy = 1; DELETE FROM audit WHERE number > 1;
             DELETE FROM keys WHERE id = '{}'; UPDATE writer SET busy = 0;",
            new.record.id()
        );
        let again = "INSERT INTO audit (number, at, who, action, key_id) SELECT 2, 1, 'x', 'renamed', id FROM keys;";
        let again = if goes_on { again } else { "" };
        raw(&fixture.file()).execute_batch(&format!("BEGIN; {restore} {again} COMMIT")).unwrap();
        let begin = Instant::now();
        while (gate.get(&new).await, gate.get(&old).await) != (503, 503) {
            assert!(begin.elapsed() < Duration::from_secs(3));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(heard.lock().unwrap()[0].contains("lacks a change that it had"));
        assert!(store.as_actor("test").rename(old.record.id(), "another").await.is_err());
        drop((store, gate));
        let gate = Gate::of(&SqliteStore::open(fixture.close().file()).unwrap());
        assert_eq!((gate.get(&old).await, gate.get(&new).await), (200, 401), "as it is, after a restart");
    }
}

/// Whatever else writes to the file, a revoked key stays revoked, and audit records are kept.
#[tokio::test]
async fn the_file_itself_keeps_revocations_and_audit_records() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let key = issue(fixture.store()).await;
    fixture.store().as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
    let file = raw(&fixture.file());
    for sql in [
        "UPDATE keys SET revoked_at = NULL",
        "UPDATE keys SET revoked_at = revoked_at + 1",
        "UPDATE audit SET who = 'nobody'",
    ] {
        let error = file.execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("stays revoked") || error.contains("not changed"), "{error}");
    }
    assert_eq!(Gate::of(fixture.store()).get(&key).await, 401);
}

#[tokio::test]
async fn no_key_is_in_any_file() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let mut keys = vec![issue(store).await];
    for _ in 0..20 {
        let last = keys.last().unwrap().record.id().clone();
        keys.push(store.as_actor("test").rotate(&last, Overlap::UntilRevoked).await.unwrap());
        store.as_actor("test").revoke(&last, "rotated").await.unwrap();
    }
    store.as_actor("test").import([KeyRecord::clone(&keys[0].record)]).await.unwrap();
    let search = |folder: &std::path::Path| {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            for key in &keys {
                let secret = key.api_key.expose().rsplit('_').next().unwrap();
                assert!(!has(secret), "{} has a key in it", path.display());
            }
            // This control shows that the search finds text that is present.
            if has(keys[20].record.id().as_str()) {
                names.push(path.extension().unwrap().to_str().unwrap().to_owned());
            }
        }
        names.sort();
        names
    };
    assert_eq!(search(fixture.folder()), ["sqlite"], "each change is moved to the main file");
    let folder = fixture.close();
    assert_eq!(search(folder.path()), ["sqlite"]);
}

/// A change whose future was dropped after it was sent is made completely or not at all; here the thread receives it
/// before the last handle is dropped.
#[tokio::test]
async fn the_last_handle_waits_for_what_is_under_way() {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    let key = issue(fixture.store()).await;
    {
        let by = fixture.store().as_actor("test");
        let asked = std::pin::pin!(by.rename(key.record.id(), "asked for"));
        let _ = futures::poll!(asked); // sent to the thread, whatever it returns
    }
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store().show(key.record.id()).await.unwrap().name(), "asked for");
}
