//! The gate that a competent team would write itself with axum.

use axum::body::Body;

use super::bare::{ROUTER, at_router};
use crate::{
    gates::hand_rolled,
    measure::Contender,
    request::{FOREIGN_PATH, KNOWN, PATH, UNKNOWN, key, networks},
    turns::{answers, boxed, fresh},
};

pub fn router() -> Contender {
    let mut app = boxed::<_, Body, _>(hand_rolled::router(&networks()));
    answers(&mut app, at_router(&key(UNKNOWN), PATH), 401);
    answers(&mut app, at_router(&key(KNOWN), FOREIGN_PATH), 403);
    let turn = fresh(app, at_router(&key(KNOWN), PATH), 200);
    Contender::new("axum: hand-rolled `from_fn`", &["axum", "sha2", "ipnet"], turn).within(ROUTER)
}
