//! tower-http compares one static token, which is the least that a gate can do.

use axum::body::Body;
use tower::Layer as _;

use super::bare::{ROUTER, SERVICE, at_router, at_service};
use crate::{
    gates::bearer,
    measure::Contender,
    request::{KNOWN, PATH, UNKNOWN, key},
    turns::{answers, boxed, carried, carry_back, fresh},
};

pub fn service() -> Contender {
    let mut service = boxed(bearer::gate().layer(carry_back()));
    answers(&mut service, at_service(&key(UNKNOWN), PATH), 401);
    let turn = carried(service, at_service(&key(KNOWN), PATH));
    Contender::new("tower-http bearer, one static token", &["tower-http"], turn).within(SERVICE)
}

pub fn router() -> Contender {
    let mut app = boxed::<_, Body, _>(bearer::router());
    answers(&mut app, at_router(&key(UNKNOWN), PATH), 401);
    let turn = fresh(app, at_router(&key(KNOWN), PATH), 200);
    Contender::new("axum: tower-http bearer, one static token", &["axum", "tower-http"], turn).within(ROUTER)
}
