//! Determines the address of the client of a request.

mod element;
mod forwarded;
mod proxies;

use std::net::{IpAddr, SocketAddr};

use http::Extensions;

pub use self::proxies::TrustedProxies;

/// Whether the scheme that a proxy reports is TLS: `https` or `wss`.
fn is_tls(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss")
}

/// The address of the connection's peer, for servers other than axum: insert it into the extensions of every request.
///
/// With axum, `into_make_service_with_connect_info::<SocketAddr>()` does the same with axum's own `ConnectInfo`, which
/// is read as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// The address of the client of a request: canonical (IPv4-mapped IPv6 is IPv4), or unknown.
///
/// It is the address of the connection's peer, unless [`TrustedProxies`] are configured: then it is the address that
/// they forward. A request from an unknown address is refused wherever a key or a rule depends on the address. With
/// axum this type is an extractor as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ClientAddress(Option<IpAddr>);

impl ClientAddress {
    /// There is no address, or none that can be trusted.
    pub const UNKNOWN: Self = Self(None);

    /// The address, if it is known.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        self.0
    }

    /// The connection's peer, from [`PeerAddress`] or axum's `ConnectInfo`.
    #[inline]
    pub(crate) fn from_peer(extensions: &Extensions) -> Self {
        match extensions.get() {
            Some(&PeerAddress(peer)) => peer.into(),
            None => peer(extensions).map_or(Self::UNKNOWN, Self::from),
        }
    }
}

/// The address of the connection's peer, from axum's `ConnectInfo`, or else from `MockConnectInfo`, which tests use.
/// axum's own extractor reads them in the same order.
#[cfg(feature = "axum")]
fn peer(extensions: &Extensions) -> Option<std::net::SocketAddr> {
    use std::net::SocketAddr;

    use axum::extract::{ConnectInfo, connect_info::MockConnectInfo};
    let real = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    real.or_else(|| extensions.get::<MockConnectInfo<SocketAddr>>().map(|info| info.0))
}

#[cfg(not(feature = "axum"))]
fn peer(_: &Extensions) -> Option<SocketAddr> {
    None
}

impl From<SocketAddr> for ClientAddress {
    fn from(peer: SocketAddr) -> Self {
        match peer {
            // A link-local address with a zone counts as unknown, because no list of networks can name the zone.
            SocketAddr::V6(peer) if peer.scope_id() != 0 => Self::UNKNOWN,
            peer => peer.ip().into(),
        }
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self((!address.is_unspecified()).then_some(address))
    }
}
