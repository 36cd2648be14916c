//! One place in a request where an API key may stand.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};

use super::deprecation::Notice;
use crate::{denial::Cause, error::ConfigError};

/// One place in a request where an API key may stand: a header, a scheme of `Authorization`, a cookie, or what a type of
/// your own finds in a header.
///
/// A key in the query string is not a source and cannot be made one: URLs end up in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub(super) header: HeaderName,
    form: Form,
    pub(super) notice: Option<Arc<Notice>>,
}

/// How a credential stands in the value of its header.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Whole,
    Bearer {
        is_exact: bool,
    },
    /// After the name of another scheme, which is stored with the space that ends it.
    Scheme(Box<[u8]>),
    Cookie(Box<str>),
    Custom(Custom),
}

/// Finds credentials in a header, for [`Source::custom`].
///
/// # Example
/// A header with an id and a key, `X-Client: web;key=..`:
/// ```
/// use http::HeaderName;
/// use tower_authz::{FindCredential, Source};
///
/// #[derive(Debug)]
/// struct ClientHeader;
///
/// impl FindCredential for ClientHeader {
///     fn header(&self) -> HeaderName {
///         HeaderName::from_static("x-client")
///     }
///
///     fn find<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
///         let at = value.windows(5).position(|window| window == b";key=")?;
///         value.get(at + 5..)
///     }
///
///     fn strip(&self, value: &[u8]) -> Option<Vec<u8>> {
///         let at = value.windows(5).position(|window| window == b";key=")?;
///         value.get(..at).map(<[u8]>::to_vec)
///     }
/// }
///
/// let source = Source::custom(ClientHeader);
/// # drop(source);
/// ```
pub trait FindCredential: fmt::Debug + Send + Sync + 'static {
    /// The header to look into. It is marked sensitive, so that no `Debug` of the headers prints it.
    fn header(&self) -> HeaderName;

    /// The API key in one line of the header; `None` if the line holds none, so that the next source is asked.
    fn find<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]>;

    /// The line without the API key, where credentials are removed before the handler sees the request; `None`, the default,
    /// removes the whole line.
    fn strip(&self, value: &[u8]) -> Option<Vec<u8>> {
        let _ = value;
        None
    }
}

#[derive(Clone, Debug)]
struct Custom(Arc<dyn FindCredential>);

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Custom {}

/// With the space that ends it.
const BEARER: &[u8] = b"Bearer ";

impl Source {
    /// `Authorization: Bearer <key>` (RFC 6750 section 2.1), the scheme in any case.
    #[must_use]
    pub const fn bearer() -> Self {
        Self::new(AUTHORIZATION, Form::Bearer { is_exact: false })
    }

    /// `Authorization: Bearer <key>` with the scheme spelt exactly so.
    #[must_use]
    pub const fn bearer_exact() -> Self {
        Self::new(AUTHORIZATION, Form::Bearer { is_exact: true })
    }

    /// `Authorization: <scheme> <key>` with another scheme, in any case (RFC 9110 section 11.1): `Token`, `ApiKey`.
    ///
    /// # Errors
    /// If the name is no token, such as one with a space in it.
    pub fn scheme(name: &str) -> Result<Self, ConfigError> {
        let mut name = token(name, "scheme")?.as_bytes().to_vec();
        name.push(b' ');
        Ok(Self::new(AUTHORIZATION, Form::Scheme(name.into())))
    }

    /// A header whose whole value is the key, like `X-API-Key`.
    #[must_use]
    pub const fn header(name: HeaderName) -> Self {
        Self::new(name, Form::Whole)
    }

    /// A cookie whose value is the key, for pages. It is present only if the request carries a cookie of this name; others do
    /// not matter. Where credentials are removed, the other cookies stay.
    ///
    /// **Browsers send cookies with requests that other sites cause.** Set `SameSite=Strict`, `Secure` and `HttpOnly` on
    /// it, and let no `GET` change anything.
    ///
    /// # Errors
    /// If the name is no token (RFC 6265 section 4.1.1).
    pub fn cookie(name: &str) -> Result<Self, ConfigError> {
        Ok(Self::new(COOKIE, Form::Cookie(token(name, "cookie")?.into())))
    }

    /// The credential that a type of your own finds in a header.
    pub fn custom(find: impl FindCredential) -> Self {
        Self::new(find.header(), Form::Custom(Custom(Arc::new(find))))
    }

    const fn new(header: HeaderName, form: Form) -> Self {
        Self { header, form, notice: None }
    }

    /// Marks the source as deprecated since then: responses to requests that use it carry
    /// `Deprecation` (RFC 9745).
    ///
    /// # Example
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use http::HeaderName;
    /// use tower_authz::Source;
    ///
    /// let since = UNIX_EPOCH + Duration::from_secs(1_767_225_600); // 2026-01-01
    /// let until = UNIX_EPOCH + Duration::from_secs(1_798_761_600); // 2027-01-01
    /// let legacy = Source::header(HeaderName::from_static("x-api-key")).deprecated(since).sunset(until);
    /// # drop(legacy);
    /// ```
    #[must_use]
    pub fn deprecated(mut self, since: SystemTime) -> Self {
        let seconds = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A structured field date: an at sign and seconds.
        Arc::make_mut(self.notice.get_or_insert_default()).deprecation =
            HeaderValue::try_from(format!("@{seconds}")).ok();
        self
    }

    /// When the source will be gone: responses to requests that use it carry `Sunset` (RFC 8594).
    #[must_use]
    pub fn sunset(mut self, at: SystemTime) -> Self {
        let date = jiff::Timestamp::try_from(at).map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        Arc::make_mut(self.notice.get_or_insert_default()).sunset =
            date.ok().and_then(|date| HeaderValue::try_from(date).ok());
        self
    }

    pub(crate) const fn notice(&self) -> Option<&Arc<Notice>> {
        self.notice.as_ref()
    }

    /// The header that this source reads.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        &self.header
    }

    /// Whether the key comes as a bearer token.
    #[must_use]
    #[inline]
    pub fn is_bearer(&self) -> bool {
        match &self.form {
            Form::Bearer { .. } => true,
            Form::Scheme(name) => name.eq_ignore_ascii_case(BEARER),
            _ => false,
        }
    }

    /// The challenge for this source in a 401 (RFC 9110 section 11.6.1).
    pub(super) fn challenge(&self) -> String {
        match &self.form {
            Form::Bearer { .. } => r#"Bearer realm="api""#.to_owned(),
            Form::Scheme(name) => format!(r#"{} realm="api""#, String::from_utf8_lossy(name.trim_ascii_end())),
            Form::Cookie(name) => format!(r#"ApiKey realm="api", cookie="{name}""#),
            Form::Whole | Form::Custom(_) => format!(r#"ApiKey realm="api", header="{}""#, self.header),
        }
    }

    /// Whether a shared cache does not know that this header holds a credential.
    pub(super) fn is_unknown_to_caches(&self) -> bool {
        self.header != AUTHORIZATION
    }

    /// Whether the credential stands after the name of a scheme.
    pub(super) const fn is_scheme(&self) -> bool {
        matches!(self.form, Form::Bearer { .. } | Form::Scheme(_))
    }

    /// Whether the header alone says that a credential is present, whatever its value.
    pub(super) const fn is_whole_header(&self) -> bool {
        matches!(self.form, Form::Whole | Form::Bearer { .. } | Form::Scheme(_))
    }

    /// Whether this line of its header holds a credential, good or bad.
    pub(super) fn is_in(&self, value: &[u8]) -> bool {
        match &self.form {
            Form::Whole | Form::Bearer { .. } | Form::Scheme(_) => true,
            Form::Cookie(name) => cookies(value).any(|(found, _)| found == name.as_bytes()),
            Form::Custom(custom) => custom.0.find(value).is_some(),
        }
    }

    /// The credential in this line of its header. Nothing is trimmed: the HTTP parser has done that.
    #[inline]
    pub(super) fn read<'a>(&self, value: &'a [u8]) -> Result<&'a [u8], Cause> {
        match &self.form {
            Form::Whole => Ok(value),
            Form::Bearer { is_exact } => {
                let Some((found, key)) = value.split_at_checked(BEARER.len()) else {
                    return Err(Cause::MalformedCredential);
                };
                // The spelling that nearly all clients use is compared first.
                if found == BEARER || (!is_exact && found.eq_ignore_ascii_case(BEARER)) {
                    Ok(if *is_exact { key } else { without_spaces(key) })
                } else {
                    Err(Cause::MalformedCredential)
                }
            }
            Form::Scheme(name) => match value.split_at_checked(name.len()) {
                Some((found, key)) if found.eq_ignore_ascii_case(name) => Ok(without_spaces(key)),
                _ => Err(Cause::MalformedCredential),
            },
            Form::Cookie(name) => {
                let mut found = cookies(value).filter(|(found, _)| *found == name.as_bytes());
                match (found.next(), found.next()) {
                    (Some((_, key)), None) => Ok(key),
                    (None, _) => Err(Cause::MissingCredential),
                    (Some(_), Some(_)) => Err(Cause::DuplicateCredential),
                }
            }
            Form::Custom(custom) => custom.0.find(value).ok_or(Cause::MissingCredential),
        }
    }

    /// The line without the credential; `None` if nothing is left of it.
    pub(super) fn strip(&self, value: &[u8]) -> Option<Vec<u8>> {
        match &self.form {
            Form::Whole | Form::Bearer { .. } | Form::Scheme(_) => None,
            Form::Cookie(name) => {
                let others = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                let others = others.filter(|pair| !pair.is_empty() && pair_of(pair).0 != name.as_bytes());
                let others: Vec<&[u8]> = others.collect();
                (!others.is_empty()).then(|| others.join(&b"; "[..]))
            }
            Form::Custom(custom) => custom.0.strip(value),
        }
    }
}

/// The cookies of one line (RFC 6265 section 4.2.1), with names and values.
fn cookies(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    value.split(|byte| *byte == b';').map(|pair| pair_of(pair.trim_ascii()))
}

fn pair_of(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    let (name, value) = pair.split_at(at);
    (name.trim_ascii(), value.strip_prefix(b"=").unwrap_or(value))
}

/// A name that may stand in a header as it is (RFC 9110 section 5.6.2).
fn token<'n>(name: &'n str, what: &str) -> Result<&'n str, ConfigError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_token) {
        true => Ok(name),
        false => Err(ConfigError::new(format!("{what}: {name:?} is not a token of letters, digits and some signs"))),
    }
}

/// One or more spaces stand between the scheme and the credential (RFC 9110 section 11.4); the first is gone.
fn without_spaces(mut key: &[u8]) -> &[u8] {
    while let Some(rest) = key.strip_prefix(b" ") {
        key = rest;
    }
    key
}
