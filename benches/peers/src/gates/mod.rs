//! Routers behind gates, each set up as its users would. A gate that knows networks is told which.

pub mod bearer;
pub mod hand_rolled;
pub mod ours;

use axum::{Router, routing::get};

use crate::request::PATTERN;

/// A router to put a layer around.
pub fn bare() -> Router {
    Router::new().route(PATTERN, get(async || "ok"))
}
