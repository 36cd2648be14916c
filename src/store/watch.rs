//! Events of keys that time alone brings about.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    key::{KeyId, KeyRecord, Status},
    store::{KeyAdmin, KeyQuery, StoreError},
};

/// Finds keys that are about to expire, and keys that nobody uses, once each: for whoever tells their owners.
///
/// Nothing happens to a key at such a moment, so no audit record tells of it. Ask every few minutes or hours, by whatever
/// timer your runtime has. What was told is remembered as long as this value lives: a program that is restarted tells of
/// all that is true then.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use std::time::Duration;
/// use tower_authz::store::{KeyEvent, MemoryStore, Watch};
///
/// let store = MemoryStore::new();
/// let day = Duration::from_secs(86_400);
/// let mut watch = Watch::new().expiring_within(14 * day).unused_for(90 * day);
/// // In a loop, once an hour:
/// for event in watch.events(&store).await? {
///     match event {
///         KeyEvent::Expiring(key) => println!("{} expires at {:?}", key.id(), key.expires_at()),
///         KeyEvent::Unused(key) => println!("{} is not used", key.id()),
///         _ => {}
///     }
/// }
/// # Ok::<(), tower_authz::store::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Default)]
#[must_use = "a watch is asked for its events"]
pub struct Watch {
    expiring_within: Option<Duration>,
    unused_for: Option<Duration>,
    told: HashSet<(EventKind, KeyId)>,
}

/// Something that has become true of a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeyEvent {
    /// It expires soon.
    Expiring(Arc<KeyRecord>),
    /// It was not used for a long time, though it could be.
    Unused(Arc<KeyRecord>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum EventKind {
    Expiring,
    Unused,
}

impl KeyEvent {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &Arc<KeyRecord> {
        match self {
            Self::Expiring(key) | Self::Unused(key) => key,
        }
    }

    /// Its name: `expiring` or `unused`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Expiring(_) => "expiring",
            Self::Unused(_) => "unused",
        }
    }
}

impl Watch {
    /// Watches for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells of active keys that expire within this time.
    pub const fn expiring_within(mut self, time: Duration) -> Self {
        self.expiring_within = Some(time);
        self
    }

    /// Tells of active keys that were not used for this time; of those that never were, once they are as old.
    pub const fn unused_for(mut self, time: Duration) -> Self {
        self.unused_for = Some(time);
        self
    }

    /// The events since the last call. A key of which it was true, is no longer and is again, is told of again.
    ///
    /// # Errors
    /// If the store fails: then nothing counts as told.
    pub async fn events(&mut self, store: &(impl KeyAdmin + ?Sized)) -> Result<Vec<KeyEvent>, StoreError> {
        let now = SystemTime::now();
        let mut events = Vec::new();
        let active = KeyQuery::new().status(Status::Active);
        if let Some(end) = self.expiring_within.and_then(|time| now.checked_add(time)) {
            let expiring = all(store, active.clone().expires_before(end)).await?;
            events.extend(expiring.into_iter().map(|key| (EventKind::Expiring, KeyEvent::Expiring(key))));
        }
        if let Some(time) = self.unused_for {
            let is_old = |key: &Arc<KeyRecord>| {
                let since = key.last_used().or(key.created_at());
                since.is_none_or(|since| now.duration_since(since).is_ok_and(|age| age >= time))
            };
            let unused = all(store, active.unused_for(time)).await?.into_iter().filter(is_old);
            events.extend(unused.map(|key| (EventKind::Unused, KeyEvent::Unused(key))));
        }
        let identity = |(kind, event): &(EventKind, KeyEvent)| (*kind, event.key().id().clone());
        let true_now = events.iter().map(identity).collect();
        let told = std::mem::replace(&mut self.told, true_now);
        let is_new = |event: &(EventKind, KeyEvent)| !told.contains(&identity(event));
        Ok(events.into_iter().filter(is_new).map(|(_, event)| event).collect())
    }
}

async fn all(store: &(impl KeyAdmin + ?Sized), mut query: KeyQuery) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
    let mut records = Vec::new();
    loop {
        let page = store.list(&query).await?;
        records.extend(page.records);
        match page.next {
            Some(last) => query = query.after(last),
            None => return Ok(records),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::{Digest, Grant},
        store::{MemoryStore, NewKey},
    };

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_becomes_true_is_told_once() {
        futures::executor::block_on(async {
            let store = MemoryStore::new();
            let by = store.as_actor("test");
            let new = NewKey::new("k", Grant::default()).expires_at(SystemTime::now() + 10 * DAY);
            let soon = by.issue(new).await.unwrap().record;
            let old = KeyRecord::builder("old".parse().unwrap(), Digest::from_key(b"the old key"));
            by.import([old.created_at(SystemTime::now() - 100 * DAY).build()]).await.unwrap();
            by.issue(NewKey::new("young", Grant::default())).await.unwrap();
            let mut watch = Watch::new().expiring_within(14 * DAY).unused_for(90 * DAY);
            let mut told = async || {
                let events = watch.events(&store).await.unwrap();
                events.iter().map(|event| format!("{} {}", event.name(), event.key().id())).collect::<Vec<_>>()
            };
            assert_eq!(told().await, [format!("expiring {}", soon.id()), "unused old".to_owned()]);
            assert_eq!(told().await, [] as [String; 0]);
            by.set_expiry(soon.id(), None).await.unwrap();
            assert_eq!(told().await, [] as [String; 0]);
            by.set_expiry(soon.id(), SystemTime::now() + DAY).await.unwrap();
            assert_eq!(told().await, [format!("expiring {}", soon.id())]);
            by.revoke(&"old".parse().unwrap(), "").await.unwrap();
            assert_eq!(told().await, [] as [String; 0]);
        });
    }
}
