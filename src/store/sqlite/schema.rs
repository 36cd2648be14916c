//! The tables, how a file comes to have them, and which files are refused.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::{
    dimension::Dimension,
    store::{StoreError, StoreSettings, sqlite::identity::Identity},
};

/// Says that a SQLite file is one of ours ("auth").
const APPLICATION: i32 = 0x6175_7468;

/// The migration from each version of the schema to the next. A file that has more of them than we know is
/// refused: we could not keep what they promise.
const MIGRATIONS: [&str; 5] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

const NEWEST: u32 = MIGRATIONS.len() as u32;

/// How long SQLite waits for the locks of others.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The file of a store that exists.
pub(super) fn find(path: &Path) -> Result<Identity, StoreError> {
    let name = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::not_found(format!("{name}: there is no such file; `authz init` makes one")))
        }
        Err(error) => Err(StoreError::unavailable(format!("{name}: {error}"))),
        Ok(file) if !file.is_file() => Err(StoreError::unavailable(format!("{name}: it is not a file"))),
        // SQLite would take it for a new database: all keys would be unknown.
        Ok(file) if file.len() == 0 => {
            Err(StoreError::unavailable(format!("{name}: the file is empty; a store never is")))
        }
        Ok(_) => Identity::open(path).map_err(|why| StoreError::unavailable(format!("{name}: {why}"))),
    }
}

/// Opens a store that exists, and brings it to the newest schema. Whether one that needs no change is whole, [`check`]
/// tells.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let name = path.display();
    let unreadable = |error: rusqlite::Error| StoreError::unavailable(format!("{name}: {}", describe(&error)));
    let mut connection = connect(path).map_err(unreadable)?;
    let application: i32 = pragma(&connection, "application_id").map_err(unreadable)?;
    if application != APPLICATION {
        return Err(StoreError::unavailable(format!("{name}: it is a SQLite file, but not a key store")));
    }
    if connection.is_readonly("main").map_err(unreadable)? {
        return Err(StoreError::unavailable(format!("{name}: no permission to write it")));
    }
    // Nothing is changed in a file that is damaged.
    let is_settled = || {
        Ok(pragma::<u32>(&connection, "user_version")? == NEWEST
            && pragma::<String>(&connection, "journal_mode")? == "wal")
    };
    if !is_settled().map_err(unreadable)? {
        check(path)?;
    }
    configure(&connection).map_err(unreadable)?;
    migrate(&mut connection, path)?;
    // Readers are not kept waiting by a writer. Set last, as a file that is too new is left as it is.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(unreadable)?;
    Ok(connection)
}

/// Whether the file is whole, by a look at all of it.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    let name = path.display();
    let look = || {
        let connection = connect(path)?;
        // A row that is not as the schema demands is refused alone, when it is read; this is about the file.
        connection.pragma_update(None, "ignore_check_constraints", "ON")?;
        pragma::<String>(&connection, "quick_check(1)")
    };
    match look() {
        Ok(result) if result == "ok" => Ok(()),
        // SQLite puts a heading above what it has found.
        Ok(report) => {
            let found = report.lines().last().unwrap_or_default();
            Err(StoreError::unavailable(format!("{name}: the file is damaged: {found}")))
        }
        Err(error) => Err(StoreError::unavailable(format!("{name}: {}", describe(&error)))),
    }
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Makes a store in a file that must not exist yet. It is whole from its first moment: whoever is killed
/// in between leaves nothing that could be taken for an empty store.
pub(super) fn create(path: &Path, settings: &StoreSettings) -> Result<(), StoreError> {
    let name = path.display();
    let to_io_error = |error: io::Error| StoreError::unavailable(format!("{name}: {error}"));
    let exists = || StoreError::conflict(format!("{name}: it exists already"));
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    // SQLite would make the changes of the old file to the new one: revoked keys would live again.
    for left in ["-wal", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(left);
        if Path::new(&beside).symlink_metadata().is_ok() {
            let message =
                format!("{name}: {name}{left} belongs to a store that is gone; remove it, or bring the store back");
            return Err(StoreError::unavailable(message));
        }
    }
    let settings = settings.to_json().map_err(|error| StoreError::invalid(error.to_string()))?;
    // A name of its own: in a container every process has the same number, and one that was killed leaves its
    // draft behind.
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| StoreError::unavailable(error.to_string()))?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new-{:016x}", u64::from_ne_bytes(random)));
    let draft = Path::new(&draft);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(draft).map_err(to_io_error)?;
    let made = fill(draft, &settings).map_err(|error| StoreError::unavailable(format!("{name}: {}", describe(&error))));
    let placed = made.and_then(|()| match fs::hard_link(draft, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
        // Not every file system has links.
        Err(_) => fs::rename(draft, path).map_err(to_io_error),
    });
    let _ = fs::remove_file(draft);
    placed?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(to_io_error)?;
    }
    Ok(())
}

fn fill(draft: &Path, settings: &str) -> rusqlite::Result<()> {
    let mut connection = Connection::open_with_flags(draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    for migration in MIGRATIONS {
        transaction.execute_batch(migration)?;
    }
    // The triggers must not take this for a change by hand.
    transaction.execute("UPDATE writer SET busy = 1", [])?;
    transaction.execute("INSERT INTO settings (name, value) VALUES ('settings', ?1)", [settings])?;
    transaction.execute("UPDATE writer SET busy = 0", [])?;
    transaction.pragma_update(None, "user_version", NEWEST)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.commit()
}

/// Configures the connection. Nothing here changes the file.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // A change that is acknowledged survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On some systems a plain flush reaches only the memory of the disk.
    connection.pragma_update(None, "fullfsync", "ON")?;
    connection.pragma_update(None, "checkpoint_fullfsync", "ON")?;
    // In KiB: with the standard 2 MiB a long import writes the same pages over and over.
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let name = path.display();
    let failed = |error: rusqlite::Error| StoreError::unavailable(format!("{name}: {}", describe(&error)));
    let version = |connection: &Connection| pragma::<u32>(connection, "user_version").map_err(failed);
    let too_old = |found: u32| {
        let newer = format!("{name}: its schema is version {found}, and this program knows {NEWEST}: it is too old");
        Err(StoreError::unavailable(newer))
    };
    match version(connection)? {
        NEWEST => return Ok(()),
        found if found > NEWEST => return too_old(found),
        _ => {}
    }
    // A program of before that has the file open could not read it any more, and would admit keys that are revoked
    // meanwhile until it notices.
    if !lock_out_others(connection).map_err(failed)? {
        return match version(connection)? {
            NEWEST => Ok(()),
            _ => Err(StoreError::unavailable(format!(
                "{name}: the file is of an earlier version, and another program has it open: stop that program, or wait \
                 until it has migrated the file"
            ))),
        };
    }
    // A row whose digest is damaged is refused when it is read, and must keep nobody from opening the file.
    let ignore_checks = |connection: &Connection, ignore: &str| {
        connection.pragma_update(None, "ignore_check_constraints", ignore).map_err(failed)
    };
    ignore_checks(connection, "ON")?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    // Asked again: another process may have been faster.
    let found = version(&transaction)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)) else {
        return too_old(found);
    };
    for migration in missing {
        transaction.execute_batch(migration).map_err(|error| {
            let why = describe(&error);
            StoreError::unavailable(format!("{name}: the file cannot be brought to the newest schema: {why}"))
        })?;
    }
    transaction.pragma_update(None, "user_version", NEWEST).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    ignore_checks(connection, "OFF")?;
    let_others_in(connection).map_err(failed)
}

/// Waits until no other connection has the file open, and lets none open it. Returns false if that takes too long, or if
/// somebody else has migrated the file meanwhile.
fn lock_out_others(connection: &Connection) -> rusqlite::Result<bool> {
    let begin = Instant::now();
    let busy = |error: rusqlite::Error| if is_busy(&error) { Ok(()) } else { Err(error) };
    // The others are asked again and again here, and not by SQLite: two programs that start together would wait for each
    // other, each with a lock that the other needs.
    connection.busy_timeout(Duration::ZERO)?;
    let is_alone = loop {
        // SQLite gives the write-ahead journal up only for a connection that is alone.
        let locked = connection
            .pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))
            .and_then(|()| connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())))
            .and_then(|()| connection.execute_batch("BEGIN EXCLUSIVE; COMMIT"));
        match locked {
            Ok(()) if pragma::<String>(connection, "journal_mode")? == "delete" => break true,
            Err(error) if !is_busy(&error) => return Err(error),
            Ok(()) | Err(_) => let_others_in(connection).or_else(busy)?,
        }
        if begin.elapsed() > Duration::from_secs(2)
            || pragma::<u32>(connection, "user_version").is_ok_and(|found| found == NEWEST)
        {
            break false;
        }
        let mut random = [0];
        let _ = getrandom::fill(&mut random);
        std::thread::sleep(Duration::from_millis(5 + u64::from(random[0] / 4)));
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(is_alone)
}

/// A lock is given back by the first access after the mode has changed.
fn let_others_in(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "locking_mode", "NORMAL", |_| Ok(()))?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).map(drop)
}

pub(super) fn settings(connection: &Connection, own: &[Dimension]) -> Result<StoreSettings, StoreError> {
    let text = connection.query_row("SELECT value FROM settings WHERE name = 'settings'", [], |row| row.get(0));
    let text: String = text.map_err(to_store_error)?;
    StoreSettings::parse(&text, own)
        .map_err(|error| StoreError::unavailable(format!("the settings of the store cannot be read: {error}")))
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// An error in words for the person in front of it.
fn describe(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "it is not a key store".to_owned(),
        Some(ErrorCode::DatabaseCorrupt) => format!("the file is damaged: {error}"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process holds the file locked".to_owned(),
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(ErrorCode::SystemIoFailure) => format!("{error}; is the disk full?"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "no permission to write it, or to make files beside it".to_owned()
        }
        _ => error.to_string(),
    }
}

/// The same for whoever has the store open.
pub(super) fn to_store_error(error: rusqlite::Error) -> StoreError {
    StoreError::unavailable(describe(&error))
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
