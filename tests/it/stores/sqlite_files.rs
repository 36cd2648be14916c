//! Tests which files a SQLite store opens and creates, and the errors for those that it refuses.

use std::{fs, path::Path};

use tower_authz::{
    Dimension, Directory, IdGrammar, KeyFormat, KeyFormats,
    store::{
        KeyAdmin as _, KeyQuery, KeyStore as _, SqliteOptions, SqliteStore, StoreError, StoreErrorKind, StoreSettings,
    },
};

use crate::stores::{
    Dice, Fixture as _, Gate, all, issue,
    sqlite::{Folder, Sqlite, raw},
};

/// Asserts that the error is one line for the user, which begins with the file.
#[track_caller]
fn refused(outcome: Result<SqliteStore, StoreError>, file: &Path, kind: StoreErrorKind, message: &str) {
    let error = outcome.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: ", file.display())), "{text}");
    assert!(text.contains(message), "{text:?} does not say {message:?}");
    assert!(!text.contains(char::is_control), "one line: {text:?}");
    assert_eq!(error.kind(), kind, "{text}");
}

/// Returns a file of some pages, without any companion files.
async fn filled() -> Folder {
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    for _ in 0..60 {
        issue(fixture.store()).await;
    }
    let folder = fixture.close();
    assert!(fs::metadata(folder.file()).unwrap().len() > 8 * 4096);
    folder
}

#[tokio::test]
async fn a_file_that_is_no_store_is_an_error_and_no_empty_store() {
    use StoreErrorKind::{NotFound, Unavailable};
    let folder = Folder::new();
    let file = folder.file();
    refused(SqliteStore::open(&file), &file, NotFound, "there is no such file");
    assert!(!file.exists(), "looking makes nothing");
    refused(SqliteStore::open(folder.path()), folder.path(), Unavailable, "it is not a file");
    let text = "id,name\n".repeat(1000);
    let header = "SQLite format 3\0";
    for (content, message) in [
        ("", "the file is empty"),
        ("x", "not a key store"),
        (&*text, "not a key store"),
        (header, "not a key store"),
        (&*header.repeat(1000), "not a key store"),
    ] {
        fs::write(&file, content).unwrap();
        refused(SqliteStore::open(&file), &file, Unavailable, message);
        refused(SqliteStore::open_or_create(&file, StoreSettings::new()), &file, Unavailable, message);
        assert_eq!(fs::read(&file).unwrap(), content.as_bytes(), "it is left as it was");
    }
    fs::remove_file(&file).unwrap();
    raw(&file).execute_batch("CREATE TABLE keys (id TEXT PRIMARY KEY); INSERT INTO keys VALUES ('k')").unwrap();
    refused(SqliteStore::open(&file), &file, Unavailable, "it is a SQLite file, but not a key store");
}

#[tokio::test]
async fn a_damaged_file_is_an_error() {
    let folder = filled().await;
    let file = folder.file();
    let whole = fs::read(&file).unwrap();
    let half = &whole[..whole.len() / 2];
    fs::write(&file, half).unwrap();
    refused(SqliteStore::open(&file), &file, StoreErrorKind::Unavailable, "the file is damaged");
    fs::write(&file, &half[..half.len() - 1000]).unwrap();
    refused(SqliteStore::open(&file), &file, StoreErrorKind::Unavailable, "the file is damaged");

    // Every page except the first, which identifies the file, is damaged in turn.
    let mut dice = Dice(3);
    for page in 1..whole.len() / 4096 {
        let mut broken = whole.clone();
        broken[page * 4096..(page + 1) * 4096].fill_with(|| dice.roll(256) as u8);
        fs::write(&file, &broken).unwrap();
        refused(SqliteStore::open(&file), &file, StoreErrorKind::Unavailable, "the file is damaged");
    }
    let mut broken = whole.clone();
    broken[100..4096].fill_with(|| dice.roll(256) as u8);
    fs::write(&file, &broken).unwrap();
    refused(SqliteStore::open(&file), &file, StoreErrorKind::Unavailable, "");

    fs::write(&file, &whole).unwrap();
    assert_eq!(all(&SqliteStore::open(&file).unwrap()).await.len(), 60, "it was the damage");

    // A damaged file in another journal mode, which opening would change, is not modified.
    raw(&file).query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    let mut broken = fs::read(&file).unwrap();
    let last = broken.len() - 4096;
    broken[last..].fill_with(|| dice.roll(256) as u8);
    fs::write(&file, &broken).unwrap();
    refused(SqliteStore::open(&file), &file, StoreErrorKind::Unavailable, "the file is damaged");
    assert!(fs::read(&file).unwrap() == broken, "it is left as it was");
}

#[tokio::test]
async fn a_hundred_thousand_keys_are_opened_and_paged() {
    let folder = Folder::new();
    drop(SqliteStore::create(folder.file(), StoreSettings::new()).unwrap());
    let rows = "WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < 99999)
                INSERT INTO keys (id, digest, record, version)
                SELECT printf('k_%05d', n), randomblob(32), json_object('name', iif(n % 1000 = 0, 'round', 'odd')), 1
                FROM number";
    raw(&folder.file()).execute_batch(rows).unwrap();
    let store = SqliteStore::open(folder.file()).unwrap();
    let mut query = KeyQuery::new().limit(10_000);
    let mut expected = 0;
    loop {
        let page = store.list(&query).await.unwrap();
        // Keys that are issued meanwhile begin with `key_`, and sort after all of these.
        for record in page.records.iter().filter(|record| record.id().as_str().starts_with("k_")) {
            assert_eq!(record.id().as_str(), format!("k_{expected:05}"));
            expected += 1;
        }
        let Some(last) = page.next else { break };
        query = query.after(last);
        issue(&store).await;
    }
    assert_eq!(expected, 100_000);
    let page = store.list(&KeyQuery::new().name("ROUND").limit(60)).await.unwrap();
    assert_eq!(page.records.len(), 60);
    let rest = store.list(&KeyQuery::new().name("ROUND").after(page.next.unwrap())).await.unwrap();
    assert_eq!((rest.records.len(), rest.next), (40, None));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = filled().await;
    let file = folder.file();
    let known: u32 = raw(&file).query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    raw(&file).pragma_update(None, "user_version", 99).unwrap();
    let message = &format!("its schema is version 99, and this program knows {known}: it is too old");
    refused(SqliteStore::open(&file), &file, StoreErrorKind::Unavailable, message);
    assert_eq!(raw(&file).query_row("PRAGMA user_version", [], |row| row.get(0)), Ok(99), "nothing was changed");
    raw(&file).pragma_update(None, "user_version", known).unwrap();
    assert_eq!(all(&SqliteStore::open(&file).unwrap()).await.len(), 60);
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_an_error() {
    for (sql, message) in [
        ("UPDATE settings SET value = 'garbage'", "the settings of the store cannot be read"),
        ("UPDATE settings SET value = '{}'", "the settings of the store cannot be read"),
        ("DELETE FROM settings", ""),
    ] {
        let folder = filled().await;
        raw(&folder.file()).execute_batch(sql).unwrap();
        let error = SqliteStore::open(folder.file()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Sqlite::fresh(StoreSettings::new()).await;
    issue(fixture.store()).await;
    for entry in fs::read_dir(fixture.folder()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
}

/// Root ignores permissions, so as root the test runs again without that privilege.
#[cfg(unix)]
#[tokio::test]
async fn without_permission_it_is_an_error() {
    use std::os::unix::fs::PermissionsExt as _;
    const UNPRIVILEGED: &str = "TOWER_AUTHZ_TEST_UNPRIVILEGED";
    let folder = filled().await;
    let file = folder.file();
    for mode in [0o000, 0o400] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        if fs::OpenOptions::new().write(true).open(&file).is_ok() {
            assert!(std::env::var_os(UNPRIVILEGED).is_none(), "setpriv has left the privilege");
            let caps = "-dac_override,-dac_read_search";
            let mut command = std::process::Command::new("setpriv");
            command.args(["--bounding-set", caps, "--inh-caps", caps]).arg(std::env::current_exe().unwrap());
            command.args(["--exact", "stores::sqlite_files::without_permission_it_is_an_error"]);
            let output = command.env(UNPRIVILEGED, "1").output().unwrap();
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
            return;
        }
        refused(SqliteStore::open(&file), &file, StoreErrorKind::Unavailable, "no permission");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_path_that_is_no_text_is_a_path() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = Folder::new();
    let file = folder.path().join(std::ffi::OsStr::from_bytes(b"k\xff.sqlite"));
    let store = SqliteStore::create(&file, StoreSettings::new()).unwrap();
    let key = issue(&store).await;
    drop(store);
    let store = SqliteStore::open(&file).unwrap();
    assert_eq!(all(&store).await[0].id(), key.record.id());
}

#[tokio::test]
async fn what_exists_is_never_made_anew() {
    let folder = filled().await;
    let file = folder.file();
    refused(SqliteStore::create(&file, StoreSettings::new()), &file, StoreErrorKind::Conflict, "it exists already");
    // Settings apply only when the file is created.
    let other = KeyFormat::opaque(20, 64).unwrap();
    let store = SqliteStore::open_or_create(&file, other.clone()).unwrap();
    assert_eq!(store.formats(), KeyFormats::default());
    assert_eq!(all(&store).await.len(), 60);
    drop(store);

    fs::remove_file(&file).unwrap();
    let store = SqliteStore::open_or_create(&file, other.clone()).unwrap();
    assert_eq!((store.formats(), all(&store).await.len()), (other.into(), 0));
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| name.starts_with("keys.sqlite") && !name.contains("new")));

    let nowhere = folder.path().join("no-such-folder").join("keys.sqlite");
    refused(SqliteStore::create(&nowhere, StoreSettings::new()), &nowhere, StoreErrorKind::Unavailable, "No such file");
}

/// If only the file is removed after a crash, and not its journal, the changes in the journal would be applied to the
/// next file with that name: revoked keys would become valid again.
#[tokio::test]
async fn what_an_earlier_file_has_left_behind_is_not_taken_over() {
    for left in ["-wal", "-journal"] {
        let folder = Folder::new();
        let file = folder.file();
        let beside = folder.path().join(format!("keys.sqlite{left}"));
        let store = SqliteStore::create(&file, StoreSettings::new()).unwrap();
        let key = issue(&store).await;
        let log = fs::read(folder.path().join("keys.sqlite-wal")).unwrap();
        drop(store);
        fs::remove_file(&file).unwrap();
        fs::write(&beside, log).unwrap();
        let message = format!("keys.sqlite{left} belongs to a store that is gone");
        refused(SqliteStore::create(&file, StoreSettings::new()), &file, StoreErrorKind::Unavailable, &message);
        let made = SqliteStore::open_or_create(&file, StoreSettings::new());
        refused(made, &file, StoreErrorKind::Unavailable, &message);
        assert!(!file.exists());
        fs::remove_file(&beside).unwrap();
        let store = SqliteStore::open_or_create(&file, StoreSettings::new()).unwrap();
        assert!(all(&store).await.is_empty());
        assert_eq!(Gate::of(&store).get(&key).await, 401);
    }
}

/// Several threads, or processes, that find no file and all begin to create it end up with one store.
#[tokio::test]
async fn whoever_comes_second_opens_what_the_first_has_made() {
    let folder = Folder::new();
    let file = folder.file();
    // An earlier process with the same process id may have left this file behind when it was killed.
    fs::write(folder.path().join(format!("keys.sqlite.new-{}", std::process::id())), "").unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let file = file.clone();
            std::thread::spawn(move || {
                let store = SqliteStore::open_or_create(file, StoreSettings::new()).unwrap();
                futures::executor::block_on(issue(&store))
            })
        })
        .collect();
    let keys: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let store = SqliteStore::open(&file).unwrap();
    let gate = Gate::of(&store);
    for key in &keys {
        assert_eq!(gate.get(key).await, 200);
    }
    assert_eq!(all(&store).await.len(), 8);
}

/// A file that could not be opened again is not created.
#[tokio::test]
async fn settings_that_could_not_be_read_back_make_no_file() {
    let upper = IdGrammar::Custom(|id| id.bytes().all(|byte| byte.is_ascii_uppercase()));
    let project = Dimension::new("project", upper);
    let shops = Dimension::new("shop", upper);
    let directory = Directory::builder().shop("DE", None).build_with(&shops).unwrap();
    let folder = Folder::new();
    let file = folder.file();
    let error = SqliteStore::create(&file, StoreSettings::new().with_directory(directory)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    assert!(!file.exists());
    let settings = StoreSettings::new().with_dimension(project.clone());
    let options = SqliteOptions::new().dimension(project);
    drop(options.clone().create(&file, settings).unwrap());
    assert_eq!(options.open(&file).unwrap().settings().await.unwrap().dimensions().len(), 1);
    let without = SqliteStore::open(&file).unwrap();
    let settings = without.settings().await.unwrap();
    let project = &settings.dimensions()[0];
    assert!(project.accepts("anything"), "so that a key can be revoked by a program that lacks the function");
}
