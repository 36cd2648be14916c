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
            match Segment::of(segment).ok_or_else(|| wrong("write a parameter as {name}, one in a segment"))? {
                Segment::Literal(_) => {}
                Segment::Rest(_) if !last => return Err(wrong("a {*rest} parameter stands last")),
                Segment::Parameter { name, .. } | Segment::Rest(name) => {
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

    pub(crate) fn has_parameter(&self, wanted: &str) -> bool {
        self.0.split('/').any(|segment| match Segment::of(segment) {
            Some(Segment::Parameter { name, .. } | Segment::Rest(name)) => name == wanted,
            _ => false,
        })
    }

    /// The raw value of a parameter in a path that a router has matched to the pattern.
    ///
    /// The whole path is held against the whole pattern: should the two not fit (because something
    /// rewrote the path between the router and us), there is no value, and no value denies.
    pub(crate) fn find<'p>(pattern: &str, path: &'p str, wanted: &str) -> Option<&'p str> {
        let mut found = None;
        let mut pattern = Some(pattern.strip_prefix('/')?);
        let mut path = Some(path.strip_prefix('/')?);
        while let Some(here) = pattern {
            let (segment, pattern_rest) = split(here);
            let (value, path_rest) = split(path?);
            let (name, value, path_rest) = match Segment::of(segment)? {
                Segment::Literal(literal) if literal == value => ("", value, path_rest),
                Segment::Literal(_) => return None,
                Segment::Rest(name) => (name, path?, None),
                Segment::Parameter { before, name, after } => {
                    let value = value.strip_prefix(before)?.strip_suffix(after)?;
                    (name, value, path_rest)
                }
            };
            if !name.is_empty() {
                if value.is_empty() {
                    return None;
                }
                if name == wanted {
                    found = Some(value);
                }
            }
            (pattern, path) = (pattern_rest, path_rest);
        }
        if path.is_some() { None } else { found }
    }
}

fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

enum Segment<'a> {
    Literal(&'a str),
    Parameter { before: &'a str, name: &'a str, after: &'a str },
    Rest(&'a str),
}

impl<'a> Segment<'a> {
    fn of(segment: &'a str) -> Option<Self> {
        let Some((before, tail)) = segment.split_once('{') else {
            return (!segment.contains('}')).then_some(Self::Literal(segment));
        };
        let (name, after) = tail.split_once('}')?;
        if name.is_empty() || [before, name, after].iter().any(|part| part.contains(['{', '}'])) {
            return None;
        }
        match name.strip_prefix('*') {
            None => Some(Self::Parameter { before, name, after }),
            Some(name) => (!name.is_empty() && before.is_empty() && after.is_empty()).then_some(Self::Rest(name)),
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
            ("/a?b", "visible ASCII"),
            ("/caf\u{e9}", "visible ASCII"),
        ] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
        for text in ["/", "/a/", "/a/{b}", "/a/x-{b}.json", "/{*rest}", "/a.b/~c"] {
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
            ("/x-{id}.png", "/x-7.png", "id", Some("7")),
            ("/x-{id}.png", "/x-.png", "id", None),
        ] {
            assert_eq!(Pattern::find(pattern, path, name), value, "{pattern} {path}");
        }
    }
}
