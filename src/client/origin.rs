use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;

/// The scheme, host and port of an absolute URI (RFC 6454), with the host as it is written there.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) https: bool,
    host: &'a str,
    port: u16,
}

impl<'a> Origin<'a> {
    /// Returns `None` if the URI is ambiguous: one that two programs could parse in two ways must not get a key.
    pub(super) fn from_uri(uri: &'a Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let authority = uri.authority()?.as_str();
        // A user's name before `@` can look like a host.
        if authority.contains('@') {
            return None;
        }
        // Search for the port after the closing bracket, because an IPv6 address contains colons.
        let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match authority.get(end..)?.find(':') {
            Some(colon) => (authority.get(..end + colon)?, authority.get(end + colon + 1..)),
            None => (authority, None),
        };
        let port = match port {
            // Check for digits first, because parsing a `u16` accepts a plus sign as well.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None if https => 443,
            None => 80,
        };
        (!host.is_empty()).then_some(Self { https, host, port })
    }

    /// Compares hosts byte by byte, but ignores the case of ASCII letters: `a.test.` is not `a.test`, and `[0::1]` is
    /// not `[::1]`. A host with another spelling gets no key, which is noticed and does no harm.
    pub(super) fn same(self, other: Self) -> bool {
        self.https == other.https && self.port == other.port && self.host.eq_ignore_ascii_case(other.host)
    }

    /// Whether requests stay on this machine: `127.0.0.0/8`, `::1`, or `localhost`.
    pub(super) fn is_loopback(self) -> bool {
        match self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
            None => {
                self.host.eq_ignore_ascii_case("localhost")
                    || self.host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}
