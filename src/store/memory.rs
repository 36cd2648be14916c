use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fmt,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures::{
    channel::oneshot,
    future::{BoxFuture, FutureExt as _},
};

use crate::{
    dimension::Dimension,
    directory::Directory,
    error::ConfigError,
    key::{Digest, Expander, KeyFile, KeyFormats, KeyId, KeyRecord},
    store::{
        AuditQuery, AuditRecord, Counts, InMemory, KeyQuery, KeyStore, KeyUsage, Lookup, Page, StoreError,
        StoreSettings, UsageQuery,
        admin::{Backend, BackendChange, BackendOutcome},
        change::{ActorInfo, Applied},
        index::Index,
        lifecycle::{self, plan, unknown},
        part::Entry,
        source::{KeySource, Row},
        usage::Totals,
    },
};

/// All keys in memory: for tests, for one process that issues its keys anew on each start, and for
/// keys that come from a [`KeyFile`].
///
/// A look-up takes no lock and never waits for a writer. A clone is another handle to the same keys.
/// Two promises it does not make: nothing outlives the process, and no other process sees a change. Of the
/// audit records it keeps the newest 10,000.
///
/// # Example
/// ```
/// use tower_authz::store::MemoryStore;
///
/// // let store = MemoryStore::open("keys.json", StoreSettings::new())?;
/// let store = MemoryStore::new();
/// # drop(store);
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    index: Arc<Index>,
    formats: KeyFormats,
    /// Every change is made under this lock.
    backend: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    by_id: BTreeMap<KeyId, Arc<KeyRecord>>,
    digests: HashSet<Digest>,
    /// Of keys that were revoked, forgotten ones among them.
    revoked: HashSet<Digest>,
    audit: VecDeque<AuditRecord>,
    changes: u64,
    settings: StoreSettings,
    usage: Totals,
    /// The followers that wait for the next change.
    followers: Vec<oneshot::Sender<()>>,
}

const AUDIT_RECORDS: usize = 10_000;

impl MemoryStore {
    /// An empty store that issues keys of the default format.
    #[must_use]
    pub fn new() -> Self {
        Self::with_settings(StoreSettings::new())
    }

    /// An empty store with these settings, or with a key format and nothing else to say.
    #[must_use]
    pub fn with_settings(settings: impl Into<StoreSettings>) -> Self {
        Self::assemble(Records { settings: settings.into(), ..Records::default() })
    }

    /// The keys of a file.
    ///
    /// # Errors
    /// If the file is malformed, see [`KeyFile`].
    pub fn open(path: impl AsRef<Path>, settings: impl Into<StoreSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        Self::from_file(KeyFile::read_with(path, &settings.dimensions)?, settings)
    }

    /// The keys of a file that was parsed, and its directory.
    ///
    /// # Errors
    /// If a key id or a digest is given twice, or an id tells that its key has the format of another kind than it is of.
    pub fn from_file(file: KeyFile, settings: impl Into<StoreSettings>) -> Result<Self, ConfigError> {
        let (records, directory, roles) = file.into_parts();
        let settings = settings.into().with_directory(directory);
        let settings =
            roles.iter().fold(settings, |settings, (name, grant)| settings.with_role(name, Arc::clone(grant)));
        let roles = settings.roles.clone();
        let mut expander = Expander::new(&roles);
        let mut own = Records { settings, ..Records::default() };
        for (index, record) in records.into_iter().enumerate() {
            let in_key = |error: ConfigError| error.at(format_args!("keys[{index}]"));
            own.settings.formats.check_id(&record).map_err(in_key)?;
            let record = expander.expand(&record).map_err(in_key)?.unwrap_or(record);
            if record.revoked_at().is_some() {
                own.revoked.insert(*record.digest());
            }
            // Of two records with one digest, one could be revoked and the other live on.
            if !own.digests.insert(*record.digest()) {
                return Err(ConfigError::new("another key has the same digest").at(format_args!("keys[{index}]")));
            }
            if own.by_id.insert(record.id().clone(), Arc::new(record)).is_some() {
                return Err(ConfigError::new("duplicate key id").at(format_args!("keys[{index}]")));
            }
        }
        Ok(Self::assemble(own))
    }

    fn assemble(records: Records) -> Self {
        let index = Arc::new(Index::from_records(records.by_id.values(), records.settings.directory.clone()));
        Self(Arc::new(Inner { index, formats: records.settings.formats.clone(), backend: Mutex::new(records) }))
    }

    /// The size of the table that answers look-ups, in bytes, without the records themselves; for benches.
    #[doc(hidden)]
    #[must_use]
    pub fn memory_of_table(&self) -> usize {
        self.0.index.bytes()
    }

    /// Ignores poisoning: a panic under the lock can only come before anything is changed.
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_now(&self, who: &ActorInfo, BackendChange(change): BackendChange) -> Result<Applied, StoreError> {
        let now = SystemTime::now();
        let mut records = self.lock();
        let plan = plan(who, change, &*records, &records.settings, now)?;
        let numbered = (records.changes + 1..).zip(&plan.edits);
        let audit: Result<Vec<_>, _> = numbered.map(|(number, edit)| edit.audit(number, now, who)).collect();
        let audit = audit.map_err(|error| StoreError::invalid(error.to_string()))?;
        // From here on nothing fails: all of it, or nothing, is done.
        if let Some(before) = plan.prune {
            let newest = records.audit.iter().rev().find(|audit| audit.at < before).map(|audit| audit.number);
            records.audit.retain(|audit| audit.at >= before || Some(audit.number) == newest);
        }
        records.changes += audit.len() as u64;
        records.audit.extend(audit);
        let surplus = records.audit.len().saturating_sub(AUDIT_RECORDS);
        records.audit.drain(..surplus);
        for edit in &plan.edits {
            match (&edit.key, &edit.digest, &edit.after) {
                (Some(id), Some(digest), Some(after)) => {
                    if after.revoked_at().is_some() {
                        records.revoked.insert(*digest);
                    }
                    records.digests.insert(*digest);
                    records.by_id.insert(id.clone(), Arc::clone(after));
                }
                (Some(id), Some(digest), None) => {
                    records.digests.remove(digest);
                    records.by_id.remove(id);
                }
                _ => {}
            }
        }
        let directory = plan.settings.as_ref().map(|settings| settings.directory.clone());
        let expanded = match &plan.settings {
            Some(settings) if settings.roles != records.settings.roles => self.0.index.expanded(&settings.roles),
            _ => Vec::new(),
        };
        for (_, entry) in &expanded {
            if let Some(Entry::Record(record)) = entry {
                records.by_id.insert(record.id().clone(), Arc::clone(record));
            }
        }
        self.0.index.publish(lifecycle::entries(&plan.edits).chain(expanded), directory);
        if let Some(settings) = plan.settings {
            records.settings = settings;
        }
        records.followers.drain(..).for_each(|follower| {
            let _ = follower.send(()); // who waited may be gone
        });
        Ok(plan.applied)
    }

    fn page_now(&self, query: &KeyQuery) -> Page {
        let now = SystemTime::now();
        let records = self.lock();
        let start = query.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page::default();
        for record in records.by_id.range::<KeyId, _>((start, Bound::Unbounded)).map(|(_, record)| record) {
            if page.records.len() == query.limit {
                page.next = page.records.last().map(|last| last.id().clone());
                break;
            }
            if query.matches(record, now) {
                page.records.push(Arc::clone(record));
            }
        }
        page
    }
}

impl KeySource for Records {
    fn by_id(&self, id: &KeyId) -> Result<Row, StoreError> {
        Ok(self.by_id.get(id).map_or(Row::Absent, |record| Row::Found(Arc::clone(record))))
    }

    fn by_digest(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.digests.contains(digest))
    }

    fn by_owner(&self, owner: &str) -> Result<Vec<(KeyId, Row)>, StoreError> {
        let keys = self.by_id.iter().filter(|(_, record)| record.metadata().owner() == Some(owner));
        Ok(keys.map(|(id, record)| (id.clone(), Row::Found(Arc::clone(record)))).collect())
    }

    fn was_revoked(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.revoked.contains(digest))
    }

    fn ended_before(&self, time: SystemTime) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.by_id.values().filter(|record| lifecycle::ended_before(record, time)).cloned().collect())
    }

    fn audit_before(&self, time: SystemTime) -> Result<usize, StoreError> {
        Ok(self.audit.iter().filter(|audit| audit.at < time).count().saturating_sub(1))
    }

    fn all(&self) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        Ok(self.by_id.values().cloned().collect())
    }
}

impl KeyStore for MemoryStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        self.0.index.lookup(digest)
    }

    fn formats(&self) -> KeyFormats {
        self.0.formats.clone()
    }

    fn directory(&self) -> Directory {
        self.0.index.directory()
    }

    /// Those of the keys as well: a file may have brought them along.
    fn dimensions(&self) -> Option<Vec<Dimension>> {
        let records = self.lock();
        let mut known = records.settings.dimensions.clone();
        for (over, _) in records.by_id.values().flat_map(|record| record.grant().restrictions()) {
            if !known.contains(over) {
                known.push(over.clone());
            }
        }
        Some(known)
    }

    fn in_memory(&self) -> Option<InMemory> {
        Some(InMemory(Arc::clone(&self.0.index)))
    }
}

impl Backend for MemoryStore {
    fn as_backend(&self) -> &dyn Backend {
        self
    }

    fn apply<'a>(
        &'a self,
        who: &'a ActorInfo,
        change: BackendChange,
    ) -> BoxFuture<'a, Result<BackendOutcome, StoreError>> {
        async move { self.apply_now(who, change).map(BackendOutcome) }.boxed()
    }

    fn page<'a>(&'a self, query: &'a KeyQuery) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move { Ok(self.page_now(query)) }.boxed()
    }

    fn one<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Arc<KeyRecord>, StoreError>> {
        async move { self.lock().by_id.get(id).cloned().ok_or_else(|| unknown(id)) }.boxed()
    }

    fn history<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<Vec<AuditRecord>, StoreError>> {
        async move {
            let records = self.lock();
            let asked = |audit: &&AuditRecord| {
                query.before.is_none_or(|number| audit.number < number)
                    && query.key.as_ref().is_none_or(|key| audit.key.as_ref() == Some(key))
            };
            let Some(after) = query.after else {
                return Ok(records.audit.iter().rev().filter(asked).take(query.limit).cloned().collect());
            };
            let newer = records.audit.iter().filter(|audit| audit.number > after);
            Ok(newer.filter(asked).take(query.limit).cloned().collect())
        }
        .boxed()
    }

    fn changed_after(&self, number: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (news, told) = oneshot::channel();
            {
                let mut records = self.lock();
                if records.changes > number {
                    return Ok(());
                }
                records.followers.retain(|follower| !follower.is_canceled());
                records.followers.push(news);
            }
            let _ = told.await;
            Ok(())
        }
        .boxed()
    }

    fn usage_of<'a>(&'a self, query: &'a UsageQuery) -> BoxFuture<'a, Result<Vec<KeyUsage>, StoreError>> {
        async move {
            let mut records = self.lock();
            let counted = self.0.index.counts().map(Counts::take).unwrap_or_default();
            counted.iter().for_each(|(key, tally)| records.usage.add_tally(key, tally));
            Ok(records.usage.asked_for(query))
        }
        .boxed()
    }

    fn current_settings(&self) -> BoxFuture<'_, Result<StoreSettings, StoreError>> {
        async move { Ok(self.lock().settings.clone()) }.boxed()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("keys", &self.0.index.len()).finish_non_exhaustive()
    }
}
