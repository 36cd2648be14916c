use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use super::deprecation::Notice;
use crate::{bytes::same, denial::Cause};

/// One place in a request where an API key may stand: a header, with or without a scheme in front.
///
/// A key in the query string is not a source and cannot be made one: URLs end up in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    header: HeaderName,
    scheme: Option<Scheme>,
    notice: Option<Arc<Notice>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// As RFC 9110 section 11.1 has it: `Bearer`, `bearer` and `BEARER` are one.
    AnyCase,
    Exact,
}

/// With the space that ends it.
const BEARER: &[u8] = b"Bearer ";

impl Source {
    /// `Authorization: Bearer <key>` (RFC 6750 section 2.1), the scheme in any case.
    #[must_use]
    pub const fn bearer() -> Self {
        Self { header: AUTHORIZATION, scheme: Some(Scheme::AnyCase), notice: None }
    }

    /// `Authorization: Bearer <key>` with the scheme spelt exactly so.
    #[must_use]
    pub const fn bearer_exact() -> Self {
        Self { header: AUTHORIZATION, scheme: Some(Scheme::Exact), notice: None }
    }

    /// A header whose whole value is the key, like `X-API-Key`.
    #[must_use]
    pub const fn header(name: HeaderName) -> Self {
        Self { header: name, scheme: None, notice: None }
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
    pub const fn is_bearer(&self) -> bool {
        self.scheme.is_some()
    }

    /// Whether a shared cache does not know that this header holds a credential.
    fn is_unknown_to_caches(&self) -> bool {
        self.header != AUTHORIZATION
    }

    /// The credential in this header's value. Nothing is trimmed: the HTTP parser has done that.
    fn read<'a>(&self, value: &'a [u8]) -> Result<&'a [u8], Cause> {
        let Some(scheme) = self.scheme else { return Ok(value) };
        let Some((name, key)) = value.split_at_checked(BEARER.len()) else { return Err(Cause::MalformedCredential) };
        // First as nearly everybody writes it.
        if same(name, BEARER) || (scheme == Scheme::AnyCase && name.eq_ignore_ascii_case(BEARER)) {
            Ok(if scheme == Scheme::AnyCase { without_spaces(key) } else { key })
        } else {
            Err(Cause::MalformedCredential)
        }
    }
}

/// One or more spaces stand between the scheme and the credential (RFC 9110 section 11.4); the first is gone.
fn without_spaces(mut key: &[u8]) -> &[u8] {
    while let Some(rest) = key.strip_prefix(b" ") {
        key = rest;
    }
    key
}

/// The credential sources of a service, in order of precedence.
///
/// The first source whose header is *present* decides. If what it holds is bad, the request is
/// refused: there is no fall-back to the next, or a proxy that adds a header could be used to smuggle
/// a second key past the first. An empty `Authorization`, or one of another scheme, is present.
/// Two lines of the same header are refused.
///
/// The default is `Authorization: Bearer`, then `X-API-Key`, then `X-Access-Token`.
///
/// # Caches
/// A cache that many share keeps no answer to a request with `Authorization` (RFC 9111 section 3.5). Of other
/// headers it does not know that they hold a key, and would hand the answer on to whoever asks without one.
/// So an answer to a key in another header carries `Cache-Control: private`, unless the handler has set a
/// `Cache-Control` of its own, and `Vary` with the names of all such headers, beside those that the handler
/// names. A handler that says `public` means it, whatever the header: then a revoked key is answered from the
/// cache for as long as the handler said.
///
/// # Example
/// ```
/// use http::HeaderName;
/// use tower_authz::{Source, Sources};
///
/// let sources = Sources::from([
///     Source::bearer(),
///     Source::header(HeaderName::from_static("x-acme-key")),
/// ]);
/// # drop(sources);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    list: Vec<Source>,
    /// One bit for each length that the name of a source has: most headers are of another.
    lengths: u64,
}

/// The bit of a length; long ones share theirs.
const fn bit(length: usize) -> u64 {
    1 << (length & 63)
}

impl Sources {
    /// The credential of the first source that is present. Every header that may hold a key is marked on the way, so
    /// that no `Debug` of the headers prints one.
    #[inline(always)] // what it returns is then never written down
    pub(crate) fn take<'a>(&'a self, headers: &'a mut HeaderMap) -> Result<Credential<'a>, Cause> {
        let mut found: Option<(usize, &HeaderValue)> = None;
        let mut twice = false;
        for (name, line) in headers {
            let Some(position) = self.position(name) else { continue };
            line.set_sensitive(true);
            match found {
                Some((first, _)) if first < position => {}
                Some((first, _)) if first == position => twice = true,
                _ => (found, twice) = (Some((position, &*line)), false),
            }
        }
        let Some((position, line)) = found else { return Err(Cause::MissingCredential) };
        if twice {
            return Err(Cause::DuplicateCredential);
        }
        let Some(source) = self.list.get(position) else { return Err(Cause::MissingCredential) };
        Ok(Credential { key: source.read(line.as_bytes())?, source })
    }

    /// Which source reads this header.
    fn position(&self, name: &HeaderName) -> Option<usize> {
        if self.lengths & bit(name.as_str().len()) == 0 {
            return None;
        }
        self.list.iter().position(|source| source.header == *name)
    }

    /// What the response to a bad credential carries.
    pub(crate) fn notice(&self, headers: &HeaderMap) -> Option<&Arc<Notice>> {
        self.list.iter().find(|source| headers.contains_key(&source.header))?.notice()
    }

    /// Takes every header out that may hold a key.
    pub(crate) fn remove(&self, headers: &mut HeaderMap) {
        for source in &self.list {
            headers.remove(&source.header);
        }
    }

    /// What a 401 says in `WWW-Authenticate`. A service without a bearer source still has to name a
    /// challenge (RFC 9110 section 11.6.1); it names its header.
    pub(crate) fn challenge(&self) -> HeaderValue {
        let bearer = HeaderValue::from_static(r#"Bearer realm="api""#);
        match self.list.first() {
            Some(first) if !self.list.iter().any(Source::is_bearer) => {
                HeaderValue::try_from(format!(r#"ApiKey realm="api", header="{}""#, first.header)).unwrap_or(bearer)
            }
            _ => bearer,
        }
    }
}

impl<const N: usize> From<[Source; N]> for Sources {
    fn from(sources: [Source; N]) -> Self {
        Self::from(Vec::from(sources))
    }
}

impl From<Vec<Source>> for Sources {
    fn from(mut sources: Vec<Source>) -> Self {
        let lengths = sources.iter().fold(0, |lengths, source| lengths | bit(source.header.as_str().len()));
        let vary = names_unknown_to_caches(&sources);
        for source in sources.iter_mut().filter(|source| source.is_unknown_to_caches()) {
            Arc::make_mut(source.notice.get_or_insert_default()).vary = Some(vary.clone());
        }
        Self { list: sources, lengths }
    }
}

/// All of them, for a request that has none of these headers must not get the answer to one that has.
fn names_unknown_to_caches(sources: &[Source]) -> HeaderValue {
    let mut names: Vec<&str> = Vec::new();
    for source in sources.iter().filter(|source| source.is_unknown_to_caches()) {
        let name = source.header.as_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static("*"))
}

impl Default for Sources {
    fn default() -> Self {
        Self::from([
            Source::bearer(),
            Source::header(HeaderName::from_static("x-api-key")),
            Source::header(HeaderName::from_static("x-access-token")),
        ])
    }
}

/// The bytes of a presented key, still in the request. No `Debug`: nothing shall print it.
pub(crate) struct Credential<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) source: &'a Source,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(lines: &[(&'static str, &str)]) -> Result<String, Cause> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let sources = Sources::default();
        sources.take(&mut headers).map(|found| String::from_utf8(found.key.to_vec()).unwrap())
    }

    #[test]
    fn the_first_present_source_decides() {
        assert_eq!(extract(&[("authorization", "Bearer a")]).unwrap(), "a");
        assert_eq!(extract(&[("authorization", "bEARER a"), ("x-api-key", "b")]).unwrap(), "a");
        assert_eq!(extract(&[("x-access-token", "c"), ("x-api-key", "b")]).unwrap(), "b");
        assert_eq!(extract(&[("x-access-token", "c")]).unwrap(), "c");
        assert_eq!(extract(&[]), Err(Cause::MissingCredential));
    }

    #[test]
    fn sources_with_names_of_one_length_are_all_read() {
        let header = |name: &'static str| Source::header(HeaderName::from_static(name));
        let sources = Sources::from([header("x-api-key"), header("x-old-key"), header("x-key")]);
        for name in ["x-api-key", "x-old-key", "x-key"] {
            let mut headers = HeaderMap::new();
            headers.insert(name, "a".parse().unwrap());
            assert!(sources.take(&mut headers).is_ok(), "{name}");
            assert!(headers[name].is_sensitive(), "{name}");
        }
    }

    #[test]
    fn a_bad_winner_never_falls_back() {
        for bad in ["", "Bearer", "Basic dTpw", "Bearera", "Bearer:a", "Bearer\ta", " Bearer a", "Token a"] {
            let found = extract(&[("authorization", bad), ("x-api-key", "b")]);
            assert_eq!(found, Err(Cause::MalformedCredential), "{bad:?}");
        }
        let twice = [("authorization", "Bearer a"), ("x-api-key", "b"), ("authorization", "Bearer a")];
        assert_eq!(extract(&twice), Err(Cause::DuplicateCredential));
        let later_twice = [("x-api-key", "b"), ("x-api-key", "c"), ("authorization", "Bearer a")];
        assert_eq!(extract(&later_twice).unwrap(), "a", "only the source that decides is looked at");
    }

    #[test]
    fn exact_mode_wants_the_very_spelling() {
        let exact = Source::bearer_exact();
        assert_eq!(exact.read(b"Bearer a"), Ok(&b"a"[..]));
        assert_eq!(exact.read(b"bearer a"), Err(Cause::MalformedCredential));
        for spaces in 1..5 {
            let value = format!("Bearer{}a", " ".repeat(spaces));
            assert_eq!(Source::bearer().read(value.as_bytes()), Ok(&b"a"[..]), "{value:?}");
            // What is left of it is no key of any format.
            assert_eq!(exact.read(value.as_bytes()) == Ok(b"a"), spaces == 1, "{value:?}");
        }
        for odd in ["Bearer\ta", "Bearer \ta", "Bearer", "Bearera"] {
            assert_ne!(Source::bearer().read(odd.as_bytes()), Ok(&b"a"[..]), "{odd:?}");
        }
    }

    #[test]
    fn each_source_but_authorization_names_all_headers_that_caches_do_not_know() {
        let own = || Source::header(HeaderName::from_static("x-own"));
        let (whole, other) = (Source::header(AUTHORIZATION), HeaderName::from_static("x-other"));
        let sources =
            Sources::from([whole, Source::bearer(), own().deprecated(UNIX_EPOCH), Source::header(other), own()]);
        let vary = |source: &Source| source.notice().and_then(|notice| notice.vary.clone());
        let named: Vec<_> = sources.list.iter().map(vary).collect();
        let both = Some(HeaderValue::from_static("x-own, x-other"));
        assert_eq!(named, [None, None, both.clone(), both.clone(), both]);
        assert!(sources.list.first().is_some_and(|source| source.notice().is_none()), "no work for those in the know");
        let deprecated = sources.list.get(2).and_then(Source::notice);
        assert!(deprecated.is_some_and(|notice| notice.deprecation.is_some()));
    }

    #[test]
    fn all_key_headers_are_hidden() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", "Bearer topsecret".parse().unwrap());
        headers.append("x-api-key", "topsecret".parse().unwrap());
        headers.append("x-api-key", "topsecret".parse().unwrap());
        assert!(Sources::default().take(&mut headers).is_ok());
        assert!(!format!("{headers:?}").contains("topsecret"), "{headers:?}");
        Sources::default().remove(&mut headers);
        assert!(headers.is_empty());
    }
}
