//! How JSON files, and the single values in them, are read and written.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::ConfigError;

/// Whether two short texts are the same. For names and parts of paths this is half the price of the call that `==` is.
/// Not for secrets: it ends at the first difference.
pub(crate) fn same(one: impl AsRef<[u8]>, other: impl AsRef<[u8]>) -> bool {
    let (one, other) = (one.as_ref(), other.as_ref());
    if one.len() != other.len() || head(one) != head(other) {
        return false;
    }
    // Of up to sixteen bytes, what comes after the first eight is in the last eight.
    one.len() <= 8 || one.last_chunk::<8>() == other.last_chunk() && (one.len() <= 16 || one == other)
}

/// The first eight bytes as a number, as if zeros followed.
pub(crate) fn head(text: &[u8]) -> u64 {
    let part = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    match (text.first_chunk(), text.len()) {
        (Some(eight), _) => u64::from_le_bytes(*eight),
        // Of four and more, the first four and the last four: what both hold is the same.
        (None, 4..) => part(text.first_chunk()) | part(text.last_chunk()) << (8 * (text.len() - 4)),
        (None, _) => text.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)),
    }
}

/// Whether the byte is in the text.
pub(crate) fn holds(text: &str, wanted: u8) -> bool {
    !all(text.as_bytes(), |byte| byte != wanted)
}

/// Kinds of bytes.
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

/// Whether all bytes are of the class.
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

/// Sixteen or eight at a time, the last of them once more so that none are left over: without a branch in between, the
/// compiler does them all at once.
#[inline]
fn all(bytes: &[u8], accepts: impl Fn(u8) -> bool) -> bool {
    let part = |bytes: &[u8]| bytes.iter().fold(true, |all, &byte| all & accepts(byte));
    if let Some(last) = bytes.last_chunk::<16>() {
        bytes.as_chunks::<16>().0.iter().fold(part(last), |all, bytes| all & part(bytes))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        part(first) & part(last)
    } else {
        part(bytes)
    }
}

/// Reads a JSON object; an error names the field. Without `with_line`, for an object that is a part of its
/// file, no line is told: it would be counted from the beginning of the part.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(text: &'a str, with_line: bool) -> Result<T, ConfigError> {
    // Editors on Windows write a byte order mark, which says nothing of a text in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Serde would take an array as well, its values in the order of the fields.
    if !text.trim_start().starts_with('{') {
        return Err(ConfigError::new("a JSON object, { … }, is expected here"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let message = error.to_string();
        let line = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&line).filter(|_| !with_line).unwrap_or(&message).to_owned();
        let message = ConfigError::new(message);
        if matches!(&*path, "." | "?") { message } else { message.at(path) }
    })?;
    deserializer.end().map_err(|error| ConfigError::new(error.to_string()))?;
    Ok(value)
}

/// An id given as a string or as a number, kept as text: `1` and `"1"` name one company.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Id(String);

impl Id {
    pub(crate) fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Id;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an id: a string or a whole number")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<Id, E> {
                Ok(Id::new(id))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Id, E> {
                Ok(Id::new(id.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A struct that is written as a JSON object. Serde would take an array too, its values in the order of the
/// fields.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object, { … }")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData)).map(Object)
    }
}

/// The time cut to whole microseconds, which is what every database keeps. Beyond the year 9999 it could
/// not be written down.
pub(crate) fn whole_micros(time: SystemTime) -> Result<SystemTime, ConfigError> {
    from_micros(to_micros(time)?)
}

/// Microseconds since 1970, rounded down.
pub(crate) fn to_micros(time: SystemTime) -> Result<i64, ConfigError> {
    let time = jiff::Timestamp::try_from(time);
    let time = time.map_err(|_| ConfigError::new("a date lies between the years -9999 and 9999"))?;
    Ok(time.as_nanosecond().div_euclid(1000) as i64)
}

pub(crate) fn from_micros(micros: i64) -> Result<SystemTime, ConfigError> {
    let time = jiff::Timestamp::from_microsecond(micros).and_then(SystemTime::try_from);
    time.map_err(|_| ConfigError::new("a date lies between the years -9999 and 9999"))
}

/// For a field that is given or left out: null, which a template may leave where a value was meant, is refused.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A point in time as RFC 3339 text, or null.
pub(crate) mod time {
    use super::{Deserialize, Deserializer, Serialize, Serializer, SystemTime, de, ser};

    pub(crate) fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        let text = |time: SystemTime| jiff::Timestamp::try_from(time).map(|time| time.to_string());
        // Left out, a time beyond the year 9999 would be read back as no end at all.
        time.map(text).transpose().map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        match text.parse::<jiff::Timestamp>().and_then(SystemTime::try_from) {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(de::Error::custom("a time is written like 2027-01-01T00:00:00Z (RFC 3339)")),
        }
    }
}

/// A map in which no key stands twice: with two, one of them would silently lose.
pub(crate) mod unique {
    use std::{fmt, marker::PhantomData};

    use super::{Deserialize, Deserializer, de};

    pub(crate) fn deserialize<'de, D, V>(deserializer: D) -> Result<Vec<(String, V)>, D::Error>
    where
        D: Deserializer<'de>,
        V: Deserialize<'de>,
    {
        struct Visitor<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> de::Visitor<'de> for Visitor<V> {
            type Value = Vec<(String, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Self::Value = Vec::new();
                let mut known = std::collections::HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if !known.insert(key.clone()) {
                        return Err(de::Error::custom(format_args!("{key:?} is given twice")));
                    }
                    entries.push((key, value));
                }
                Ok(entries)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }

    pub(crate) fn serialize<S: serde::Serializer, V: serde::Serialize>(
        entries: &[(String, V)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
    }
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
                for (place, byte) in (0..length).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
                    let mut text = vec![b'0'; length];
                    text[place] = byte;
                    assert_eq!(every(&text, class), accepts(byte), "{text:?}");
                    let text: String = text.iter().map(|byte| char::from(byte & 0x7f)).collect();
                    assert_eq!(holds(&text, b'%'), text.contains('%'));
                }
            }
        }
    }

    #[test]
    fn the_same_is_the_same() {
        let long = b"abcdefghijklmnopqrstuvwxyz";
        let mut texts = vec![b"a\0".to_vec()];
        for length in 0..long.len() {
            let text = long.get(..length).unwrap().to_vec();
            texts.extend((0..length).map(|place| {
                let mut other = text.clone();
                other[place] = b'!';
                other
            }));
            texts.push(text);
        }
        for (one, other) in texts.iter().flat_map(|one| texts.iter().map(move |other| (one, other))) {
            assert_eq!(same(one, other), one == other, "{one:?} {other:?}");
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
