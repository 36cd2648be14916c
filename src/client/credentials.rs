use std::io::Read;

use zeroize::Zeroizing;

use crate::{client::ApiUrl, error::ConfigError, key::ApiKey};

/// A key that was found, the API that it belongs to, and its location.
///
/// See [`KeyFinder`](crate::client::KeyFinder). `Debug` does not show the key.
///
/// # Example
/// ```
/// use tower_authz::{ApiKey, client::{ApiUrl, ConfigFile, KeyFinder}};
///
/// let finder = KeyFinder::new(ConfigFile::at("/nowhere/config.json"));
/// let found = finder
///     .api_key(ApiKey::new("key_0123456789"))
///     .api_url(ApiUrl::https("https://api.example.com")?)
///     .find()?
///     .expect("a key was given");
/// assert_eq!(found.api_url().to_string(), "https://api.example.com");
/// assert_eq!(found.location(), "the program");
/// assert!(found.warning().is_none());
/// assert!(!format!("{found:?}").contains("0123456789"));
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(super) api_key: ApiKey,
    pub(super) api_url: ApiUrl,
    pub(super) location: String,
    pub(super) warning: Option<String>,
}

impl Credentials {
    /// The key.
    #[must_use]
    pub const fn api_key(&self) -> &ApiKey {
        &self.api_key
    }

    /// The API that the key may be sent to.
    #[must_use]
    pub const fn api_url(&self) -> &ApiUrl {
        &self.api_url
    }

    /// The location of the key, to show to a user whose key is refused: `the program`, the name of the environment
    /// variable, or the path of the file.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// A warning for the user if others can read the config file. This crate does not print it: that is left to the
    /// program.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// The maximum length of a key: no key is as long, and a header of this size can still be sent.
const LIMIT: usize = 8 * 1024;

/// Reads a key from an input such as standard input, up to its end. An argument on the command line would show up in
/// the shell's history and in the list of processes.
///
/// One line ending after the key is removed, and nothing else.
///
/// # Errors
/// Returns an error if reading fails, or if the input is not a key: it is empty, longer than 8 KiB, or has characters
/// other than visible ASCII. The error does not quote the input.
///
/// # Example
/// ```
/// use tower_authz::client::read_key;
///
/// assert_eq!(read_key(&b"key_0123456789\n"[..])?.expose(), "key_0123456789");
/// assert!(read_key(&b"key_0123456789 \n"[..]).is_err());
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
pub fn read_key(input: impl Read) -> Result<ApiKey, ConfigError> {
    // Allocate the full capacity first: a buffer that grows leaves copies of the key in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * LIMIT));
    input
        .take(LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ConfigError::new(format!("reading the API key: {error}")))?;
    if bytes.len() > LIMIT {
        return Err(ConfigError::new("the API key is longer than 8 KiB"));
    }
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").filter(|_| line.len() < bytes.len()).unwrap_or(line);
    let key = ApiKey::new(std::str::from_utf8(line).map_err(|_| ConfigError::new("the API key is not UTF-8"))?);
    check_key(&key)?;
    Ok(key)
}

/// Checks that the key can be sent as it is. A space or a line ending, left over from copying and pasting, would turn
/// it into another key or a malformed header.
pub(super) fn check_key(key: &ApiKey) -> Result<(), ConfigError> {
    match key.expose() {
        "" => Err(ConfigError::new("the API key is empty")),
        key if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        _ => Err(ConfigError::new("the API key has an invalid character, such as a space or a line ending")),
    }
}
