//! A request, taken apart.

use crate::requests::Ask;

/// The parts of a request that decisions are about.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are those of RFC 3986")]
pub struct Request<'a> {
    pub ask: &'a Ask,
    pub authority: Option<String>,
    /// The path as it was sent.
    pub path: String,
    pub query: Option<String>,
}

impl<'a> Request<'a> {
    /// Takes a request apart.
    #[must_use]
    pub fn new(ask: &'a Ask) -> Self {
        let target = ask.target.split('#').next().unwrap_or_default();
        let (authority, rest) = match target.strip_prefix("http://") {
            None => (None, target),
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                (Some(authority.to_owned()), rest)
            }
        };
        let (path, query) = match rest.split_once('?') {
            None => (rest, None),
            Some((path, query)) => (path, Some(query.to_owned())),
        };
        // RFC 9110 section 4.2.3: an empty path is the root.
        let path = if path.is_empty() { "/" } else { path };
        Self { ask, authority, path: path.to_owned(), query }
    }

    /// The lines of a header, in order.
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<&'a str> {
        self.ask.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The values of a parameter of the query.
    #[must_use]
    pub fn query_values(&self, name: &str) -> Vec<&str> {
        let pairs = self.query.as_deref().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).collect()
    }
}

/// Decodes percent escapes once. `None` if an escape is broken.
#[must_use]
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            decoded.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(decoded)
}

/// The same as text, if it is text.
pub(crate) fn decoded(text: &str) -> Option<String> {
    String::from_utf8(decode(text)?).ok()
}
