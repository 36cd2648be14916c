//! The sources of a service, in order of precedence.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    credential::{Source, deprecation::Notice},
    denial::Cause,
};

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
    /// The names of all headers that may hold a key.
    names: HeaderValue,
}

/// The bit of a length; long ones share theirs.
const fn bit(length: usize) -> u64 {
    1 << (length & 63)
}

impl Sources {
    /// The credential of the first source that is present. Every header that may hold a key is marked on the way, so
    /// that no `Debug` of the headers prints one.
    #[inline(always)] // what it returns is then never written down
    pub(crate) fn extract<'a>(&'a self, headers: &'a mut HeaderMap) -> Result<Credential<'a>, Cause> {
        let mut found: Option<(usize, &Source, &HeaderValue)> = None;
        let mut twice = false;
        for (name, line) in headers {
            let Some((mut position, mut source)) = self.source_of(name) else { continue };
            line.set_sensitive(true);
            if !source.is_whole_header() {
                let Some(holder) = self.holder(position, name, line.as_bytes()) else { continue };
                (position, source) = holder;
            }
            match found {
                Some((first, ..)) if first < position => {}
                Some((first, ..)) if first == position => twice = true,
                _ => (found, twice) = (Some((position, source, &*line)), false),
            }
        }
        let Some((position, source, line)) = found else { return Err(Cause::MissingCredential) };
        if twice {
            return Err(Cause::DuplicateCredential);
        }
        match source.read(line.as_bytes()) {
            Ok(key) => Ok(Credential { key, source, position }),
            Err(cause) if source.is_scheme() => self.read_by_another_scheme(position, line.as_bytes(), cause),
            Err(cause) => Err(cause),
        }
    }

    /// Another scheme of the same header may be a source as well. Nothing else is a way past a bad credential (S1).
    #[cold]
    fn read_by_another_scheme<'a>(
        &'a self,
        position: usize,
        line: &'a [u8],
        cause: Cause,
    ) -> Result<Credential<'a>, Cause> {
        let Some(first) = self.list.get(position) else { return Err(cause) };
        let others = self.list.iter().enumerate().skip(position + 1);
        let schemes = others.filter(|(_, other)| other.header == first.header && other.is_scheme());
        let mut read = schemes
            .filter_map(|(position, source)| Some(Credential { key: source.read(line).ok()?, source, position }));
        read.next().ok_or(cause)
    }

    /// The header of the source at this position.
    pub(crate) fn header(&self, position: usize) -> Option<&str> {
        self.list.get(position).map(|source| source.header.as_str())
    }

    /// The source that this line holds a credential of, among those that read this header, from `position` on.
    #[cold]
    fn holder(&self, position: usize, name: &HeaderName, line: &[u8]) -> Option<(usize, &Source)> {
        let mut all = self.list.iter().enumerate().skip(position);
        all.find(|(_, source)| source.header == *name && source.is_in(line))
    }

    /// The first source that reads this header, with its position.
    #[inline]
    fn source_of(&self, name: &HeaderName) -> Option<(usize, &Source)> {
        if self.lengths & bit(name.as_str().len()) == 0 {
            return None;
        }
        self.list.iter().enumerate().find(|(_, source)| source.header == *name)
    }

    /// Whether a source reads this header.
    pub(crate) fn reads(&self, name: &HeaderName) -> bool {
        self.source_of(name).is_some()
    }

    /// The value of `Vary` where the answer is another with a key than without.
    pub(crate) const fn names(&self) -> &HeaderValue {
        &self.names
    }

    /// The headers for the response to a bad credential.
    pub(crate) fn notice(&self, headers: &HeaderMap) -> Option<&Arc<Notice>> {
        let is_present = |source: &&Source| match source.is_whole_header() {
            true => headers.contains_key(&source.header),
            false => headers.get_all(&source.header).iter().any(|line| source.is_in(line.as_bytes())),
        };
        self.list.iter().find(is_present)?.notice()
    }

    /// Takes every credential out: the whole header, or what else stands in it stays.
    pub(crate) fn remove(&self, headers: &mut HeaderMap) {
        for source in &self.list {
            if source.is_whole_header() {
                headers.remove(&source.header);
                continue;
            }
            let lines: Vec<HeaderValue> = headers.get_all(&source.header).iter().cloned().collect();
            if !lines.iter().any(|line| source.is_in(line.as_bytes())) {
                continue;
            }
            headers.remove(&source.header);
            for line in lines {
                let left = match source.is_in(line.as_bytes()) {
                    true => source.strip(line.as_bytes()).and_then(|left| HeaderValue::from_bytes(&left).ok()),
                    false => Some(line.clone()),
                };
                if let Some(mut left) = left {
                    left.set_sensitive(line.is_sensitive());
                    headers.append(source.header.clone(), left);
                }
            }
        }
    }

    /// The value of `WWW-Authenticate` in a 401. A service without a bearer source still has to name a
    /// challenge (RFC 9110 section 11.6.1); it names its header.
    pub(crate) fn challenge(&self) -> HeaderValue {
        let bearer = HeaderValue::from_static(r#"Bearer realm="api""#);
        match self.list.first() {
            Some(first) if !self.list.iter().any(Source::is_bearer) => {
                HeaderValue::try_from(first.challenge()).unwrap_or(bearer)
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
        let vary = names_of(sources.iter().filter(|source| source.is_unknown_to_caches()));
        for source in sources.iter_mut().filter(|source| source.is_unknown_to_caches()) {
            Arc::make_mut(source.notice.get_or_insert_default()).vary = Some(vary.clone());
        }
        Self { names: names_of(&sources), list: sources, lengths }
    }
}

/// The value of `Vary` with the headers of all these sources, for a request that has none of them must not get the answer to
/// one that has.
fn names_of<'a>(sources: impl IntoIterator<Item = &'a Source>) -> HeaderValue {
    let mut names: Vec<&str> = Vec::new();
    for source in sources {
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
    /// Of the source among the others.
    pub(crate) position: usize,
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::header::AUTHORIZATION;

    use super::*;

    fn extract(lines: &[(&'static str, &str)]) -> Result<String, Cause> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let sources = Sources::default();
        sources.extract(&mut headers).map(|found| String::from_utf8(found.key.to_vec()).unwrap())
    }

    #[test]
    fn the_first_present_source_decides() {
        assert_eq!(extract(&[("authorization", "Bearer a")]).unwrap(), "a");
        assert_eq!(extract(&[("authorization", "bEARER a"), ("x-api-key", "b")]).unwrap(), "a");
        assert_eq!(extract(&[("x-access-token", "c"), ("x-api-key", "b")]).unwrap(), "b");
        assert_eq!(extract(&[("x-access-token", "c")]).unwrap(), "c");
        assert_eq!(extract(&[]), Err(Cause::MissingCredential));
    }

    fn sources() -> Sources {
        Sources::from([Source::bearer(), Source::scheme("Token").unwrap(), Source::cookie("key").unwrap()])
    }

    fn taken(lines: &[(&'static str, &str)]) -> Result<String, Cause> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        sources().extract(&mut headers).map(|found| String::from_utf8(found.key.to_vec()).unwrap())
    }

    #[test]
    fn schemes_and_cookies_are_sources() {
        for (lines, key) in [
            (&[("authorization", "Bearer a")][..], Ok("a")),
            (&[("authorization", "token  a")], Ok("a")),
            (&[("authorization", "Basic a"), ("cookie", "key=b")], Err(Cause::MalformedCredential)),
            (&[("authorization", "Token a"), ("cookie", "key=b")], Ok("a")),
            (&[("cookie", "key=b")], Ok("b")),
            (&[("cookie", "lang=de; key=b;theme=dark")], Ok("b")),
            (&[("cookie", "lang=de"), ("cookie", "key=b")], Ok("b")),
            (&[("cookie", "key=a=b==")], Ok("a=b==")),
            (&[("cookie", "key=")], Ok("")),
            (&[("cookie", "lang=de; monkey=b; keys=c; KEY=d; x=key=e")], Err(Cause::MissingCredential)),
            (&[("cookie", "key=a; key=a")], Err(Cause::DuplicateCredential)),
            (&[("cookie", "key=a"), ("cookie", "key=a")], Err(Cause::DuplicateCredential)),
            (&[("x-api-key", "a")], Err(Cause::MissingCredential)),
        ] {
            assert_eq!(taken(lines), key.map(str::to_owned), "{lines:?}");
        }
        for odd in ["", "a b", "a=b", "a;b", "\u{e9}", "a\nb"] {
            assert!(Source::cookie(odd).is_err() && Source::scheme(odd).is_err(), "{odd:?}");
        }
    }

    /// S1 within one header: only a scheme that another source names is not the first one's to judge.
    #[test]
    fn a_bad_cookie_is_not_made_good_by_another() {
        let sources = Sources::from([Source::cookie("a").unwrap(), Source::cookie("b").unwrap()]);
        let whole = Sources::from([Source::bearer(), Source::header(AUTHORIZATION)]);
        let found = |sources: &Sources, name: &'static str, line: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, line.parse().unwrap());
            sources.extract(&mut headers).map(|found| String::from_utf8(found.key.to_vec()).unwrap())
        };
        assert_eq!(found(&sources, "cookie", "b=2; a=1"), Ok("1".to_owned()));
        assert_eq!(found(&sources, "cookie", "a=1; a=1; b=2"), Err(Cause::DuplicateCredential));
        assert_eq!(found(&whole, "authorization", "Basic x"), Err(Cause::MalformedCredential));
    }

    #[test]
    fn a_cookie_that_is_removed_leaves_its_neighbours() {
        for (before, after) in [
            (&["key=a"][..], &[][..]),
            (&["lang=de; key=a; theme=dark"], &["lang=de; theme=dark"]),
            (&["key=a;lang=de"], &["lang=de"]),
            (&["lang=de", "key=a", "theme=dark"], &["lang=de", "theme=dark"]),
            (&["monkey=a; keys=b"], &["monkey=a; keys=b"]),
            (&["key=a; key=b; key"], &[]),
        ] {
            let mut headers = HeaderMap::new();
            for line in before {
                headers.append("cookie", line.parse().unwrap());
            }
            let _ = sources().extract(&mut headers);
            sources().remove(&mut headers);
            let left: Vec<&str> = headers.get_all("cookie").iter().map(|line| line.to_str().unwrap()).collect();
            assert_eq!(left, after, "{before:?}");
            assert!(headers.get_all("cookie").iter().all(HeaderValue::is_sensitive));
        }
    }

    #[test]
    fn the_first_source_names_the_challenge() {
        let named = |source: Source| Sources::from([source]).challenge().to_str().unwrap().to_owned();
        assert_eq!(named(Source::scheme("Token").unwrap()), r#"Token realm="api""#);
        assert_eq!(named(Source::cookie("key").unwrap()), r#"ApiKey realm="api", cookie="key""#);
    }

    #[test]
    fn sources_with_names_of_one_length_are_all_read() {
        let header = |name: &'static str| Source::header(HeaderName::from_static(name));
        let sources = Sources::from([header("x-api-key"), header("x-old-key"), header("x-key")]);
        for name in ["x-api-key", "x-old-key", "x-key"] {
            let mut headers = HeaderMap::new();
            headers.insert(name, "a".parse().unwrap());
            assert!(sources.extract(&mut headers).is_ok(), "{name}");
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
            // The text that is left of it is no key of any format.
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
        assert!(Sources::default().extract(&mut headers).is_ok());
        assert!(!format!("{headers:?}").contains("topsecret"), "{headers:?}");
        Sources::default().remove(&mut headers);
        assert!(headers.is_empty());
    }
}
