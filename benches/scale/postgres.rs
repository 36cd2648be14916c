//! Measures PostgreSQL if `DATABASE_URL` names an empty database: all keys are written to it once, and then loaded.

use std::{env, error::Error, hint::black_box, pin::pin};

use futures::{TryStreamExt as _, executor::block_on};
use tokio_postgres::{
    NoTls,
    types::{FromSql, Type},
};
use tower_authz::{
    KeyFile,
    store::{KeyAdmin as _, PostgresOptions, PostgresStore, StoreError},
};

use crate::{
    common::format,
    load::{COLUMN_COUNT, COLUMNS, Load, timed},
};

pub(crate) fn loads(file: &KeyFile) -> Vec<Load> {
    const BARE: &str = "PostgreSQL: bare `SELECT`";
    let Ok(url) = env::var("DATABASE_URL") else {
        println!("PostgreSQL is left out: there is no `DATABASE_URL`.\n");
        return Vec::new();
    };
    if let Err(error) = fill(&url, file) {
        println!("**PostgreSQL is left out, it has to be an empty database: {error}.**\n");
        return Vec::new();
    }
    let keys = file.records().len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The first read of new rows also sets PostgreSQL's hint bits on them, so one read goes before the timed ones.
    assert_eq!(runtime.block_on(select(&url)), keys, "all rows were read");
    let address = url.clone();
    let select = move || timed(|| assert_eq!(runtime.block_on(select(&address)), keys, "all rows were read"));
    let connect = move || timed(|| block_on(PostgresStore::connect(&url)).unwrap());
    vec![
        Load { name: BARE, beside: None, once: Box::new(select) },
        Load { name: "`PostgresStore::connect`", beside: Some(BARE), once: Box::new(connect) },
    ]
}

fn fill(url: &str, file: &KeyFile) -> Result<(), StoreError> {
    // The store caches no keys and holds no lease, because an import of this many keys would outlast the lease.
    let store = block_on(PostgresOptions::new().uncached().create(url, format()))?;
    let imported = block_on(store.as_actor("bench").import(file.records().to_vec()))?;
    assert_eq!(imported.added, file.records().len(), "all keys are in the database");
    Ok(())
}

/// The raw bytes of a value of any type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Reads all rows, and returns their number.
async fn select(url: &str) -> usize {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driven = tokio::spawn(connection);
    let none: [&str; 0] = [];
    let rows = client.query_raw(&format!("SELECT {COLUMNS} FROM authz_keys"), none).await.unwrap();
    let mut rows = pin!(rows);
    let mut count = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        for column in 0..COLUMN_COUNT {
            let value: Option<Raw<'_>> = row.try_get(column).unwrap();
            black_box(value.map(|Raw(bytes)| bytes));
        }
        count += 1;
    }
    driven.abort();
    count
}
