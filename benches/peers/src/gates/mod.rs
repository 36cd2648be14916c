//! Routers behind gates, each configured as its users would configure it. Gates that check networks are given the
//! allowed ones.

pub mod bearer;
pub mod hand_rolled;
pub mod ours;

use axum::{Router, routing::get};

use crate::request::PATTERN;

/// Returns a router that a layer can be applied to.
pub fn bare() -> Router {
    Router::new().route(PATTERN, get(async || "ok"))
}
