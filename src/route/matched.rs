//! The route that a router in front of us has matched. Only axum leaves a trace that we can read; without
//! the `axum` feature there is none.

use http::{Extensions, Uri};

/// The code that has turned the path that arrived into the one that a handler sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rewriting {
    /// Nobody, or nested routers, which have stripped their prefixes.
    Nesting,
    /// Nested routers, and one of them has a prefix that axum does not strip as it matches it.
    Uncertain,
    /// Somebody else: middleware of the user's own.
    Foreign,
}

/// How the path that is left has come of the one that arrived.
pub(crate) fn rewriting(extensions: &Extensions, arrived: &str, left: &str) -> Rewriting {
    let prefix = match nested(extensions) {
        None if arrived == left => return Rewriting::Nesting,
        None => return Rewriting::Foreign,
        Some(prefix) => prefix,
    };
    let is_left = |rest: &str| rest == left || (rest.is_empty() && left == "/");
    // axum matches a prefix `/v{version}`, and then strips nothing.
    if prefix.split('/').any(|segment| segment.contains('{') && !is_parameter(segment)) {
        return if arrived.ends_with(left) || left == "/" { Rewriting::Uncertain } else { Rewriting::Foreign };
    }
    if stripped(arrived, prefix).is_some_and(is_left) { Rewriting::Nesting } else { Rewriting::Foreign }
}

/// The rest that axum leaves of a path under a prefix, segment by segment.
fn stripped<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let mut rest = path;
    for segment in prefix.strip_prefix('/')?.split('/') {
        let after = rest.strip_prefix('/')?;
        let (value, further) = after.split_at(after.find('/').unwrap_or(after.len()));
        if is_parameter(segment) || segment == value {
            rest = further;
        } else if segment.is_empty() {
            return Some(rest);
        } else {
            return None;
        }
    }
    Some(rest)
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}') && !segment.starts_with("{{") && !segment.ends_with("}}")
}

/// The pattern of the matched route, prefixes of nested routers included.
#[cfg(feature = "axum")]
pub(crate) fn pattern(extensions: &Extensions) -> Option<&str> {
    extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

/// The URI before nested routers stripped their prefixes. Its presence says that we stand inside a
/// router: then a request without a matched route matched none.
#[cfg(feature = "axum")]
pub(crate) fn uri(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<axum::extract::OriginalUri>().map(|uri| &uri.0)
}

/// The prefixes of all nested routers around us, as one pattern.
#[cfg(feature = "axum")]
fn nested(extensions: &Extensions) -> Option<&str> {
    extensions.get::<axum::extract::NestedPath>().map(axum::extract::NestedPath::as_str)
}

#[cfg(not(feature = "axum"))]
pub(crate) fn pattern(_: &Extensions) -> Option<&str> {
    None
}

#[cfg(not(feature = "axum"))]
pub(crate) fn uri(_: &Extensions) -> Option<&Uri> {
    None
}

#[cfg(not(feature = "axum"))]
fn nested(_: &Extensions) -> Option<&str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_stripped_as_axum_does_it() {
        for (path, prefix, left) in [
            ("/api/users", "/api", Some("/users")),
            ("/api/", "/api", Some("/")),
            ("/api", "/api", Some("")),
            ("/apis/users", "/api", None),
            ("/", "/api", None),
            ("/api/v0/users", "/api/{version}", Some("/users")),
            ("/api/v0", "/api/{version}/users", None),
            ("/a/b", "/a/", Some("/b")),
            ("/a/", "/a/", Some("")),
            ("/a", "/a/", None),
            ("*", "/a", None),
        ] {
            assert_eq!(stripped(path, prefix), left, "{path} {prefix}");
        }
        for (segment, is) in [("{a}", true), ("a", false), ("x-{a}", false), ("{{a}}", false), ("", false)] {
            assert_eq!(is_parameter(segment), is, "{segment}");
        }
    }
}
