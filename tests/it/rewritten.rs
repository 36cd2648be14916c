//! Paths that were changed between a router and the gate: the rule must evaluate the path that the handler sees, or
//! the request must be refused.

use axum::{
    Router,
    body::Body,
    extract::{OriginalUri, Path},
    routing::{MethodRouter, any, get},
};
use http::{Request, Uri};
use tower::{Layer as _, util::MapRequestLayer};
use tower_authz::{
    AuthenticateLayer, Authz, Dimension, Grant, IdGrammar, Policy, RequireLayer, Rule, check::EntityRef,
    store::MemoryStore,
};

use crate::support::{KEY, send, store};

/// Documents are named by their path, which contains slashes.
const DOCUMENT: Dimension = Dimension::new("document", IdGrammar::Custom(|id| !id.is_empty()));

/// Returns a key that may read all documents but these.
fn keys(excluded: &[&str]) -> MemoryStore {
    store(Grant::builder().read("documents").except(DOCUMENT, excluded).build().unwrap())
}

fn scoped() -> Rule {
    Rule::resource("documents").scoped(EntityRef::from_path(DOCUMENT, "rest"))
}

fn gate(pattern: &str, excluded: &[&str]) -> Authz {
    Authz::new(keys(excluded), Policy::builder().route(pattern, scoped()).build().unwrap())
}

/// Returns a router with one route, whose handler returns the document that it sees.
fn documents() -> Router {
    Router::new().route("/{*rest}", get(async |Path(all): Path<Vec<(String, String)>>| all.last().unwrap().1.clone()))
}

fn request(path: &str) -> Request<Body> {
    Request::get(path).header("x-api-key", KEY).body(Body::empty()).unwrap()
}

/// Returns middleware that rewrites each path.
fn to<F>(rewrite: F) -> MapRequestLayer<impl Fn(Request<Body>) -> Request<Body> + Clone + Send + Sync + 'static>
where
    F: Fn(&str) -> String + Clone + Send + Sync + 'static,
{
    MapRequestLayer::new(move |mut request: Request<Body>| {
        *request.uri_mut() = rewrite(&request.uri().to_string()).parse().unwrap();
        request
    })
}

async fn status(app: &Router, path: &str) -> u16 {
    send(app.clone(), request(path)).await.0.as_u16()
}

#[tokio::test]
async fn a_prefix_that_middleware_strips_is_not_judged_as_a_part_of_the_rest() {
    let inner = documents().layer(gate("/{*rest}", &["secret/a"]));
    let app: Router = Router::new().fallback_service(to(|path| path.replacen("/api/v1", "", 1)).layer(inner));
    assert_eq!(status(&app, "/api/v1/secret/a").await, 400, "the handler would see secret/a");
    assert_eq!(status(&app, "/api/v1/open").await, 400, "and nobody knows that of this one either");
    assert_eq!(status(&app, "/secret/a").await, 403, "what was not changed is judged");
    assert_eq!(status(&app, "/open/b").await, 200);
}

#[tokio::test]
async fn whatever_else_changes_the_path_is_refused_too() {
    let inner = || documents().layer(gate("/{*rest}", &["secret/a"]));
    type Rewrite = fn(&str) -> String;
    let rewrites: [(&str, Rewrite); 5] = [
        ("lower case", |path| path.to_ascii_lowercase()),
        ("a prefix more", |path| format!("/secret{path}")),
        ("another path", |_| "/secret/a".to_owned()),
        ("a slash less", |path| path.trim_end_matches('/').to_owned()),
        ("decoded", |path| path.replace("%61", "a")),
    ];
    for ((what, rewrite), path) in rewrites.into_iter().zip(["/SECRET/A", "/a", "/open", "/secret/a/", "/secret/%61"]) {
        let app: Router = Router::new().fallback_service(to(rewrite).layer(inner()));
        assert_eq!(status(&app, path).await, 400, "{what}");
        // Outside of all routers the path is taken as the original one.
        let inside = to(rewrite).layer(inner());
        let got = send(inside, request(path)).await.0;
        assert_eq!(got, 403, "{what}, before any router");
    }
    let query: Router = Router::new().fallback_service(to(|path| format!("{path}?v=2")).layer(inner()));
    assert_eq!((status(&query, "/secret/a").await, status(&query, "/open").await), (403, 200), "the path is the same");
}

/// Prefixes that axum's own nested routers strip are no rewriting, at any depth, and wherever the gate is applied.
#[tokio::test]
async fn what_nested_routers_strip_is_known() {
    let pattern = "/api/{version}/docs/{*rest}";
    let judged = || documents().layer(gate(pattern, &["secret/a"]));
    let required = || {
        let require = RequireLayer::new(scoped());
        let outside = AuthenticateLayer::new(keys(&["secret/a"]));
        let docs = Router::new().nest("/docs", documents().layer(require));
        Router::new().nest("/api/{version}", docs).layer(outside)
    };
    let apps: [(&str, Router); 5] = [
        ("nested twice", Router::new().nest("/api/{version}", Router::new().nest("/docs", judged()))),
        ("nested once", Router::new().nest("/api/{version}/docs", judged())),
        ("a router as a service", Router::new().nest_service("/api/{version}/docs", judged())),
        ("a service in a nest", Router::new().nest("/api/{version}", Router::new().nest_service("/docs", judged()))),
        ("a rule alone, deep inside", required()),
    ];
    for (what, app) in apps {
        for (path, expected) in [
            ("/api/v1/docs/secret/a", 403),
            ("/api/v1/docs/secret/b", 200),
            ("/api/v1/docs/docs/secret/a", 200),
            ("/api/docs/docs/secret/a", 403),
        ] {
            assert_eq!(status(&app, path).await, expected, "{what}: {path}");
        }
    }
}

/// Middleware inside of a nest strips more of the path, or replaces the original URI.
#[tokio::test]
async fn foreign_hands_inside_of_nests_are_noticed() {
    let judged = || documents().layer(gate("/api/{*rest}", &["secret/a"]));
    let cut = || to(|path| path.replacen("/v1", "", 1));
    let app: Router = Router::new().nest_service("/api", cut().layer(judged()));
    assert_eq!(status(&app, "/api/v1/secret/a").await, 400);
    assert_eq!(status(&app, "/api/secret/a").await, 403);
    let layered: Router = Router::new().nest("/api", judged().layer(cut()));
    assert_eq!(status(&layered, "/api/v1/open").await, 400);
    // This middleware also replaces the original URI, so that the rewritten path looks like the original.
    let hiding = || {
        MapRequestLayer::new(|mut request: Request<Body>| {
            let uri: Uri = request.uri().to_string().replacen("/v1", "", 1).parse().unwrap();
            *request.uri_mut() = uri.clone();
            request.extensions_mut().insert(OriginalUri(uri));
            request
        })
    };
    let nested: Router = Router::new().nest_service("/api", hiding().layer(judged()));
    assert_eq!(status(&nested, "/api/v1/api/secret/a").await, 400, "/api was stripped, and cannot have been");
    // Where a router matches the rewritten path again, the handler sees that path, and the rule evaluates it.
    let inner = documents().layer(gate("/{*rest}", &["secret/a"]));
    let anew: Router = Router::new().fallback_service(hiding().layer(inner));
    assert_eq!((status(&anew, "/v1/secret/a").await, status(&anew, "/v1/open").await), (403, 200));
}

/// axum matches such a prefix without stripping it, so a router inside, which matches again, sees the whole path.
#[tokio::test]
async fn a_rest_below_a_prefix_that_is_not_stripped_is_refused() {
    let inner = documents().layer(gate("/v{version}/{*rest}", &["v1/secret"]));
    let app: Router = Router::new().nest_service("/v{version}", inner);
    assert_eq!(status(&app, "/v1/secret").await, 400, "the handler would see v1/secret");
    // There is no ambiguity if each parameter is a whole segment.
    let shop = || Rule::resource("documents").scoped(EntityRef::from_path(DOCUMENT, "document"));
    let policy = Policy::builder().route("/v{version}/docs/{document}", shop()).build().unwrap();
    let inner = Router::new()
        .route("/docs/{document}", get(async |Path((_, document)): Path<(String, String)>| document))
        .layer(Authz::new(keys(&["secret"]), policy));
    let app: Router = Router::new().nest("/v{version}", inner);
    assert_eq!((status(&app, "/v1/docs/secret").await, status(&app, "/v1/docs/open").await), (403, 200));
}

/// A nested service sees the path that its nest has left. A `{*rest}` that begins before that point covers a
/// different text.
#[tokio::test]
async fn a_rest_of_which_a_nest_has_cut_the_beginning_is_refused() {
    let files = tower::service_fn(async |request: Request<Body>| {
        Ok::<_, std::convert::Infallible>(axum::response::Response::new(Body::from(request.uri().path().to_owned())))
    });
    for (pattern, secret, open) in [("/files/{*rest}", 403, 200), ("/{*rest}", 400, 400), ("/{area}/{*rest}", 403, 200)]
    {
        let app: Router = Router::new().nest_service("/files", gate(pattern, &["secret/a"]).layer(files));
        assert_eq!(status(&app, "/files/secret/a").await, secret, "{pattern}");
        assert_eq!(status(&app, "/files/open").await, open, "{pattern}");
    }
}

/// Neither the rule of the original path nor the fallback applies to the rewritten path.
#[tokio::test]
async fn a_path_that_was_rewritten_has_no_rule_unless_a_router_matches_it() {
    let serve = || -> MethodRouter { any(async |uri: Uri| uri.path().to_owned()) };
    let policy = || {
        Policy::builder()
            .public("/pub/{*rest}")
            .route("/admin/{*rest}", Rule::resource("admin").unscoped())
            .public_fallback()
            .build()
            .unwrap()
    };
    let gated = || Authz::new(keys(&[]), policy()).layer(serve());
    let keyless = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let to_admin = || to(|path| path.replacen("/pub", "/admin", 1).replacen("/other", "/admin", 1));
    let app: Router = Router::new().fallback_service(to_admin().layer(gated()));
    for path in ["/pub/x", "/other/x"] {
        let (status, body) = send(app.clone(), keyless(path)).await;
        assert_eq!(status, 401, "{path}: {body}");
        assert_eq!(send(app.clone(), request(path)).await.0, 404, "{path}");
    }
    assert_eq!(send(app.clone(), keyless("/else")).await.0, 200, "what was not changed");
    assert_eq!(send(app, keyless("/admin/x")).await.0, 401);
}
