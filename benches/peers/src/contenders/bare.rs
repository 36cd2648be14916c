//! The baselines for the other contenders: one digest, and the service and the router without a gate.

use std::hint::black_box;

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    middleware::{self, Next},
    response::Response,
};
use sha2::{Digest as _, Sha256};
use tower_authz::PeerAddress;

use crate::{
    gates::bare,
    measure::{Contender, Meter},
    request::{KNOWN, PATH, PEER, key, request},
    turns::{boxed, carried, carry_back, fresh},
};

pub const DIGEST: &str = "SHA-256 of the key";
pub const SERVICE: &str = "bare service";
pub const FRESH: &str = "bare service, fresh request";
pub const ROUTER: &str = "axum: bare router";

/// Builds the request as a plain tower service receives it.
pub fn at_service(key: &str, path: &str) -> http::Request<()> {
    request(key, path, PeerAddress(PEER))
}

/// Builds the request as `axum::serve` passes it on.
pub fn at_router(key: &str, path: &str) -> http::Request<()> {
    request(key, path, ConnectInfo(PEER))
}

pub fn digest() -> Contender {
    let key = key(KNOWN);
    assert_eq!(key.len(), 45);
    let turn = Box::new(move |meter: &mut Meter, iterations| {
        meter.watch(|| {
            for _ in 0..iterations {
                black_box(Sha256::digest(black_box(key.as_bytes())));
            }
        });
    });
    Contender::new(DIGEST, &["sha2"], turn)
}

pub fn service() -> Contender {
    let turn = carried(boxed(carry_back()), at_service(&key(KNOWN), PATH));
    Contender::new(SERVICE, &["tower"], turn)
}

pub fn fresh_service() -> Contender {
    let turn = fresh(boxed(carry_back()), at_service(&key(KNOWN), PATH), 200);
    Contender::new(FRESH, &["tower"], turn)
}

pub fn router() -> Contender {
    let turn = fresh::<Body, _>(boxed(bare()), at_router(&key(KNOWN), PATH), 200);
    Contender::new(ROUTER, &["axum"], turn)
}

/// Measures the cost that axum adds to any middleware that is written as a function.
pub fn from_fn() -> Contender {
    async fn pass(request: Request, next: Next) -> Response {
        next.run(request).await
    }
    let app = bare().layer(middleware::from_fn(pass));
    let turn = fresh::<Body, _>(boxed(app), at_router(&key(KNOWN), PATH), 200);
    Contender::new("axum: `from_fn` that does nothing", &["axum"], turn).within(ROUTER)
}
