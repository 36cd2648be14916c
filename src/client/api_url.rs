use std::fmt;

use http::{Uri, uri::PathAndQuery};

use crate::{client::origin::Origin, error::ConfigError};

/// The base URL of an API, and the only origin that its key is sent to: `https://api.example.com`, optionally with a
/// path that is the prefix of all its resources.
///
/// A key is bound to the URL's *origin*, that is scheme, host and port; the path does not narrow it. Plain HTTP is
/// refused, because anybody on the network path could read the key.
///
/// # Example
/// ```
/// use tower_authz::client::ApiUrl;
///
/// let url = ApiUrl::https("https://api.example.com/v1/")?;
/// assert_eq!(url.join("/orders?page=2")?, "https://api.example.com/v1/orders?page=2");
///
/// let error = ApiUrl::https("http://api.example.com").unwrap_err();
/// assert!(error.to_string().contains("use https"), "{error}");
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ApiUrl(Uri);

impl ApiUrl {
    /// Parses the URL of an API that is served over HTTPS.
    ///
    /// # Errors
    /// Returns an error if the URL is not of the form `https://host[:port][/path]`: a user name, a query or a fragment
    /// is not allowed.
    pub fn https(url: &str) -> Result<Self, ConfigError> {
        Self::parse(url, false)
    }

    /// Parses the URL of an API that is served over HTTPS, or over plain HTTP on a loopback host, for development and
    /// tests: `127.0.0.0/8`, `[::1]` or `localhost`.
    ///
    /// On a machine with several users, any of them may own the process that listens on that port.
    ///
    /// # Errors
    /// Returns the errors of [`https`](Self::https).
    ///
    /// # Example
    /// ```
    /// use tower_authz::client::ApiUrl;
    ///
    /// assert!(ApiUrl::https_or_loopback("http://127.0.0.1:3000").is_ok());
    /// assert!(ApiUrl::https_or_loopback("http://192.168.1.7:3000").is_err());
    /// ```
    pub fn https_or_loopback(url: &str) -> Result<Self, ConfigError> {
        Self::parse(url, true)
    }

    pub(super) fn parse(url: &str, loopback: bool) -> Result<Self, ConfigError> {
        // The error does not quote the URL: somebody may have passed the key in its place.
        let wrong = || ConfigError::new("the API URL does not match https://host[:port][/path]");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let origin = Origin::from_uri(&uri).ok_or_else(wrong)?;
        // Search the text for a fragment, because `http::Uri` drops it.
        if uri.query().is_some() || url.contains('#') {
            return Err(wrong());
        }
        match (origin.https, origin.is_loopback()) {
            (true, _) => Ok(Self(uri)),
            (false, true) if loopback => Ok(Self(uri)),
            (false, true) => Err(ConfigError::new(
                "the API URL uses plain http, which is not allowed here even for this machine: use https",
            )),
            (false, false) => Err(ConfigError::new("the API URL uses plain http, which exposes the key: use https")),
        }
    }

    /// The URI of a resource of this API.
    ///
    /// Concatenating the two as strings is unsafe: `https://api.example.com` and `@evil.test/` make a URL of
    /// `evil.test`.
    ///
    /// # Errors
    /// Returns an error if the path does not begin with a slash, or has characters that a path cannot have.
    pub fn join(&self, path: &str) -> Result<Uri, ConfigError> {
        let wrong = || ConfigError::new("a path begins with a slash, /orders, and has no spaces");
        if !path.starts_with('/') {
            return Err(wrong());
        }
        let mut parts = self.0.clone().into_parts();
        let path = PathAndQuery::try_from(format!("{}{path}", self.path())).map_err(|_| wrong())?;
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map_err(|_| wrong())
    }

    /// Whether the API is served over HTTPS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        Origin::from_uri(&self.0).is_some_and(|origin| origin.https)
    }

    /// Whether a request to this URI goes to the origin of this API.
    pub(super) fn covers(&self, uri: &Uri) -> bool {
        matches!((Origin::from_uri(&self.0), Origin::from_uri(uri)), (Some(own), Some(other)) if own.same(other))
    }

    /// Whether both URLs have the same origin.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.covers(&other.0)
    }

    fn path(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }
}

/// Prints the URL as it was given, without a slash at its end.
impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.0.scheme_str(), self.0.authority());
        write!(f, "{}://{}{}", scheme.unwrap_or_default(), authority.map_or("", |host| host.as_str()), self.path())
    }
}

impl fmt::Debug for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiUrl({self})")
    }
}
