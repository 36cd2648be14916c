use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, FutureExt as _};

use crate::{
    ConfigError, Digest, Directory, KeyFile, KeyFormat, KeyId, KeyRecord, Status,
    store::{IssuedKey, KeyAdmin, KeyStore, Lookup, NewKey, Overlap, StoreError},
};

/// All keys in memory: for tests, for one process that issues its keys anew on each start, and for
/// keys that come from a [`KeyFile`].
///
/// A look-up takes no lock and never waits for a writer. A clone is another handle to the same keys.
/// What it does not promise: nothing outlives the process, and no other process sees a change.
///
/// # Example
/// ```
/// use tower_authz::store::MemoryStore;
///
/// // let store = MemoryStore::open("keys.json")?;
/// let store = MemoryStore::new();
/// # drop(store);
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    /// The records by digest, in parts: a change copies one part, not all keys.
    parts: Box<[ArcSwap<Part>]>,
    /// The records by id. Whoever changes anything holds this lock.
    by_id: Mutex<BTreeMap<KeyId, Arc<KeyRecord>>>,
    directory: ArcSwap<Directory>,
    format: KeyFormat,
}

type Part = HashMap<Digest, Arc<KeyRecord>, BuildHasherDefault<DigestHasher>>;

/// With a million keys a change copies about a thousand.
const PARTS: usize = 1024;

impl MemoryStore {
    /// An empty store that issues keys of the default format.
    #[must_use]
    pub fn new() -> Self {
        Self::with_format(KeyFormat::default())
    }

    /// An empty store that issues, and accepts, keys of this format.
    #[must_use]
    pub fn with_format(format: KeyFormat) -> Self {
        Self::assemble(BTreeMap::new(), Directory::default(), format)
    }

    /// The keys of a file.
    ///
    /// # Errors
    /// If the file is malformed, see [`KeyFile`].
    pub fn open(path: impl AsRef<Path>, format: KeyFormat) -> Result<Self, ConfigError> {
        Self::from_file(KeyFile::read(path)?, format)
    }

    /// The keys of a file that was parsed.
    ///
    /// # Errors
    /// If a key id or a digest is given twice.
    pub fn from_file(file: KeyFile, format: KeyFormat) -> Result<Self, ConfigError> {
        let (records, directory) = file.into_parts();
        let mut by_id = BTreeMap::new();
        let mut digests = HashSet::new();
        for (index, record) in records.into_iter().enumerate() {
            // Of two records with one digest, one could be revoked and the other live on.
            if !digests.insert(*record.digest()) {
                return Err(ConfigError::new("another key has the same digest").at(format_args!("keys[{index}]")));
            }
            if by_id.insert(record.id().clone(), Arc::new(record)).is_some() {
                return Err(ConfigError::new("the key id is given twice").at(format_args!("keys[{index}]")));
            }
        }
        Ok(Self::assemble(by_id, directory, format))
    }

    /// Replaces what is known of who belongs to whom, for every request from now on.
    pub fn set_directory(&self, directory: Directory) {
        self.0.directory.store(Arc::new(directory));
    }

    fn assemble(by_id: BTreeMap<KeyId, Arc<KeyRecord>>, directory: Directory, format: KeyFormat) -> Self {
        let mut parts: Vec<Part> = (0..PARTS).map(|_| Part::default()).collect();
        for record in by_id.values() {
            if let Some(part) = parts.get_mut(part_of(record.digest())) {
                part.insert(*record.digest(), Arc::clone(record));
            }
        }
        let parts = parts.into_iter().map(ArcSwap::from_pointee).collect();
        Self(Arc::new(Inner { parts, by_id: Mutex::new(by_id), directory: ArcSwap::from_pointee(directory), format }))
    }

    /// Whoever panicked while holding the lock did so before it published anything.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyId, Arc<KeyRecord>>> {
        self.0.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one digest known, changed, or unknown, for every look-up from now on.
    fn publish(&self, digest: &Digest, record: Option<&Arc<KeyRecord>>) {
        if let Some(part) = self.0.parts.get(part_of(digest)) {
            let mut changed = Part::clone(&part.load());
            match record {
                Some(record) => changed.insert(*digest, Arc::clone(record)),
                None => changed.remove(digest),
            };
            part.store(Arc::new(changed));
        }
    }

    fn issue_now(&self, new: NewKey) -> Result<IssuedKey, StoreError> {
        let mut by_id = self.lock();
        self.issue_into(&mut by_id, new)
    }

    fn issue_into(&self, by_id: &mut BTreeMap<KeyId, Arc<KeyRecord>>, new: NewKey) -> Result<IssuedKey, StoreError> {
        // Eight random hex digits collide after some ten thousand keys; draw again, but not forever.
        for _ in 0..32 {
            let (id, api_key) = self.0.format.generate().map_err(|error| StoreError::unavailable(error.to_string()))?;
            let id: KeyId = id.parse().map_err(|error: ConfigError| StoreError::unavailable(error.to_string()))?;
            let Entry::Vacant(place) = by_id.entry(id.clone()) else { continue };
            let record = KeyRecord::builder(id, api_key.digest())
                .name(new.name)
                .kind(new.kind)
                .tenant(new.tenant)
                .not_before(new.not_before)
                .expires_at(new.expires_at)
                .grant(new.grant)
                .build();
            let record = Arc::new(record);
            place.insert(Arc::clone(&record));
            self.publish(record.digest(), Some(&record));
            return Ok(IssuedKey { api_key, record });
        }
        Err(StoreError::conflict("no free key id was found; use a format with a longer public id"))
    }

    fn rotate_now(&self, id: &KeyId, overlap: Overlap) -> Result<IssuedKey, StoreError> {
        let now = SystemTime::now();
        let mut by_id = self.lock();
        let old = by_id.get(id).cloned().ok_or_else(|| unknown(id))?;
        if matches!(old.status(now), Status::Revoked | Status::Expired) {
            return Err(StoreError::conflict(format!("the key {id} is not alive; issue a new one")));
        }
        let issued = self.issue_into(&mut by_id, NewKey::like(&old))?;
        if let Overlap::For(time) = overlap {
            let end = now
                .checked_add(time)
                .map_or(old.expires_at(), |end| Some(old.expires_at().map_or(end, |own| own.min(end))));
            let ending = Arc::new(old.revise().expires_at(end).build());
            self.publish(ending.digest(), Some(&ending));
            by_id.insert(id.clone(), ending);
        }
        Ok(issued)
    }

    fn revoke_now(&self, id: &KeyId) -> Result<Arc<KeyRecord>, StoreError> {
        let mut by_id = self.lock();
        let old = by_id.get(id).ok_or_else(|| unknown(id))?;
        if old.revoked_at().is_some() {
            return Ok(Arc::clone(old));
        }
        let revoked = Arc::new(old.revise().revoked_at(SystemTime::now()).build());
        self.publish(revoked.digest(), Some(&revoked));
        by_id.insert(id.clone(), Arc::clone(&revoked));
        Ok(revoked)
    }

    fn delete_now(&self, id: &KeyId) -> Result<(), StoreError> {
        let mut by_id = self.lock();
        let record = by_id.remove(id).ok_or_else(|| unknown(id))?;
        self.publish(record.digest(), None);
        Ok(())
    }
}

fn unknown(id: &KeyId) -> StoreError {
    StoreError::not_found(format!("there is no key {id}"))
}

/// Digests are evenly spread already: eight bytes of one are a hash. Only keys that were issued are ever
/// put into the map, so nobody can fill a bucket at will.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The last eight: the first two have chosen the part.
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }
}

/// Digests are evenly spread, so their first bits choose a part.
const fn part_of(digest: &Digest) -> usize {
    let [first, second, ..] = *digest.as_bytes();
    (first as usize * 256 + second as usize) % PARTS
}

impl KeyStore for MemoryStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        let part = self.0.parts.get(part_of(digest));
        Lookup::ready(Ok(part.and_then(|part| part.load().get(digest).cloned())))
    }

    fn format(&self) -> KeyFormat {
        self.0.format.clone()
    }

    fn directory(&self) -> Directory {
        Directory::clone(&self.0.directory.load())
    }
}

impl KeyAdmin for MemoryStore {
    fn issue(&self, new: NewKey) -> BoxFuture<'_, Result<IssuedKey, StoreError>> {
        async move { self.issue_now(new) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Arc<KeyRecord>>, StoreError>> {
        async move { Ok(self.lock().values().cloned().collect()) }.boxed()
    }

    fn show<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>> {
        async move { self.lock().get(id).cloned().ok_or_else(|| unknown(id)) }.boxed()
    }

    fn rotate<'a>(&'a self, id: &'a KeyId, overlap: Overlap) -> BoxFuture<'a, Result<IssuedKey, StoreError>> {
        async move { self.rotate_now(id, overlap) }.boxed()
    }

    fn revoke<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>> {
        async move { self.revoke_now(id) }.boxed()
    }

    fn delete<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move { self.delete_now(id) }.boxed()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("keys", &self.lock().len()).finish_non_exhaustive()
    }
}
