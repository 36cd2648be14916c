//! tower-authz is configured as its README says.

use std::net::SocketAddr;

use axum::{Router, routing::get};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tower_authz::{
    Alphabet, Authenticate, Authz, Dimension, Guarded, GuardedRouter, KeyFile, KeyFormat, Policy, Principal, Rule,
    check::EntityRef, reject::Empty, store::MemoryStore,
};

use super::bare;
use crate::request::{EXCLUDED_COMPANY, KEYS, PATTERN, SHOPS, id, key};

fn keys(networks: &[String]) -> KeyFile {
    KeyFile::parse(&key_file(networks), "keys.json").expect("the key file is well formed")
}

fn rule() -> Rule {
    Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop"))
}

pub fn policy() -> Policy {
    Policy::builder().route(PATTERN, rule()).build().expect("the policy is well formed")
}

/// Returns the principal that the gate would create for the caller.
pub fn principal(networks: &[String], number: usize, peer: SocketAddr) -> Principal {
    let keys = keys(networks);
    let record = keys.records().get(number).expect("there is such a key").clone();
    Principal::new(record.into(), keys.directory().clone(), peer.into())
}

pub fn authz(networks: &[String]) -> Authz<Empty> {
    Authz::new(store(networks), policy()).with_rejection(Empty)
}

fn store(networks: &[String]) -> MemoryStore {
    let format = KeyFormat::structured("l64")
        .public_id(Alphabet::LowerAlphanumeric, 8)
        .secret(Alphabet::LowerHex, 32)
        .build()
        .expect("the format is well formed");
    MemoryStore::from_file(keys(networks), format).expect("the keys are of the format")
}

fn key_file(networks: &[String]) -> String {
    let keys: Vec<_> = (0..KEYS)
        .map(|number| {
            json!({
                "id": id(number),
                "digest": hex::encode(Sha256::digest(key(number))),
                "expires_at": "2099-01-01T00:00:00Z",
                "permissions": { "orders": "write", "products": "read" },
                "restrictions": { "shop": { "include": SHOPS }, "company": { "exclude": [EXCLUDED_COMPANY] } },
                "ip_ranges": networks,
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

pub fn router(networks: &[String]) -> Router {
    bare().layer(authz(networks))
}

/// Returns the same application as one list of routes, with the gate outside of the router.
pub fn one_list(networks: &[String]) -> Guarded<Authenticate<Router, Empty>> {
    let routes = GuardedRouter::new().route(PATTERN, rule(), get(async || "ok"));
    routes.guard(Authz::from_store(store(networks)).with_rejection(Empty)).expect("the rule fits its route")
}
