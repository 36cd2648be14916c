use std::{env, ffi::OsString};

use crate::{
    client::{ApiUrl, ConfigFile, Credentials, credentials::check_key},
    error::ConfigError,
    key::ApiKey,
};

/// Finds an API key: the one that the program sets, else that of an environment variable, else that of the config
/// file.
///
/// The first source that has a key decides: if its value is not a valid key, that is an error, and the next source is
/// not read. The variable contains only the key. The API that the key is sent to comes from the program, else from the
/// config file, else from [`default_url`](Self::default_url), with two restrictions:
///
/// - The key of the config file belongs to the API that is stored beside it. If the program names another origin, that
///   is an error: one command with a wrong URL must not disclose the key.
/// - A key from another source is sent to the API that the config file names only if no other user can write that file
///   or its directory: otherwise that user could choose who gets the key.
///
/// # Example
/// ```no_run
/// use tower_authz::client::{AttachLayer, ConfigFile, KeyFinder};
///
/// let found = KeyFinder::new(ConfigFile::new("logic64")?).variable("LOGIC64_TOKEN").find()?;
/// let Some(found) = found else {
///     return Err("no API key: set LOGIC64_TOKEN, or run logic64 auth".into());
/// };
/// let layer = AttachLayer::new(found.api_key(), found.api_url())?;
/// # drop(layer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a finder does nothing until `find` is called"]
pub struct KeyFinder {
    file: ConfigFile,
    variable: Option<String>,
    api_key: Option<ApiKey>,
    api_url: Option<ApiUrl>,
    default_url: Option<ApiUrl>,
}

impl KeyFinder {
    /// Reads this file if no other source has a key. The file need not exist.
    pub const fn new(file: ConfigFile) -> Self {
        Self { file, variable: None, api_key: None, api_url: None, default_url: None }
    }

    /// The environment variable that takes precedence over the file. An empty one counts as not set.
    pub fn variable(mut self, name: impl Into<String>) -> Self {
        self.variable = Some(name.into());
        self
    }

    /// A key that the program has. It takes precedence over all other sources.
    pub fn api_key(mut self, key: ApiKey) -> Self {
        self.api_key = Some(key);
        self
    }

    /// The API that the program was told to use.
    pub fn api_url(mut self, url: ApiUrl) -> Self {
        self.api_url = Some(url);
        self
    }

    /// The API to use if neither the program nor the config file names one.
    pub fn default_url(mut self, url: ApiUrl) -> Self {
        self.default_url = Some(url);
        self
    }

    /// Finds the key, its API and its location. Returns `None` if no source has a key.
    ///
    /// # Errors
    /// Returns an error if the first source that has a key has one that cannot be sent; if the file is needed but
    /// cannot be read, or is invalid; or if no source names the API, or the one that does is not allowed to. The error
    /// names the source, and never contains the key.
    pub fn find(self) -> Result<Option<Credentials>, ConfigError> {
        self.find_in(|name| env::var_os(name))
    }

    /// Does the work of [`find`](Self::find) with an environment that tests can replace.
    fn find_in(self, environment: impl Fn(&str) -> Option<OsString>) -> Result<Option<Credentials>, ConfigError> {
        let given = match (self.api_key.clone(), &self.variable) {
            (Some(key), _) => Some((key, "the program")),
            (None, Some(name)) => from_variable(name, environment(name))?.map(|key| (key, name.as_str())),
            (None, None) => None,
        };
        match given {
            Some((key, location)) => {
                check_key(&key).map_err(|error| error.at(location))?;
                self.with_url(key, location).map(Some)
            }
            None => self.stored(),
        }
    }

    fn with_url(&self, api_key: ApiKey, location: &str) -> Result<Credentials, ConfigError> {
        let location = location.to_owned();
        if let Some(api_url) = self.api_url.clone() {
            return Ok(Credentials { api_key, api_url, location, warning: None });
        }
        match self.file.open()? {
            Some((stored, true)) => Err(ConfigError::new(format!(
                "others can write this file or its directory, so the key of {location} is not sent to the API that \
                 it names: make both yours alone (chmod go-w), or name the API"
            ))
            .at(stored.location)),
            Some((stored, false)) => Ok(Credentials { api_key, location, ..stored }),
            None => match self.default_url.clone() {
                Some(api_url) => Ok(Credentials { api_key, api_url, location, warning: None }),
                None => Err(ConfigError::new(format!("nothing says which API the key of {location} is for"))),
            },
        }
    }

    fn stored(&self) -> Result<Option<Credentials>, ConfigError> {
        let Some(mut stored) = self.file.read()? else { return Ok(None) };
        if let Some(url) = &self.api_url {
            if !url.same_origin(&stored.api_url) {
                let wrong = format!("this key is for {}, and is not sent to {url}", stored.api_url);
                return Err(ConfigError::new(wrong).at(stored.location));
            }
            stored.api_url = url.clone();
        }
        Ok(Some(stored))
    }
}

fn from_variable(name: &str, value: Option<OsString>) -> Result<Option<ApiKey>, ConfigError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.into_string() {
        Ok(key) => Ok(Some(ApiKey::new(key))),
        Err(_) => Err(ConfigError::new("it is not UTF-8").at(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "l64_abc12345_0123456789abcdef0123456789abcdef";

    fn nowhere() -> KeyFinder {
        KeyFinder::new(ConfigFile::at("/nowhere/config.json")).variable("ACME_TOKEN")
    }

    fn url(url: &str) -> ApiUrl {
        ApiUrl::https(url).unwrap()
    }

    #[test]
    fn the_program_goes_before_the_variable() {
        let environment = |name: &str| (name == "ACME_TOKEN").then(|| KEY.into());
        let finder = nowhere().api_url(url("https://a.test"));
        let found = finder.clone().find_in(environment).unwrap().unwrap();
        assert_eq!((found.api_key().expose(), found.location()), (KEY, "ACME_TOKEN"));
        let found = finder.api_key(ApiKey::new("given")).find_in(environment).unwrap().unwrap();
        assert_eq!((found.api_key().expose(), found.location()), ("given", "the program"));
    }

    #[test]
    fn an_empty_variable_is_not_set_and_a_bad_one_is_an_error() {
        let find = |value: &str| nowhere().api_url(url("https://a.test")).find_in(|_| Some(value.into()));
        assert!(find("").unwrap().is_none());
        assert!(nowhere().find_in(|_| None).unwrap().is_none());
        for bad in [format!("{KEY}\n"), format!("{KEY}\r"), format!(" {KEY}"), format!("{KEY}\u{e4}"), " ".to_owned()] {
            let error = find(&bad).unwrap_err().to_string();
            assert!(error.starts_with("ACME_TOKEN: ") && !error.contains("l64"), "{error}");
        }
        let error = nowhere().api_key(ApiKey::new("")).find_in(|_| None).unwrap_err().to_string();
        assert_eq!(error, "the program: the API key is empty");
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_an_error() {
        use std::os::unix::ffi::OsStringExt as _;
        let error = nowhere().find_in(|_| Some(OsString::from_vec(vec![b'k', 0xff]))).unwrap_err().to_string();
        assert_eq!(error, "ACME_TOKEN: it is not UTF-8");
    }

    #[test]
    fn a_key_without_an_api_is_an_error() {
        let error = nowhere().find_in(|_| Some(KEY.into())).unwrap_err().to_string();
        assert_eq!(error, "nothing says which API the key of ACME_TOKEN is for");
        let found = nowhere().default_url(url("https://d.test")).find_in(|_| Some(KEY.into())).unwrap().unwrap();
        assert_eq!(found.api_url(), &url("https://d.test"));
    }
}
