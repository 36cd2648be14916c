//! Tests a file with two names, and changes to a file or its companions while it is open. In each case a change takes
//! effect within a second, or the store does not open, or it reports the fault and answers 503 within `stale_after`.

#![cfg(unix)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tower_authz::store::{IssuedKey, KeyAdmin as _, SqliteOptions, SqliteStore, StoreErrorKind, StoreSettings};

use super::{
    Gate,
    child::Process,
    issue,
    sqlite::{Folder, Sqlite, raw},
};

const STALE_AFTER: Duration = Duration::from_millis(500);

/// An open store with a key, and the faults that it reports.
struct Open {
    store: SqliteStore,
    gate: Gate,
    key: IssuedKey,
    heard: Arc<Mutex<Vec<String>>>,
    file: PathBuf,
    _folder: Folder,
}

async fn open() -> Open {
    let folder = Folder::new();
    let file = folder.file();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = Arc::clone(&heard);
    let options = SqliteOptions::new().stale_after(STALE_AFTER);
    let options = options.on_fault(move |fault| listener.lock().unwrap().push(fault.to_owned()));
    let store = options.create(&file, StoreSettings::new()).unwrap();
    let key = issue(&store).await;
    let gate = Gate::of(&store);
    assert_eq!(gate.get(&key).await, 200);
    Open { store, gate, key, heard, file, _folder: folder }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Open {
    /// Checks that the store reports the fault, refuses every request, and makes no more changes.
    async fn refuses(&self, what: &str) {
        let begin = Instant::now();
        while self.gate.get(&self.key).await != 503 {
            assert!(begin.elapsed() < Duration::from_secs(4), "{what}: {:?}", self.heard.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(self.heard.lock().unwrap()[0].contains("requests are refused"), "{what}");
        let changed = self.store.as_actor("test").rename(self.key.record.id(), "another").await;
        assert_eq!(changed.unwrap_err().kind(), StoreErrorKind::Unavailable, "{what}");
    }
}

#[tokio::test]
async fn a_file_with_two_names_is_not_opened() {
    let Open { store, key, file, _folder, .. } = open().await;
    drop(store);
    let link = file.with_file_name("link.sqlite");
    fs::hard_link(&file, &link).unwrap();
    for name in [&file, &link] {
        let error = SqliteStore::open(name).unwrap_err();
        assert!(error.to_string().contains("2 names (hard links)"), "{error}");
    }
    fs::remove_file(&link).unwrap();
    // A symbolic link is not a second name, because SQLite resolves it as well.
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let (one, other) = (SqliteStore::open(&file).unwrap(), SqliteStore::open(&link).unwrap());
    one.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
    let gate = Gate::of(&other);
    let begin = Instant::now();
    while gate.get(&key).await != 401 {
        assert!(begin.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_link_that_is_made_later_is_a_fault() {
    let open = open().await;
    fs::hard_link(&open.file, open.file.with_file_name("link.sqlite")).unwrap();
    open.refuses("a hard link").await;
    fs::remove_file(open.file.with_file_name("link.sqlite")).unwrap();
    let begin = Instant::now();
    while open.gate.get(&open.key).await != 200 {
        assert!(begin.elapsed() < Duration::from_secs(2), "it can be read again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A container that is given the file and not its directory mounts it in this way.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_mounted_alone_is_not_opened() {
    let open = open().await;
    let inside = open.file.with_file_name("inside");
    fs::create_dir(&inside).unwrap();
    let alone = inside.join("keys.sqlite");
    fs::write(&alone, "").unwrap();
    {
        let Some(_mount) = crate::support::Mount::new(&open.file, &alone) else { return };
        let error = SqliteStore::open(&alone).unwrap_err();
        assert!(error.to_string().contains("mount its directory"), "{error}");
        assert!(!beside(&alone, "-wal").exists(), "and nothing was left there");
    }
    // The directory of the file may be mounted anywhere.
    let there = open.file.with_file_name("there");
    fs::create_dir(&there).unwrap();
    let Some(_mount) = crate::support::Mount::new(open.file.parent().unwrap(), &there) else { return };
    let other = SqliteStore::open(there.join("keys.sqlite")).unwrap();
    other.as_actor("test").revoke(open.key.record.id(), "lost").await.unwrap();
    let begin = Instant::now();
    while open.gate.get(&open.key).await != 401 {
        assert!(begin.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(other);
}

#[tokio::test]
async fn what_happens_to_the_file_or_its_companions_is_a_fault() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 8] = [
        ("removed", |file| fs::remove_file(file).unwrap()),
        ("moved away", |file| fs::rename(file, beside(file, ".old")).unwrap()),
        ("replaced", |file| {
            fs::copy(file, beside(file, ".copy")).unwrap();
            fs::rename(beside(file, ".copy"), file).unwrap();
        }),
        ("truncated", |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(0).unwrap()),
        ("its journal removed", |file| fs::remove_file(beside(file, "-wal")).unwrap()),
        ("its journal replaced", |file| {
            let journal = beside(file, "-wal");
            fs::copy(&journal, beside(file, ".copy")).unwrap();
            fs::rename(beside(file, ".copy"), journal).unwrap();
        }),
        ("its shared memory removed", |file| fs::remove_file(beside(file, "-shm")).unwrap()),
        ("its directory moved", |file| {
            let folder = file.parent().unwrap();
            fs::rename(folder, beside(folder, ".old")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let open = open().await;
        harm(&open.file);
        open.refuses(what).await;
        let _ = fs::remove_dir_all(beside(open.file.parent().unwrap(), ".old"));
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_a_fault() {
    let (one, other) = (open().await, open().await);
    let folder = Folder::new();
    let link = folder.file();
    std::os::unix::fs::symlink(&one.file, &link).unwrap();
    let store = SqliteOptions::new().stale_after(STALE_AFTER).on_fault(|_| {}).open(&link).unwrap();
    let gate = Gate::of(&store);
    assert_eq!(gate.get(&one.key).await, 200);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other.file, &link).unwrap();
    let begin = Instant::now();
    while gate.get(&one.key).await != 503 {
        assert!(begin.elapsed() < Duration::from_secs(4));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An old copy is written over the open file: keys that were revoked since must not become valid unnoticed.
#[tokio::test]
async fn a_copy_that_is_written_over_the_open_file_is_a_fault() {
    // A newer change that is only in the journal would hide that the file lacks some.
    for is_in_journal in [false, true] {
        written_over(is_in_journal).await;
    }
}

async fn written_over(is_in_journal: bool) {
    let open = open().await;
    let checkpoint = || raw(&open.file).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    checkpoint();
    let old = fs::read(&open.file).unwrap();
    let revoked = issue(&open.store).await;
    open.store.as_actor("test").revoke(revoked.record.id(), "lost").await.unwrap();
    if !is_in_journal {
        checkpoint();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(open.gate.get(&open.key).await, 200, "a checkpoint is no fault");
    // The file is written in place, as `cp` does it.
    fs::write(&open.file, old).unwrap();
    open.refuses("written over").await;
    assert_ne!(open.gate.get(&revoked).await, 200);
}

impl Open {
    /// Revokes the key in the file of this name by a command in another process.
    fn revoke_elsewhere(&self, file: &Path) {
        let mut command = Process::start::<Sqlite>(file.to_str().unwrap());
        assert_eq!(command.ask(&format!("revoke {} lost", self.key.record.id())), "done");
        command.end();
    }

    /// Ends the server normally and starts another one, in which the key must still be revoked.
    async fn finds_it_revoked_after_a_restart(self) {
        let Self { store, gate, key, file, _folder, .. } = self;
        drop((store, gate));
        let store = SqliteStore::open(&file).unwrap();
        assert_eq!(Gate::of(&store).get(&key).await, 401);
    }
}

/// A key that a command has revoked stays revoked, whatever the server, which does not know of it, writes when it
/// ends.
#[tokio::test]
async fn a_server_that_ends_takes_nothing_back() {
    let open = open().await;
    raw(&open.file).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    open.store.as_actor("test").rename(open.key.record.id(), "another").await.unwrap();
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(beside(&open.file, suffix)).unwrap();
    }
    open.revoke_elsewhere(&open.file);
    open.refuses("its companions removed").await;
    open.finds_it_revoked_after_a_restart().await;
}

#[tokio::test]
async fn a_change_by_another_name_is_noticed_when_the_file_is_back() {
    // The file is missing for a moment in which the store does not poll, or for longer, just after a commit to its
    // journal.
    for (before, away) in [(500, 0), (0, 500)] {
        let open = open().await;
        raw(&open.file).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        tokio::time::sleep(Duration::from_millis(before)).await;
        let aside = beside(&open.file, ".aside");
        fs::rename(&open.file, &aside).unwrap();
        open.revoke_elsewhere(&aside);
        tokio::time::sleep(Duration::from_millis(away)).await;
        fs::rename(&aside, &open.file).unwrap();
        open.refuses("moved away, changed and moved back").await;
        open.finds_it_revoked_after_a_restart().await;
    }
}

/// A command that has waited for the lock checks the file again when it gets it.
#[tokio::test]
async fn a_change_that_has_waited_takes_nothing_back() {
    let open = open().await;
    let (other, lock) = (issue(&open.store).await, raw(&open.file));
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Process::start::<Sqlite>(open.file.to_str().unwrap());
    waiting.tell(&format!("rename {} another", other.record.id()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let aside = beside(&open.file, ".aside");
    fs::rename(&open.file, &aside).unwrap();
    open.revoke_elsewhere(&aside);
    fs::rename(&aside, &open.file).unwrap();
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    assert_ne!(waiting.next().as_deref(), Some("done"));
    drop(waiting);
    open.refuses("changed by another name").await;
    open.finds_it_revoked_after_a_restart().await;
}

/// A change that a reader has kept in the journal is moved to the file when the reader has finished, without another
/// change.
#[tokio::test]
async fn a_reader_keeps_a_change_in_the_journal_no_longer_than_it_reads() {
    let open = open().await;
    let reader = raw(&open.file);
    reader.execute_batch("BEGIN; SELECT * FROM keys").unwrap();
    open.store.as_actor("test").revoke(open.key.record.id(), "lost").await.unwrap();
    let journal = || fs::metadata(beside(&open.file, "-wal")).unwrap().len();
    assert!(journal() > 0, "the reader keeps it there");
    drop(reader);
    let begin = Instant::now();
    while journal() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A change is noticed even if the timestamps of the file are set back.
#[tokio::test]
async fn a_file_whose_times_are_set_back_is_noticed() {
    let open = open().await;
    raw(&open.file).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let modified = fs::metadata(&open.file).unwrap().modified().unwrap();
    let aside = beside(&open.file, ".aside");
    fs::rename(&open.file, &aside).unwrap();
    open.revoke_elsewhere(&aside);
    fs::File::options().write(true).open(&aside).unwrap().set_modified(modified).unwrap();
    fs::rename(&aside, &open.file).unwrap();
    open.refuses("changed, with the time of before").await;
    open.finds_it_revoked_after_a_restart().await;
}

/// A row that has lost its revocation, for whatever reason, admits no request.
#[tokio::test]
async fn a_digest_that_was_revoked_admits_nobody_whatever_its_row_says() {
    let Open { store, key, file, gate, _folder, .. } = open().await;
    store.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
    drop((store, gate));
    let sql = "DROP TRIGGER revoked_is_for_good; DROP TRIGGER revoked_is_not_written_over;
               UPDATE writer SET busy = 1; UPDATE keys SET revoked_at = NULL; UPDATE writer SET busy = 0";
    raw(&file).execute_batch(sql).unwrap();
    for options in [SqliteOptions::new(), SqliteOptions::new().uncached()] {
        let store = options.open(&file).unwrap();
        assert_eq!(Gate::of(&store).get(&key).await, 500);
    }
    let store = SqliteStore::open(&file).unwrap();
    store.as_actor("test").revoke(key.record.id(), "again").await.unwrap();
    assert_eq!(Gate::of(&store).get(&key).await, 401);
}

/// A process that was paused checks the file before it admits a request.
#[tokio::test]
async fn a_process_that_was_paused_admits_nobody_by_what_it_knew() {
    let folder = Folder::new();
    let file = folder.file();
    let store = SqliteStore::create(&file, StoreSettings::new()).unwrap();
    let key = issue(&store).await;
    let mut server = Process::start::<Sqlite>(file.to_str().unwrap());
    let get = format!("get {}", key.api_key.expose());
    assert_eq!(server.ask(&get), "200");
    server.signal("STOP");
    store.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.tell(&get);
    server.signal("CONT");
    assert_ne!(server.next().as_deref(), Some("200"));
}

/// A writer takes the lock of the directory before that of SQLite. While it waits, it still follows the changes of
/// others, gives up in time, and loses no uses.
#[tokio::test]
async fn a_writer_that_waits_for_the_directory_goes_on_following() {
    let Open { store, gate, key, file, _folder, .. } = open().await;
    let other = issue(&store).await;
    let mut holder = std::process::Command::new("flock").arg(_folder.path()).args(["sleep", "2.6"]).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waiting = tokio::spawn({
        let (store, id) = (store.clone(), other.record.id().clone());
        async move { store.as_actor("test").rename(&id, "another").await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    raw(&file).execute_batch(&format!("UPDATE keys SET revoked_at = 1 WHERE id = '{}'", key.record.id())).unwrap();
    let begin = Instant::now();
    while gate.get(&key).await != 401 {
        assert!(begin.elapsed() < Duration::from_secs(1), "the change of another is not followed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = waiting.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("another process holds the file locked"), "{error}");
    assert_eq!(gate.get(&other).await, 200);
    drop((store, gate)); // waits until the directory is unlocked, and writes the uses
    holder.wait().unwrap();
    let store = SqliteStore::open(&file).unwrap();
    assert!(store.show(other.record.id()).await.unwrap().last_used().is_some());
}

/// An acknowledged change is in the file itself, so a truncated journal loses nothing.
#[tokio::test]
async fn a_truncated_journal_loses_no_change() {
    let folder = Folder::new();
    let file = folder.file();
    let store = SqliteStore::create(&file, StoreSettings::new()).unwrap();
    let key = issue(&store).await;
    drop(store); // moves the journal to the file itself
    let mut server = Process::start::<Sqlite>(file.to_str().unwrap());
    let id = key.record.id();
    assert_eq!(server.ask(&format!("rename {id} another")), "done");
    let journal = fs::OpenOptions::new().write(true).open(beside(&file, "-wal")).unwrap();
    journal.set_len(0).unwrap();
    assert_eq!(server.ask(&format!("revoke {id} lost")), "done");
    server.kill();
    let store = SqliteStore::open(&file).unwrap();
    assert_eq!(Gate::of(&store).get(&key).await, 401);
}

/// The last uses are written although a command locks the file at that moment.
#[tokio::test]
async fn uses_are_written_down_at_the_end_though_the_file_is_locked_for_a_moment() {
    let Open { store, gate, key, file, _folder, .. } = open().await;
    let lock = raw(&file);
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        lock.execute_batch("ROLLBACK").unwrap();
    });
    drop((store, gate));
    release.join().unwrap();
    let store = SqliteStore::open(&file).unwrap();
    assert!(store.show(key.record.id()).await.unwrap().last_used().is_some());
}

/// An uncached store for commands reads and changes the keys that another one serves.
#[tokio::test]
async fn a_store_without_memory_sees_and_makes_the_same_changes() {
    let open = open().await;
    let command = SqliteOptions::new().uncached().open(&open.file).unwrap();
    let gate = Gate::of(&command);
    assert_eq!((gate.get(&open.key).await, format!("{command:?}")), (200, "SqliteStore { keys: 0, .. }".to_owned()));
    let key = issue(&command).await;
    assert_eq!(gate.get(&key).await, 200);
    let begin = Instant::now();
    while open.gate.get(&key).await != 200 {
        assert!(begin.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    open.store.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
    assert_eq!(gate.get(&key).await, 401, "at once: each look-up asks the file");
    command.as_actor("test").revoke(open.key.record.id(), "lost").await.unwrap();
    assert_eq!(gate.get(&open.key).await, 401);
    let begin = Instant::now();
    while open.gate.get(&open.key).await != 401 {
        assert!(begin.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
