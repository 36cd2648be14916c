//! The one request that every contender decides about.

use http::{Request, header::AUTHORIZATION};

pub const PATTERN: &str = "/shops/{shop}/countries/{country}/orders/{id}";
pub const PATH: &str = "/shops/de/countries/at/orders/7";
/// The path of a shop that is in no key's list.
pub const FOREIGN_PATH: &str = "/shops/fr/countries/at/orders/7";

pub const KEYS: usize = 1000;
/// The number of the key that makes the request.
pub const KNOWN: usize = 500;
pub const UNKNOWN: usize = 5000;

pub const SHOPS: [&str; 3] = ["ch", "de", "us"];
pub const EXCLUDED_COMPANY: &str = "3";
/// Maps each shop to the company that owns it.
pub const COMPANIES: [(&str, &str); 3] = [("de", "1"), ("ch", "2"), ("fr", "1")];
/// The address is in the third of the networks.
pub const PEER: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 14, 1, 2)), 4711);

/// The key has 45 characters, `l64_<8>_<32 hex>`, so that with its padding it fills exactly one block of SHA-256.
pub fn key(number: usize) -> String {
    format!("{}_{:032x}", id(number), (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// The public part of the key.
pub fn id(number: usize) -> String {
    format!("l64_{number:08}")
}

pub fn networks() -> Vec<String> {
    (0..8).map(|net| format!("10.{}.0.0/16", net * 7)).collect()
}

/// Returns as many networks for a server on loopback, where the peer's network is the third again.
pub fn networks_with_loopback() -> Vec<String> {
    let mut networks = networks();
    networks[2] = "127.0.0.0/8".to_owned();
    networks
}

/// Builds the request that a server passes to its service. `peer` is the extension in which that server stores the
/// address of the peer.
pub fn request(key: &str, path: &str, peer: impl Clone + Send + Sync + 'static) -> Request<()> {
    let mut request = Request::get(path).header("host", "localhost").header("user-agent", "bench");
    if !key.is_empty() {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let mut request = request.body(()).expect("the request is well formed");
    request.extensions_mut().insert(peer);
    request
}
