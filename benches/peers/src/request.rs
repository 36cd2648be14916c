//! The one request that everybody is asked about.

use http::{Request, header::AUTHORIZATION};

pub const PATTERN: &str = "/shops/{shop}/countries/{country}/orders/{id}";
pub const PATH: &str = "/shops/de/countries/at/orders/7";
/// A shop that no key may touch.
pub const FOREIGN_PATH: &str = "/shops/fr/countries/at/orders/7";

pub const KEYS: usize = 1000;
/// The number of the key that asks.
pub const KNOWN: usize = 500;
pub const UNKNOWN: usize = 5000;

pub const SHOPS: [&str; 3] = ["ch", "de", "us"];
pub const EXCLUDED_COMPANY: &str = "3";
/// Which company owns which shop.
pub const COMPANIES: [(&str, &str); 3] = [("de", "1"), ("ch", "2"), ("fr", "1")];
/// In the third of the networks.
pub const PEER: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 14, 1, 2)), 4711);

/// 45 characters, `l64_<8>_<32 hex>`: with its padding exactly one block of SHA-256.
pub fn key(number: usize) -> String {
    format!("{}_{:032x}", id(number), (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// The part of the key that may be shown.
pub fn id(number: usize) -> String {
    format!("l64_{number:08}")
}

pub fn networks() -> Vec<String> {
    (0..8).map(|net| format!("10.{}.0.0/16", net * 7)).collect()
}

/// For a server on loopback: as many, and the peer's is the third again.
pub fn networks_with_loopback() -> Vec<String> {
    let mut networks = networks();
    networks[2] = "127.0.0.0/8".to_owned();
    networks
}

/// What a server hands to its service: `peer` is how it names the address of the connection's other end.
pub fn request(key: &str, path: &str, peer: impl Clone + Send + Sync + 'static) -> Request<()> {
    let mut request = Request::get(path).header("host", "localhost").header("user-agent", "bench");
    if !key.is_empty() {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let mut request = request.body(()).expect("the request is well formed");
    request.extensions_mut().insert(peer);
    request
}
