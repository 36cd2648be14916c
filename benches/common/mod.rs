//! The workload that the benches share: one kind of request, a thousand keys, one rule.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each bench uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a bench that is surprised should stop")]

use std::convert::Infallible;

use futures::FutureExt as _;
use http::{Request, Response, header::AUTHORIZATION};
use tower::{Service, service_fn};
use tower_authz::{
    Alphabet, ApiKey, Authz, Dimension, Directory, Grant, KeyFile, KeyFormat, KeyRecord, PeerAddress, Policy,
    PolicyBuilder, Rule, check::EntityRef, reject::Empty, store::MemoryStore,
};

pub const PATTERN: &str = "/shops/{shop}/countries/{country}/orders/{id}";
pub const PATH: &str = "/shops/de/countries/at/orders/7";
pub const FOREIGN: &str = "/shops/fr/countries/at/orders/7";

/// The key has 45 characters, `l64_abc12345_<32 hex>`, so that with its padding it fills exactly one block of
/// SHA-256.
pub fn key(number: usize) -> String {
    format!("l64_{number:08}_{:032x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

pub fn format() -> KeyFormat {
    KeyFormat::structured("l64")
        .public_id(Alphabet::LowerAlphanumeric, 8)
        .secret(Alphabet::LowerHex, 32)
        .build()
        .unwrap()
}

/// The keys may make the request. Each has one permission of two, a shop list, a company list and eight networks.
pub fn store(keys: usize) -> MemoryStore {
    let networks: Vec<String> = (0..8).map(|net| format!("10.{}.0.0/16", net * 7)).collect();
    let grant = Grant::builder()
        .write("orders")
        .read("products")
        .only("shop", ["ch", "de", "us"])
        .except("company", [3])
        .from_networks(networks)
        .build()
        .unwrap();
    let grant = std::sync::Arc::new(grant);
    let records = (0..keys).map(|number| {
        let key = key(number);
        let id = key.get(..12).unwrap().parse().unwrap();
        KeyRecord::builder(id, ApiKey::new(key).digest()).grant(grant.clone()).build()
    });
    let directory = Directory::builder()
        .shop("de", Some("1"))
        .shop("ch", Some("2"))
        .shop("fr", Some("1"))
        .country("de", "at", Some("1001"))
        .build()
        .unwrap();
    MemoryStore::from_file(KeyFile::new(records, directory), format()).unwrap()
}

pub fn rule() -> Rule {
    Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop"))
}

pub fn guarded(policy: PolicyBuilder, store: MemoryStore) -> Authz<Empty> {
    let policy = policy.route(PATTERN, rule()).build().unwrap();
    Authz::new(store, policy).with_rejection(Empty)
}

pub fn authz() -> Authz<Empty> {
    guarded(Policy::builder(), store(1000))
}

pub fn request<B: Default>(key: &str, path: &str) -> Request<B> {
    let mut request = Request::get(path)
        .header("host", "localhost")
        .header("user-agent", "bench")
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .body(B::default())
        .unwrap();
    request.extensions_mut().insert(PeerAddress(([10, 14, 1, 2], 4711).into()));
    request
}

/// Returns the request in the response, as a service that does nothing else would.
pub fn carry_back() -> impl Service<Request<()>, Response = Response<Carried>, Error = Infallible> + Clone {
    service_fn(async |request: Request<()>| Ok(Response::new(Carried(Some(Box::new(request))))))
}

/// The request inside of the response. It is boxed so that the response has the size of an ordinary one.
#[derive(Default)]
pub struct Carried(pub Option<Box<Request<()>>>);

pub type Boxed = Box<dyn FnMut(Request<()>) -> Response<Carried>>;

pub fn boxed<S>(mut service: S) -> Boxed
where
    S: Service<Request<()>, Response = Response<Carried>, Error = Infallible> + 'static,
{
    Box::new(move |request| service.call(request).now_or_never().unwrap().unwrap())
}
