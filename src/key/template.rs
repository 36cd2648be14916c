//! A key format as one line of text, for settings and command lines.

use std::{fmt, str::FromStr};

use crate::{
    error::ConfigError,
    key::{
        Alphabet, KeyFormat,
        format::{Shape, StructuredFormat},
    },
};

/// `l64_{a-z0-9:8}_{0-9a-f:32}`: prefix, public id and secret, each with its characters and length,
/// and `{crc32}` at the end where keys have a checksum. `{ascii:20-64}`: opaque tokens of 20 to 64
/// visible characters.
///
/// # Example
/// ```
/// use tower_authz::KeyFormat;
///
/// let format: KeyFormat = "l64_{a-z0-9:8}_{0-9a-f:32}".parse()?;
/// assert!(format.matches(b"l64_abc12345_0123456789abcdef0123456789abcdef"));
/// assert_eq!(KeyFormat::default().to_string(), "key_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}");
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
impl fmt::Display for KeyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Shape::Opaque { min, max } => write!(f, "{{ascii:{min}-{max}}}"),
            Shape::Structured(StructuredFormat { prefix, id, secret, checksum }) => {
                let checksum = if *checksum { "{crc32}" } else { "" };
                let ((id, id_length), (secret, secret_length)) = (id, secret);
                write!(f, "{prefix}_{{{}:{id_length}}}_{{{}:{secret_length}}}{checksum}", id.class(), secret.class())
            }
        }
    }
}

/// Parses the text that [`Display`](fmt::Display) writes.
impl FromStr for KeyFormat {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            ConfigError::new(format!(
                "{text:?} is not a key format; write it like key_{{0-9A-Za-z:10}}_{{0-9A-Za-z:30}}{{crc32}} or \
                 {{ascii:20-64}}; characters are 0-9a-f, a-z0-9 or 0-9A-Za-z"
            ))
        };
        if let Some(lengths) = text.strip_prefix("{ascii:").and_then(|rest| rest.strip_suffix('}')) {
            let (min, max) = lengths.split_once('-').ok_or_else(wrong)?;
            return Self::opaque(number(min).ok_or_else(wrong)?, number(max).ok_or_else(wrong)?);
        }
        let (prefix, rest) = text.split_once("_{").ok_or_else(wrong)?;
        let (id, rest) = rest.split_once("}_{").ok_or_else(wrong)?;
        let (secret, checksum) = rest.split_once('}').ok_or_else(wrong)?;
        let part = |text: &str| {
            let (class, length) = text.split_once(':')?;
            Some((Alphabet::from_class(class)?, number(length)?))
        };
        let (id, secret) = (part(id).ok_or_else(wrong)?, part(secret).ok_or_else(wrong)?);
        let format = Self::structured(prefix).public_id(id.0, id.1).secret(secret.0, secret.1);
        match checksum {
            "" => format.build(),
            "{crc32}" => format.checksum().build(),
            _ => Err(wrong()),
        }
    }
}

/// Digits only: the standard parser takes a sign.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Alphabet {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::LowerHex => "0-9a-f",
            Self::LowerAlphanumeric => "a-z0-9",
            Self::Base62 => "0-9A-Za-z",
        }
    }

    fn from_class(class: &str) -> Option<Self> {
        [Self::LowerHex, Self::LowerAlphanumeric, Self::Base62].into_iter().find(|known| known.class() == class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for format in [
            KeyFormat::default(),
            KeyFormat::structured("l64")
                .public_id(Alphabet::LowerAlphanumeric, 8)
                .secret(Alphabet::LowerHex, 32)
                .build()
                .unwrap(),
            KeyFormat::opaque(8, 512).unwrap(),
            KeyFormat::structured("acme_live").checksum().build().unwrap(),
        ] {
            assert_eq!(format.to_string().parse::<KeyFormat>().unwrap(), format);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "key",
            "key_{}",
            "key_{0-9a-f:8}",
            "key_{0-9a-f:8}_{0-9a-f:+32}",
            "key_{0-9a-f:8}_{0-9a-f:4}",
            "key_{0-9a-f:8}_{0-9a-f:32}x",
            "key_{a-z:8}_{0-9a-f:32}",
            "_{0-9a-f:8}_{0-9a-f:32}",
            "{ascii:20}",
            "{ascii:64-20}",
            "{ascii:0-9999}",
        ] {
            assert!(text.parse::<KeyFormat>().is_err(), "{text}");
        }
    }
}
