//! Texts in UTF-16, as programs for Windows write them, as if they were ASCII.

/// Turns a text in UTF-16 into bytes, one for each character, and leaves every other text as it is.
#[derive(Default)]
pub(super) enum Decoder {
    /// Nothing has come yet.
    #[default]
    Fresh,
    /// One byte has come, which may be the first of a byte order mark.
    Undecided(u8),
    Bytes,
    Utf16 {
        is_little: bool,
        /// The first byte of a unit whose second is still to come.
        half: Option<u8>,
    },
}

/// Stands for every character that is no ASCII, and so in no key.
const OTHER: u8 = 0x80;

impl Decoder {
    pub(super) fn decode(&mut self, mut text: &[u8], out: &mut Vec<u8>) {
        while let Some((&byte, rest)) = text.split_first() {
            match self {
                Self::Fresh if matches!(byte, 0xfe | 0xff) => *self = Self::Undecided(byte),
                Self::Fresh => *self = Self::Bytes,
                Self::Undecided(first) => {
                    if let (0xfe, 0xff) | (0xff, 0xfe) = (*first, byte) {
                        *self = Self::Utf16 { is_little: *first == 0xff, half: None };
                    } else {
                        out.push(*first);
                        *self = Self::Bytes;
                        continue;
                    }
                }
                Self::Bytes => {
                    out.extend_from_slice(text);
                    return;
                }
                Self::Utf16 { half: half @ None, .. } => *half = Some(byte),
                Self::Utf16 { is_little, half: half @ Some(_) } => {
                    let first = half.take().unwrap_or_default();
                    let unit = if *is_little { [byte, first] } else { [first, byte] };
                    out.push(if let [0, ascii] = unit { ascii } else { OTHER });
                }
            }
            if !matches!(self, Self::Bytes) {
                text = rest;
            }
        }
    }

    /// Half a unit at the end of the text is no character.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Self::Undecided(byte) = *self {
            out.push(byte);
        }
    }
}
