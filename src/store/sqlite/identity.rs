//! Identifies the file that a store has opened, and ensures that it has only one name.
//!
//! SQLite keeps what was changed last in two files that are named after the first (`-wal`, `-shm`). A process that comes to
//! the same file by another name has others, and neither sees what the other changes. So a file that has two names is not
//! opened, and should anything happen to one of the three, nothing more is read or written.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// The path as it was given, so that a link that changes later is noticed.
    pub(super) path: PathBuf,
    file: Inode,
    /// The companions that SQLite keeps beside the file, once they exist.
    companions: Vec<(PathBuf, Inode)>,
}

type Inode = (u64, u64);

/// Another writer has locked the directory.
pub(super) struct IsLocked;

/// The metadata that changes when a file is overwritten: its length and times, and the length of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// The `ctime`: a rename changes it too, and it cannot be set back.
    changed: (i64, i64),
    journal: u64,
}

impl Stamp {
    /// Whether the file is unchanged and the journal has only grown.
    pub(super) fn follows(&self, before: &Self) -> bool {
        (self.length, self.modified, self.changed) == (before.length, before.modified, before.changed)
            && self.journal >= before.journal
    }
}

impl Identity {
    /// Opens a file, unless it is reachable under a second name.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        if is_mounted_alone(&path) {
            return Err("it is mounted as a single file, and what SQLite keeps beside it is not: mount its directory \
                        instead"
                .to_owned());
        }
        // Creating a store gives it a second name for a moment.
        let begin = Instant::now();
        loop {
            let metadata = fs::metadata(&path).map_err(|error| error.to_string())?;
            match has_one_name(&metadata) {
                Ok(()) => return Ok(Self { file: inode(&metadata), path, companions: Vec::new() }),
                Err(_) if begin.elapsed() < Duration::from_millis(500) => thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Records the companions, which exist from the first read on.
    pub(super) fn with_companions(mut self) -> Result<Self, String> {
        let real = fs::canonicalize(&self.path).map_err(|error| error.to_string())?;
        for suffix in ["-wal", "-shm"] {
            let mut name = real.clone().into_os_string();
            name.push(suffix);
            let companion = PathBuf::from(name);
            let metadata = fs::metadata(&companion).map_err(|error| format!("{}: {error}", companion.display()))?;
            self.companions.push((companion, inode(&metadata)));
        }
        Ok(self)
    }

    /// Tries to lock the directory against other writers, until the guard is dropped. The lock of SQLite is in `-shm`: if
    /// that file is removed, two processes would have one each. There is no guard where directories cannot be locked;
    /// then only the lock of SQLite applies.
    #[cfg(unix)]
    pub(super) fn try_lock(&self) -> Result<Option<fs::File>, IsLocked> {
        use rustix::{
            fs::{FlockOperation, flock},
            io::Errno,
        };
        let folder = fs::canonicalize(&self.path).ok().and_then(|real| fs::File::open(real.parent()?).ok());
        let Some(folder) = folder else { return Ok(None) };
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(folder)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Err(IsLocked),
            Err(_) => Ok(None),
        }
    }

    #[cfg(not(unix))]
    pub(super) fn try_lock(&self) -> Result<Option<fs::File>, IsLocked> {
        Ok(None)
    }

    /// Checks that the file and its companions are the ones that were opened.
    pub(super) fn check(&self) -> Result<(), String> {
        let metadata = fs::metadata(&self.path).map_err(|error| error.to_string())?;
        if inode(&metadata) != self.file {
            return Err("another file stands in its place; restart the program".to_owned());
        }
        has_one_name(&metadata)?;
        for (companion, known) in &self.companions {
            if fs::metadata(companion).map(|found| inode(&found)).ok() != Some(*known) {
                let name = companion.display();
                return Err(format!(
                    "{name} was removed or replaced while the store was open; restart every program that \
                                    has it open"
                ));
            }
        }
        Ok(())
    }

    /// The length of the journal.
    pub(super) fn journal(&self) -> u64 {
        let journal = self.companions.first().and_then(|(journal, _)| fs::metadata(journal).ok());
        journal.map_or(0, |journal| journal.len())
    }

    pub(super) fn stamp(&self) -> Result<Stamp, String> {
        let metadata = fs::metadata(&self.path).map_err(|error| error.to_string())?;
        let journal = self.journal();
        let changed = changed(&metadata);
        Ok(Stamp { length: metadata.len(), modified: metadata.modified().ok(), changed, journal })
    }

    /// Checks that SQLite has opened the same file: it resolves links by their text, which is wrong for
    /// `/proc/PID/root`.
    pub(super) fn check_opened(&self, opened: Option<&str>) -> Result<(), String> {
        match opened.map(fs::metadata) {
            Some(Ok(found)) if inode(&found) == self.file => Ok(()),
            // SQLite tells no path that is not UTF-8, so resolve the links by their text as it does.
            None if fs::canonicalize(&self.path).is_ok_and(|real| {
                real.to_str().is_none() && fs::metadata(&real).is_ok_and(|found| inode(&found) == self.file)
            }) =>
            {
                Ok(())
            }
            _ => Err("the path leads SQLite to another file; give a path without magic links such as /proc/PID/root"
                .to_owned()),
        }
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> Inode {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> Inode {
    (0, 0)
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> (i64, i64) {
    (0, 0)
}

#[cfg(unix)]
fn has_one_name(metadata: &Metadata) -> Result<(), String> {
    match std::os::unix::fs::MetadataExt::nlink(metadata) {
        0 | 1 => Ok(()),
        names => Err(format!(
            "the file has {names} names (hard links), and changes that are made by one are not seen by the other: remove \
             the others, or copy the store with `sqlite3 STORE '.backup COPY'`"
        )),
    }
}

#[cfg(not(unix))]
fn has_one_name(_: &Metadata) -> Result<(), String> {
    Ok(())
}

/// Whether the file is a mount point. `statx` reports that since Linux 5.8; before, and where `statx` is forbidden,
/// `/proc` does.
#[cfg(target_os = "linux")]
fn is_mounted_alone(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    match statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        }
        // The kernel is older, or a sandbox forbids the call: consult the list of mounts.
        _ => crate::mount::SingleMount::find(path).is_some(),
    }
}

#[cfg(not(target_os = "linux"))]
fn is_mounted_alone(_: &Path) -> bool {
    false
}
