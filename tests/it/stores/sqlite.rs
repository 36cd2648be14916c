//! Gives the suite access to a `SqliteStore`, and to its file.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tower_authz::store::{SqliteStore, StoreError, StoreSettings};

use crate::stores::{Durable, Fixture};

/// A directory of one test, which is removed on drop.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tower-authz-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("keys.sqlite")
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Sqlite {
    // The store must be dropped before the directory of its file.
    store: SqliteStore,
    folder: Folder,
}

impl Sqlite {
    pub fn file(&self) -> PathBuf {
        self.folder.file()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the store, as the end of the process would, and keeps the file.
    pub fn close(self) -> Folder {
        self.folder
    }
}

impl Fixture for Sqlite {
    type Store = SqliteStore;

    async fn fresh(settings: StoreSettings) -> Self {
        let folder = Folder::new();
        Self { store: SqliteStore::create(folder.file(), settings).unwrap(), folder }
    }

    fn store(&self) -> &SqliteStore {
        &self.store
    }

    async fn with_uses_written(self) -> Self {
        self.reopen().await
    }
}

impl Durable for Sqlite {
    const KIND: &'static str = "sqlite";

    fn place(&self) -> String {
        self.file().to_str().unwrap().to_owned()
    }

    async fn open(place: &str) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(place)
    }

    async fn reopen(self) -> Self {
        let folder = self.close();
        Self { store: SqliteStore::open(folder.file()).unwrap(), folder }
    }

    async fn assert_sound(place: &str) {
        let verdict: String = raw(Path::new(place)).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
}

/// Opens the file as another program would.
pub fn raw(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    connection
}
