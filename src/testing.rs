//! Helpers for tests of applications: does every route have a rule?

use crate::Policy;

/// Asserts that every route of an axum router has a rule, and every rule a route.
///
/// axum has no list of its routes to ask for, so they are read from the router's `Debug` output; should
/// a version of axum write it otherwise, the assertion fails and says so. What `nest_service` nests
/// under a prefix counts as three routes: `/prefix`, `/prefix/` and `/prefix/{*rest}`.
///
/// # Panics
/// If one has not.
///
/// # Example
/// ```
/// use axum::{Router, routing::get};
/// use tower_authz::{Policy, Rule, testing::assert_covered};
///
/// let routes: Router = Router::new().route("/products/{id}", get(|| async { "a product" }));
/// let policy = Policy::builder().route("/products/{id}", Rule::resource("products").unscoped()).build()?;
/// assert_covered(&policy, &routes);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[track_caller]
pub fn assert_covered<S>(policy: &Policy, router: &axum::Router<S>) {
    let audit = policy.audit(routes_of(router));
    assert!(audit.is_complete(), "{audit}");
}

/// The patterns of all routes of a router, prefixes of nested routers included.
///
/// # Panics
/// If they cannot be read.
#[track_caller]
#[must_use]
pub fn routes_of<S>(router: &axum::Router<S>) -> Vec<String> {
    let shown = format!("{router:?}");
    let paths = shown.split_once("node: Node { paths: {").and_then(|(_, paths)| paths.split_once(" } }"));
    let paths = paths.map(|(paths, _)| paths).or_else(|| shown.contains("node: Node { paths: {}").then_some(""));
    assert!(paths.is_some(), "this version of axum shows its routes in another form; please report it");
    let names = paths.unwrap_or_default().split('"').skip(1).step_by(2);
    names.map(|path| path.replace("{*__private__axum_nest_tail_param}", "{*rest}")).collect()
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};

    use super::*;
    use crate::Rule;

    fn router() -> Router {
        let inner = Router::new().route("/", get(async || "")).route("/{id}", get(async || ""));
        let files = tower::service_fn(async |_: axum::extract::Request| {
            Ok::<_, std::convert::Infallible>(axum::response::Response::new(axum::body::Body::empty()))
        });
        Router::new().route("/health", get(async || "")).nest("/shops", inner).nest_service("/files", files)
    }

    #[test]
    fn routes_are_read_from_a_router() {
        let mut routes = routes_of(&router());
        routes.sort();
        assert_eq!(routes, ["/files", "/files/", "/files/{*rest}", "/health", "/shops", "/shops/{id}"]);
        assert!(routes_of(&Router::<()>::new()).is_empty());
    }

    #[test]
    #[should_panic(
        expected = "the route /shops/{id} has no rule and is refused\nthe rule for /shop/{id} matches no route"
    )]
    fn what_is_not_covered_is_told() {
        let policy = ["/files", "/files/", "/files/{*rest}", "/health", "/shops", "/shop/{id}"]
            .into_iter()
            .fold(Policy::builder(), |policy, pattern| policy.route(pattern, Rule::authenticated()));
        assert_covered(&policy.build().unwrap(), &router());
    }
}
