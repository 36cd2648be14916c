//! Where an opaque token may begin and end.

/// How many delimiters may stand inside of an opaque token that is part of a longer run. Each is a place where the token
/// may begin, and so one more digest.
pub(super) const MOST_SOFT: usize = 16;

/// Where an opaque token may begin, as positions in the text.
#[derive(Default)]
pub(super) struct Starts {
    run: u64,
    piece: u64,
    /// After each of the last soft delimiters of the piece; the oldest is overwritten.
    soft: [u64; MOST_SOFT],
    softs: usize,
}

/// The meaning of a byte for the limits of opaque tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimiter {
    None,
    /// It may be a part of a token.
    Soft,
    /// It is hardly ever a part of a token.
    Hard,
    /// It cannot be a part of a token.
    Invisible,
}

impl Delimiter {
    pub(super) const fn of(byte: u8) -> Self {
        match byte {
            b'"' | b'\'' | b'`' | b',' | b';' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'\\' => {
                Self::Hard
            }
            b'=' | b':' | b'&' | b'?' | b'/' | b'@' | b'|' | b'%' => Self::Soft,
            b'!'..=b'~' => Self::None,
            _ => Self::Invisible,
        }
    }
}

impl Starts {
    /// Takes note of a byte, and of the position after it.
    pub(super) fn pass(&mut self, byte: Delimiter, after: u64) {
        match byte {
            Delimiter::None => {}
            Delimiter::Soft => {
                if let Some(oldest) = self.soft.get_mut(self.softs % MOST_SOFT) {
                    *oldest = after;
                }
                self.softs += 1;
            }
            Delimiter::Hard => (self.piece, self.softs) = (after, 0),
            Delimiter::Invisible => (self.run, self.piece, self.softs) = (after, after, 0),
        }
    }

    /// Calls with every start, once, of a token that ends before a byte.
    pub(super) fn each(&self, next: Delimiter, mut call: impl FnMut(u64)) {
        if next == Delimiter::Invisible && self.run != self.piece {
            call(self.run);
        }
        call(self.piece);
        self.soft.iter().take(self.softs).for_each(|&start| call(start));
    }
}
