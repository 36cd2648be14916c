use std::io::Read;

use zeroize::Zeroizing;

use crate::{client::ApiUrl, error::ConfigError, key::ApiKey};

/// A key that was found, the API that it is for, and where it was.
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

    /// Where the key was found, to tell it to a person whose key is refused: `the program`, the name of
    /// the environment variable, or the path of the file.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// What the person should know about the config file: that others can read it. Nothing is printed
    /// unless you do.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Longer than any key, and short enough to send.
const LIMIT: usize = 8 * 1024;

/// Reads a key to the end of the input, such as standard input: an argument on the command line would
/// show up in the shell's history and in the list of processes.
///
/// One line end behind the key is dropped, nothing else is.
///
/// # Errors
/// If reading fails, or if that is no key: empty, longer than 8 KiB, or with characters other than
/// visible ASCII. The error does not repeat it.
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
    // Room for everything at once: a buffer that grows leaves copies behind.
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
    let key = ApiKey::new(std::str::from_utf8(line).map_err(|_| ConfigError::new("the API key is not text"))?);
    check_key(&key)?;
    Ok(key)
}

/// Whether this can be sent as it is. A space or a line end, left by copy and paste, would make of it
/// another key or a malformed header.
pub(super) fn check_key(key: &ApiKey) -> Result<(), ConfigError> {
    match key.expose() {
        "" => Err(ConfigError::new("the API key is empty")),
        key if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        _ => Err(ConfigError::new("the API key has a space, a line end, or another character that no key has")),
    }
}
