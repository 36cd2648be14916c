//! The life of a key.

use std::sync::Arc;

use futures::{
    future::{BoxFuture, FutureExt as _},
    stream::{self, BoxStream, StreamExt as _},
};

use crate::{
    key::{KeyFile, KeyId, KeyRecord},
    store::{
        Actor, AuditQuery, AuditRecord, KeyQuery, KeyUsage, Page, StoreError, StoreSettings, UsageQuery,
        change::{ActorInfo, Applied, Change},
    },
};

/// The life of a key: issue, list, show, rename, change, rotate, revoke, delete, and who did it.
///
/// Methods that read are here; methods that change something are on the [`Actor`] that [`as_actor`](Self::as_actor)
/// gives, so that every change names the person or program that made it. All of it is the same for every store of this
/// crate. Every change is in force when its future is done, not some time later, and leaves an [`AuditRecord`] that is
/// written together with it.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use tower_authz::{Grant, store::{KeyAdmin, MemoryStore, NewKey}};
///
/// let store = MemoryStore::new();
/// let anna = store.as_actor("anna@example.com");
/// let grant = Grant::builder().read("products").build()?;
/// let issued = anna.issue(NewKey::new("prod-2026-05", grant)).await?;
/// println!("{}", issued.api_key.expose()); // the only time it is shown
///
/// anna.revoke(issued.record.id(), "the laptop was lost").await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait KeyAdmin: Backend {
    /// The changes, by somebody: a person, a job, whoever the audit record should name.
    fn as_actor<'a>(&'a self, who: &'a str) -> Actor<'a> {
        Actor::new(self.as_backend(), who)
    }

    /// The keys that a query asks for, a page of them.
    ///
    /// # Errors
    /// If the store fails.
    fn list<'a>(&'a self, query: &'a KeyQuery) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.page(query)
    }

    /// One record.
    ///
    /// # Errors
    /// If there is no such key, its record cannot be read, or the store fails.
    fn show<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>> {
        self.one(id)
    }

    /// The audit records; the newest comes first.
    ///
    /// # Errors
    /// If the store fails.
    fn audit<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Vec<AuditRecord>, StoreError>> {
        self.history(query)
    }

    /// The audit records as they come: first those after the record with this number, oldest first, then each new one. The
    /// stream ends with the first error; go on after the last record that it gave. (0 begins with the first record.)
    ///
    /// A store in PostgreSQL is told of changes by a notification, and one in memory at once; a SQLite file is looked at several
    /// times a second.
    fn follow_audit(&self, after: u64) -> BoxStream<'_, Result<AuditRecord, StoreError>> {
        struct Follower {
            after: u64,
            page: std::vec::IntoIter<AuditRecord>,
        }
        let begin = Some(Follower { after, page: Vec::new().into_iter() });
        stream::unfold(begin, async move |state| {
            let mut state = state?;
            loop {
                if let Some(record) = state.page.next() {
                    state.after = record.number;
                    return Some((Ok(record), Some(state)));
                }
                let query = AuditQuery::new().after(state.after).limit(1000);
                match self.history(&query).await {
                    Ok(page) if page.is_empty() => {
                        if let Err(error) = self.changed_after(state.after).await {
                            return Some((Err(error), None));
                        }
                    }
                    Ok(page) => state.page = page.into_iter(),
                    Err(error) => return Some((Err(error), None)),
                }
            }
        })
        .boxed()
    }

    /// How often keys were used, and from where: the keys in the order of their ids. What this process has counted is in it
    /// at once; what others have counted, within a minute. Databases forget a day after 400 days.
    ///
    /// A decision counts once for the gate that has made it, whatever the handler answers. Requests without a key of the
    /// store are not counted here, nor are those of a store that keeps no keys in memory.
    ///
    /// # Errors
    /// If the store fails.
    fn usage<'a>(&'a self, query: &'a UsageQuery) -> BoxFuture<'a, Result<Vec<KeyUsage>, StoreError>> {
        self.usage_of(query)
    }

    /// The settings that the store has beside its keys.
    ///
    /// # Errors
    /// If the store fails.
    fn settings(&self) -> BoxFuture<'_, Result<StoreSettings, StoreError>> {
        self.current_settings()
    }

    /// All keys and the directory, as a key file: digests, never keys.
    ///
    /// # Errors
    /// If the store fails, or the record of a key cannot be read.
    fn export(&self) -> BoxFuture<'_, Result<KeyFile, StoreError>> {
        async move {
            let mut records = Vec::new();
            let mut query = KeyQuery::new().limit(10_000);
            loop {
                let page = self.page(&query).await?;
                if let Some(broken) = page.unreadable.first() {
                    return Err(StoreError::unreadable(format!("key {}: {}", broken.id, broken.why)));
                }
                records.extend(page.records.iter().map(|record| KeyRecord::clone(record)));
                match page.next {
                    Some(last) => query = query.after(last),
                    None => {
                        let settings = self.current_settings().await?;
                        return Ok(KeyFile::new(records, settings.directory).with_roles(settings.roles));
                    }
                }
            }
        }
        .boxed()
    }
}

impl<T: Backend + ?Sized> KeyAdmin for T {}

/// The trait that the stores of this crate implement: a backend carries changes out, whole or not at all. Sealed.
#[expect(unnameable_types, reason = "nobody else is to implement it")]
pub trait Backend: Send + Sync {
    #[doc(hidden)]
    fn as_backend(&self) -> &dyn Backend;

    #[doc(hidden)]
    fn apply<'a>(
        &'a self,
        who: &'a ActorInfo,
        change: BackendChange,
    ) -> BoxFuture<'a, Result<BackendOutcome, StoreError>>;

    #[doc(hidden)]
    fn page<'a>(&'a self, query: &'a KeyQuery) -> BoxFuture<'a, Result<Page, StoreError>>;

    #[doc(hidden)]
    fn one<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>>;

    #[doc(hidden)]
    fn history<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Vec<AuditRecord>, StoreError>>;

    /// Ready when there may be an audit record after this number.
    #[doc(hidden)]
    fn changed_after(&self, number: u64) -> BoxFuture<'_, Result<(), StoreError>>;

    #[doc(hidden)]
    fn usage_of<'a>(&'a self, query: &'a UsageQuery) -> BoxFuture<'a, Result<Vec<KeyUsage>, StoreError>>;

    #[doc(hidden)]
    fn current_settings(&self) -> BoxFuture<'_, Result<StoreSettings, StoreError>>;
}

/// A change, which only this crate can make, so that only its stores can carry one out.
#[derive(Debug)]
#[expect(unnameable_types, reason = "nobody else is to make one")]
pub struct BackendChange(pub(crate) Change);

/// The result of a change.
#[derive(Debug)]
#[expect(unnameable_types, reason = "nobody else is to make one")]
pub struct BackendOutcome(pub(crate) Applied);
