//! The part of a refused request that a rejection may see.

use std::fmt;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
    uri::Authority,
};

/// The part of a refused request that a rejection sees if it asks for it, as [`WithRequest`](crate::reject::WithRequest)
/// does: the method, the URI and the headers, without credentials. [`Denial::request`](crate::Denial::request) returns it.
///
/// The client has chosen all of it: escape it for the format of the body, HTML in particular.
///
/// # Headers that are left out
/// * every header that is one of the [`Sources`](crate::Sources) of the gate, with everything else that it holds;
/// * `Authorization`, `Cookie`, `Proxy-Authorization`, `X-API-Key` and `X-Access-Token`, whatever the sources are;
/// * every value that is marked as sensitive.
///
/// A [`RequireLayer`](crate::RequireLayer) knows no sources. It relies on the marks of the gate around it, or of the
/// middleware that authenticates in its place.
///
/// User and password are left out of the URI. The query stays as it was sent: a client that puts a key there, where this
/// crate never looks for one, gets it back from a rejection that repeats the query.
#[derive(Clone)]
pub struct RejectedRequest {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl RejectedRequest {
    /// Copies what is not secret. `is_credential` tells which headers may hold a key, beside those that always do.
    #[cold]
    pub(crate) fn new(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        is_credential: impl Fn(&HeaderName) -> bool,
    ) -> Self {
        let is_secret = |name: &HeaderName, value: &HeaderValue| {
            // Clients send keys in these also where nobody looks for one.
            let is_usual = matches!(name.as_str(), "x-api-key" | "x-access-token")
                || [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].contains(name);
            value.is_sensitive() || is_usual || is_credential(name)
        };
        let mut kept = HeaderMap::new();
        for (name, value) in headers.iter().filter(|(name, value)| !is_secret(name, value)) {
            // An error means that the map is full, and a map as large as this one has room for its headers. If it had
            // not, the rejection would see fewer of them.
            let _ = kept.try_append(name.clone(), value.clone());
        }
        Self { method: method.clone(), uri: without_userinfo(uri), headers: kept }
    }

    /// The method as it was sent.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The URI as it arrived, also inside nested routers that strip a prefix.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The headers, without those that may hold a credential.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// The URI without the user and the password that an absolute one may name before its host.
fn without_userinfo(uri: &Uri) -> Uri {
    let Some((_, host)) = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')) else {
        return uri.clone();
    };
    let mut parts = uri.clone().into_parts();
    parts.authority = host.parse::<Authority>().ok();
    // Without a host, a URI cannot have a scheme either, and the path alone is left.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.path_and_query().cloned().map(Uri::from).unwrap_or_default())
}

/// Prints the names of the headers but not their values, nor the query: a log is no place for either.
impl fmt::Debug for RejectedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectedRequest")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uri: &str, headers: &[(&'static str, &'static str, bool)]) -> RejectedRequest {
        let mut map = HeaderMap::new();
        for (name, value, sensitive) in headers {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(*sensitive);
            map.append(*name, value);
        }
        RejectedRequest::new(&Method::GET, &uri.parse().unwrap(), &map, |name| name == "x-acme-key")
    }

    #[test]
    fn secrets_are_left_out() {
        let request = seen(
            "/",
            &[
                ("authorization", "Bearer secret", false),
                ("proxy-authorization", "Basic secret", false),
                ("cookie", "session=secret", false),
                ("x-acme-key", "secret", false),
                ("x-mixed", "secret", true),
                ("x-mixed", "public", false),
                ("accept", "text/html", false),
                ("accept", "text/plain", false),
            ],
        );
        let left: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 3] =
            [("x-mixed", b"public"), ("accept", b"text/html"), ("accept", b"text/plain")];
        assert_eq!(left, expected);
    }

    #[test]
    fn user_and_password_are_left_out() {
        for (uri, expected) in [
            ("/orders?page=2", "/orders?page=2"),
            ("https://api.example:8443/orders", "https://api.example:8443/orders"),
            ("https://user:secret@api.example:8443/orders?page=2", "https://api.example:8443/orders?page=2"),
            ("https://secret@[::1]/", "https://[::1]/"),
            ("user:secret@api.example:443", "api.example:443"),
        ] {
            assert_eq!(seen(uri, &[]).uri().to_string(), expected, "{uri}");
        }
    }

    #[test]
    fn debug_prints_no_values() {
        let shown = format!("{:?}", seen("/orders?token=secret", &[("x-request-id", "secret", false)]));
        assert_eq!(shown, r#"RejectedRequest { method: GET, path: "/orders", headers: ["x-request-id"] }"#);
    }
}
