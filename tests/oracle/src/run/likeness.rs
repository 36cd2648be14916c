//! S4, S17, S21 and S22: refusals that must look alike to the byte, and what every refusal carries.

use std::collections::BTreeMap;

use axum::response::Response;

use crate::interpreter::Setting;
use crate::random::must;
use crate::world::World;

/// The refusals of a world so far.
#[derive(Debug)]
pub(super) struct Likeness {
    /// Whether every 404 is one of a route: a host of no tenant is told apart, but before any key and route.
    by_routes: bool,
    /// The first refusal with a status, for `HEAD` and for other methods.
    first: BTreeMap<(String, u16, bool), String>,
}

impl Likeness {
    pub(super) fn new(world: &World) -> Self {
        Self { by_routes: world.tenants.is_none(), first: BTreeMap::new() }
    }

    /// Compares a refusal with the first of its kind. A 401 tells nothing of its cause, and a 404 nothing of whether
    /// there is a route.
    pub(super) fn compare(&mut self, setting: Setting, method: &str, response: Response) -> Option<String> {
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        let has = |name: &str, value: &str| parts.headers.get(name).is_some_and(|known| known == value);
        if !has("cache-control", "no-store") {
            return Some(format!("a refusal that caches may keep: {:?}", parts.headers));
        }
        if status == 401 && !parts.headers.contains_key("www-authenticate") {
            return Some(format!("a 401 without a challenge: {:?}", parts.headers));
        }
        if status == 503 && !parts.headers.contains_key("retry-after") {
            return Some(format!("a 503 without Retry-After: {:?}", parts.headers));
        }
        if status != 401 && !(status == 404 && self.by_routes) {
            return None;
        }
        let body = must(futures::executor::block_on(axum::body::to_bytes(body, 65_536)), "a body");
        let text = format!("{:?} {body:?}", parts.headers);
        let kind = (format!("{setting:?}"), status, method == "HEAD");
        let first = self.first.entry(kind).or_insert_with(|| text.clone());
        (*first != text).then(|| format!("two refusals are not alike:\n{first}\n{text}"))
    }
}
