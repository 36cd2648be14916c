//! The JSON of a config file. Serde's errors quote a value that is in the wrong position, which may be the key. For
//! this reason only its syntax errors are passed on: they quote nothing.

use serde::{Deserialize, Serialize};
use serde_json::{error::Category, value::RawValue};
use zeroize::Zeroizing;

use crate::{client::ApiUrl, error::ConfigError, json, key::ApiKey};

/// Parses the key and the URL, and validates neither of them.
pub(super) fn parse(text: &str) -> Result<(ApiKey, String), ConfigError> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Entries<'a>(#[serde(borrow, deserialize_with = "json::unique::deserialize")] Vec<(String, &'a RawValue)>);

    if !text.trim_start().starts_with('{') {
        return Err(ConfigError::new(r#"expected a JSON object, {"api_key": "...", "api_url": "https://..."}"#));
    }
    let Entries(entries) = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => ConfigError::new("duplicate field"),
        _ => ConfigError::new(error.to_string()),
    })?;
    let (mut api_key, mut api_url) = (None, None);
    for (name, value) in entries {
        match &*name {
            "api_key" => api_key = Some(ApiKey::new(string("api_key", value)?)),
            "api_url" => api_url = Some(string("api_url", value)?),
            name => return Err(unknown(name)),
        }
    }
    let missing = |field| move || ConfigError::new("is required").at(field);
    Ok((api_key.ok_or_else(missing("api_key"))?, api_url.ok_or_else(missing("api_url"))?))
}

fn string(field: &str, value: &RawValue) -> Result<String, ConfigError> {
    serde_json::from_str(value.get()).map_err(|_| ConfigError::new("a string is expected").at(field))
}

fn unknown(name: &str) -> ConfigError {
    let wrong = ConfigError::new("unknown field; there are api_key and api_url, and no other");
    // The name is quoted only if it cannot be a key that was written on the wrong side of the colon.
    let harmless = name.len() <= 16 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if harmless { wrong.at(name) } else { wrong }
}

pub(super) fn to_json(key: &ApiKey, api_url: &ApiUrl) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    #[derive(Serialize)]
    struct Fields<'a> {
        api_key: &'a str,
        api_url: &'a str,
    }
    let url = api_url.to_string();
    // Allocate the full capacity first, with space for escapes, which may double a text: a buffer that grows leaves
    // copies of the key in memory.
    let mut json = Zeroizing::new(Vec::with_capacity(2 * (key.expose().len() + url.len()) + 64));
    serde_json::to_writer_pretty(&mut *json, &Fields { api_key: key.expose(), api_url: &url })
        .map_err(|error| ConfigError::new(error.to_string()))?;
    json.push(b'\n');
    Ok(json)
}
