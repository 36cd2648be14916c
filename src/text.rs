//! How single values are read from and written to key files.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Whether all bytes are accepted. Without an early end, so that the compiler can look at many at once.
pub(crate) fn every(bytes: &[u8], accepts: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |so_far, &byte| so_far & accepts(byte))
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
#[derive(Clone, Debug, Serialize)]
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
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    if entries.iter().any(|(known, _)| *known == key) {
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
