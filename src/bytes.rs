//! Classifies the bytes of names, ids, keys and paths.

/// The first eight bytes as a number, as if zeros followed.
pub(crate) fn head(text: &[u8]) -> u64 {
    let part = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    match (text.first_chunk(), text.len()) {
        (Some(eight), _) => u64::from_le_bytes(*eight),
        // For four to seven bytes, the first four and the last four overlap, and the overlapping bytes are equal.
        (None, 4..) => part(text.first_chunk()) | part(text.last_chunk()) << (8 * (text.len() - 4)),
        (None, _) => text.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)),
    }
}

/// Classes of bytes.
#[derive(Clone, Copy)]
pub(crate) enum Class {
    LowerHex,
    LowerAlphanumeric,
    Alphanumeric,
    /// `[a-z0-9_-]`
    Slug,
    /// `[A-Za-z0-9._~-]`
    Unreserved,
    /// Visible ASCII.
    Graphic,
}

/// Whether all bytes belong to the class.
pub(crate) fn every(bytes: &[u8], class: Class) -> bool {
    let digit = |byte: u8| byte.wrapping_sub(b'0') < 10;
    let lower = |byte: u8| byte.wrapping_sub(b'a') < 26;
    let letter = |byte: u8| lower(byte | 0x20);
    let dash = |byte: u8| (byte == b'-') | (byte == b'_');
    match class {
        Class::LowerHex => all(bytes, |byte| digit(byte) | (byte.wrapping_sub(b'a') < 6)),
        Class::LowerAlphanumeric => all(bytes, |byte| digit(byte) | lower(byte)),
        Class::Alphanumeric => all(bytes, |byte| digit(byte) | letter(byte)),
        Class::Slug => all(bytes, |byte| digit(byte) | lower(byte) | dash(byte)),
        Class::Unreserved => {
            all(bytes, |byte| digit(byte) | letter(byte) | dash(byte) | (byte == b'.') | (byte == b'~'))
        }
        Class::Graphic => all(bytes, |byte| byte.wrapping_sub(b'!') < 94),
    }
}

/// Checks sixteen or eight bytes at a time. The last chunk overlaps the one before it, so that no bytes are left over.
/// Within a chunk there is no branch, so the compiler vectorizes it.
#[inline]
fn all(bytes: &[u8], accepts: impl Fn(u8) -> bool) -> bool {
    let part = |bytes: &[u8]| bytes.iter().fold(true, |all, &byte| all & accepts(byte));
    if let Some(last) = bytes.last_chunk::<16>() {
        let (chunks, rest) = bytes.as_chunks::<16>();
        chunks.iter().fold(rest.is_empty() || part(last), |all, bytes| all & part(bytes))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        part(first) & (bytes.len() == 8 || part(last))
    } else {
        part(bytes)
    }
}

/// Whether the path begins with a slash, has no empty segment but the last, and consists of `[A-Za-z0-9_-]` otherwise. This
/// holds for nearly all paths.
pub(crate) fn is_plain_path(path: &[u8]) -> bool {
    let (Some((b'/', after)), Some((_, before))) = (path.split_first(), path.split_last()) else { return false };
    // Check sixteen bytes at a time, with an overlapping last chunk: without branches, the compiler vectorizes this.
    if let (Some(last_before), Some(last_after)) = (before.last_chunk::<16>(), after.last_chunk::<16>()) {
        let (before, after) = (before.as_chunks::<16>().0, after.as_chunks::<16>().0);
        before
            .iter()
            .zip(after)
            .fold(are_plain(last_before, last_after), |all, (before, after)| all & are_plain(before, after))
    } else {
        are_plain(before, after)
    }
}

/// Whether none of these bytes is of another kind, and none is a slash that follows a slash.
#[inline]
fn are_plain(before: &[u8], after: &[u8]) -> bool {
    let odd = |byte: u8| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        !(letter | digit | (byte == b'/') | (byte == b'-') | (byte == b'_'))
    };
    let pairs = before.iter().zip(after);
    !pairs.fold(false, |any, (&before, &byte)| any | odd(byte) | ((before == b'/') & (byte == b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_named_after_wherever_it_stands() {
        let slug = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let kinds: [(Class, &dyn Fn(u8) -> bool); 6] = [
            (Class::LowerHex, &hex),
            (Class::LowerAlphanumeric, &|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
            (Class::Alphanumeric, &|byte| byte.is_ascii_alphanumeric()),
            (Class::Slug, &slug),
            (Class::Unreserved, &unreserved),
            (Class::Graphic, &|byte| byte.is_ascii_graphic()),
        ];
        for (class, accepts) in kinds {
            for length in 1..40 {
                for (position, byte) in (0..length).flat_map(|position| (0..=255).map(move |byte| (position, byte))) {
                    let mut text = vec![b'0'; length];
                    text[position] = byte;
                    assert_eq!(every(&text, class), accepts(byte), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn heads_are_the_first_eight_bytes() {
        let text = b"abcdefghijk";
        for length in 0..text.len() {
            let mut bytes = [0; 8];
            let kept = length.min(8);
            bytes[..kept].copy_from_slice(&text[..kept]);
            assert_eq!(head(&text[..length]), u64::from_le_bytes(bytes), "{length}");
        }
    }
}
