//! Reads and writes JSON files and the single values in them.

mod fields;

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, de};

pub(crate) use self::fields::Fields;
use crate::error::ConfigError;

/// Reads a text file, and returns its name, for errors, and its text.
pub(crate) fn read_file(path: &Path) -> Result<(String, String), ConfigError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(ConfigError::new(error.to_string()).at(name)),
    }
}

/// Parses a JSON object. An error names the field. Without `with_line`, the error has no line: for an object that is a
/// part of its file, lines would be counted from the beginning of the part.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(text: &'a str, with_line: bool) -> Result<T, ConfigError> {
    // Skip a byte order mark, which editors on Windows write and which is meaningless in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Reject an array: serde would accept one, with its values in the order of the fields.
    if !text.trim_start().starts_with('{') {
        return Err(ConfigError::new("expected a JSON object { … }"));
    }
    parse(text).map_err(|(path, error)| {
        let message = ConfigError::new(if with_line { error.to_string() } else { without_line(&error) });
        if path.is_empty() { message } else { message.at(path) }
    })
}

/// Parses the value of a field. An error names the field and what is wrong in it: `scoped[0].path`.
fn from_value<'a, T: Deserialize<'a>>(text: &'a str, field: &str) -> Result<T, ConfigError> {
    parse(text).map_err(|(path, error)| {
        let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        ConfigError::new(without_line(&error)).at(format_args!("{field}{dot}{path}"))
    })
}

/// An error comes with the path of the value that it is about, which is empty for the whole text.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, (String, serde_json::Error)> {
    // Paths cost as much as parsing, and only errors need them.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        (if matches!(&*path, "." | "?") { String::new() } else { path }, error.into_inner())
    })?;
    deserializer.end().map_err(|error| (String::new(), error))?;
    Ok(value)
}

fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let line = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&line).unwrap_or(&message).to_owned()
}

/// An id given as a string or as a number, kept as text: `1` and `"1"` name the same company.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
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

/// A struct that is written as a JSON object. Serde would accept an array too, with its values in the order of the
/// fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
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

/// Deserializes an optional field, but rejects null, which a template may leave in place of a value.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A map that rejects duplicate keys: otherwise one of the two values would be lost silently.
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
                let mut many = std::collections::HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, V>()? {
                    // Most maps are short, and a set of their keys would cost more than reading them.
                    let is_known = match entries.len() {
                        ..16 => entries.iter().any(|(known, _)| *known == key),
                        16 => {
                            many.extend(entries.iter().map(|(known, _)| known.clone()));
                            !many.insert(key.clone())
                        }
                        _ => !many.insert(key.clone()),
                    };
                    if is_known {
                        return Err(de::Error::custom(format_args!("duplicate key {key:?}")));
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
