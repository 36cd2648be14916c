//! Large sets of keys, as records and as files.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::executor::block_on;
use tower_authz::{
    ApiKey, Grant, KeyFile, KeyRecord, Metadata,
    store::{KeyAdmin as _, SqliteStore, StoreSettings},
};

use crate::common::{format, key};

/// How grants are distributed among the keys.
#[derive(Clone, Copy)]
pub(crate) enum Grants {
    /// All keys share fifty grants.
    Shared,
    /// Each key has its own grant.
    Own,
    /// Each key refers to one of fifty roles, and has an owner, who has ten of them, and a label.
    Roles,
}

impl Grants {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Shared => "fifty, shared by all keys",
            Self::Own => "one of its own for each key",
            Self::Roles => "a role, an owner and a label for each key",
        }
    }
}

const SHARED: usize = 50;

fn grant(number: usize) -> Arc<Grant> {
    let shops = ["de".to_owned(), format!("s{number}")];
    Arc::new(Grant::builder().write("orders").read("products").only("shop", shops).build().unwrap())
}

/// The settings of a store with the roles of the population.
pub(crate) fn settings() -> StoreSettings {
    let roles = StoreSettings::new().with_format(format());
    (0..SHARED).fold(roles, |settings, number| settings.with_role(&format!("role-{number}"), grant(number)))
}

pub(crate) fn records(keys: usize, grants: Grants) -> impl Iterator<Item = KeyRecord> {
    let shared: Vec<Arc<Grant>> = (0..SHARED).map(grant).collect();
    (0..keys).map(move |number| {
        let its = match grants {
            Grants::Shared => Arc::clone(&shared[number % SHARED]),
            Grants::Own => grant(number),
            Grants::Roles => Arc::default(),
        };
        let (metadata, role) = match grants {
            Grants::Roles => {
                let owner = format!("acct-{}", number / 10);
                (Metadata::new().with_owner(owner).with_label("env", "prod"), Some(format!("role-{}", number % SHARED)))
            }
            _ => (Metadata::new(), None),
        };
        let key = key(number);
        KeyRecord::builder(key[..12].parse().unwrap(), ApiKey::new(key).digest())
            .name(format!("key {number}"))
            .created_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
            .metadata(metadata)
            .grant(its)
            .roles(role)
            .build()
    })
}

/// The same keys as JSON and as SQLite, in a directory that is removed on drop.
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) fn write(name: &str, file: &KeyFile) -> Self {
        let files = Self { folder: env::temp_dir().join(format!("tower-authz-scale-{}-{name}", process::id())) };
        fs::create_dir_all(&files.folder).unwrap();
        fs::write(files.json(), file.to_json().unwrap()).unwrap();
        let store = SqliteStore::create(files.sqlite(), settings()).unwrap();
        let imported = block_on(store.as_actor("bench").import(file.records().to_vec())).unwrap();
        assert_eq!(imported.added, file.records().len(), "all keys are in the file");
        files
    }

    pub(crate) fn json(&self) -> PathBuf {
        self.folder.join("keys.json")
    }

    pub(crate) fn sqlite(&self) -> PathBuf {
        self.folder.join("keys.sqlite")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // a directory that is left over is only clutter
    }
}
