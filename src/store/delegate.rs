//! Stores that ask another store.

use std::sync::Arc;

use crate::{
    dimension::Dimension,
    directory::Directory,
    key::{Digest, KeyFormat},
    store::{KeyStore, Lookup, StoreSettings, index::Index},
};

/// Implements methods of [`KeyStore`] by asking another store: `delegate!(self => self.0; lookup format)`.
macro_rules! delegate {
    ($this:ident => $store:expr; $($method:ident)+) => {
        $($crate::store::delegate!(@ $method $this $store);)+
    };
    (@ lookup $this:ident $store:expr) => {
        fn lookup(&$this, digest: &$crate::key::Digest) -> $crate::store::Lookup {
            $crate::store::KeyStore::lookup(&$store, digest)
        }
    };
    (@ format $this:ident $store:expr) => {
        fn format(&$this) -> $crate::key::KeyFormat {
            $crate::store::KeyStore::format(&$store)
        }
    };
    (@ directory $this:ident $store:expr) => {
        fn directory(&$this) -> $crate::directory::Directory {
            $crate::store::KeyStore::directory(&$store)
        }
    };
    (@ dimensions $this:ident $store:expr) => {
        fn dimensions(&$this) -> Option<Vec<$crate::dimension::Dimension>> {
            $crate::store::KeyStore::dimensions(&$store)
        }
    };
}
pub(crate) use delegate;

/// A store that has all keys in memory, with the settings that stay as they are while it is open.
#[derive(Clone)]
pub(crate) struct InMemory {
    pub(crate) index: Arc<Index>,
    format: KeyFormat,
    dimensions: Vec<Dimension>,
}

impl InMemory {
    pub(crate) fn new(index: Arc<Index>, settings: &StoreSettings) -> Self {
        Self { index, format: settings.format.clone(), dimensions: settings.dimensions.clone() }
    }
}

impl KeyStore for InMemory {
    fn lookup(&self, digest: &Digest) -> Lookup {
        self.index.lookup(digest)
    }

    fn format(&self) -> KeyFormat {
        self.format.clone()
    }

    fn directory(&self) -> Directory {
        self.index.directory()
    }

    fn dimensions(&self) -> Option<Vec<Dimension>> {
        Some(self.dimensions.clone())
    }
}
