//! File access that differs between operating systems, and the atomic replacement of a file.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The permission bits of a file. Systems other than Unix have none to check, so they are zero there.
#[cfg(unix)]
pub(super) fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions())
}

#[cfg(not(unix))]
pub(super) fn mode(_: &Metadata) -> u32 {
    0
}

/// Sets both modes at creation: until a mode that is set later takes effect, others can open the file.
#[cfg(unix)]
fn private(directory: &mut DirBuilder, file: &mut OpenOptions) {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    directory.mode(0o700);
    file.mode(0o600);
}

#[cfg(not(unix))]
fn private(_: &mut DirBuilder, _: &mut OpenOptions) {}

/// Atomically replaces a file by one that only its owner can read. Readers see either the old file or the new one.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (mut directory, mut file) = (DirBuilder::new(), OpenOptions::new());
    private(directory.recursive(true), file.write(true).create_new(true));
    let parent = parent(path);
    directory.create(parent)?;
    let temporary = temporary(parent)?;
    let mut open = file.open(&temporary)?;
    // Sync before the rename: otherwise, after a crash, the new name could refer to an empty file.
    let written = open.write_all(content).and_then(|()| open.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
        return written;
    }
    // Sync the directory too, because the name is a part of its data. Not every system can do that, and the file
    // exists in any case, so an error is ignored.
    let _ = File::open(parent).and_then(|directory| directory.sync_all());
    Ok(())
}

/// The directory of a file. `Path::parent` of a bare name is the empty path, which no system call accepts.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary name in the same directory, because a rename cannot cross file systems. It is random, so that nobody
/// can guess it and create the file first.
fn temporary(parent: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(parent.join(format!(".config.{:016x}.tmp", u64::from_ne_bytes(random))))
}
