use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;

use crate::{ApiKey, Grant, KeyId, KeyRecord, store::StoreError};

/// The life of a key: issue, list, show, rotate, revoke, delete.
///
/// Every method is in force when its future is done, not some time later. Revoked is final: nothing
/// brings a key back.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use tower_authz::{Grant, store::{KeyAdmin, MemoryStore, NewKey}};
///
/// let store = MemoryStore::new();
/// let grant = Grant::builder().read("products").build()?;
/// let issued = store.issue(NewKey::new("prod-2026-05", grant)).await?;
/// println!("{}", issued.api_key.expose()); // the only time it is shown
///
/// store.revoke(issued.record.id()).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub trait KeyAdmin: Send + Sync {
    /// Makes a key. Its id is unique in the store.
    ///
    /// # Errors
    /// If the store or the system's random source fails.
    fn issue(&self, new: NewKey) -> BoxFuture<'_, Result<IssuedKey, StoreError>>;

    /// All records, in the order of their ids.
    ///
    /// # Errors
    /// If the store fails.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Arc<KeyRecord>>, StoreError>>;

    /// One record.
    ///
    /// # Errors
    /// If there is no such key, or the store fails.
    fn show<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>>;

    /// Issues a key with the same name, kind, tenant, dates and grant, and lets the old one live as
    /// the [`Overlap`] says.
    ///
    /// # Errors
    /// If there is no such key, it is revoked or expired already, or the store fails.
    fn rotate<'a>(&'a self, id: &'a KeyId, overlap: Overlap) -> BoxFuture<'a, Result<IssuedKey, StoreError>>;

    /// Revokes a key for good. When this has returned, no request that begins later is admitted with
    /// it. A key that is revoked already stays as it is.
    ///
    /// # Errors
    /// If there is no such key, or the store fails: then assume that the key still lives.
    fn revoke<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>>;

    /// Forgets a key. It is unknown from then on. To keep a trace, revoke instead.
    ///
    /// # Errors
    /// If there is no such key, or the store fails.
    fn delete<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What a key to be issued is like.
#[derive(Clone, Debug)]
#[must_use = "a key is issued by a store"]
pub struct NewKey {
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) grant: Grant,
}

impl NewKey {
    /// A key with a name for people, and what it may do.
    pub fn new(name: impl Into<String>, grant: Grant) -> Self {
        Self { name: name.into(), kind: None, tenant: None, not_before: None, expires_at: None, grant }
    }

    /// Its kind.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// The tenant that it belongs to.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// When it begins; by default at once.
    pub const fn not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Some(time);
        self
    }

    /// When it ends; by default never.
    pub const fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// The same as an existing key.
    pub(crate) fn like(record: &KeyRecord) -> Self {
        Self {
            name: record.name().to_owned(),
            kind: record.kind().map(str::to_owned),
            tenant: record.tenant().map(str::to_owned),
            not_before: record.not_before(),
            expires_at: record.expires_at(),
            grant: record.grant().clone(),
        }
    }
}

/// A key that was just issued: the one time that it is in the clear.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedKey {
    /// The whole key. Hand it over and forget it; the store keeps only its digest.
    pub api_key: ApiKey,
    /// What the store knows of it.
    pub record: Arc<KeyRecord>,
}

/// How long the old key lives when a key is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// Until somebody revokes it.
    UntilRevoked,
    /// For this long, or until it would have expired anyway.
    For(Duration),
}
