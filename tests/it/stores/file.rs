//! Tests a key file that changes while it is served.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tower::{Layer as _, ServiceExt as _};
use tower_authz::{
    ApiKey, Authz, Dimension, Directory, Grant, KeyFile, KeyFormat, KeyFormats, KeyRecord, Policy, Rule,
    check::EntityRef,
    reject,
    store::{FileStore, KeyStore as _, MemoryStore, StoreSettings},
};

const KEYS: [&str; 3] = ["one-key-of-the-file", "two-key-of-the-file", "three-key-of-the-file"];

/// Returns a file with these keys, some of which are revoked.
fn text(keys: &[usize], revoked: &[usize]) -> String {
    let record = |&number: &usize| {
        let record = KeyRecord::builder(format!("k{number}").parse().unwrap(), ApiKey::new(KEYS[number]).digest());
        let revoked = revoked.contains(&number).then_some(std::time::SystemTime::UNIX_EPOCH);
        record.grant(Grant::builder().read("products").build().unwrap()).revoked_at(revoked).build()
    };
    KeyFile::new(keys.iter().map(record), Directory::default()).to_json().unwrap()
}

/// A role of the file that is narrowed narrows its keys, and one that a key refers to must be there.
#[test]
fn a_role_of_the_file_is_that_of_its_keys() {
    let role = |resource: &'static str| Grant::builder().read(resource).build().unwrap();
    let record = || {
        let record = KeyRecord::builder("k0".parse().unwrap(), ApiKey::new(KEYS[0]).digest());
        record.roles(["r"]).build()
    };
    let text = |resource| {
        let file = KeyFile::new([record()], Directory::default()).with_role("r", role(resource));
        file.to_json().unwrap()
    };
    let watched = watched(&text("products"));
    let grant = || {
        let found = futures::executor::block_on(watched.store.lookup(&ApiKey::new(KEYS[0]).digest()).found());
        found.unwrap().unwrap().grant().clone()
    };
    assert_eq!(grant(), role("products"));
    let becomes = |wanted: &Grant| {
        let begin = Instant::now();
        while grant() != *wanted {
            assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", grant());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    fs::write(&watched.path, text("orders")).unwrap();
    becomes(&role("orders"));
    // A bad edit changes nothing.
    fs::write(&watched.path, KeyFile::new([record()], Directory::default()).to_json().unwrap()).unwrap();
    let begin = Instant::now();
    while watched.store.status().fault.is_none() {
        assert!(begin.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(watched.store.status().fault.unwrap().contains("there is no role r"));
    assert_eq!(grant(), role("orders"));
}

struct Watched {
    store: FileStore,
    heard: Arc<Mutex<Vec<String>>>,
    path: PathBuf,
    _folder: super::sqlite::Folder,
}

fn watched(content: &str) -> Watched {
    let folder = super::sqlite::Folder::new();
    let path = folder.file();
    fs::write(&path, content).unwrap();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = Arc::clone(&heard);
    let store = FileStore::open_reporting(&path, StoreSettings::new(), move |fault| {
        listener.lock().unwrap().push(fault.to_owned());
    });
    Watched { store: store.unwrap(), heard, path, _folder: folder }
}

impl Watched {
    /// Returns the keys that are known and not revoked.
    fn alive(&self) -> Vec<usize> {
        let is_alive = |key: &str| {
            let found = futures::executor::block_on(self.store.lookup(&ApiKey::new(key).digest()).found());
            found.unwrap().is_some_and(|record| record.revoked_at().is_none())
        };
        (0..KEYS.len()).filter(|&number| is_alive(KEYS[number])).collect()
    }

    /// Waits until the change is in effect, which should take a second.
    fn becomes(&self, alive: &[usize]) {
        let begin = Instant::now();
        while self.alive() != alive {
            assert!(begin.elapsed() < Duration::from_secs(3), "{:?} is not {alive:?}", self.alive());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Look-ups change first, and the status a moment later.
    fn wait_for_no_fault(&self) {
        let begin = Instant::now();
        while self.store.status().fault.is_some() {
            assert!(begin.elapsed() < Duration::from_secs(3), "the fault stays");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for_fault(&self) -> String {
        let begin = Instant::now();
        loop {
            if let Some(fault) = self.store.status().fault {
                return fault;
            }
            assert!(begin.elapsed() < Duration::from_secs(3), "no fault is told");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn changes_are_in_force_however_they_are_made() {
    let watched = watched(&text(&[0, 1], &[]));
    assert_eq!(watched.alive(), [0, 1]);
    fs::write(&watched.path, text(&[0, 1], &[1])).unwrap();
    watched.becomes(&[0]);
    replace(&watched.path, &text(&[0, 2], &[]));
    watched.becomes(&[0, 2]);
    std::thread::sleep(Duration::from_millis(50));
    let status = watched.store.status();
    assert!(status.keys == 2 && status.fault.is_none() && status.checked_at >= status.loaded_at);
    assert!(watched.heard.lock().unwrap().is_empty());
}

/// Changes the file as a mounted config map changes: `keys.json` -> `..data/keys.json`, `..data` -> a directory with
/// a date.
#[cfg(unix)]
#[test]
fn a_swapped_symbolic_link_is_a_change() {
    use std::os::unix::fs::symlink;
    let folder = super::sqlite::Folder::new();
    let root = folder.file().parent().unwrap().to_owned();
    for (name, content) in [("..first", text(&[0], &[])), ("..second", text(&[1], &[]))] {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("keys.json"), content).unwrap();
    }
    symlink("..first", root.join("..data")).unwrap();
    symlink("..data/keys.json", root.join("keys.json")).unwrap();
    let store = FileStore::open(root.join("keys.json"), StoreSettings::new()).unwrap();
    let watched = Watched { store, heard: Arc::default(), path: root.join("keys.json"), _folder: folder };
    assert_eq!(watched.alive(), [0]);
    symlink("..second", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    watched.becomes(&[1]);
}

#[test]
fn a_bad_edit_keeps_the_last_good_state_and_is_told_with_its_place() {
    let watched = watched(&text(&[0, 1], &[]));
    let loaded = watched.store.status().loaded_at;
    replace(&watched.path, &text(&[0], &[]).replace("\"read\"", "\"admin\""));
    let fault = watched.wait_for_fault();
    assert!(fault.contains("key k0: permissions.products: "), "{fault}");
    assert_eq!(watched.alive(), [0, 1]);
    assert_eq!(watched.store.status().loaded_at, loaded, "the age of the state is that of the last good one");
    assert_eq!(watched.heard.lock().unwrap().len(), 1, "told once");
    replace(&watched.path, &text(&[2], &[]));
    watched.becomes(&[2]);
    watched.wait_for_no_fault();
    assert!(watched.store.status().loaded_at > loaded);

    // A missing file is an invalid edit as well, and its return is a change, although it is the same file.
    let away = watched.path.with_extension("away");
    fs::rename(&watched.path, &away).unwrap();
    watched.wait_for_fault();
    assert_eq!(watched.alive(), [2]);
    fs::rename(&away, &watched.path).unwrap();
    watched.wait_for_no_fault();
}

#[test]
fn what_is_bad_at_start_is_an_error() {
    let folder = super::sqlite::Folder::new();
    assert!(FileStore::open(folder.file(), StoreSettings::new()).is_err());
    for content in ["", "{", "{\"keys\": [{}]}"] {
        fs::write(folder.file(), content).unwrap();
        let error = FileStore::open(folder.file(), StoreSettings::new()).unwrap_err().to_string();
        assert!(error.contains(&*folder.file().to_string_lossy()), "{error}");
    }
}

/// The callback for faults may panic without ending the watcher.
#[test]
fn a_listener_that_panics_ends_nothing() {
    let folder = super::sqlite::Folder::new();
    fs::write(folder.file(), text(&[0], &[])).unwrap();
    let store = FileStore::open_reporting(folder.file(), StoreSettings::new(), |_| panic!("a bad listener")).unwrap();
    let watched = Watched { store, heard: Arc::default(), path: folder.file(), _folder: folder };
    fs::write(&watched.path, "{").unwrap();
    watched.wait_for_fault();
    fs::write(&watched.path, text(&[1], &[])).unwrap();
    watched.becomes(&[1]);
}

/// Keys and directory must be published at once: if two states both refuse a request, a mixture of them must not
/// admit it.
#[tokio::test]
async fn a_file_that_changes_both_keys_and_directory_is_seen_at_once() {
    /// The keys are restricted to one company, and the shop belongs to the other.
    fn state(keys: u8, shop: u8) -> String {
        let grant = std::sync::Arc::new(Grant::builder().only("company", [keys]).build().unwrap());
        let record = |number: usize| {
            let key = if number == 0 { KEYS[0].to_owned() } else { format!("{number}-filler-of-the-file") };
            let record = KeyRecord::builder(format!("k{number}").parse().unwrap(), ApiKey::new(key).digest());
            record.grant(std::sync::Arc::clone(&grant)).build()
        };
        let directory = Directory::builder().shop("de", Some(&shop.to_string())).build().unwrap();
        KeyFile::new((0..2000).map(record), directory).to_json().unwrap()
    }
    let states = [state(1, 2), state(2, 1)];
    let watched = watched(&states[0]);
    let settings = StoreSettings::from(KeyFormat::opaque(16, 64).unwrap());
    let store = FileStore::open(&watched.path, settings).unwrap();
    let rule = Rule::authenticated().scoped(EntityRef::from_path(Dimension::SHOP, "shop"));
    let policy = Policy::builder().route("/shops/{shop}", rule).build().unwrap();
    let gate =
        Authz::new(store.clone(), policy).with_rejection(reject::Empty).layer(crate::support::Handler::default());
    let (begin, mut loads, mut last) = (Instant::now(), 0, store.status().loaded_at);
    while loads < 4 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the file is read again");
        for _ in 0..1000 {
            let request = http::Request::get("/shops/de").header("x-api-key", KEYS[0]);
            let response = gate.clone().oneshot(request.body(()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 403);
        }
        let loaded = store.status().loaded_at;
        if loads == 0 || loaded != last {
            (loads, last) = (loads + 1, loaded);
            fs::write(&watched.path, &states[loads % 2]).unwrap();
        }
    }
}

/// A later edit does not restore a revoked key, even if an edit in between removes it.
#[test]
fn what_was_revoked_in_the_file_stays_so() {
    let watched = watched(&text(&[0, 1, 2], &[2]));
    fs::write(&watched.path, text(&[0, 1, 2], &[1, 2])).unwrap();
    watched.becomes(&[0]);
    for edit in [text(&[0, 1, 2], &[]), text(&[0], &[]), text(&[1, 2], &[])] {
        fs::write(&watched.path, &edit).unwrap();
        let alive: &[usize] = if edit.contains("\"k0\"") { &[0] } else { &[] };
        watched.becomes(alive);
        std::thread::sleep(Duration::from_millis(600));
        watched.becomes(alive);
    }
    assert!(watched.heard.lock().unwrap().iter().any(|told| told.contains("the key k1 was revoked")));
}

/// A path that is not a regular file is reported in time, and the last valid state is kept; the watcher continues,
/// and does not block on the path.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_a_fault_and_stops_nobody() {
    let watched = watched(&text(&[0], &[]));
    let put = |what: &[&str]| {
        let _ = fs::remove_file(&watched.path);
        let _ = fs::remove_dir(&watched.path);
        let (program, arguments) = what.split_first().unwrap();
        let made = std::process::Command::new(program).args(arguments).arg(&watched.path).status().unwrap();
        assert!(made.success(), "{what:?}");
    };
    for what in [&["mkfifo"][..], &["mkdir"], &["ln", "-s", "/dev/zero"], &["ln", "-s", "/dev/tty"]] {
        put(what);
        let fault = watched.wait_for_fault();
        assert!(!fault.is_empty() && watched.alive() == [0], "{what:?}: {fault}");
        put(&["touch"]);
        fs::write(&watched.path, text(&[0, 1], &[])).unwrap();
        watched.becomes(&[0, 1]);
        watched.wait_for_no_fault();
        fs::write(&watched.path, text(&[0], &[])).unwrap();
        watched.becomes(&[0]);
    }
    put(&["mkfifo"]);
    watched.wait_for_fault();
    let begin = Instant::now();
    assert!(FileStore::open(&watched.path, StoreSettings::new()).is_err(), "at the start as well");
    drop(watched);
    assert!(begin.elapsed() < Duration::from_secs(3));
}

/// A file that is mounted singly keeps showing its old content after it was replaced on the host, so the watcher must
/// report it.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_mounted_singly_and_replaced_is_a_fault() {
    // Editors delete the old file, or keep it under another name.
    for is_kept in [false, true] {
        replaced_under_a_mount(is_kept);
    }
}

#[cfg(target_os = "linux")]
fn replaced_under_a_mount(is_kept: bool) {
    let folder = super::sqlite::Folder::new();
    let (outside, inside) = (folder.file(), folder.file().with_file_name("mounted.json"));
    fs::write(&outside, text(&[0], &[])).unwrap();
    fs::write(&inside, "").unwrap();
    let Some(mount) = crate::support::Mount::new(&outside, &inside) else { return };
    let store = FileStore::open(&inside, StoreSettings::new()).unwrap();
    assert_eq!(store.status().fault, None);
    let new = outside.with_extension("new");
    fs::write(&new, text(&[], &[])).unwrap();
    if is_kept {
        fs::rename(&outside, outside.with_extension("old")).unwrap();
    }
    fs::rename(&new, &outside).unwrap();
    let begin = Instant::now();
    while store.status().fault.is_none() && begin.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let fault = store.status().fault;
    drop(mount);
    assert!(fault.is_some_and(|fault| fault.contains("mount its directory")), "kept: {is_kept}");
}

/// A key whose id tells that it has the format of another kind could never be used, so the file is wrong.
#[test]
fn an_id_of_another_kind_is_a_bad_edit() {
    let live = KeyFormat::structured("acme_live").build().unwrap();
    let settings = || StoreSettings::new().with_formats(KeyFormats::default().with_kind("live", live.clone()).unwrap());
    let file = |kind: &str| {
        let record = KeyRecord::builder("acme_live_0123456789".parse().unwrap(), ApiKey::new(KEYS[0]).digest());
        KeyFile::new([record.kind(kind.to_owned()).build()], Directory::default())
    };
    let folder = super::sqlite::Folder::new();
    fs::write(folder.file(), file("test").to_json().unwrap()).unwrap();
    let error = FileStore::open(folder.file(), settings()).unwrap_err().to_string();
    assert!(error.contains("keys[0]: id: it has the format of the kind \"live\""), "{error}");
    assert!(MemoryStore::from_file(file("test"), settings()).is_err());
    fs::write(folder.file(), file("live").to_json().unwrap()).unwrap();
    assert_eq!(FileStore::open(folder.file(), settings()).unwrap().formats(), *settings().formats());
    assert!(MemoryStore::from_file(file("live"), settings()).is_ok());
}
