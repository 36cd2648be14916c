use std::sync::Arc;

use crate::{ConfigError, name::Name};

/// A path pattern in the syntax of axum and `matchit`: `/shops/{shop}`, `/public/{*rest}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Arc<str>);

impl Pattern {
    /// Refuses what could never match a request.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |what: &str| ConfigError::new(format!("pattern {text:?}: {what}"));
        let Some(path) = text.strip_prefix('/') else {
            return Err(wrong("a pattern begins with a slash"));
        };
        let mut names: Vec<&str> = Vec::new();
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            if let Some(name) = segment.strip_prefix([':', '*']) {
                let star = if segment.starts_with('*') { "*" } else { "" };
                return Err(wrong(&format!("{segment:?} never matches; write {{{star}{name}}}")));
            }
            if matches!(segment, "." | "..") || (segment.is_empty() && !last) {
                return Err(wrong("a clean path has no empty and no dot segments, so this never matches"));
            }
            if segment.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#' | b'\\' | b';')) {
                return Err(wrong(
                    "a clean path is visible ASCII without ?, #, \\ and ;; escape other characters with %",
                ));
            }
            let parameter = "write a parameter as {name}, one in a segment and at its end";
            match Segment::of(segment).ok_or_else(|| wrong(parameter))? {
                Segment::Literal => {}
                Segment::Rest(_) if !last => return Err(wrong("a {*rest} parameter stands last")),
                Segment::Parameter(name) | Segment::Rest(name) => {
                    if names.contains(&name) {
                        return Err(wrong(&format!("the parameter {name:?} is named twice")));
                    }
                    names.push(name);
                }
            }
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn name(&self) -> Name {
        Name::Shared(Arc::clone(&self.0))
    }

    pub(crate) fn is_wildcard(&self) -> bool {
        self.0.rsplit('/').next().is_some_and(|last| matches!(Segment::of(last), Some(Segment::Rest(_))))
    }

    pub(crate) fn has_parameter(&self, wanted: &str) -> bool {
        self.0.split('/').any(|segment| match Segment::of(segment) {
            Some(Segment::Parameter(name) | Segment::Rest(name)) => name == wanted,
            _ => false,
        })
    }

    /// The raw value of a parameter in a path that a router has matched to the pattern.
    ///
    /// The whole path is held against the whole pattern: should the two not fit (because something
    /// rewrote the path between the router and us), there is no value, and no value denies.
    pub(crate) fn find<'p>(pattern: &str, path: &'p str, wanted: &str) -> Option<&'p str> {
        let until = |bytes: &[u8], end: u8| bytes.iter().position(|&byte| byte == end);
        let mut found = None;
        let mut pattern = pattern.as_bytes();
        let mut place = 0;
        loop {
            let (literal, parameter) = pattern.split_at_checked(until(pattern, b'{').unwrap_or(pattern.len()))?;
            let rest = path.as_bytes().get(place..)?.strip_prefix(literal)?;
            place += literal.len();
            let Some(parameter) = parameter.strip_prefix(b"{") else { break };
            let (name, after) = parameter.split_at_checked(until(parameter, b'}')?)?;
            pattern = after.strip_prefix(b"}")?;
            let (name, length) = match name.strip_prefix(b"*") {
                Some(name) => (name, rest.len()),
                None => (name, until(rest, b'/').unwrap_or(rest.len())),
            };
            // axum matches `/x-/a` to `/x-{id}/a`, and its handler sees an empty id; but no segment as a whole
            // is empty.
            if length == 0 && path.get(..place)?.ends_with('/') {
                return None;
            }
            if name == wanted.as_bytes() {
                found = path.get(place..place + length);
            }
            place += length;
        }
        if place == path.len() { found } else { None }
    }
}

/// A segment of a pattern, for what is looked at once, when the pattern is made.
enum Segment<'a> {
    Literal,
    Parameter(&'a str),
    Rest(&'a str),
}

impl<'a> Segment<'a> {
    fn of(segment: &'a str) -> Option<Self> {
        let Some((before, tail)) = segment.split_once('{') else {
            return (!segment.contains('}')).then_some(Self::Literal);
        };
        let (name, after) = tail.split_once('}')?;
        if name.is_empty() || !after.is_empty() || [before, name].iter().any(|part| part.contains(['{', '}'])) {
            return None;
        }
        match name.strip_prefix('*') {
            None => Some(Self::Parameter(name)),
            Some(name) => (!name.is_empty() && before.is_empty()).then_some(Self::Rest(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_never_match_are_refused_with_advice() {
        for (text, advice) in [
            ("products", "begins with a slash"),
            ("", "begins with a slash"),
            ("/shops/:shop", "write {shop}"),
            ("/files/*path", "write {*path}"),
            ("/a//b", "no empty"),
            ("/a/../b", "dot segments"),
            ("/{*rest}/b", "stands last"),
            ("/{a}/{a}", "named twice"),
            ("/{a", "write a parameter"),
            ("/{}", "write a parameter"),
            ("/a}b", "write a parameter"),
            ("/{a}{b}", "write a parameter"),
            ("/{a}.json", "at its end"),
            ("/a?b", "visible ASCII"),
            ("/caf\u{e9}", "visible ASCII"),
        ] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
        for text in ["/", "/a/", "/a/{b}", "/a/x-{b}", "/{*rest}", "/a.b/~c"] {
            assert_eq!(Pattern::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn parameters_are_found_only_if_the_whole_path_fits() {
        let shop = "/shops/{shop}/orders/{id}";
        for (pattern, path, name, value) in [
            (shop, "/shops/de/orders/7", "shop", Some("de")),
            (shop, "/shops/de/orders/7", "id", Some("7")),
            (shop, "/shops/de/orders/7", "country", None),
            (shop, "/shops/de/orders", "shop", None),
            (shop, "/shops/de/orders/7/8", "shop", None),
            (shop, "/shops//orders/7", "shop", None),
            (shop, "/shops/de/returns/7", "shop", None),
            ("/files/{*rest}", "/files/a/b", "rest", Some("a/b")),
            ("/files/{*rest}", "/files/", "rest", None),
            ("/x-{id}", "/x-7.png", "id", Some("7.png")),
            ("/{shop}/x-{id}/a", "/de/x-/a", "shop", Some("de")),
            ("/{shop}/x-{id}/a", "/de/x-/a", "id", Some("")),
            ("/{shop}/x-{id}/a", "/de/x/a", "shop", None),
        ] {
            assert_eq!(Pattern::find(pattern, path, name), value, "{pattern} {path}");
        }
    }
}
