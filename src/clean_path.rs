use crate::{
    bytes::is_plain_path,
    check::Check,
    denial::{Cause, Denial},
    head::Head,
};

/// Requires a path that can be interpreted in only one way.
///
/// The following are refused with 400, before any routing: empty segments, dot segments, and segments that end in
/// `..`, plain or encoded; an encoded slash, backslash, dot or percent sign; a raw backslash; semicolons; control
/// characters, raw or encoded; escapes that are broken or do not give UTF-8; anything that is not visible ASCII; a
/// path that does not begin with a slash. If a router, a proxy and a handler interpret such a path differently,
/// requests get past checks.
///
/// # Example
/// ```
/// use tower_authz::{RequireLayer, CleanPath};
///
/// assert!(CleanPath::new().validate("/shops/d%65").is_ok());
/// assert!(CleanPath::new().validate("/public/%2e%2e/admin").is_err());
/// // An API whose ids hold slashes says so:
/// let layer = RequireLayer::new(CleanPath::new().allow_encoded_slash());
/// # drop(layer);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanPath {
    encoded_slash: bool,
    encoded_dot: bool,
    encoded_percent: bool,
    semicolon: bool,
}

impl CleanPath {
    /// Creates the check without any relaxation.
    #[must_use]
    pub const fn new() -> Self {
        Self { encoded_slash: false, encoded_dot: false, encoded_percent: false, semicolon: false }
    }

    /// Allows `%2F`, for ids that contain slashes. Make sure that no later component decodes it before it routes.
    #[must_use]
    pub const fn allow_encoded_slash(mut self) -> Self {
        self.encoded_slash = true;
        self
    }

    /// Allows `%2E`, but never a segment that is `.` or `..` when it is decoded.
    #[must_use]
    pub const fn allow_encoded_dot(mut self) -> Self {
        self.encoded_dot = true;
        self
    }

    /// Allows `%25`, for ids that contain percent signs. Make sure that no later component decodes twice.
    #[must_use]
    pub const fn allow_encoded_percent(mut self) -> Self {
        self.encoded_percent = true;
        self
    }

    /// Allows `;`, plain or encoded. Make sure that no later component takes it for a matrix parameter.
    #[must_use]
    pub const fn allow_semicolon(mut self) -> Self {
        self.semicolon = true;
        self
    }

    /// Validates a raw path, without its query.
    ///
    /// # Errors
    /// Returns [`Cause::AmbiguousPath`], which says what is wrong with the path.
    pub fn validate(&self, path: &str) -> Result<(), Cause> {
        if is_plain_path(path.as_bytes()) { Ok(()) } else { self.validate_segments(path) }
    }

    #[cold]
    fn validate_segments(&self, path: &str) -> Result<(), Cause> {
        let wrong = |what| Err(Cause::AmbiguousPath(what));
        // `OPTIONS *` is refused as well: it is about the server and not about a path, so no rule can name it.
        let Some(rest) = path.strip_prefix('/') else { return wrong("it does not begin with a slash") };
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment.is_empty() && segments.peek().is_some() {
                return wrong("it has an empty segment");
            }
            self.validate_segment(segment.as_bytes())?;
        }
        Ok(())
    }

    fn validate_segment(&self, segment: &[u8]) -> Result<(), Cause> {
        let wrong = |what| Err(Cause::AmbiguousPath(what));
        let mut bytes = segment.iter().copied();
        let mut decoded = Vec::with_capacity(segment.len());
        while let Some(byte) = bytes.next() {
            let (byte, encoded) = match byte {
                b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                    (Some(high), Some(low)) => (high << 4 | low, true),
                    _ => return wrong("it has an invalid percent-encoding"),
                },
                byte => (byte, false),
            };
            match byte {
                0..=0x1f | 0x7f => return wrong("it has a control character"),
                b' ' | 0x80.. if !encoded => return wrong("it has a character that must be encoded"),
                b'\\' => return wrong("it has a backslash"),
                b'/' if !self.encoded_slash => return wrong("it has an encoded slash"),
                b'.' if encoded && !self.encoded_dot => return wrong("it has an encoded dot"),
                b'%' if !self.encoded_percent => return wrong("it has an encoded percent sign"),
                b';' if !self.semicolon => return wrong("it has a semicolon"),
                _ => decoded.push(byte),
            }
        }
        if std::str::from_utf8(&decoded).is_err() {
            return wrong("its percent-encoding is not valid UTF-8");
        }
        // A later component may split the segment. No part of it may be a dot segment, or end in dots: a proxy that
        // replaces the prefix `/public` turns `/public../admin` into a path with a dot segment.
        for part in decoded.split(|&byte| matches!(byte, b'/' | b';')) {
            if part == b"." || part.ends_with(b"..") {
                return wrong("it has a dot segment, or one that ends in dots");
            }
        }
        if decoded.contains(&b'/') && decoded.split(|&byte| byte == b'/').any(<[u8]>::is_empty) {
            return wrong("it has an empty segment");
        }
        Ok(())
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl Check for CleanPath {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        if !head.is_plain() {
            self.validate_segments(head.path())?;
        }
        Ok(head.outer_path().map_or(Ok(()), |path| self.validate(path))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relaxations_open_what_they_name_and_nothing_else() {
        let strict = CleanPath::new();
        for (path, relaxed) in [
            ("/a%2Fb", strict.allow_encoded_slash()),
            ("/a%2eb", strict.allow_encoded_dot()),
            ("/100%25", strict.allow_encoded_percent()),
            ("/a;v=1", strict.allow_semicolon()),
        ] {
            assert!(strict.validate(path).is_err() && relaxed.validate(path).is_ok(), "{path}");
        }
        for path in [
            "/a%2F..%2Fb",
            "/%2e%2e",
            "/..",
            "/a%2F%2Fb",
            "/public/..;/admin",
            "/public%2e%2e/admin",
            "/a;../b",
            "/a\\b",
            "/a%5Cb",
            "/a%00",
            "/%2e",
        ] {
            let all = strict.allow_encoded_slash().allow_encoded_dot().allow_encoded_percent().allow_semicolon();
            assert!(all.validate(path).is_err(), "{path}");
        }
    }

    #[test]
    fn ordinary_paths_are_clean() {
        for path in ["/", "/a", "/a/", "/a/b.png", "/.well-known/x", "/a..b", "/%C3%A9", "/~a!$&'()*+,=:@-_"] {
            assert_eq!(CleanPath::new().validate(path), Ok(()), "{path}");
        }
    }
}
