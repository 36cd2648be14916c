//! Files that are mounted singly.

use std::path::Path;

/// A file that is a mount of its own. A rename where the file comes from does not reach it.
#[derive(Debug)]
pub(crate) struct SingleMount {
    /// The path of the file within its own file system. The kernel follows renames of the file in it.
    source: Vec<u8>,
    inode: (u64, u64),
}

impl SingleMount {
    /// None if the file is not a mount of its own, or if `/proc` is not there to ask.
    #[cfg(target_os = "linux")]
    pub(crate) fn find(path: &Path) -> Option<Self> {
        use std::os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _};
        let real = std::fs::canonicalize(path).ok()?;
        let metadata = std::fs::metadata(&real).ok()?;
        let table = std::fs::read("/proc/self/mountinfo").ok()?;
        let source = source_of(&table, real.as_os_str().as_bytes())?;
        Some(Self { source, inode: (metadata.dev(), metadata.ino()) })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn find(_: &Path) -> Option<Self> {
        None
    }

    /// Whether the same file has moved away, or was deleted, where it comes from. Another file that was mounted in its place
    /// is not left behind.
    #[cfg(feature = "file")]
    pub(crate) fn is_left_behind(&self, now: &Self) -> bool {
        self.inode == now.inode && self.source != now.source
    }
}

/// The source of the mount at this place, in the words of `/proc/self/mountinfo`: number, parent, device, source, place, ..
#[cfg(target_os = "linux")]
fn source_of(table: &[u8], mount_point: &[u8]) -> Option<Vec<u8>> {
    let mount_point = escaped(mount_point);
    // The mount that came last hides the others.
    table.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (source, found) = (fields.next()?, fields.next()?);
        (found == mount_point.as_slice()).then(|| source.to_vec())
    })
}

/// The kernel writes the bytes that would end a field in octal.
#[cfg(target_os = "linux")]
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' => text.extend_from_slice(b"\\040"),
            b'\t' => text.extend_from_slice(b"\\011"),
            b'\n' => text.extend_from_slice(b"\\012"),
            b'\\' => text.extend_from_slice(b"\\134"),
            other => text.push(*other),
        }
    }
    text
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::source_of;

    #[test]
    fn the_source_of_a_mount_is_found_by_its_place() {
        let table = b"27 1 254:0 / / rw - ext4 /dev/vda rw\n\
            42 27 254:0 /keys.json /run/my\\040keys.json rw - ext4 /dev/vda rw\n\
            43 42 254:0 /new.json /run/my\\040keys.json rw - ext4 /dev/vda rw\n";
        assert_eq!(source_of(table, b"/run/my keys.json").as_deref(), Some(&b"/new.json"[..]));
        assert_eq!(source_of(table, b"/run/keys.json"), None);
        assert_eq!(source_of(b"", b"/"), None);
        assert_eq!(source_of(b"27 1", b"/"), None);
    }
}
