//! tower-http compares one static token, which is the least that a gate can do.

#![expect(deprecated, reason = "it calls itself too basic, and is what people reach for")]

use axum::Router;
use tower_http::{auth::require_authorization::Bearer, validate_request::ValidateRequestHeaderLayer};

use super::bare;
use crate::request::{KNOWN, key};

pub fn gate<R: Default>() -> ValidateRequestHeaderLayer<Bearer<R>> {
    ValidateRequestHeaderLayer::bearer(&key(KNOWN))
}

pub fn router() -> Router {
    bare().layer(gate())
}
