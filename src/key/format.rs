use crate::{
    bytes::{Class, every},
    error::ConfigError,
    key::{ApiKey, generate},
};

/// The characters that a part of a key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alphabet {
    /// `0-9a-f`, 4 bits a character.
    LowerHex,
    /// `a-z0-9`, about 5.2 bits a character.
    LowerAlphanumeric,
    /// `0-9A-Za-z`, about 5.95 bits a character.
    Base62,
}

impl Alphabet {
    pub(crate) const fn characters(self) -> &'static [u8] {
        match self {
            Self::LowerHex => b"0123456789abcdef",
            Self::LowerAlphanumeric => b"0123456789abcdefghijklmnopqrstuvwxyz",
            Self::Base62 => b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        }
    }

    pub(super) fn accepts_all(self, bytes: &[u8]) -> bool {
        let class = match self {
            Self::LowerHex => Class::LowerHex,
            Self::LowerAlphanumeric => Class::LowerAlphanumeric,
            Self::Base62 => Class::Alphanumeric,
        };
        every(bytes, class)
    }

    fn bits(self, length: usize) -> f64 {
        f64::from(u32::try_from(self.characters().len()).unwrap_or(u32::MAX)).log2()
            * f64::from(u32::try_from(length).unwrap_or(u32::MAX))
    }
}

/// How the API keys of a service look. It is checked before anything is hashed, so that garbage and
/// oversized input cost next to nothing.
///
/// Two shapes exist: [structured](StructuredFormat) keys, `prefix_publicid_secret`, which is what
/// new services should issue (the public part is safe to log, scanners recognise a leaked key), and
/// opaque tokens, for services whose keys are just a random string.
///
/// The default issues keys like `key_3jWz9Qb2Lx_<30 characters><6 characters of checksum>`: 178 bits
/// of secret.
///
/// # Example
/// ```
/// use tower_authz::{Alphabet, KeyFormat};
///
/// // l64_abc12345_<32 hex>
/// let format = KeyFormat::structured("l64")
///     .public_id(Alphabet::LowerAlphanumeric, 8)
///     .secret(Alphabet::LowerHex, 32)
///     .build()?;
/// assert!(format.matches(b"l64_abc12345_0123456789abcdef0123456789abcdef"));
/// assert!(!format.matches(b"l64_abc12345_0123456789abcdef"));
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFormat(pub(super) Shape);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Structured(StructuredFormat),
    Opaque { min: usize, max: usize },
}

/// The parts of a structured key; made by [`KeyFormat::structured`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructuredFormat {
    pub(super) prefix: String,
    pub(super) id: (Alphabet, usize),
    pub(super) secret: (Alphabet, usize),
    pub(super) checksum: bool,
}

impl StructuredFormat {
    /// The public part: its alphabet and length. Default: 10 characters of base62.
    #[must_use]
    pub fn public_id(mut self, alphabet: Alphabet, length: usize) -> Self {
        self.id = (alphabet, length);
        self
    }

    /// The secret part: its alphabet and length. Default: 30 characters of base62.
    #[must_use]
    pub fn secret(mut self, alphabet: Alphabet, length: usize) -> Self {
        self.secret = (alphabet, length);
        self
    }

    /// Six characters of base62 at the end, the CRC-32 of all before them: a secret scanner can tell
    /// a real key from a look-alike without asking anyone. It is no protection against forgery.
    #[must_use]
    pub fn checksum(mut self) -> Self {
        self.checksum = true;
        self
    }

    /// The format.
    ///
    /// # Errors
    /// If the prefix is not 1 to 32 characters of `[a-z0-9]`, with single underscores between them where it has
    /// several words (`acme_live`), the public id is not 4 to 64 characters long, the secret has less than 120 bits or
    /// more than 256 characters.
    pub fn build(self) -> Result<KeyFormat, ConfigError> {
        // INVARIANT: ids and secrets have no underscore, so the last two of a key end its prefix and its id: whatever
        // stands before them is the prefix, underscores included.
        let is_word = |word: &str| !word.is_empty() && Alphabet::LowerAlphanumeric.accepts_all(word.as_bytes());
        if self.prefix.len() > 32 || !self.prefix.split('_').all(is_word) {
            return Err(ConfigError::new(
                "a key prefix is 1 to 32 characters of [a-z0-9], and single underscores between its words",
            ));
        }
        if !(4..=64).contains(&self.id.1) {
            return Err(ConfigError::new("a public id is 4 to 64 characters long"));
        }
        if self.secret.1 > 256 || self.secret.0.bits(self.secret.1) < 120.0 {
            return Err(ConfigError::new("a secret has at least 120 bits and at most 256 characters"));
        }
        Ok(KeyFormat(Shape::Structured(self)))
    }

    /// The length of a whole key.
    pub(super) fn length(&self) -> usize {
        self.prefix.len() + 1 + self.id.1 + 1 + self.secret_length()
    }

    /// The length of all that follows the id.
    pub(super) fn secret_length(&self) -> usize {
        self.secret.1 + if self.checksum { generate::CHECKSUM_LENGTH } else { 0 }
    }

    /// Whether a text has the form of the public part of a key.
    pub(super) fn is_id(&self, text: &[u8]) -> bool {
        let id = text.strip_prefix(self.prefix.as_bytes()).and_then(|rest| rest.strip_prefix(b"_"));
        id.is_some_and(|id| id.len() == self.id.1 && self.id.0.accepts_all(id))
    }

    /// The public part, which is ASCII if there is one.
    fn parse<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let id_end = self.prefix.len() + 1 + self.id.1;
        let (public, secret) = key.split_at_checked(id_end)?;
        let (prefix, id) = public.split_at_checked(self.prefix.len())?;
        let id = id.strip_prefix(b"_").filter(|_| prefix == self.prefix.as_bytes())?;
        let secret = secret.strip_prefix(b"_")?;
        let (body, checksum) = secret.split_at_checked(self.secret.1)?;
        let is_valid = self.id.0.accepts_all(id)
            && self.secret.0.accepts_all(body)
            && match self.checksum {
                true => checksum == generate::checksum(key.get(..key.len() - checksum.len())?),
                false => checksum.is_empty(),
            };
        is_valid.then_some(public)
    }

    fn generate(&self) -> Result<(String, ApiKey), getrandom::Error> {
        let id = format!("{}_{}", self.prefix, *generate::random(self.id.0, self.id.1)?);
        // With room for the whole key, so that growing leaves no copy behind.
        let mut key = String::with_capacity(self.length());
        key += &id;
        key += "_";
        key += &generate::random(self.secret.0, self.secret.1)?;
        if self.checksum {
            let checksum = generate::checksum(key.as_bytes());
            key.extend(checksum.map(char::from));
        }
        Ok((id, ApiKey::new(key)))
    }
}

impl KeyFormat {
    /// Keys of the form `prefix_publicid_secret`; see [`StructuredFormat`] for the parts.
    pub fn structured(prefix: impl Into<String>) -> StructuredFormat {
        StructuredFormat {
            prefix: prefix.into(),
            id: (Alphabet::Base62, 10),
            secret: (Alphabet::Base62, 30),
            checksum: false,
        }
    }

    /// Opaque tokens of `min` to `max` visible ASCII characters. They name no key id, so a log can
    /// only say which key was used once it has been found.
    ///
    /// # Errors
    /// If `min` is under 8, `max` under 21 (new keys must have 120 bits) or over 512, or `min` over `max`.
    pub fn opaque(min: usize, max: usize) -> Result<Self, ConfigError> {
        if min < 8 || !(21..=512).contains(&max) || min > max {
            return Err(ConfigError::new("opaque tokens have 8 to 512 characters, and new ones need at least 21"));
        }
        Ok(Self(Shape::Opaque { min, max }))
    }

    /// Whether these bytes have the shape of a key. True says nothing about whether it was issued.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        match &self.0 {
            Shape::Structured(parts) => parts.parse(key).is_some(),
            Shape::Opaque { min, max } => (*min..=*max).contains(&key.len()) && every(key, Class::Graphic),
        }
    }

    /// The public part of a structured key of this format, safe to log.
    #[must_use]
    pub fn key_id<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        match &self.0 {
            Shape::Structured(parts) => std::str::from_utf8(parts.parse(key)?).ok(),
            Shape::Opaque { .. } => None,
        }
    }

    /// A new key id and key from the system's random source.
    pub(crate) fn generate(&self) -> Result<(String, ApiKey), getrandom::Error> {
        match &self.0 {
            Shape::Structured(parts) => parts.generate(),
            Shape::Opaque { min, max } => Ok((
                format!("key_{}", *generate::random(Alphabet::Base62, 12)?),
                ApiKey::new(generate::random(Alphabet::Base62, 43.clamp(*min, *max))?.as_str()),
            )),
        }
    }
}

impl Default for KeyFormat {
    fn default() -> Self {
        Self(Shape::Structured(Self::structured("key").checksum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structured_keys_match_exactly() {
        let format = KeyFormat::structured("l64")
            .public_id(Alphabet::LowerAlphanumeric, 8)
            .secret(Alphabet::LowerHex, 32)
            .build()
            .unwrap();
        let good = "l64_abc12345_0123456789abcdef0123456789abcdef";
        assert_eq!(format.key_id(good.as_bytes()), Some("l64_abc12345"));
        for bad in [
            "",
            "l64",
            "l64_",
            "l64_abc12345",
            "l64_abc12345_",
            "l64__0123456789abcdef0123456789abcdef",
            "l64_ABC12345_0123456789abcdef0123456789abcdef",
            "l64_abc12345_0123456789ABCDEF0123456789ABCDEF",
            "l64_abc12345_0123456789abcdef0123456789abcdeg",
            "l64_abc12345_0123456789abcdef0123456789abcde",
            "l64_abc12345_0123456789abcdef0123456789abcdef0",
            "l64_abc12345_0123456789abcdef0123456789abcdef ",
            "l64_abc12345-0123456789abcdef0123456789abcdef",
            "L64_abc12345_0123456789abcdef0123456789abcdef",
            "x64_abc12345_0123456789abcdef0123456789abcdef",
            "l64_abc1234é_0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(format.key_id(bad.as_bytes()), None, "{bad}");
        }
    }

    /// Underscores of a prefix are told from those that end it, whatever the parts of the key look like.
    #[test]
    fn a_prefix_of_several_words_is_read_as_one() {
        let format = |prefix: &str| {
            KeyFormat::structured(prefix)
                .public_id(Alphabet::LowerAlphanumeric, 4)
                .secret(Alphabet::LowerHex, 32)
                .build()
        };
        let hex = "0123456789abcdef0123456789abcdef";
        let (one, two, three) =
            (format("acme").unwrap(), format("acme_live").unwrap(), format("acme_live_live").unwrap());
        for (key, expected) in [
            (format!("acme_live_{hex}"), [Some("acme_live"), None, None]),
            (format!("acme_live_live_{hex}"), [None, Some("acme_live_live"), None]),
            (format!("acme_live_live_live_{hex}"), [None, None, Some("acme_live_live_live")]),
            (format!("acme__live_{hex}"), [None; 3]),
            (format!("acme_live__{hex}"), [None; 3]),
            (format!("acme-live_live_{hex}"), [None; 3]),
        ] {
            assert_eq!([&one, &two, &three].map(|format| format.key_id(key.as_bytes())), expected, "{key}");
        }
    }

    #[test]
    fn what_is_generated_is_accepted_and_checksummed() {
        for format in [KeyFormat::default(), KeyFormat::opaque(20, 40).unwrap()] {
            let (id, key) = format.generate().unwrap();
            let key = key.expose().to_owned();
            assert!(format.matches(key.as_bytes()), "{key}");
            if let Some(parsed) = format.key_id(key.as_bytes()) {
                assert_eq!(parsed, id);
                let mut broken = key.into_bytes();
                let last = broken.len() - 1;
                broken[last] = if broken[last] == b'0' { b'1' } else { b'0' };
                assert!(!format.matches(&broken), "a wrong checksum is refused offline");
            }
        }
    }

    #[test]
    fn weak_formats_are_refused() {
        for prefix in ["", "_", "a_", "_a", "a__b", "A", "a-b", "é", "a b", &"a".repeat(33)] {
            assert!(KeyFormat::structured(prefix).build().is_err(), "{prefix}");
        }
        assert!(KeyFormat::structured("a").secret(Alphabet::LowerHex, 29).build().is_err());
        assert!(KeyFormat::structured("a").public_id(Alphabet::LowerHex, 3).build().is_err());
        assert!(
            KeyFormat::opaque(7, 30).is_err()
                && KeyFormat::opaque(8, 20).is_err()
                && KeyFormat::opaque(30, 20).is_err()
        );
    }
}
