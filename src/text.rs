//! How JSON files, and the single values in them, are read and written.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::ConfigError;

/// Whether two short texts are the same. For names and parts of paths this is half the price of the call that `==` is.
/// Not for secrets: it ends at the first difference.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(one, other)| one == other)
}

/// Kinds of bytes, a bit each.
#[derive(Clone, Copy)]
pub(crate) struct Class(u8);

impl Class {
    pub(crate) const LOWER_HEX: Self = Self(1);
    pub(crate) const LOWER_ALPHANUMERIC: Self = Self(1 << 1);
    pub(crate) const ALPHANUMERIC: Self = Self(1 << 2);
    /// `[a-z0-9_-]`
    pub(crate) const SLUG: Self = Self(1 << 3);
    /// `[A-Za-z0-9._~-]`
    pub(crate) const UNRESERVED: Self = Self(1 << 4);
    /// What needs no second look in a path: `[A-Za-z0-9/_-]`
    pub(crate) const PLAIN_PATH: Self = Self(1 << 5);
    /// Visible ASCII.
    pub(crate) const GRAPHIC: Self = Self(1 << 6);

    const fn of(byte: u8) -> u8 {
        let digit = byte.is_ascii_digit();
        let lower = byte.is_ascii_lowercase();
        let alphanumeric = byte.is_ascii_alphanumeric();
        let dash = matches!(byte, b'-' | b'_');
        let classes = [
            (Self::LOWER_HEX, digit || matches!(byte, b'a'..=b'f')),
            (Self::LOWER_ALPHANUMERIC, digit || lower),
            (Self::ALPHANUMERIC, alphanumeric),
            (Self::SLUG, digit || lower || dash),
            (Self::UNRESERVED, alphanumeric || dash || matches!(byte, b'.' | b'~')),
            (Self::PLAIN_PATH, alphanumeric || dash || byte == b'/'),
            (Self::GRAPHIC, byte.is_ascii_graphic()),
        ];
        let (mut bits, mut place) = (0, 0);
        #[expect(clippy::indexing_slicing, reason = "it is worked out by the compiler, which would stop")]
        while place < classes.len() {
            if classes[place].1 {
                bits |= classes[place].0.0;
            }
            place += 1;
        }
        bits
    }
}

/// The classes of each byte.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_usize;
    #[expect(clippy::indexing_slicing, reason = "it is worked out by the compiler, which would stop")]
    while byte < classes.len() {
        classes[byte] = Class::of(byte as u8);
        byte += 1;
    }
    classes
};

/// Whether all bytes are of the class. By a table and without an early end: that is less to do than to compare.
pub(crate) fn every(bytes: &[u8], class: Class) -> bool {
    let classes = |byte: u8| CLASSES.get(usize::from(byte)).copied().unwrap_or(0);
    bytes.iter().fold(class.0, |all, &byte| all & classes(byte)) != 0
}

/// Reads a JSON object; an error names the field. Without `with_line`, for an object that is a part of its
/// file, no line is told: it would be counted from the beginning of the part.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(text: &'a str, with_line: bool) -> Result<T, ConfigError> {
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
    let time = jiff::Timestamp::from_microsecond(micros);
    time.map(Into::into).map_err(|_| ConfigError::new("a date lies between the years -9999 and 9999"))
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
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(Some(time.into())),
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
