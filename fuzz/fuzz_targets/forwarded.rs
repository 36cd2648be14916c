//! Passes `X-Forwarded-For`, `X-Forwarded-Proto` and `Forwarded` through `TrustedProxies`.
//!
//! This target looks for a panic; a client address that is itself a trusted proxy, or not canonical; a header that is
//! trusted although the peer is not; and a client address that changes with the header entries to the left of it.
//!
//! The first byte selects the mode, and every following line is one line of the header.

#![no_main]

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tower_authz::{ClientAddress, Networks, TrustedProxies};

const TRUSTED: [&str; 3] = ["10.0.0.0/8", "2001:db8::/32", "::1"];

fuzz_target!(|data: &[u8]| {
    let Some((&mode, lines)) = data.split_first() else { return };
    let with_forwarded_header = mode & 1 == 1;
    let hops = NonZeroUsize::new(usize::from(mode >> 2 & 3));
    let proxies = hops.map_or_else(|| TrustedProxies::new(TRUSTED).unwrap(), TrustedProxies::from_hop_count);
    let proxies = if with_forwarded_header { proxies.with_forwarded_header() } else { proxies };
    let name = HeaderName::from_static(if with_forwarded_header { "forwarded" } else { "x-forwarded-for" });
    let spoofed = HeaderValue::from_static(if with_forwarded_header { "for=6.6.6.6;proto=https" } else { "6.6.6.6" });

    let mut headers = HeaderMap::new();
    let mut longer = HeaderMap::new();
    longer.append(&name, spoofed);
    for line in lines.split(|&byte| byte == b'\n').take(128) {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        headers.append("x-forwarded-proto", value.clone());
        headers.append(&name, value.clone());
        longer.append(&name, value);
    }

    let peer = ClientAddress::from(IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)));
    let client = proxies.client(peer, &headers);
    let _ = proxies.is_https(peer, &headers);
    if let Some(client) = client.ip() {
        assert_eq!(client, client.to_canonical());
        assert!(!client.is_unspecified());
        assert!(hops.is_some() || !Networks::parse(TRUSTED).unwrap().contains(client), "{client} is a proxy");
        assert_eq!(proxies.client(peer, &longer).ip(), Some(client), "what a client adds on the left counts");
    }
    if hops.is_none() {
        for stranger in ["192.0.2.1", "2001:db9::1", "::ffff:11.0.0.1"] {
            let stranger = ClientAddress::from(stranger.parse::<IpAddr>().unwrap());
            assert_eq!(proxies.client(stranger, &headers), stranger);
            assert!(!proxies.is_https(stranger, &headers));
        }
        assert_eq!(proxies.client(ClientAddress::UNKNOWN, &headers), ClientAddress::UNKNOWN);
    }
});
