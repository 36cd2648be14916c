//! Measures the memory of a key in three parts: its record, its entry in the table that look-ups read, and the rest,
//! which validates changes (the index of keys by id, and the set of all digests).
//!
//! The figures count the bytes that were requested. They exclude the overhead that the system's allocator adds to
//! each allocation, about 8 to 16 bytes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tower_authz::{
    Directory, KeyFile, KeyRecord,
    store::{KeyAdmin as _, MemoryStore},
};

use crate::{
    common::format,
    measure::Scale,
    population::{Grants, records, settings},
    table::{self, Mark, count},
};

/// Counts the allocated bytes, but only while a measurement is active: in other sections, two threads that update the
/// counter would slow each other down.
struct Held;

static ASKED: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicUsize = AtomicUsize::new(0);

impl Held {
    fn add(bytes: usize) {
        if ASKED.load(Ordering::Relaxed) {
            // The counter may wrap below zero if more is freed than was counted. A difference is still correct.
            BYTES.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise; it hands everything on to the system's")]
// SAFETY: every call is forwarded unchanged.
unsafe impl GlobalAlloc for Held {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::add(size.wrapping_sub(layout.size()));
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::add(layout.size().wrapping_neg());
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Held = Held;

/// Returns a new value, and how many bytes it keeps allocated.
fn held_by<T>(make: impl FnOnce() -> T) -> (T, usize) {
    ASKED.store(true, Ordering::Relaxed);
    let before = BYTES.load(Ordering::Relaxed);
    let made = make();
    let held = BYTES.load(Ordering::Relaxed).wrapping_sub(before);
    ASKED.store(false, Ordering::Relaxed);
    (made, held)
}

pub(crate) fn run(scale: Scale) {
    println!("Bytes for each of {} keys.\n", count(scale.keys));
    table::head(&["grants", "record", "table", "the rest", "all", "mark of the table"]);
    for grants in [Grants::Shared, Grants::Own, Grants::Roles] {
        print(scale.keys, grants, &Parts::of(scale.keys, grants));
    }
}

/// The keys and their roles as a key file.
fn exported(keys: usize, grants: Grants) -> String {
    let file = KeyFile::new(records(keys, grants), Directory::default());
    let store = MemoryStore::from_file(file, settings()).unwrap();
    futures::executor::block_on(store.export()).unwrap().to_json().unwrap()
}

/// Sizes in bytes.
struct Parts {
    records: usize,
    table: usize,
    all: usize,
}

impl Parts {
    fn of(keys: usize, grants: Grants) -> Self {
        // Owners, labels and roles are shared by keys that a store has read, so such keys are read from a file.
        let text = match grants {
            Grants::Roles => Some(exported(keys, grants)),
            Grants::Shared | Grants::Own => None,
        };
        let file = || match &text {
            Some(text) => KeyFile::parse(text, "keys.json").unwrap(),
            None => KeyFile::new(records(keys, grants), Directory::default()),
        };
        let (list, held) = held_by(|| {
            let file = file();
            file.records().iter().cloned().map(Arc::new).collect::<Vec<Arc<KeyRecord>>>()
        });
        let records_alone = held - list.capacity() * size_of::<Arc<KeyRecord>>();
        drop(list);
        let (store, all) = held_by(|| MemoryStore::from_file(file(), format()).unwrap());
        Self { records: records_alone, table: store.memory_of_table(), all }
    }
}

fn print(keys: usize, grants: Grants, parts: &Parts) {
    let per_key = |bytes: usize| bytes as f64 / keys as f64;
    let figure = |bytes: usize| format!("{:.0}", per_key(bytes));
    let rest = parts.all.saturating_sub(parts.records + parts.table);
    table::row(&[
        grants.name().to_owned(),
        figure(parts.records),
        figure(parts.table),
        figure(rest),
        figure(parts.all),
        Mark::AtMost(110.0).judge(per_key(parts.table)),
    ]);
}
