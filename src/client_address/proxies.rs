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

/// A walk never goes further than this: no chain of real proxies is longer.
const MOST_HOPS: usize = 64;

/// Which proxies are trusted to say where a request comes from, and in which header.
///
/// The client is the peer, unless the peer is a trusted proxy. Then the one header that is configured is
/// walked from the right, where the nearest proxy writes, past all trusted addresses, to the first that
/// is not. The leftmost entry is what a client wrote, so it is never taken for more than that. If the
/// header is missing, an element does not parse, all are trusted, or 64 were passed, the client is
/// unknown, and that is refused wherever an address counts.
///
/// # Deployment
/// * List exactly your proxies. A network that clients share with them lets those clients claim any
///   address.
/// * Each proxy must append to the header or replace it, and must not let a client remove it.
/// * Where proxies have no fixed addresses, [`from_hop_count`](Self::from_hop_count) counts them instead; then nobody may
///   reach the server past them.
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
    /// TrustedProxies with addresses in these networks, that write `X-Forwarded-For`.
    ///
    /// # Errors
    /// If one of the texts is not a network.
    pub fn new<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, ConfigError> {
        let networks = Networks::parse(networks).map_err(|error| error.at("trusted proxies"))?;
        Ok(Self { trust: Trust::Networks(networks), header: Header::XForwardedFor })
    }

    /// So many proxies in front of the server, whatever their addresses: the client is the entry that
    /// stands so far from the right. `from_hop_count(1)` for one load balancer, 2 where a load balancer adds its own
    /// address behind the client's, as Google's does.
    ///
    /// More than 64 are never counted. Every connection is then taken for one from the proxies. If anybody can reach the server past
    /// them, that body can claim any address.
    #[must_use]
    pub const fn from_hop_count(count: NonZeroUsize) -> Self {
        Self { trust: Trust::Hops(count), header: Header::XForwardedFor }
    }

    /// Reads `Forwarded` (RFC 7239) and never `X-Forwarded-For` or `-Proto`.
    #[must_use]
    pub const fn with_forwarded_header(mut self) -> Self {
        self.header = Header::Forwarded;
        self
    }

    /// Whether the peer may speak for others.
    #[must_use]
    pub fn trusts(&self, peer: ClientAddress) -> bool {
        match &self.trust {
            Trust::Networks(networks) => peer.ip().is_some_and(|peer| networks.contains(peer)),
            Trust::Hops(_) => true,
        }
    }

    /// The client of a request: a pure function of the peer and the headers.
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

    /// From the right to the first element that no trusted proxy wrote about another. An element
    /// that is no address ends the walk with nothing.
    fn walk(&self, elements: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut elements = elements.take(MOST_HOPS);
        match &self.trust {
            // Each of them must be there and be an address, the last one is the client's.
            Trust::Hops(count) => (0..count.get()).try_fold(None, |_, _| elements.next()?.map(Some))?,
            Trust::Networks(networks) => elements.find(|one| one.is_none_or(|one| !networks.contains(one)))?,
        }
    }

    /// The host that the nearest proxy was asked for, if it says so. Several, joined by commas, are no host.
    pub(crate) fn host(&self, headers: &HeaderMap) -> Option<Vec<u8>> {
        match self.header {
            Header::XForwardedFor => {
                let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_HOST).iter().map(|line| line.as_bytes()).collect();
                (!lines.is_empty()).then(|| lines.join(&b','))
            }
            Header::Forwarded => forwarded::elements(headers)?.last()?.host(),
        }
    }

    /// Whether the nearest proxy says that the client came by HTTPS. Missing means no.
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
