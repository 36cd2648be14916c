//! The search for keys in any text.

mod decode;
mod starts;

use zeroize::Zeroizing;

use self::{
    decode::Decoder,
    starts::{Delimiter, Starts},
};
use crate::key::{Digest, KeyFormat, KeyFormats, format::Shape};

/// Finds what may be a key of a store in a text of any size and kind: a log, a dump, a binary, a chat.
///
/// It says where something stands that has the form of a key, and gives its digest. Whether it is a key tells the
/// store, by [`KeyStore::lookup`](crate::store::KeyStore::lookup); nothing else is learnt of the text. The command
/// `authz leaked` is made of this.
///
/// Structured keys are found wherever they stand, inside of longer words too. Opaque tokens have no mark: what is tried is
/// every run of visible ASCII, every part of one between quotes, brackets, commas, semicolons and backslashes, and every
/// part between these or the characters `= : & ? / @ | %`, with at most fifteen of those inside. Texts in UTF-16 are
/// recognized by their byte order mark.
///
/// The text is given in parts of any size. What is kept of it is one part of bounded size, which is overwritten with zeros
/// in the end.
///
/// # Example
/// ```
/// use tower_authz::{ApiKey, KeyFormats, KeyScanner};
///
/// let formats = KeyFormats::new("l64_{a-z0-9:8}_{0-9a-f:32}".parse()?);
/// let mut scanner = KeyScanner::new(&formats);
/// let mut found = Vec::new();
/// scanner.push(b"GET /\nx-api-key: l64_abc12345_0123456789ab", |candidate| found.push(candidate));
/// scanner.push(b"cdef0123456789abcdef\n", |candidate| found.push(candidate));
/// scanner.finish(|candidate| found.push(candidate));
/// assert_eq!((found.len(), found[0].line), (1, 2));
/// assert_eq!(found[0].digest, ApiKey::new("l64_abc12345_0123456789abcdef0123456789abcdef").digest());
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[must_use = "a scanner finds nothing until it is given a text"]
pub struct KeyScanner {
    structured: Vec<(usize, KeyFormat)>,
    /// The lengths of opaque tokens.
    opaque: Vec<(usize, usize)>,
    longest: usize,
    decoder: Decoder,
    /// The text that was not examined yet, after as much of what was as the longest key can begin in.
    buffer: Zeroizing<Vec<u8>>,
    /// How many bytes of the buffer were examined as the last of a key.
    examined: usize,
    /// How many bytes of the text came before the buffer.
    before: u64,
    /// Line feeds among all bytes that were examined.
    line_feeds: u64,
    starts: Starts,
}

/// Something in a text that has the form of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyCandidate {
    /// The line that it stands in; the first is 1.
    pub line: u64,
    /// Its digest, by which a store knows its keys.
    pub digest: Digest,
}

/// How much text is examined at a time.
const PART: usize = 1 << 15;
impl KeyScanner {
    /// A scanner for the keys of a store, whose formats these are.
    pub fn new(formats: &KeyFormats) -> Self {
        let (mut structured, mut opaque) = (Vec::new(), Vec::new());
        for (_, format) in formats.iter() {
            match &format.0 {
                Shape::Structured(parts) => structured.push((parts.length(), format.clone())),
                &Shape::Opaque { min, max } => opaque.push((min, max)),
            }
        }
        let lengths = structured.iter().map(|(length, _)| *length).chain(opaque.iter().map(|(_, max)| *max));
        let longest = lengths.max().unwrap_or_default();
        Self {
            structured,
            opaque,
            longest,
            decoder: Decoder::default(),
            // With room for all that it ever holds, so that growing leaves no copy of a key behind.
            buffer: Zeroizing::new(Vec::with_capacity(2 * PART + longest)),
            examined: 0,
            before: 0,
            line_feeds: 0,
            starts: Starts::default(),
        }
    }

    /// Examines the next part of the text.
    pub fn push(&mut self, text: &[u8], mut found: impl FnMut(KeyCandidate)) {
        for part in text.chunks(PART) {
            self.decoder.decode(part, &mut self.buffer);
            // The byte that follows tells whether a token ends here.
            self.examine(self.buffer.len().saturating_sub(1), &mut found);
            self.forget();
        }
    }

    /// Examines what is left, as nothing comes after it.
    pub fn finish(mut self, mut found: impl FnMut(KeyCandidate)) {
        self.decoder.finish(&mut self.buffer);
        self.examine(self.buffer.len(), &mut found);
    }

    /// Reports the keys whose last byte is one of those up to here.
    fn examine(&mut self, limit: usize, found: &mut impl FnMut(KeyCandidate)) {
        for end in self.examined + 1..=limit {
            let Some(&last) = self.buffer.get(end - 1) else { return };
            self.line_feeds += u64::from(last == b'\n');
            let line = self.line_feeds + 1;
            for (length, format) in &self.structured {
                if let Some(key) = end.checked_sub(*length).and_then(|start| self.buffer.get(start..end))
                    && format.matches(key)
                {
                    found(KeyCandidate { line, digest: Digest::from_key(key) });
                }
            }
            if self.opaque.is_empty() {
                continue;
            }
            let position = self.before + end as u64;
            self.starts.pass(Delimiter::of(last), position);
            let next = self.buffer.get(end).map_or(Delimiter::Invisible, |&next| Delimiter::of(next));
            if next != Delimiter::None && Delimiter::of(last) != Delimiter::Invisible {
                self.starts.each(next, |start| {
                    // INVARIANT: the buffer has as much of the text as the longest key is long.
                    let length = usize::try_from(position - start).unwrap_or(usize::MAX);
                    if self.opaque.iter().any(|(min, max)| (*min..=*max).contains(&length))
                        && let Some(key) = end.checked_sub(length).and_then(|start| self.buffer.get(start..end))
                    {
                        found(KeyCandidate { line, digest: Digest::from_key(key) });
                    }
                });
            }
        }
        self.examined = self.examined.max(limit);
    }

    /// Drops what no key can begin in any more.
    fn forget(&mut self) {
        let gone = self.examined.saturating_sub(self.longest);
        self.buffer.drain(..gone);
        self.examined -= gone;
        self.before += gone as u64;
    }
}

impl std::fmt::Debug for KeyScanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyScanner").field("line_feeds", &self.line_feeds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
