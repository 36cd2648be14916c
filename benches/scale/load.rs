//! Measures how long all keys take to load into the process. A store in a database is compared with a bare `SELECT`
//! of the same columns of the same rows, whose values are read and dropped: the difference is the store's own cost.

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use tower_authz::{
    Directory, KeyFile,
    store::{FileStore, MemoryStore, SqliteStore},
};

#[cfg(feature = "postgres")]
use crate::postgres::loads as of_postgres;
use crate::{
    common::format,
    measure::{Scale, median},
    population::{Files, Grants, records},
    table::{self, Mark, NOTHING, count, ratio},
};

const ROUNDS: usize = 5;

/// The columns that the stores in databases read of each key.
pub(crate) const COLUMNS: &str =
    "id, digest, created_at, not_before, expires_at, revoked_at, version, last_used, record, owner";

/// The number of columns.
pub(crate) const COLUMN_COUNT: usize = 10;

/// A way to load all keys.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// The name of the load that this one is compared with.
    pub(crate) beside: Option<&'static str>,
    /// Loads all keys once, and returns how long that took.
    pub(crate) once: Box<dyn FnMut() -> Duration>,
}

/// Times the construction of a value, without its drop.
pub(crate) fn timed<T>(make: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let made = black_box(make());
    let time = start.elapsed();
    drop(made);
    time
}

pub(crate) fn run(scale: Scale) {
    let rounds = if scale.smoke { 2 } else { ROUNDS };
    let file = KeyFile::new(records(scale.keys, Grants::Shared), Directory::default());
    let files = Files::write("shared", &file);
    let others = of_postgres(&file);
    let mut loads = of_files(file, &files);
    let with_roles = Files::write("roles", &KeyFile::new(records(scale.keys, Grants::Roles), Directory::default()));
    loads.extend(of_roles(&with_roles, scale.keys));
    loads.extend(others);
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); loads.len()];
    for _ in 0..rounds {
        for (load, seconds) in loads.iter_mut().zip(&mut seconds) {
            seconds.push((load.once)().as_secs_f64());
        }
    }
    println!("{} keys, medians of {rounds} interleaved rounds.\n", count(scale.keys));
    print(&loads, &seconds);
}

#[cfg(not(feature = "postgres"))]
fn of_postgres(_: &KeyFile) -> Vec<Load> {
    Vec::new()
}

fn of_files(file: KeyFile, files: &Files) -> Vec<Load> {
    const BARE: &str = "SQLite: bare `SELECT`";
    let keys = file.records().len();
    let from_records = move || {
        let file = file.clone();
        timed(|| MemoryStore::from_file(file, format()).unwrap())
    };
    let json = files.json();
    let read = move || timed(|| MemoryStore::open(&json, format()).unwrap());
    let json = files.json();
    let read_and_watch = move || timed(|| FileStore::open(&json, format()).unwrap());
    let sqlite = files.sqlite();
    let select = move || timed(|| assert_eq!(select(&sqlite), keys, "all rows were read"));
    let sqlite = files.sqlite();
    let check = move || timed(|| assert_eq!(quick_check(&sqlite), "ok"));
    let sqlite = files.sqlite();
    let open = move || timed(|| SqliteStore::open(&sqlite).unwrap());
    vec![
        Load { name: "`MemoryStore::from_file`, of records", beside: None, once: Box::new(from_records) },
        Load { name: "`MemoryStore::open`, of JSON", beside: None, once: Box::new(read) },
        Load { name: "`FileStore::open`, of JSON", beside: None, once: Box::new(read_and_watch) },
        Load { name: BARE, beside: None, once: Box::new(select) },
        Load { name: "SQLite: `PRAGMA quick_check`, which `open` does beside", beside: None, once: Box::new(check) },
        Load { name: "`SqliteStore::open`", beside: Some(BARE), once: Box::new(open) },
    ]
}

/// Keys that have an owner, a label and a role each.
fn of_roles(files: &Files, keys: usize) -> Vec<Load> {
    const BARE: &str = "SQLite, keys with owners, labels and roles: bare `SELECT`";
    let sqlite = files.sqlite();
    let select = move || timed(|| assert_eq!(select(&sqlite), keys, "all rows were read"));
    let sqlite = files.sqlite();
    let open = move || timed(|| SqliteStore::open(&sqlite).unwrap());
    vec![
        Load { name: BARE, beside: None, once: Box::new(select) },
        Load { name: "`SqliteStore::open`, such keys", beside: Some(BARE), once: Box::new(open) },
    ]
}

fn connect(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).unwrap()
}

/// Checks the integrity of the file.
fn quick_check(path: &Path) -> String {
    connect(path).query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).unwrap()
}

/// Reads all rows, and returns their number.
fn select(path: &Path) -> usize {
    let connection = connect(path);
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM keys")).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut count = 0;
    while let Some(row) = rows.next().unwrap() {
        for place in 0..COLUMN_COUNT {
            black_box(row.get_ref(place).unwrap());
        }
        count += 1;
    }
    count
}

fn print(loads: &[Load], seconds: &[Vec<f64>]) {
    table::head(&["what", "seconds", "÷ bare `SELECT`", "mark"]);
    for (load, own) in loads.iter().zip(seconds) {
        let bare = load.beside.and_then(|name| loads.iter().position(|other| other.name == name));
        // Other load on the machine affects both alike within a round.
        let more = bare.map(|bare| median(own.iter().zip(&seconds[bare]).map(|(own, bare)| own / bare)));
        table::row(&[
            load.name.to_owned(),
            format!("{:.3}", median(own.iter().copied())),
            more.map_or_else(|| NOTHING.to_owned(), ratio),
            more.map_or_else(|| NOTHING.to_owned(), |more| Mark::AtMost(1.5).judge(more)),
        ]);
    }
}
