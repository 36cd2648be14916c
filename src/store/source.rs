//! The records of a store, as a change reads them.

use std::{sync::Arc, time::SystemTime};

use crate::{
    key::{Digest, KeyId, KeyRecord},
    store::StoreError,
};

/// The records that a change is planned with. They must not change meanwhile.
pub(crate) trait KeySource {
    fn by_id(&self, id: &KeyId) -> Result<Row, StoreError>;

    fn by_digest(&self, digest: &Digest) -> Result<bool, StoreError>;

    /// Keys that were revoked or had expired by this time.
    fn ended_before(&self, time: SystemTime) -> Result<Vec<Arc<KeyRecord>>, StoreError>;

    /// Whether a key with this digest was ever revoked in this store, even if its record is gone.
    fn was_revoked(&self, digest: &Digest) -> Result<bool, StoreError>;

    /// The number of audit records that are older than this, not counting the newest of them.
    fn audit_before(&self, time: SystemTime) -> Result<usize, StoreError>;

    /// The keys of an owner, with those whose records cannot be read.
    fn by_owner(&self, owner: &str) -> Result<Vec<(KeyId, Row)>, StoreError>;

    /// All readable records.
    fn all(&self) -> Result<Vec<Arc<KeyRecord>>, StoreError>;
}

/// The row of an id.
#[derive(Clone)]
pub(crate) enum Row {
    Absent,
    Found(Arc<KeyRecord>),
    /// A record that cannot be read: its digest, if that is readable, and the error.
    Unreadable(Option<Digest>, String),
}
