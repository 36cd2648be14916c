//! Delegation of [`KeyStore`] to another store.

use std::sync::Arc;

use crate::{
    dimension::Dimension,
    directory::Directory,
    key::{Digest, KeyFormats},
    store::{InMemory, KeyStore, Lookup, StoreSettings, index::Index},
};

/// Implements methods of [`KeyStore`] by asking another store: `delegate!(self => self.0; lookup formats)`.
macro_rules! delegate {
    ($this:ident => $store:expr; $($method:ident)+) => {
        $($crate::store::delegate!(@ $method $this $store);)+
    };
    (@ lookup $this:ident $store:expr) => {
        fn lookup(&$this, digest: &$crate::key::Digest) -> $crate::store::Lookup {
            $crate::store::KeyStore::lookup(&$store, digest)
        }
    };
    (@ formats $this:ident $store:expr) => {
        fn formats(&$this) -> $crate::key::KeyFormats {
            $crate::store::KeyStore::formats(&$store)
        }
    };
    (@ directory $this:ident $store:expr) => {
        fn directory(&$this) -> $crate::directory::Directory {
            $crate::store::KeyStore::directory(&$store)
        }
    };
    (@ in_memory $this:ident $store:expr) => {
        fn in_memory(&$this) -> Option<$crate::store::InMemory> {
            $crate::store::KeyStore::in_memory(&$store)
        }
    };
    (@ dimensions $this:ident $store:expr) => {
        fn dimensions(&$this) -> Option<Vec<$crate::dimension::Dimension>> {
            $crate::store::KeyStore::dimensions(&$store)
        }
    };
}
pub(crate) use delegate;

/// The index of a store, with the settings that are fixed while the store is open.
#[derive(Clone)]
pub(crate) struct IndexedKeys {
    pub(crate) index: Arc<Index>,
    formats: KeyFormats,
    dimensions: Vec<Dimension>,
}

impl IndexedKeys {
    pub(crate) fn new(index: Arc<Index>, settings: &StoreSettings) -> Self {
        Self { index, formats: settings.formats.clone(), dimensions: settings.dimensions.clone() }
    }
}

impl KeyStore for IndexedKeys {
    fn lookup(&self, digest: &Digest) -> Lookup {
        self.index.lookup(digest)
    }

    fn formats(&self) -> KeyFormats {
        self.formats.clone()
    }

    fn directory(&self) -> Directory {
        self.index.directory()
    }

    fn dimensions(&self) -> Option<Vec<Dimension>> {
        Some(self.dimensions.clone())
    }

    fn in_memory(&self) -> Option<InMemory> {
        Some(InMemory(Arc::clone(&self.index)))
    }
}
