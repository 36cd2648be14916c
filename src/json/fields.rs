use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::{
    error::ConfigError,
    json::{from_json, from_value},
};

/// The fields of a JSON object, which several parts of the crate read in turn.
pub(crate) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Parses an object, and rejects a field that is not among the known ones.
    pub(crate) fn parse(text: &'a str, known: &[&str]) -> Result<Self, ConfigError> {
        let fields: Self = from_json(text, false)?;
        match fields.0.iter().find(|(name, _)| !known.contains(&&**name)) {
            None => Ok(fields),
            Some((name, _)) => {
                let known: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
                let message = format!("unknown field `{name}`, expected one of {}", known.join(", "));
                Err(ConfigError::new(message).at(name))
            }
        }
    }

    /// Takes the value of a field, if it is there. Null is passed to the type, which usually rejects it: a template may
    /// produce null where a value is missing.
    pub(crate) fn take<T: Deserialize<'a>>(&mut self, name: &str) -> Result<Option<T>, ConfigError> {
        let Some(index) = self.0.iter().position(|(known, _)| known == name) else { return Ok(None) };
        let (_, value) = self.0.remove(index);
        from_value(value.get(), name).map(Some)
    }

    /// Takes the value of a field, or the default of its type if the field is absent.
    pub(crate) fn take_or_default<T: Deserialize<'a> + Default>(&mut self, name: &str) -> Result<T, ConfigError> {
        self.take(name).map(Option::unwrap_or_default)
    }

    /// Rejects fields that were not taken.
    pub(crate) fn finish(&self, message: &'static str) -> Result<(), ConfigError> {
        match self.0.first() {
            Some((name, _)) => Err(ConfigError::new(message).at(name)),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom(format_args!("duplicate field `{name}`")));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
