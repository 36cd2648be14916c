use std::{borrow::Borrow, sync::Arc};

use super::params::PathParams;
use crate::{error::ConfigError, name::Name};

/// A path pattern in the syntax of axum and `matchit`: `/shops/{shop}`, `/public/{*rest}`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: Arc<str>,
    parts: Box<[OwnPart]>,
    parameters: usize,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// With more parameters, `matchit` panics.
const MOST_PARAMETERS: usize = 25;

/// Literal text and the parameter after it; the last part may have none.
#[derive(Clone, Debug)]
pub(super) struct Part<T> {
    literal: T,
    parameter: Option<T>,
    is_rest: bool,
}

pub(super) type OwnPart = Part<Box<str>>;

/// The parts of a pattern, or of a piece of one.
pub(super) fn parts(text: &str) -> Box<[OwnPart]> {
    let own = |part: Part<&str>| Part {
        literal: part.literal.into(),
        parameter: part.parameter.map(Into::into),
        is_rest: part.is_rest,
    };
    Parts(Some(text)).map(own).collect()
}

/// Iterates over the parts of a pattern. Stops early if the text is not a pattern.
struct Parts<'a>(Option<&'a str>);

impl<'a> Iterator for Parts<'a> {
    type Item = Part<&'a str>;

    fn next(&mut self) -> Option<Part<&'a str>> {
        let text = self.0.take()?;
        let Some((literal, tail)) = text.split_once('{') else {
            return Some(Part { literal: text, parameter: None, is_rest: false });
        };
        let (name, after) = tail.split_once('}')?;
        self.0 = Some(after);
        let rest = name.strip_prefix('*');
        Some(Part { literal, parameter: Some(rest.unwrap_or(name)), is_rest: rest.is_some() })
    }
}

impl Pattern {
    /// Parses a pattern; rejects text that could never match a request.
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
            if segment.contains("{{") || segment.contains("}}") {
                return Err(wrong(
                    "a brace that is meant as one ({{ or }}) cannot have a rule; give the route another path",
                ));
            }
            let parameter = "write a parameter as {name}, one in a segment and at its end";
            match Segment::parse(segment).ok_or_else(|| wrong(parameter))? {
                Segment::Literal => {}
                Segment::Rest(_) if !last => return Err(wrong("a {*rest} parameter stands last")),
                Segment::Parameter { name, .. } | Segment::Rest(name) => {
                    if names.contains(&name) {
                        return Err(wrong(&format!("the parameter {name:?} is named twice")));
                    }
                    names.push(name);
                }
            }
        }
        if names.len() > MOST_PARAMETERS {
            return Err(wrong("it has more than 25 parameters, which is more than a router takes"));
        }
        Ok(Self { text: text.into(), parts: parts(text), parameters: names.len() })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn name(&self) -> Name {
        Name::Shared(Arc::clone(&self.text))
    }

    pub(crate) fn is_wildcard(&self) -> bool {
        self.text.rsplit('/').next().is_some_and(|last| matches!(Segment::parse(last), Some(Segment::Rest(_))))
    }

    pub(crate) fn has_parameter(&self, wanted: &str) -> bool {
        self.text.split('/').any(|segment| match Segment::parse(segment) {
            Some(Segment::Parameter { name, .. } | Segment::Rest(name)) => name == wanted,
            _ => false,
        })
    }

    /// The number of its parameters.
    pub(crate) const fn parameters(&self) -> usize {
        self.parameters
    }

    /// The position of the parameter with this name.
    pub(crate) fn position(&self, wanted: &str) -> Option<usize> {
        self.parts.iter().filter_map(|part| part.parameter.as_deref()).position(|name| name == wanted)
    }

    /// Records the positions of the parameters in a path that a router has matched to this pattern. If the path does
    /// not fit the pattern, some are missing, and the caller must use [`find`](Self::find).
    pub(crate) fn measure(&self, path: &str, params: &mut PathParams) {
        if measure(&self.parts, path.as_bytes(), 0, params) != Some(path.len()) {
            *params = PathParams::default();
        }
    }

    /// The raw value of a parameter in a path that a router has matched to this pattern.
    pub(crate) fn find<'p>(&self, path: &'p str, wanted: &str) -> Option<&'p str> {
        find(self.parts.iter(), path, wanted)
    }

    /// The same for a pattern that only the router knows.
    pub(crate) fn find_in<'p>(pattern: &str, path: &'p str, wanted: &str) -> Option<&'p str> {
        find(Parts(Some(pattern)), path, wanted)
    }
}

/// Records the positions of the parameters of these parts in a path, from `start` on, and returns where the parts end.
pub(super) fn measure(parts: &[OwnPart], path: &[u8], start: usize, params: &mut PathParams) -> Option<usize> {
    walk(parts.iter(), path, start, |_, start, end, is_segment| params.push(start, end, is_segment))
}

/// Compares the whole path with the whole pattern. If they do not fit, because something rewrote the path between the
/// router and this crate, there is no value, and a missing value denies.
fn find<'p, T: AsRef<str>>(
    parts: impl Iterator<Item: Borrow<Part<T>>>,
    path: &'p str,
    wanted: &str,
) -> Option<&'p str> {
    let (mut found, mut is_clean) = (None, true);
    let end = walk(parts, path.as_bytes(), 0, |name, start, end, is_segment| {
        // axum matches `/x-/a` with `/x-{id}/a`, and its handler sees an empty id; a whole segment is never empty.
        is_clean &= start < end || !is_segment;
        if name == wanted {
            found = path.get(start..end);
        }
    })?;
    found.filter(|_| is_clean && end == path.len())
}

/// Walks along a path as far as the parts of a pattern match, and returns where they end. Calls `each` for every
/// parameter with its name, its start and end, and whether it is a whole segment.
#[inline]
fn walk<T: AsRef<str>>(
    parts: impl Iterator<Item: Borrow<Part<T>>>,
    path: &[u8],
    start: usize,
    mut each: impl FnMut(&str, usize, usize, bool),
) -> Option<usize> {
    let mut end = start;
    for part in parts {
        let part = part.borrow();
        let known = part.literal.as_ref().as_bytes();
        let (literal, rest) = path.get(end..)?.split_at_checked(known.len())?;
        if literal != known {
            return None;
        }
        let start = end + known.len();
        let Some(name) = &part.parameter else { return Some(start) };
        // No value is empty at the end of a path.
        if rest.is_empty() {
            return None;
        }
        end = if part.is_rest { path.len() } else { start + segment_length(rest) };
        // A parameter that begins within a segment may be empty.
        each(name.as_ref(), start, end, known.last() == Some(&b'/'));
    }
    None
}

pub(super) fn segment_length(path: &[u8]) -> usize {
    path.iter().position(|&byte| byte == b'/').unwrap_or(path.len())
}

/// The segments of a pattern: the text between its slashes, and after the last one.
pub(super) fn segments(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.strip_prefix('/').unwrap_or(pattern).split('/')
}

/// A segment of a pattern, as it is examined when the pattern is compiled.
pub(super) enum Segment<'a> {
    Literal,
    Parameter { before: &'a str, name: &'a str },
    Rest(&'a str),
}

impl<'a> Segment<'a> {
    pub(super) fn parse(segment: &'a str) -> Option<Self> {
        let Some((before, tail)) = segment.split_once('{') else {
            return (!segment.contains('}')).then_some(Self::Literal);
        };
        let (name, after) = tail.split_once('}')?;
        if name.is_empty() || !after.is_empty() || [before, name].iter().any(|part| part.contains(['{', '}'])) {
            return None;
        }
        match name.strip_prefix('*') {
            None => Some(Self::Parameter { before, name }),
            Some(name) => (!name.is_empty() && before.is_empty()).then_some(Self::Rest(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_never_match_are_refused_with_advice() {
        let many = |count: usize| (0..count).map(|number| format!("/{{p{number}}}")).collect::<String>();
        assert!(Pattern::parse(&many(25)).is_ok());
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
            ("/{{b}}", "give the route another path"),
            ("/a-{{b", "give the route another path"),
            ("/b}}/{a}", "give the route another path"),
            ("/a?b", "visible ASCII"),
            (&many(26), "more than 25 parameters"),
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
    fn what_is_no_pattern_has_no_parameters() {
        for odd in ["/{a", "/{a/b", "/a}{", ""] {
            assert_eq!(Pattern::find_in(odd, "/x", "a"), None, "{odd}");
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
            ("/shops/{shop}", "/shops/ch/shops/de", "shop", None),
            ("/x-{id}", "/x-", "id", None),
            (shop, "/shops//orders/7", "shop", None),
            (shop, "/shops/de/returns/7", "shop", None),
            ("/files/{*rest}", "/files/a/b", "rest", Some("a/b")),
            ("/files/{*rest}", "/files/", "rest", None),
            ("/x-{id}", "/x-7.png", "id", Some("7.png")),
            ("/{shop}/x-{id}/a", "/de/x-/a", "shop", Some("de")),
            ("/{shop}/x-{id}/a", "/de/x-/a", "id", Some("")),
            ("/{shop}/x-{id}/a", "/de/x/a", "shop", None),
        ] {
            assert_eq!(Pattern::find_in(pattern, path, name), value, "{pattern} {path}");
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.find(path, name), value, "{pattern:?} {path}");
            let mut params = PathParams::default();
            pattern.measure(path, &mut params);
            let position = pattern.position(name).filter(|_| params.are_all(pattern.parameters()));
            assert_eq!(position.and_then(|position| params.get(path, position)), value, "{pattern:?} {path}");
        }
    }
}
