//! tower-authz is measured around a plain service and around a router.

use axum::body::Body;
use http::Request;
use tower::Layer as _;
use tower_authz::{Authz, Check as _, Head, reject::Empty};

use super::bare::{FRESH, ROUTER, SERVICE, at_router, at_service};
use crate::{
    gates::ours,
    measure::Contender,
    request::{FOREIGN_PATH, KNOWN, PATH, PEER, UNKNOWN, key, networks},
    turns::{answers, asked, boxed, carried, carry_back, fresh},
};

const PACKAGES: &[&str] = &["tower-authz"];

fn authz() -> Authz<Empty> {
    ours::authz(&networks())
}

pub fn service() -> Contender {
    let mut service = boxed(authz().layer(carry_back()));
    answers(&mut service, at_service(&key(UNKNOWN), PATH), 401);
    answers(&mut service, at_service(&key(KNOWN), FOREIGN_PATH), 403);
    let turn = carried(service, at_service(&key(KNOWN), PATH));
    Contender::new("tower-authz", PACKAGES, turn).within(SERVICE)
}

pub fn silent() -> Contender {
    let turn = carried(boxed(authz().without_principal().layer(carry_back())), at_service(&key(KNOWN), PATH));
    Contender::new("tower-authz, no principal published", PACKAGES, turn).within(SERVICE)
}

/// Checks route, permission, lists and networks of a caller who is already authenticated, as cedar and casbin do.
pub fn checks() -> Contender {
    let request = |path| {
        let mut request = at_service(&key(KNOWN), path);
        request.extensions_mut().insert(ours::principal(&networks(), KNOWN, PEER));
        request
    };
    let policy = ours::policy();
    let allows = move |request: &Request<()>| policy.check(&Head::new(request)).is_ok();
    Contender::new("tower-authz, the checks alone", PACKAGES, asked(allows, request(PATH), &request(FOREIGN_PATH)))
}

pub fn fresh_service() -> Contender {
    let turn = fresh(boxed(authz().layer(carry_back())), at_service(&key(KNOWN), PATH), 200);
    Contender::new("tower-authz, fresh request", PACKAGES, turn).within(FRESH)
}

/// A refused request is not returned in the response, so each call needs a new one.
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
    let mut app = boxed::<_, Body, _>(ours::router(&networks()));
    answers(&mut app, at_router(&key(UNKNOWN), PATH), 401);
    answers(&mut app, at_router(&key(KNOWN), FOREIGN_PATH), 403);
    let turn = fresh(app, at_router(&key(KNOWN), PATH), 200);
    Contender::new("axum: tower-authz", &["axum", "tower-authz"], turn).within(ROUTER)
}

pub fn one_list() -> Contender {
    let mut app = boxed::<_, Body, _>(ours::one_list(&networks()));
    answers(&mut app, at_router(&key(UNKNOWN), PATH), 401);
    answers(&mut app, at_router(&key(KNOWN), FOREIGN_PATH), 403);
    let turn = fresh(app, at_router(&key(KNOWN), PATH), 200);
    Contender::new("axum: tower-authz, one list of routes", &["axum", "tower-authz"], turn).within(ROUTER)
}
