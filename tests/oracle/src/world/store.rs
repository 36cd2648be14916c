//! A store in memory that answers at once, later, or not at all.

use std::task::Poll;

use tower_authz::{
    Alphabet, Digest, Dimension, Directory, KeyFile, KeyFormat, KeyFormats,
    store::{KeyStore, Lookup, MemoryStore, StoreError, StoreSettings},
};

use super::{Dim, StoreMood, World, build::dimension};
use crate::random::must;

/// The keys of a world, with the mood of its store.
pub(super) struct MoodyStore {
    keys: MemoryStore,
    mood: StoreMood,
}

impl MoodyStore {
    pub(super) fn new(world: &World, file: KeyFile) -> Self {
        let format = if world.structured {
            let parts = KeyFormat::structured("l64").public_id(Alphabet::LowerAlphanumeric, 8);
            parts.secret(Alphabet::LowerHex, 32).build()
        } else {
            KeyFormat::opaque(16, 64)
        };
        let settings = StoreSettings::new()
            .with_format(must(format, "a key format"))
            .with_dimension(dimension(Dim::Project, world.project));
        Self { keys: must(MemoryStore::from_file(file, settings), "a store"), mood: world.mood }
    }
}

impl KeyStore for MoodyStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        match self.mood {
            StoreMood::AtOnce => self.keys.lookup(digest),
            StoreMood::Down => Lookup::ready(Err(StoreError::unavailable("the store is down"))),
            StoreMood::Later => {
                let (lookup, directory) = (self.keys.lookup(digest), self.keys.directory());
                let mut polled = false;
                Lookup::pending_with_directory(async move {
                    futures::future::poll_fn(|context| {
                        context.waker().wake_by_ref();
                        if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    (lookup.found().await, directory)
                })
            }
        }
    }

    fn formats(&self) -> KeyFormats {
        self.keys.formats()
    }

    fn directory(&self) -> Directory {
        self.keys.directory()
    }

    fn dimensions(&self) -> Option<Vec<Dimension>> {
        self.keys.dimensions()
    }
}
