//! Measures the cost of 100,000 keys in each store of one machine: import, list, look-up, reload. The bench `scale`
//! measures how much memory they take, and how long they take to load.
//!
//! `cargo bench -p tower-authz --features file,sqlite --bench stores`; `KEYS=1000000` sets another number.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that is surprised should stop")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]
#![allow(missing_docs, reason = "nobody links to a bench")]

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::executor::block_on;
use tower_authz::{
    ApiKey, Digest, Directory, Grant, KeyFile, KeyFormat, KeyRecord,
    store::{FileStore, KeyAdmin, KeyQuery, KeyStore, MemoryStore, SqliteStore},
};

fn keys() -> usize {
    std::env::var("KEYS").ok().and_then(|number| number.parse().ok()).unwrap_or(100_000)
}

fn key(number: usize) -> String {
    format!("l64_{number:08}_{:032x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn format() -> KeyFormat {
    "l64_{a-z0-9:8}_{0-9a-f:32}".parse().unwrap()
}

/// Returns keys with fifty different grants.
fn records() -> Vec<KeyRecord> {
    let grants: Vec<Grant> = (0..50)
        .map(|number| {
            let shops = ["de".to_owned(), format!("s{number}")];
            Grant::builder().write("orders").read("products").only("shop", shops).build().unwrap()
        })
        .collect();
    let record = |number: usize| {
        let key = key(number);
        KeyRecord::builder(key[..12].parse().unwrap(), ApiKey::new(key).digest())
            .name(format!("key {number}"))
            .created_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
            .grant(grants[number % grants.len()].clone())
            .build()
    };
    (0..keys()).map(record).collect()
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tower-authz-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn fresh_sqlite(path: &Path) -> SqliteStore {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    SqliteStore::create(path, format()).unwrap()
}

fn stores(c: &mut Criterion) {
    let folder = folder();
    let (json, sqlite) = (folder.join("keys.json"), folder.join("keys.sqlite"));
    let file = KeyFile::new(records(), Directory::default()).to_json().unwrap();
    std::fs::write(&json, &file).unwrap();
    let store = fresh_sqlite(&sqlite);
    block_on(store.as_actor("bench").import(records())).unwrap();
    drop(store);

    let mut group = c.benchmark_group("stores");
    group.sample_size(10);
    let scratch = folder.join("scratch.sqlite");
    group.bench_function("import/memory", |bench| {
        let import = |store: MemoryStore| block_on(store.as_actor("bench").import(records())).unwrap().added;
        bench.iter_with_large_drop(|| assert_eq!(import(MemoryStore::with_settings(format())), keys()));
    });
    group.bench_function("import/sqlite", |bench| {
        let import = |store: &SqliteStore| block_on(store.as_actor("bench").import(records())).unwrap().added;
        bench.iter(|| assert_eq!(import(&fresh_sqlite(&scratch)), keys()));
    });
    group.bench_function("reload/file", |bench| bench.iter(|| FileStore::open(&json, format()).unwrap()));
    group.bench_function("reload/sqlite", |bench| bench.iter(|| SqliteStore::open(&sqlite).unwrap()));
    let store = SqliteStore::open(&sqlite).unwrap();
    group.bench_function("list/sqlite", |bench| {
        bench.iter(|| {
            let (mut query, mut count) = (KeyQuery::new().limit(10_000), 0);
            loop {
                let page = block_on(store.list(&query)).unwrap();
                count += page.records.len();
                let Some(last) = page.next else { break };
                query = query.after(last);
            }
            assert_eq!(count, keys());
        });
    });
    group.bench_function("issue/sqlite, durable", |bench| {
        use tower_authz::store::NewKey;
        let grant = std::sync::Arc::new(Grant::builder().read("orders").build().unwrap());
        let store = fresh_sqlite(&scratch);
        bench.iter(|| block_on(store.as_actor("bench").issue(NewKey::new("k", grant.clone()))).unwrap());
    });
    group.finish();

    let digests: Vec<Digest> = (0..keys()).map(|number| Digest::from_key(key(number).as_bytes())).collect();
    let mut index = 0;
    c.bench_function("stores/look-up, random", |bench| {
        bench.iter(|| {
            index = (index + 7919) % digests.len();
            let digest = black_box(&digests[index]);
            let found = futures::FutureExt::now_or_never(store.lookup(digest).found()).unwrap().unwrap();
            assert!(found.is_some());
        });
    });
    drop(store);
    std::fs::remove_dir_all(folder).unwrap();
}

criterion_group!(benches, stores);
criterion_main!(benches);
