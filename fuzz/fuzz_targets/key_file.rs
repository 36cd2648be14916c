//! Passes text through `KeyFile::parse`.
//!
//! This target looks for a panic; a file that is accepted and cannot be written, or reads back differently; a store
//! that refuses a record that the file accepted; and an error that does not name the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_authz::{KeyFile, KeyFormat, store::MemoryStore};

fuzz_target!(|text: &str| {
    let file = match KeyFile::parse(text, "keys.json") {
        Ok(file) => file,
        Err(error) => return assert!(error.to_string().starts_with("keys.json: ")),
    };
    let written = file.to_json().expect("what was read can be written");
    let again = KeyFile::parse(&written, "again.json").unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(file.records(), again.records());
    assert_eq!(written, again.to_json().unwrap(), "the directory reads back as it was");

    for (index, record) in file.records().iter().enumerate() {
        let before = &file.records()[..index];
        assert!(before.iter().all(|other| other.id() != record.id() && other.digest() != record.digest()));
    }
    MemoryStore::from_file(file, KeyFormat::default()).unwrap();
});
