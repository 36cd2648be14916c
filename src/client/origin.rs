use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;

/// Scheme, host and port of an absolute URI (RFC 6454), as it is written there.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) https: bool,
    host: &'a str,
    port: u16,
}

impl<'a> Origin<'a> {
    /// None if anything about it is in doubt: a URI that two programs could read in two ways must not get
    /// a key from us.
    pub(super) fn from_uri(uri: &'a Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let authority = uri.authority()?.as_str();
        // Before `@` stands a user's name, which can look like a host.
        if authority.contains('@') {
            return None;
        }
        // An IPv6 address in brackets is full of colons.
        let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match authority.get(end..)?.find(':') {
            Some(colon) => (authority.get(..end + colon)?, authority.get(end + colon + 1..)),
            None => (authority, None),
        };
        let port = match port {
            // `u16` would take a plus sign as well.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None if https => 443,
            None => 80,
        };
        (!host.is_empty()).then_some(Self { https, host, port })
    }

    /// Hosts are compared byte by byte, but for the case of ASCII letters: `a.test.` is not `a.test`, and
    /// `[0::1]` not `[::1]`. Another spelling of a host gets no key, which shows, and harms nobody.
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
