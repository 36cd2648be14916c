//! What 100,000 keys cost in each store: import, list, look-up, reload, and memory.
//!
//! `cargo bench --features file,sqlite --bench stores`; `KEYS=1000000` takes another number. With the feature `postgres`
//! and an empty database in `DATABASE_URL`, PostgreSQL as well.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that is surprised should stop")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]
#![allow(missing_docs, reason = "nobody links to a bench")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::executor::block_on;
use tower_authz::{
    ApiKey, Digest, Directory, Grant, KeyFile, KeyFormat, KeyRecord,
    store::{FileStore, KeyAdmin, KeyQuery, KeyStore, MemoryStore, SqliteStore},
};

/// Counts the bytes that are held.
struct Held;

static BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise; it hands everything on to the system's")]
// SAFETY: every call is handed on unchanged.
unsafe impl GlobalAlloc for Held {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Held = Held;

fn keys() -> usize {
    std::env::var("KEYS").ok().and_then(|number| number.parse().ok()).unwrap_or(100_000)
}

fn key(number: usize) -> String {
    format!("l64_{number:08}_{:032x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn format() -> KeyFormat {
    "l64_{a-z0-9:8}_{0-9a-f:32}".parse().unwrap()
}

/// Keys with fifty different grants.
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

/// What the store holds in memory for each of its keys.
fn tell_memory<S>(name: &str, open: impl FnOnce() -> S) {
    let before = BYTES.load(Ordering::Relaxed);
    let store = open();
    let held = BYTES.load(Ordering::Relaxed).saturating_sub(before);
    println!("memory/{name}: {} bytes a key, of {}", held / keys(), keys());
    drop(store);
}

fn stores(c: &mut Criterion) {
    let folder = folder();
    let (json, sqlite) = (folder.join("keys.json"), folder.join("keys.sqlite"));
    let file = KeyFile::new(records(), Directory::default()).to_json().unwrap();
    std::fs::write(&json, &file).unwrap();
    let store = fresh_sqlite(&sqlite);
    block_on(store.by("bench").import(records())).unwrap();
    drop(store);

    tell_memory("memory", || MemoryStore::open(&json, format()).unwrap());
    tell_memory("file", || FileStore::open(&json, format()).unwrap());
    tell_memory("sqlite", || SqliteStore::open(&sqlite).unwrap());

    let mut group = c.benchmark_group("stores");
    group.sample_size(10);
    let scratch = folder.join("scratch.sqlite");
    group.bench_function("import/memory", |bench| {
        let import = |store: MemoryStore| block_on(store.by("bench").import(records())).unwrap().added;
        bench.iter_with_large_drop(|| assert_eq!(import(MemoryStore::with_settings(format())), keys()));
    });
    group.bench_function("import/sqlite", |bench| {
        let import = |store: &SqliteStore| block_on(store.by("bench").import(records())).unwrap().added;
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
        bench.iter(|| block_on(store.by("bench").issue(NewKey::new("k", grant.clone()))).unwrap());
    });
    group.finish();

    let digests: Vec<Digest> = (0..keys()).map(|number| Digest::of(key(number).as_bytes())).collect();
    let mut place = 0;
    c.bench_function("stores/look-up, random", |bench| {
        bench.iter(|| {
            place = (place + 7919) % digests.len();
            let digest = black_box(&digests[place]);
            let found = futures::FutureExt::now_or_never(store.lookup(digest).found()).unwrap().unwrap();
            assert!(found.is_some());
        });
    });
    drop(store);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Loading all keys, beside a bare `SELECT` of the same rows; once each, as for a million keys it takes its time.
#[cfg(feature = "postgres")]
fn postgres(_: &mut Criterion) {
    use std::time::Instant;
    use tower_authz::store::{PostgresOptions, PostgresStore};

    let Ok(url) = std::env::var("DATABASE_URL") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let timed = |name: &str, work: &mut dyn FnMut()| {
        let begin = Instant::now();
        work();
        println!("postgres/{name}: {:.2} s for {} keys", begin.elapsed().as_secs_f64(), keys());
    };
    let options = || PostgresOptions::new().uncached();
    let store = block_on(options().create(&url, format())).unwrap();
    let mut records = Some(records());
    timed("import", &mut || {
        assert_eq!(block_on(store.by("bench").import(records.take().unwrap())).unwrap().added, keys());
    });
    for _ in 0..3 {
        timed("bare SELECT, read to its end", &mut || runtime.block_on(select(&url)));
        timed("load", &mut || drop(block_on(PostgresStore::connect(&url)).unwrap()));
    }
    tell_memory("postgres", || block_on(PostgresStore::connect(&url)).unwrap());
}

#[cfg(feature = "postgres")]
async fn select(url: &str) {
    use futures::TryStreamExt as _;
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let driven = tokio::spawn(connection);
    let none: [&str; 0] = [];
    let rows = client.query_raw("SELECT * FROM authz_keys", none).await.unwrap();
    let count = rows.try_fold(0, async |count, row| {
        black_box(row.get::<_, &str>(0));
        Ok(count + 1)
    });
    assert_eq!(count.await.unwrap(), keys());
    driven.abort();
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &mut Criterion) {}

criterion_group!(benches, stores, postgres);
criterion_main!(benches);
