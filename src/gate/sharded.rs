//! Data that all clones of a service share.

use std::{ops::Deref, sync::Arc};

use crate::{
    gate::{config::Config, ready::ReadyRefusals},
    store::{KeyStore, delegate},
    threads,
};

/// `Arc<Config>` sharded by thread, so that requests on different cores do not contend on one reference count.
pub(crate) struct Sharded<R> {
    shards: [Arc<Shard<R>>; SHARDS],
}

/// More threads than that share a place with others.
const SHARDS: usize = 16;

/// The configuration, as a few threads know it. Its count, which stands in front of it, is alone in its cache lines.
#[repr(align(128))]
pub(crate) struct Shard<R> {
    config: Arc<Config<R>>,
    /// The denials of these are counted by each request that they refuse, so each thread has its own.
    pub(super) ready: ReadyRefusals,
}

impl<R> Sharded<R> {
    pub(crate) fn new(config: &Arc<Config<R>>) -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Arc::new(Shard { config: Arc::clone(config), ready: ReadyRefusals::default() })
            }),
        }
    }

    /// The one of this thread.
    #[inline]
    pub(crate) fn local(&self) -> &Arc<Shard<R>> {
        let [first, ..] = &self.shards;
        self.shards.get(threads::number() % SHARDS).unwrap_or(first)
    }
}

impl<R> Deref for Shard<R> {
    type Target = Config<R>;

    fn deref(&self) -> &Config<R> {
        &self.config
    }
}

/// The store of the configuration: a principal that holds on to it counts where its request does.
impl<R: Send + Sync + 'static> KeyStore for Shard<R> {
    delegate!(self => self.store; lookup formats directory dimensions);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gate::AuthenticateLayer, store::MemoryStore};

    #[test]
    fn threads_count_in_places_of_their_own() {
        let layer = AuthenticateLayer::new(MemoryStore::new());
        let sharded = layer.sharded();
        assert!(Arc::ptr_eq(&sharded, &layer.clone().sharded()), "however many routes are wrapped");
        let position =
            || std::thread::scope(|scope| scope.spawn(|| Arc::as_ptr(sharded.local()).addr()).join().unwrap());
        // Threads of other tests are numbered as well: all of these may be one only by a very long chance.
        let positions: std::collections::BTreeSet<usize> = (0..4 * SHARDS).map(|_| position()).collect();
        assert!(positions.len() > 1 && positions.iter().all(|position| position % 128 == 0), "{positions:?}");
    }
}
