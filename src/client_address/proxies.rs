use std::{net::IpAddr, num::NonZeroUsize};

use http::{HeaderMap, HeaderName};

use crate::{
    client_address::{
        ClientAddress,
        element::{address, trim},
        forwarded, is_tls,
    },
    error::ConfigError,
    key::Networks,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The maximum number of elements that are examined: no chain of real proxies is longer.
const MAX_HOPS: usize = 64;

/// The proxies that are trusted to report the client's address, and the header in which they do.
///
/// The client is the peer, unless the peer is a trusted proxy. Then the one header that is configured is read from the
/// right, where the nearest proxy writes, past all trusted addresses, to the first that is not trusted. The leftmost
/// entry may be written by the client itself, so it is never trusted for being the leftmost. If the header is missing,
/// an element does not parse, all addresses are trusted, or 64 elements were passed, the client is unknown, and its
/// request is refused wherever an address is needed.
///
/// # Deployment
/// * List exactly your proxies. A network that clients share with them lets those clients claim any
///   address.
/// * Each proxy must append to the header or replace it, and must not let a client remove it.
/// * If proxies have no fixed addresses, [`from_hop_count`](Self::from_hop_count) counts them instead. No client may
///   then be able to reach the server directly.
///
/// # Example
/// ```
/// use http::HeaderMap;
/// use tower_authz::{ClientAddress, TrustedProxies};
///
/// let proxies = TrustedProxies::new(["10.0.0.0/8"])?;
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "6.6.6.6, 203.0.113.7, 10.0.0.2".parse()?);
/// let peer = ClientAddress::from("10.0.0.1".parse::<std::net::IpAddr>()?);
/// assert_eq!(proxies.client(peer, &headers).ip(), Some("203.0.113.7".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    trust: Trust,
    header: Header,
}

#[derive(Clone, Debug)]
enum Trust {
    Networks(Networks),
    Hops(NonZeroUsize),
}

#[derive(Clone, Copy, Debug)]
enum Header {
    XForwardedFor,
    Forwarded,
}

impl TrustedProxies {
    /// Trusts proxies whose addresses are in these networks, and which write `X-Forwarded-For`.
    ///
    /// # Errors
    /// Returns an error if one of the texts is not a network.
    pub fn new<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, ConfigError> {
        let networks = Networks::parse(networks).map_err(|error| error.at("trusted proxies"))?;
        Ok(Self { trust: Trust::Networks(networks), header: Header::XForwardedFor })
    }

    /// Trusts this number of proxies in front of the server, whatever their addresses: the client is the entry at this
    /// position from the right. Use `from_hop_count(1)` for one load balancer, and 2 if a load balancer adds its own
    /// address after the client's, as Google's does.
    ///
    /// With a count above 64 every client is unknown. Every connection is taken for one from the proxies, so a client
    /// that can reach the server directly can claim any address.
    #[must_use]
    pub const fn from_hop_count(count: NonZeroUsize) -> Self {
        Self { trust: Trust::Hops(count), header: Header::XForwardedFor }
    }

    /// Reads `Forwarded` (RFC 7239), and never `X-Forwarded-For`, `-Host` or `-Proto`.
    #[must_use]
    pub const fn with_forwarded_header(mut self) -> Self {
        self.header = Header::Forwarded;
        self
    }

    /// Whether the peer is trusted to report the address of another client.
    #[must_use]
    pub fn trusts(&self, peer: ClientAddress) -> bool {
        match &self.trust {
            Trust::Networks(networks) => peer.ip().is_some_and(|peer| networks.contains(peer)),
            Trust::Hops(_) => true,
        }
    }

    /// The address of the client: a pure function of the peer and the headers.
    #[must_use]
    pub fn client(&self, peer: ClientAddress, headers: &HeaderMap) -> ClientAddress {
        if !self.trusts(peer) {
            return peer;
        }
        let client = match self.header {
            Header::XForwardedFor => self.walk(elements(headers, &X_FORWARDED_FOR).map(address)),
            Header::Forwarded => {
                forwarded::elements(headers).and_then(|all| self.walk(all.iter().rev().map(|one| one.client())))
            }
        };
        client.map_or(ClientAddress::UNKNOWN, ClientAddress::from)
    }

    /// Finds the first address from the right that is not trusted. An element that is not an address ends the search
    /// without a result.
    fn walk(&self, elements: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut elements = elements.take(MAX_HOPS);
        match &self.trust {
            // All of these elements must exist and be addresses; the last one is that of the client.
            Trust::Hops(count) => (0..count.get()).try_fold(None, |_, _| elements.next()?.map(Some))?,
            Trust::Networks(networks) => elements.find(|one| one.is_none_or(|one| !networks.contains(one)))?,
        }
    }

    /// The host that the nearest proxy was asked for, if the proxy reports it. Several values are joined by commas,
    /// which makes them an invalid host.
    pub(crate) fn host(&self, headers: &HeaderMap) -> Option<Vec<u8>> {
        match self.header {
            Header::XForwardedFor => {
                let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_HOST).iter().map(|line| line.as_bytes()).collect();
                (!lines.is_empty()).then(|| lines.join(&b','))
            }
            Header::Forwarded => forwarded::elements(headers)?.last()?.host(),
        }
    }

    /// Whether the nearest proxy reports that the client used HTTPS. A missing header means that it did not.
    #[must_use]
    pub fn is_https(&self, peer: ClientAddress, headers: &HeaderMap) -> bool {
        if !self.trusts(peer) {
            return false;
        }
        match self.header {
            Header::XForwardedFor => elements(headers, &X_FORWARDED_PROTO).next().is_some_and(is_tls),
            Header::Forwarded => {
                forwarded::elements(headers).and_then(|all| Some(all.last()?.is_https())).unwrap_or(false)
            }
        }
    }
}

/// The elements of all lines of a list header, from the right.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    lines.into_iter().rev().flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',').map(trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_counted_from_the_right() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 203.0.113.7".parse().unwrap());
        headers.append("x-forwarded-for", "35.191.0.1".parse().unwrap());
        let client = |hops| {
            TrustedProxies::from_hop_count(NonZeroUsize::new(hops).unwrap())
                .client(ClientAddress::UNKNOWN, &headers)
                .ip()
        };
        assert_eq!(client(1), Some("35.191.0.1".parse().unwrap()));
        assert_eq!(client(2), Some("203.0.113.7".parse().unwrap()));
        assert_eq!(client(4), None, "fewer entries than proxies: somebody is missing");
        headers.append("x-forwarded-for", "garbage".parse().unwrap());
        let two = TrustedProxies::from_hop_count(NonZeroUsize::new(2).unwrap());
        assert_eq!(two.client(ClientAddress::UNKNOWN, &headers).ip(), None, "a proxy that writes no address");
    }

    #[test]
    fn only_the_nearest_proxy_is_believed_about_https() {
        let proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
        let is_https = |peer: &str, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-proto", value.parse().unwrap());
            }
            proxies.is_https(peer.parse::<IpAddr>().unwrap().into(), &headers)
        };
        assert!(is_https("10.0.0.1", &["https"]) && is_https("10.0.0.1", &["http, https"]));
        assert!(is_https("10.0.0.1", &["wss"]) && is_https("10.0.0.1", &["WSS"]) && !is_https("10.0.0.1", &["ws"]));
        for values in [&["http"][..], &[], &["https, http"], &["https", "http"], &["https ", " "], &["httpss"]] {
            assert!(!is_https("10.0.0.1", values), "{values:?}");
        }
        assert!(!is_https("192.0.2.1", &["https"]), "anybody can send a header");
    }
}
