//! The server that most tests share, a database for each of them, and the store in it.

use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tower_authz::store::{PostgresOptions, PostgresStore, StoreSettings};

use super::{Fixture, cluster::Cluster};

/// Returns the directory of its socket.
pub fn server() -> Option<&'static Path> {
    static SERVER: OnceLock<Option<Cluster>> = OnceLock::new();
    let start = || {
        let cluster = Cluster::new()?;
        cluster.start(&[]);
        Some(cluster)
    };
    SERVER.get_or_init(start).as_ref().map(|cluster| &*cluster.folder)
}

/// Returns the address of a database of the server.
pub fn address(database: &str) -> String {
    format!("host={} user=postgres dbname={database}", server().unwrap().display())
}

/// Executes SQL in the database, without any store.
pub async fn raw(database: &str, sql: &str) {
    raw_at(&address(database), sql).await;
}

/// Executes SQL at any server.
pub async fn raw_at(address: &str, sql: &str) {
    let begin = Instant::now();
    let (client, connection) = loop {
        match tokio_postgres::connect(address, tokio_postgres::NoTls).await {
            Ok(connected) => break connected,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let driven = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    let _ = driven.await;
}

/// Creates a database that no other test uses.
pub async fn database() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("store_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    raw("postgres", &format!("CREATE DATABASE {name}")).await;
    name
}

pub struct Postgres {
    store: PostgresStore,
    database: String,
}

impl Fixture for Postgres {
    type Store = PostgresStore;

    fn is_there() -> bool {
        server().is_some()
    }

    async fn fresh(settings: StoreSettings) -> Self {
        let database = database().await;
        Self { store: PostgresStore::create(&address(&database), settings).await.unwrap(), database }
    }

    fn store(&self) -> &PostgresStore {
        &self.store
    }

    async fn with_uses_written(self) -> Self {
        let Self { store, database } = self;
        drop(store);
        let store = PostgresOptions::new().connect(&address(&database)).await.unwrap();
        Self { store, database }
    }
}
