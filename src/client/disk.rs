//! What differs between operating systems, and the replacing of a file.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The permission bits of a file; elsewhere than on Unix there are none to judge by.
#[cfg(unix)]
pub(super) fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions())
}

#[cfg(not(unix))]
pub(super) fn mode(_: &Metadata) -> u32 {
    0
}

/// Both from the beginning: a mode that is set later leaves a moment in which others can open the file.
#[cfg(unix)]
fn private(directory: &mut DirBuilder, file: &mut OpenOptions) {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    directory.mode(0o700);
    file.mode(0o600);
}

#[cfg(not(unix))]
fn private(_: &mut DirBuilder, _: &mut OpenOptions) {}

/// Puts a file that only its owner can read in place of what is there, which readers see whole, old or new.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (mut directory, mut file) = (DirBuilder::new(), OpenOptions::new());
    private(directory.recursive(true), file.write(true).create_new(true));
    let parent = parent(path);
    directory.create(parent)?;
    let temporary = temporary(parent)?;
    let mut open = file.open(&temporary)?;
    // Unsynced, after a crash the new name could stand for an empty file.
    let written = open.write_all(content).and_then(|()| open.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // The name is in the directory's own data. Not every system can sync that; the file is there anyhow.
    let _ = File::open(parent).and_then(|directory| directory.sync_all());
    Ok(())
}

/// The directory of a file. That of a bare name is the empty path, with which no call can do anything.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name beside the file (a rename cannot leave the file system), which nobody can guess and occupy.
fn temporary(parent: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(parent.join(format!(".config.{:016x}.tmp", u64::from_ne_bytes(random))))
}
