//! For tests of applications: every route has a rule, every route is guarded; and keys, principals and requests in one line.

use std::{fmt::Debug, future::poll_fn};

use futures::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, header::AUTHORIZATION};
use tower::Service;

use crate::{
    client_address::ClientAddress,
    denial::Denial,
    directory::Directory,
    head::Head,
    key::{ApiKey, Digest, Grant, KeyRecord},
    policy::Policy,
    principal::Principal,
    reject::HandlerDenial,
    store::{KeyAdmin as _, MemoryStore, NewKey},
};

/// Returns a store with one key of this grant, and the key. More keys, of other kinds, are issued as in any store.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use axum::routing::get;
/// use tower::ServiceExt as _;
/// use tower_authz::{
///     Authz, Grant, GuardedRouter, Rule,
///     testing::{key_with, request_with},
/// };
///
/// let (store, key) = key_with(Grant::builder().read("products").build()?);
/// let app = GuardedRouter::new()
///     .route("/products", Rule::resource("products").unscoped(), get(|| async { "products" }))
///     .guard(Authz::from_store(store))?;
///
/// let response = app.clone().oneshot(request_with(&key, "GET", "/products")).await?;
/// assert_eq!(response.status(), 200);
/// let response = app.oneshot(request_with(&key, "POST", "/products")).await?;
/// assert_eq!(response.status(), 403);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Panics
/// Panics if the store refuses the grant, or the system has no random numbers.
#[must_use]
#[track_caller]
#[allow(clippy::expect_used, reason = "a test that cannot go on should stop")]
pub fn key_with(grant: Grant) -> (MemoryStore, ApiKey) {
    let store = MemoryStore::new();
    let issued = store.as_actor("test").issue(NewKey::new("test", grant)).now_or_never();
    let issued = issued.expect("a store in memory answers at once").expect("a grant that the store can keep");
    (store, issued.api_key)
}

/// Returns the principal of a key with this grant, for handlers that are called without layers. Its id is `test`, nothing is
/// known of its address, and it is always live.
///
/// # Example
/// ```
/// use tower_authz::{Denial, Dimension, Grant, Principal, testing::principal_with};
///
/// fn ship(principal: &Principal, shop: &str) -> Result<(), Denial> {
///     principal.require(Dimension::SHOP, shop)
/// }
///
/// let principal = principal_with(Grant::builder().only(Dimension::SHOP, ["de"]).build()?);
/// assert!(ship(&principal, "de").is_ok() && ship(&principal, "ch").is_err());
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[must_use]
#[allow(clippy::expect_used, reason = "it is an id")]
pub fn principal_with(grant: Grant) -> Principal {
    let record = KeyRecord::builder("test".parse().expect("an id"), Digest::from_key(b"test")).grant(grant).build();
    Principal::new(record.into(), Directory::default(), ClientAddress::UNKNOWN)
}

/// Returns a request with this key as a bearer token, without a body: see [`key_with`].
///
/// # Panics
/// Panics if the method or the URI is malformed, or the key no text for a header.
#[must_use]
#[track_caller]
#[allow(clippy::expect_used, reason = "a test that cannot go on should stop")]
pub fn request_with(key: &ApiKey, method: &str, uri: &str) -> Request<axum::body::Body> {
    let mut credential =
        HeaderValue::try_from(format!("Bearer {}", key.expose())).expect("a key of visible characters");
    credential.set_sensitive(true);
    let request = Request::builder().method(method).uri(uri).header("host", "localhost");
    request.header(AUTHORIZATION, credential).body(axum::body::Body::empty()).expect("a method and a URI")
}

/// Asserts that every route of an axum router has a rule, and every rule a route.
///
/// axum does not list its routes, so they are read from the router's `Debug` output; if a version of axum writes it
/// differently, the assertion fails with a message that says so. A service nested under a prefix with `nest_service`
/// counts as three routes: `/prefix`, `/prefix/` and `/prefix/{*rest}`.
///
/// # Panics
/// Panics if a route has no rule, or a rule no route.
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

/// Does the same as [`assert_covered`] for an application whose routes come from another source: a list of patterns in
/// the syntax of the router.
///
/// # Panics
/// Panics if a route has no rule, or a rule no route.
#[track_caller]
pub fn assert_covers<T: AsRef<str>>(policy: &Policy, routes: impl IntoIterator<Item = T>) {
    let audit = policy.audit(routes);
    assert!(audit.is_complete(), "{audit}");
}

/// Asserts that no route of an axum router answers a request without a key, except for those that the policy declares
/// public, or whose rule is [`optional`](crate::Rule::optional).
///
/// [`assert_covered`] compares two lists, and cannot know where the layer is: a route that is added or merged after
/// `.layer(Authz)` has its rule and is open. This function sends each route a request for each method, without a key,
/// and requires that the gate refuses each. A handler that is reached is reported, but has run: use an application
/// that can do no harm.
///
/// # Panics
/// Panics if a route answers. The message names each route that does.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use axum::{Router, routing::get};
/// use tower_authz::{Authz, Policy, Rule, store::MemoryStore, testing::assert_guarded};
///
/// let policy = Policy::builder()
///     .public("/health")
///     .route("/products/{id}", Rule::resource("products").unscoped())
///     .build()?;
/// let app: Router = Router::new()
///     .route("/health", get(|| async { "ok" }))
///     .route("/products/{id}", get(|| async { "a product" }))
///     .layer(Authz::new(MemoryStore::new(), policy.clone()));
/// assert_guarded(&policy, &app).await;
/// # Ok::<(), tower_authz::ConfigError>(())
/// # }).unwrap();
/// ```
pub async fn assert_guarded(policy: &Policy, router: &axum::Router) {
    assert_guarded_at(policy, router.clone(), routes_of(router)).await;
}

/// Does the same as [`assert_guarded`] for any service and a list of its routes.
///
/// # Panics
/// Panics like [`assert_guarded`].
pub async fn assert_guarded_at<S, B, T>(policy: &Policy, service: S, routes: impl IntoIterator<Item = T>)
where
    S: Service<Request<axum::body::Body>, Response = Response<B>> + Clone,
    S::Error: Debug,
    T: AsRef<str>,
{
    let mut open = Vec::new();
    for route in routes {
        let path = example_of(route.as_ref());
        for method in METHODS {
            let request = Request::builder().method(&method).uri(&path).header("host", "localhost");
            let Ok(request) = request.body(axum::body::Body::empty()) else {
                open.push(format!("{method} {}: {path:?} is no path", route.as_ref()));
                continue;
            };
            if policy.admits_anonymous(&Head::new(&request)) {
                continue;
            }
            let mut service = service.clone();
            let answer = match poll_fn(|cx| service.poll_ready(cx)).await {
                Ok(()) => service.call(request).await,
                Err(error) => Err(error),
            };
            match answer {
                // A denial by a handler is not enough: the gate must refuse before the handler runs.
                Ok(response)
                    if response.extensions().get::<Denial>().is_some()
                        && response.extensions().get::<HandlerDenial>().is_none() => {}
                Ok(response) => {
                    open.push(format!("{method} {} answers {}", route.as_ref(), response.status().as_u16()))
                }
                Err(error) => open.push(format!("{method} {} fails: {error:?}", route.as_ref())),
            }
        }
    }
    assert!(open.is_empty(), "without a key, and past the gate:\n{}", open.join("\n"));
}

const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS];

/// An example of a path that the pattern matches.
fn example_of(pattern: &str) -> String {
    let segment = |segment: &str| match segment.split_once('{') {
        Some((literal, _)) => format!("{literal}1"),
        None => segment.to_owned(),
    };
    pattern.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// The patterns of all routes of a router, prefixes of nested routers included.
///
/// # Panics
/// Panics if the routes cannot be read from the `Debug` output.
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
    use crate::policy::Rule;

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

    /// A layer wraps only the routes that exist when it is applied.
    #[test]
    fn a_route_that_came_after_the_layer_is_found() {
        use futures::executor::block_on;

        use crate::{authz::Authz, store::MemoryStore};

        let rule = || Rule::authenticated().unscoped();
        let patterns = ["/files", "/files/", "/files/{*rest}", "/shops", "/shops/{id}", "/late"];
        let policy =
            patterns.into_iter().fold(Policy::builder().public("/health"), |policy, it| policy.route(it, rule()));
        let policy = policy.build().unwrap();
        let authz = Authz::new(MemoryStore::new(), policy.clone());
        let late = || Router::new().route("/late", get(async || crate::denial::Denial::refused("a handler says no")));
        let guarded = router().merge(late()).layer(authz.clone());
        assert_covered(&policy, &guarded);
        block_on(assert_guarded(&policy, &guarded));
        let open = router().layer(authz).merge(late());
        assert_covered(&policy, &open);
        let asserted = std::panic::AssertUnwindSafe(|| block_on(assert_guarded(&policy, &open)));
        let message = std::panic::catch_unwind(asserted).unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("GET /late answers 403") && !message.contains("/shops"), "{message}");
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
