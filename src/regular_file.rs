//! Files that are opened without waiting for anybody.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

/// Opens a file to read it. What is no file is an error at once: to open a FIFO waits until somebody writes to it, and a
/// device may have no end.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}
