//! The file that a store has opened, and no other of its name.

use std::{fs, path::PathBuf};

/// Which file was opened: should another stand in its place, changes would go there, unseen.
pub(super) struct Identity {
    pub(super) path: PathBuf,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Identity {
    #[cfg(unix)]
    pub(super) fn of(path: PathBuf) -> std::io::Result<Self> {
        let inode = Self::inode(&path)?;
        Ok(Self { path, inode })
    }

    #[cfg(unix)]
    fn inode(path: &std::path::Path) -> std::io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(path).map(|file| (file.dev(), file.ino()))
    }

    #[cfg(unix)]
    pub(super) fn check(&self) -> Result<(), String> {
        match Self::inode(&self.path) {
            Ok(inode) if inode == self.inode => Ok(()),
            Ok(_) => Err("another file stands in its place; restart the program".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[cfg(not(unix))]
    pub(super) fn of(path: PathBuf) -> std::io::Result<Self> {
        fs::metadata(&path).map(|_| Self { path })
    }

    #[cfg(not(unix))]
    pub(super) fn check(&self) -> Result<(), String> {
        fs::metadata(&self.path).map(drop).map_err(|error| error.to_string())
    }
}
