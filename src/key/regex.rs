//! A key format as a regular expression, for programs that search texts for leaked keys.

use crate::key::{
    KeyFormat,
    format::{Shape, StructuredFormat},
    generate,
};

impl KeyFormat {
    /// A regular expression that finds the keys of this format in a text, for secret scanners. It is in the syntax that
    /// RE2, Go, Rust, Python and PCRE share.
    ///
    /// For structured keys it matches what [`matches`](Self::matches) accepts, whatever the checksum, where no letter,
    /// digit or underscore stands right before or after it. Opaque tokens have no mark: the expression finds every
    /// run of visible ASCII of the right length, which is in its first group, and takes the characters around it, so that
    /// of two runs with a single character between them it finds the first only. To look for the keys of a store
    /// itself, a [`KeyScanner`](crate::KeyScanner) is exact.
    ///
    /// # Example
    /// ```
    /// use tower_authz::KeyFormat;
    ///
    /// let format: KeyFormat = "acme_live_{a-z0-9:8}_{0-9a-f:32}".parse()?;
    /// assert_eq!(format.regex(), r"\bacme_live_[a-z0-9]{8}_[0-9a-f]{32}\b");
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    #[must_use]
    pub fn regex(&self) -> String {
        match &self.0 {
            Shape::Structured(StructuredFormat { prefix, id, secret, checksum }) => {
                let ((id, id_length), (secret, secret_length)) = (id, secret);
                let (id, secret) = (id.class(), secret.class());
                let checksum = match checksum {
                    true => format!("[0-9A-Za-z]{{{}}}", generate::CHECKSUM_LENGTH),
                    false => String::new(),
                };
                // A prefix has no character that means something in an expression.
                format!(r"\b{prefix}_[{id}]{{{id_length}}}_[{secret}]{{{secret_length}}}{checksum}\b")
            }
            Shape::Opaque { min, max } => format!("(?:^|[^!-~])([!-~]{{{min},{max}}})(?:[^!-~]|$)"),
        }
    }

    /// The text that every structured key of this format begins with, `acme_live_`: what a search can look for before it
    /// evaluates the [expression](Self::regex). Opaque tokens have none.
    #[must_use]
    pub fn beginning(&self) -> Option<String> {
        match &self.0 {
            Shape::Structured(parts) => Some(format!("{}_", parts.prefix)),
            Shape::Opaque { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use crate::key::{Alphabet, KeyFormat};

    fn formats() -> Vec<KeyFormat> {
        let mut formats =
            vec![KeyFormat::default(), KeyFormat::opaque(20, 40).unwrap(), KeyFormat::opaque(21, 21).unwrap()];
        for alphabet in [Alphabet::LowerHex, Alphabet::LowerAlphanumeric, Alphabet::Base62] {
            let format = || KeyFormat::structured("acme_live").public_id(alphabet, 4).secret(alphabet, 30);
            formats.extend([format().build().unwrap(), format().checksum().build().unwrap()]);
        }
        formats
    }

    /// The texts that the expression finds, with nothing else around them.
    fn finds_whole(format: &KeyFormat, text: &str) -> bool {
        let found = Regex::new(&format.regex()).unwrap().captures(text);
        found.is_some_and(|found| found.get(1).or(found.get(0)).unwrap().as_str() == text)
    }

    #[test]
    fn issued_keys_are_found_in_texts_and_look_alikes_are_not() {
        for format in formats() {
            let key = format.generate().unwrap().1;
            let key = key.expose();
            let expression = Regex::new(&format.regex()).unwrap();
            for (before, after) in [("", ""), ("", "\n"), ("key ", " is"), ("\u{0}", "\u{7f}"), ("\t", "\r\n")] {
                let text = format!("{before}{key}{after}");
                let found = expression.captures(&text).unwrap();
                assert_eq!(found.get(1).or(found.get(0)).unwrap().as_str(), key, "{format}");
            }
            if format.beginning().is_some() {
                for (before, after, is_found) in [
                    ("\"", "\"", true),
                    ("=", ";", true),
                    ("-", "-", true),
                    ("x", "", false),
                    ("", "0", false),
                    ("_", "", false),
                ] {
                    assert_eq!(
                        expression.is_match(&format!("{before}{key}{after}")),
                        is_found,
                        "{format} {before} {after}"
                    );
                }
            }
        }
    }

    proptest! {
        /// Of any text the expression matches the whole exactly if it is a key, but for the checksum.
        #[test]
        fn the_expression_says_what_the_format_says(
            (number, cut, at, byte) in (0..formats().len(), 0..4_usize, 0..60_usize, 0..128_u8)
        ) {
            let format = &formats()[number];
            let mut key = format.generate().unwrap().1.expose().as_bytes().to_vec();
            let position = at % key.len();
            match cut {
                0 => key[position] = byte,
                1 => { key.remove(position); }
                2 => key.insert(position, byte),
                _ => {}
            }
            let text = String::from_utf8(key).unwrap();
            let has_checksum = format.to_string().ends_with("{crc32}");
            let found = finds_whole(format, &text);
            let matches = format.matches(text.as_bytes());
            prop_assert!(found == matches || (has_checksum && found), "{} {}", format, text);
        }
    }
}
