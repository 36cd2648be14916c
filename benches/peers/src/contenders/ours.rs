//! tower-authz, set up as its README says.

use axum::body::Body;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tower::Layer as _;
use tower_authz::{
    Alphabet, Authz, Dimension, KeyFile, KeyFormat, Policy, Rule, check::Tie, reject::Empty, store::MemoryStore,
};

use super::bare::{FRESH, ROUTER, SERVICE, at_router, at_service, orders};
use crate::{
    measure::Contender,
    request::{EXCLUDED_COMPANY, FOREIGN_PATH, KEYS, KNOWN, PATH, PATTERN, SHOPS, UNKNOWN, id, key, networks},
    turns::{answers, boxed, carried, carry_back, fresh},
};

const PACKAGES: &[&str] = &["tower-authz"];

fn authz() -> Authz<Empty> {
    let format = KeyFormat::structured("l64")
        .public_id(Alphabet::LowerAlphanumeric, 8)
        .secret(Alphabet::LowerHex, 32)
        .build()
        .expect("the format is well formed");
    let file = KeyFile::parse(&key_file(), "keys.json").expect("the key file is well formed");
    let store = MemoryStore::from_file(file, format).expect("the keys are of the format");
    let rule = Rule::resource("orders").tied(Tie::path(Dimension::SHOP, "shop"));
    let policy = Policy::builder().route(PATTERN, rule).build().expect("the policy is well formed");
    Authz::new(store, policy).with_reject(Empty)
}

fn key_file() -> String {
    let keys: Vec<_> = (0..KEYS)
        .map(|number| {
            json!({
                "id": id(number),
                "digest": hex::encode(Sha256::digest(key(number))),
                "expires_at": "2099-01-01T00:00:00Z",
                "permissions": { "orders": "write", "products": "read" },
                "restrictions": { "shop": { "include": SHOPS }, "company": { "exclude": [EXCLUDED_COMPANY] } },
                "ip_ranges": networks(),
            })
        })
        .collect();
    let shops = json!([
        { "key": "de", "company": "1", "countries": [{ "code": "at", "id": "1001" }] },
        { "key": "ch", "company": "2" },
        { "key": "fr", "company": "1" },
    ]);
    json!({ "keys": keys, "directory": { "shops": shops } }).to_string()
}

pub fn service() -> Contender {
    let mut service = boxed(authz().layer(carry_back()));
    answers(&mut service, at_service(&key(UNKNOWN), PATH), 401);
    answers(&mut service, at_service(&key(KNOWN), FOREIGN_PATH), 403);
    let turn = carried(service, at_service(&key(KNOWN), PATH));
    Contender::new("tower-authz", PACKAGES, turn).within(SERVICE)
}

pub fn fresh_service() -> Contender {
    let turn = fresh(boxed(authz().layer(carry_back())), at_service(&key(KNOWN), PATH), 200);
    Contender::new("tower-authz, fresh request", PACKAGES, turn).within(FRESH)
}

/// A refused request does not come back: each is fresh.
pub fn refusals() -> [Contender; 3] {
    let refused = |name, key: &str, path, status| {
        let turn = fresh(boxed(authz().layer(carry_back())), at_service(key, path), status);
        Contender::new(name, PACKAGES, turn).within(FRESH)
    };
    [
        refused("tower-authz, refused: no key", "", PATH, 401),
        refused("tower-authz, refused: unknown key", &key(UNKNOWN), PATH, 401),
        refused("tower-authz, refused: forbidden shop", &key(KNOWN), FOREIGN_PATH, 403),
    ]
}

pub fn router() -> Contender {
    let mut app = boxed::<_, Body, _>(orders().layer(authz()));
    answers(&mut app, at_router(&key(UNKNOWN), PATH), 401);
    answers(&mut app, at_router(&key(KNOWN), FOREIGN_PATH), 403);
    let turn = fresh(app, at_router(&key(KNOWN), PATH), 200);
    Contender::new("axum: tower-authz", &["axum", "tower-authz"], turn).within(ROUTER)
}
