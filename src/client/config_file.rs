use std::{
    env, fs,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    client::{ApiUrl, Credentials, credentials::check_key, disk, fields},
    error::ConfigError,
    key::ApiKey,
};

/// The maximum size of a config file, far above the size of a key and a URL.
const LIMIT: usize = 16 * 1024;

/// A config file that stores the key of one user in plain text: `~/.NAME/config.json`.
///
/// ```json
/// { "api_key": "l64_abc12345_...", "api_url": "https://api.example.com" }
/// ```
///
/// Both fields are required, and no other field is allowed. On Unix the file is written with mode 0600, into a
/// directory that is created with 0700, and reading it gives a [warning](Credentials::warning) if other users could
/// read it as well. On other systems the file is as private as the home directory.
///
/// # Example
/// ```
/// use tower_authz::{ApiKey, client::{ApiUrl, ConfigFile, read_key}};
///
/// # let home = std::env::temp_dir().join(format!("tower-authz-doc-{}", std::process::id()));
/// let file = ConfigFile::at(home.join(".acme/config.json")); // or ConfigFile::new("acme")?
/// assert!(file.read()?.is_none());
///
/// file.save(&ApiKey::new("key_0123456789"), &ApiUrl::https("https://api.example.com")?)?;
/// let stored = file.read()?.expect("it was saved");
/// assert_eq!(stored.api_key().expose(), "key_0123456789");
/// # std::fs::remove_dir_all(home).unwrap();
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    loopback: bool,
}

impl ConfigFile {
    /// The file `~/.NAME/config.json`, where the home directory is `$HOME`, or `%USERPROFILE%` on Windows.
    ///
    /// # Errors
    /// Returns an error if there is no home directory, or if the name is empty or has characters other than ASCII
    /// letters, digits, `-` and `_`.
    ///
    /// # Example
    /// ```
    /// use tower_authz::client::ConfigFile;
    ///
    /// if let Ok(file) = ConfigFile::new("logic64") {
    ///     assert!(file.path().ends_with(".logic64/config.json"));
    /// }
    /// assert!(ConfigFile::new("../logic64").is_err());
    /// ```
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(ConfigError::new(format!("{name:?}: a name is of letters, digits, - and _")));
        }
        // Require an absolute path: a relative one would depend on the directory in which the program is run.
        match env::home_dir().filter(|home| home.is_absolute()) {
            Some(home) => Ok(Self::at(home.join(format!(".{name}")).join("config.json"))),
            None => Err(ConfigError::new("home directory not found: set HOME to an absolute path")),
        }
    }

    /// A config file at another path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), loopback: false }
    }

    /// Accepts a file whose API is on a loopback host and served over plain HTTP, as [`ApiUrl::https_or_loopback`]
    /// does. By default such a file is an error.
    #[must_use]
    pub fn allow_loopback_http(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or if anything in it is invalid. The error names the file and the
    /// field, and never contains the key.
    pub fn read(&self) -> Result<Option<Credentials>, ConfigError> {
        Ok(self.open()?.map(|(stored, _)| stored))
    }

    /// Reads the file, and returns whether other users can write the file or its directory.
    pub(super) fn open(&self) -> Result<Option<(Credentials, bool)>, ConfigError> {
        match crate::regular_file::open(&self.path) {
            Ok(file) => self.parse(file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::new(error.to_string())),
        }
        .map_err(|error| error.at(self.path.display()))
    }

    fn parse(&self, file: fs::File) -> Result<(Credentials, bool), ConfigError> {
        let failed = |error: std::io::Error| ConfigError::new(error.to_string());
        let mode = disk::mode(&file.metadata().map_err(failed)?);
        // Write access to the directory is enough to replace the file.
        let directory = disk::parent(&self.path).metadata().map(|directory| disk::mode(&directory));
        let others_write = (mode | directory.map_err(failed)?) & 0o022 != 0;
        // Allocate the full capacity first: a buffer that grows leaves copies of the key in memory.
        let mut text = Zeroizing::new(String::with_capacity(2 * LIMIT));
        file.take(LIMIT as u64 + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() > LIMIT {
            return Err(too_large());
        }
        let (api_key, api_url) = fields::parse(&text)?;
        check_key(&api_key).map_err(|error| error.at("api_key"))?;
        let api_url = ApiUrl::parse(&api_url, self.loopback).map_err(|error| error.at("api_url"))?;
        let location = self.path.display().to_string();
        let warning = (mode & 0o077 != 0).then(|| {
            format!(
                "other users can access the API key in {location} (mode {:04o}): chmod 600 {location}",
                mode & 0o777
            )
        });
        Ok((Credentials { api_key, api_url, location, warning }, others_write))
    }

    /// Stores a key and its API, replacing the previous content.
    ///
    /// The file is replaced atomically: no reader finds a part of it, and a crash leaves either the old file or the
    /// new one. If the path is a symbolic link, the link is replaced, and not its target.
    ///
    /// # Errors
    /// Returns an error if the key could not be sent (see [`read_key`](crate::client::read_key)), if the file would be
    /// larger than 16 KiB, or if it cannot be written.
    pub fn save(&self, key: &ApiKey, api_url: &ApiUrl) -> Result<(), ConfigError> {
        check_key(key)?;
        let json = fields::to_json(key, api_url)?;
        match json.len() {
            0..=LIMIT => disk::replace(&self.path, &json).map_err(|error| ConfigError::new(error.to_string())),
            _ => Err(too_large()),
        }
        .map_err(|error| error.at(self.path.display()))
    }
}

fn too_large() -> ConfigError {
    ConfigError::new("the config file exceeds 16 KiB")
}
