//! Keys in a key file that is read again when it changes.

use std::{
    collections::HashSet,
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use crate::{
    directory::Directory,
    error::ConfigError,
    key::{Digest, KeyFile},
    mount::SingleMount,
    regular_file,
    store::{
        KeyStore, StoreSettings,
        delegate::{IndexedKeys, delegate},
        index::{Index, MarkStaleOnDrop},
        join::JoinOnDrop,
        part::Entry,
        report::{self, Report},
    },
};

/// Keys in a [key file](KeyFile) that people edit or a deployment brings: it is read again when it
/// changes.
///
/// It does not matter how it changes: written in place, replaced by an editor, or swapped behind a
/// symbolic link as mounted config maps are. What is looked at is the content.
///
/// # What it promises
/// * Look-ups are answered from memory. A change of the file is in force within a second.
/// * A bad edit changes nothing: the last good state stays in force, the fault is reported with its
///   place in the file, and [`status`](Self::status) says how old the state is.
/// * At start a bad file is an error, never a store without keys.
/// * Revoked is for good: a key that this process has seen revoked in the file is refused whatever a later edit says, and
///   that is reported. The file itself remembers nothing: after a restart it counts as it is.
///
/// # What it does not
/// * Nothing issues or revokes keys here: edit the file. `authz export` writes one, and `authz import`
///   takes one over into a store that can be changed.
/// * A file that goes missing is a bad edit: the last good state stays. Watch the status. The same holds for whatever is no
///   file, a FIFO say, and for a file system that does not answer.
/// * **Containers**: mount the directory of the file, not the file. A file that is mounted singly (`--volume
///   keys.json:/keys.json`, a `subPath` in Kubernetes) shows what is written into it, and never what is put in its place by
///   a rename, which is how editors and config maps bring a new version. Once that has happened the status says so (on
///   Linux, where `/proc` is there); until then nothing can.
/// * When a key was last used is forgotten with the process.
///
/// # Example
/// ```
/// use tower_authz::store::{FileStore, StoreSettings};
///
/// # let path = std::env::temp_dir().join(format!("tower-authz-doc-{}.json", std::process::id()));
/// # std::fs::write(&path, r#"{ "keys": [] }"#)?;
/// let store = FileStore::open(&path, StoreSettings::new())?;
/// assert!(store.status().fault.is_none());
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FileStore(Arc<Handle>);

struct Handle {
    keys: IndexedKeys,
    status: Arc<ArcSwap<FileStatus>>,
    /// None only while it is dropped.
    alive: Option<mpsc::Sender<()>>,
    thread: JoinOnDrop,
    /// Disconnected when the thread has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

/// How it stands with a [`FileStore`], for health checks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileStatus {
    /// When the state that is in force was read.
    pub loaded_at: SystemTime,
    /// When the file was last looked at: at most a second ago, or nobody looks any more.
    pub checked_at: SystemTime,
    /// How many keys it has.
    pub keys: usize,
    /// Why the file as it is now is not in force.
    pub fault: Option<String>,
}

/// How often the file is looked at.
const TICK: Duration = Duration::from_millis(250);
/// A look that takes longer is a fault: a file system that does not answer, say.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// Why a file that is mounted singly is not in force any more.
const LEFT_BEHIND: &str = "it was replaced, moved or deleted where it comes from, and is mounted here as a single file, which \
                           goes on showing the old one: mount its directory instead";

impl FileStore {
    /// Reads the file, and goes on watching it. The directory is that of the file; of the settings the
    /// key formats and the dimensions count.
    ///
    /// # Errors
    /// If it cannot be read or is malformed, see [`KeyFile`].
    pub fn open(path: impl AsRef<Path>, settings: impl Into<StoreSettings>) -> Result<Self, ConfigError> {
        Self::open_with(path, settings, report::standard())
    }

    /// The same, with somebody who hears of bad edits. Default: the log, with the feature `tracing`;
    /// else standard error.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_reporting(
        path: impl AsRef<Path>,
        settings: impl Into<StoreSettings>,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        Self::open_with(path, settings, report::to(report))
    }

    fn open_with(
        path: impl AsRef<Path>,
        settings: impl Into<StoreSettings>,
        report: Report,
    ) -> Result<Self, ConfigError> {
        let settings = settings.into();
        let path = path.as_ref().to_owned();
        let unread = |error: io::Error| ConfigError::new(error.to_string()).at(path.display());
        let (stamp, content) = read(&path).map_err(unread)?;
        let (entries, directory) = parse(&content, &path, &settings)?;
        let now = SystemTime::now();
        let status = FileStatus { loaded_at: now, checked_at: now, keys: entries.len(), fault: None };
        let status = Arc::new(ArcSwap::from_pointee(status));
        let revoked = entries.iter().filter(|(_, entry)| is_revoked(entry)).map(|(digest, _)| *digest).collect();
        let index = Arc::new(Index::uncounted(entries, directory));
        let keys = IndexedKeys::new(Arc::clone(&index), &settings);
        let watcher = Watcher {
            path: path.clone(),
            settings,
            index,
            status: Arc::clone(&status),
            report,
            stamp: Some(stamp),
            seen: Some(Digest::from_key(&content)),
            mount: SingleMount::find(&path),
            revoked,
        };
        let (alive, inbox) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name("authz-file".to_owned()).spawn(move || {
            let _end: mpsc::Sender<()> = end; // dropped with the thread, however it ends
            watcher.run(&inbox);
        });
        let thread = JoinOnDrop::new(thread.map_err(unread)?);
        let (alive, ended) = (Some(alive), Mutex::new(ended));
        Ok(Self(Arc::new(Handle { keys, status, alive, thread, ended })))
    }

    /// How old the state in force is, and why the file as it is now is not.
    #[must_use]
    pub fn status(&self) -> FileStatus {
        let mut status = FileStatus::clone(&self.0.status.load());
        // Nobody else could say so: whoever looks at the file waits for it.
        if let Some(silent) = status.checked_at.elapsed().ok().filter(|silent| *silent > LONGEST_LOOK) {
            let fault = format!("the file has not answered for {} s, its last good state stays", silent.as_secs());
            status.fault = status.fault.or(Some(fault));
        }
        status
    }
}

/// The content of a file, and what tells that it may have changed.
fn read(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    let mut file = regular_file::open(path)?;
    // Before it is read: whoever writes meanwhile is noticed at the next look.
    let metadata = file.metadata()?;
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&metadata) == 0 {
        return Err(io::Error::other(LEFT_BEHIND));
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok((Stamp::from_metadata(&metadata), content))
}

fn is_revoked(entry: &Entry) -> bool {
    matches!(entry, Entry::Record(record) if record.revoked_at().is_some())
}

fn parse(
    content: &[u8],
    path: &Path,
    settings: &StoreSettings,
) -> Result<(Vec<(Digest, Entry)>, Directory), ConfigError> {
    let name = path.display().to_string();
    let text = std::str::from_utf8(content).map_err(|_| ConfigError::new("it is not UTF-8").at(&name))?;
    let (records, directory, _) = KeyFile::parse_with(text, &name, &settings.dimensions)?.into_parts();
    for (index, record) in records.iter().enumerate() {
        settings.formats.check_id(record).map_err(|error| error.at(format_args!("{name}: keys[{index}]")))?;
    }
    let entries = records.into_iter().map(|record| (*record.digest(), Entry::Record(Arc::new(record))));
    Ok((entries.collect(), directory))
}

/// The thread that looks at the file.
struct Watcher {
    path: PathBuf,
    settings: StoreSettings,
    index: Arc<Index>,
    status: Arc<ArcSwap<FileStatus>>,
    report: Report,
    stamp: Option<Stamp>,
    /// The digest of the content that was last judged; none if there was no content.
    seen: Option<Digest>,
    /// How the file was mounted when it was last in order, if it is mounted singly.
    mount: Option<SingleMount>,
    /// Of all keys that were ever seen revoked.
    revoked: HashSet<Digest>,
}

impl Watcher {
    fn run(mut self, alive: &mpsc::Receiver<()>) {
        let _guard = MarkStaleOnDrop(Arc::clone(&self.index));
        while alive.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            self.look();
            let status = FileStatus::clone(&self.status.load());
            self.status.store(Arc::new(FileStatus { checked_at: SystemTime::now(), ..status }));
        }
    }

    /// Leaves out the keys that were revoked in the file before, and are not any more.
    fn without_revoked(&mut self, mut entries: Vec<(Digest, Entry)>) -> Vec<(Digest, Entry)> {
        entries.retain(|(digest, entry)| {
            if is_revoked(entry) {
                self.revoked.insert(*digest);
            } else if let (true, Entry::Record(record)) = (self.revoked.contains(digest), entry) {
                (self.report)(&format!("the key {} was revoked in the key file, and stays so", record.id()));
                return false;
            }
            true
        });
        entries
    }

    /// Whether another file may stand where this one comes from: then nobody else would say so. The old file may live on
    /// there under another name, as editors keep it, so that the number of its names tells nothing.
    fn is_left_behind(&mut self) -> bool {
        let Some(then) = &self.mount else { return false };
        let now = SingleMount::find(&self.path);
        if now.as_ref().is_some_and(|now| then.is_left_behind(now)) {
            return true;
        }
        self.mount = now;
        false
    }

    fn look(&mut self) {
        let is_left_behind = self.is_left_behind();
        let stamp = fs::metadata(&self.path).map(|metadata| Stamp::from_metadata(&metadata));
        // Clocks of file systems are coarse: what was written just now may be written again unnoticed.
        if let (Ok(now), Some(then)) = (&stamp, &self.stamp)
            && now == then
            && now.is_settled()
            && !is_left_behind
        {
            return;
        }
        let found = if is_left_behind { Err(io::Error::other(LEFT_BEHIND)) } else { read(&self.path) };
        let (stamp, content) = found.map_or_else(
            |error| (None, Err(error)), // without the content the stamp says nothing
            |(stamp, content)| (Some(stamp), Ok(content)),
        );
        self.stamp = stamp;
        let seen = content.as_ref().ok().map(|content| Digest::from_key(content));
        if seen == self.seen && (seen.is_some() || self.status.load().fault.is_some()) {
            return;
        }
        self.seen = seen;
        let unread = |error: io::Error| ConfigError::new(error.to_string()).at(self.path.display());
        match content.map_err(unread).and_then(|content| parse(&content, &self.path, &self.settings)) {
            Ok((entries, directory)) => {
                let entries = self.without_revoked(entries);
                let now = SystemTime::now();
                let status = FileStatus { loaded_at: now, checked_at: now, keys: entries.len(), fault: None };
                self.index.replace(entries, directory);
                self.status.store(Arc::new(status));
            }
            Err(error) => {
                let fault = Some(error.to_string());
                let before = FileStatus::clone(&self.status.load());
                (self.report)(&format!("the key file is not in force, its last good state stays: {error}"));
                self.status.store(Arc::new(FileStatus { fault, ..before }));
            }
        }
    }
}

/// The metadata that tells that a file may have changed, without reading it. Symbolic links are followed.
#[derive(PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamp {
    fn from_metadata(file: &fs::Metadata) -> Self {
        Self {
            length: file.len(),
            modified: file.modified().ok(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt as _;
                (file.dev(), file.ino(), file.ctime(), file.ctime_nsec())
            },
        }
    }

    fn is_settled(&self) -> bool {
        let age = |time: SystemTime| time.elapsed().unwrap_or_default();
        self.modified.is_some_and(|modified| age(modified) > Duration::from_secs(2))
    }
}

impl KeyStore for FileStore {
    delegate!(self => self.0.keys; lookup formats directory dimensions in_memory);
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.alive = None;
        // A thread that waits for a file system that does not answer ends when that answers, and is not waited for.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !self.thread.is_current() && ended.recv_timeout(LONGEST_LOOK) != Err(RecvTimeoutError::Disconnected) {
            self.thread.detach();
        }
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("status", &self.status()).finish_non_exhaustive()
    }
}
