//! Points in time as they are stored: whole microseconds, and RFC 3339 text in JSON.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::ConfigError;

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

/// Writes a point in time as RFC 3339 text, or null; for `#[serde(with = "timestamp")]`.
pub(crate) fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = |time: SystemTime| jiff::Timestamp::try_from(time).map(|time| time.to_string());
    // Left out, a time beyond the year 9999 would be read back as no end at all.
    time.map(text).transpose().map_err(ser::Error::custom)?.serialize(serializer)
}

/// Reads a point in time from RFC 3339 text, or null.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match text.parse::<jiff::Timestamp>().and_then(SystemTime::try_from) {
        Ok(time) => Ok(Some(time)),
        Err(_) => Err(de::Error::custom("a time is written like 2027-01-01T00:00:00Z (RFC 3339)")),
    }
}
