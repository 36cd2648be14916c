//! S10, S11 and S13: networks, the address of the client, and HTTPS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Request;
use crate::world::{ProxyHeader, World};

/// IPv4-mapped IPv6 is IPv4.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// The first bits of an address, as text: slow, and obviously right.
fn bits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(four) => format!("{:032b}", u32::from(four)),
        IpAddr::V6(six) => format!("{:0128b}", u128::from(six)),
    }
}

/// S10: whether a network holds an address of its own family.
pub(super) fn holds(network: &str, address: IpAddr) -> bool {
    let (base, length) = network.split_once('/').unwrap_or((network, ""));
    let base: IpAddr = base.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let full = bits(base).len();
    let length: usize = length.parse().unwrap_or(full);
    let (base, length) = match canonical(base) {
        four @ IpAddr::V4(_) if base.is_ipv6() => (four, length - 96),
        same => (same, length),
    };
    let address = canonical(address);
    base.is_ipv4() == address.is_ipv4() && bits(base).get(..length) == bits(address).get(..length)
}

fn is_trusted(world: &World, address: IpAddr) -> bool {
    world.proxies.iter().flat_map(|(networks, _)| networks).any(|network| holds(network, address))
}

/// Whether the peer is a trusted proxy.
pub(super) fn peer_is_trusted(world: &World, request: &Request<'_>) -> bool {
    request.ask.peer.is_some_and(|peer| is_trusted(world, peer))
}

/// S11: the peer, or the first untrusted hop from the right.
pub(super) fn of_client(world: &World, request: &Request<'_>) -> Option<IpAddr> {
    let peer = canonical(request.ask.peer?);
    let Some((_, header)) = world.proxies.as_ref().filter(|_| is_trusted(world, peer)) else { return Some(peer) };
    for (passed, element) in elements(request, *header).iter().rev().enumerate() {
        if passed >= 64 {
            return None;
        }
        let address = hop(element, *header)?;
        if !is_trusted(world, address) {
            return Some(address);
        }
    }
    None
}

/// The address that an element of the header names.
fn hop(element: &str, header: ProxyHeader) -> Option<IpAddr> {
    match header {
        ProxyHeader::XForwardedFor => node(element.trim()),
        ProxyHeader::Forwarded => parameter(element, "for").and_then(|value| node(&value)),
    }
}

/// Every address that the header names, from the left: for the fault of taking the first.
pub(crate) fn hops(world: &World, request: &Request<'_>) -> Vec<IpAddr> {
    let header = world.proxies.as_ref().filter(|_| peer_is_trusted(world, request)).map(|(_, header)| *header);
    let all = header.map(|header| (elements(request, header), header)).into_iter();
    all.flat_map(|(elements, header)| elements.into_iter().filter_map(move |element| hop(&element, header))).collect()
}

/// The elements of all lines of the configured header, from the left.
pub(super) fn elements(request: &Request<'_>, header: ProxyHeader) -> Vec<String> {
    let name = match header {
        ProxyHeader::XForwardedFor => "x-forwarded-for",
        ProxyHeader::Forwarded => "forwarded",
    };
    request.lines(name).iter().flat_map(|line| line.split(',')).map(str::to_owned).collect()
}

/// An address, which may have a port.
fn node(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match inner {
        Some(six) => six.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip())),
    };
    address.map(canonical)
}

/// The value of a parameter of an element of `Forwarded` (RFC 7239). `None` if there is none, or more than one.
pub(super) fn parameter(element: &str, name: &str) -> Option<String> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let found: Vec<&str> = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
    match found.as_slice() {
        [value] => Some(value.trim_matches('"').to_owned()),
        _ => None,
    }
}

/// S13: a connection that is marked, or the word of a trusted proxy: the rightmost value counts, and a missing one says
/// no.
pub(super) fn is_https(world: &World, request: &Request<'_>) -> bool {
    if request.ask.secure {
        return true;
    }
    let header = world.proxies.as_ref().filter(|_| peer_is_trusted(world, request)).map(|(_, header)| *header);
    let scheme = match header {
        None => None,
        Some(ProxyHeader::XForwardedFor) => {
            let lines = request.lines("x-forwarded-proto");
            lines.iter().flat_map(|line| line.split(',')).next_back().map(|value| value.trim().to_owned())
        }
        // The documentation of `HttpsOnly`: or in `Forwarded`, where that is the header.
        Some(ProxyHeader::Forwarded) => {
            elements(request, ProxyHeader::Forwarded).last().and_then(|element| parameter(element, "proto"))
        }
    };
    scheme.is_some_and(|scheme| scheme == "https" || scheme == "wss")
}
