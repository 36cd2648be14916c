//! Whether two key formats could be confused.

use crate::key::{
    KeyFormat,
    format::{Shape, StructuredFormat},
};

impl KeyFormat {
    /// Whether a text has the form of the id of a structured key of this format.
    pub(super) fn is_id(&self, text: &[u8]) -> bool {
        matches!(&self.0, Shape::Structured(parts) if parts.is_id(text))
    }

    /// Why keys of this format and keys of another could be confused, or their ids.
    ///
    /// A structured key tells its prefix: all before its last two underscores. So two structured formats match no key both
    /// if their prefixes differ.
    pub(super) fn conflict(&self, other: &Self) -> Option<String> {
        match (&self.0, &other.0) {
            (Shape::Structured(one), Shape::Structured(two)) => {
                if one.prefix == two.prefix {
                    return Some(format!("both have the prefix {}", one.prefix));
                }
                let confused = one.may_be_id_of(two) || two.may_be_id_of(one);
                confused.then(|| "the id of a key of the one has the form of a whole key of the other".to_owned())
            }
            (Shape::Opaque { min, max }, Shape::Opaque { min: other_min, max: other_max }) => {
                let (from, to) = (min.max(other_min), max.min(other_max));
                (from <= to).then(|| format!("both are opaque tokens of {from} to {to} characters"))
            }
            (Shape::Structured(parts), &Shape::Opaque { min, max })
            | (&Shape::Opaque { min, max }, Shape::Structured(parts)) => {
                let length = parts.length();
                if (min..=max).contains(&length) {
                    return Some(format!(
                        "keys with the prefix {} are tokens of {length} characters too",
                        parts.prefix
                    ));
                }
                // Opaque keys have ids that are drawn for them.
                let drawn = parts.is_id(b"key_000000000000");
                drawn.then(|| "ids of opaque tokens begin with key_ as well".to_owned())
            }
        }
    }
}

impl StructuredFormat {
    /// Whether a whole key of this format can be the id of a key of another, `acme_live_<secret>` where the other has the
    /// prefix `acme_live`.
    fn may_be_id_of(&self, other: &Self) -> bool {
        // Every alphabet has the hexadecimal digits, so that secrets and ids of one length can be equal.
        self.is_id(other.prefix.as_bytes()) && self.secret_length() == other.id.1
    }
}

#[cfg(test)]
mod tests {
    use crate::key::{Alphabet, KeyFormat, KeyFormats};

    fn structured(prefix: &str) -> KeyFormat {
        KeyFormat::structured(prefix).build().unwrap()
    }

    #[test]
    fn formats_that_could_be_confused_are_refused() {
        let opaque = |min, max| KeyFormat::opaque(min, max).unwrap();
        let long_id = KeyFormat::structured("acme_live").public_id(Alphabet::Base62, 30).build().unwrap();
        let short = KeyFormat::structured("acme").public_id(Alphabet::Base62, 4).build().unwrap();
        let drawn = KeyFormat::structured("key").public_id(Alphabet::LowerHex, 12).build().unwrap();
        for (one, two, expected) in [
            (structured("acme"), structured("acme"), "both have the prefix acme"),
            (
                structured("acme"),
                KeyFormat::structured("acme").checksum().build().unwrap(),
                "both have the prefix acme",
            ),
            (short.clone(), long_id.clone(), "a whole key of the other"),
            (structured("acme"), opaque(8, 512), "are tokens of 46 characters too"),
            (structured("acme"), opaque(46, 46), "are tokens of 46 characters too"),
            (drawn, opaque(100, 200), "begin with key_ as well"),
            (opaque(20, 40), opaque(40, 60), "both are opaque tokens of 40 to 40 characters"),
        ] {
            for (default, own) in [(&one, &two), (&two, &one)] {
                let error = KeyFormats::new(default.clone()).with_kind("own", own.clone()).unwrap_err().to_string();
                assert!(error.contains(expected) && error.contains("the kind \"own\" and the default"), "{error}");
                // With each format that comes before.
                let other = KeyFormats::new(KeyFormat::opaque(511, 511).unwrap());
                if let Ok(both) = other.with_kind("a", default.clone()) {
                    assert!(both.with_kind("own", own.clone()).is_err());
                }
            }
        }
        for (one, two) in [
            (structured("acme"), structured("acme_live")),
            (structured("a"), structured("ab")),
            (short, structured("acme_live")),
            (structured("acme"), long_id),
            (structured("acme"), opaque(47, 512)),
            (structured("acme"), opaque(8, 45)),
            (structured("key"), opaque(100, 200)),
            (opaque(20, 40), opaque(41, 60)),
        ] {
            assert!(KeyFormats::new(one).with_kind("own", two).is_ok());
        }
    }
}
