//! Renders the same denials in each dialect, and checks that none discloses internal details.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_authz::{
    Access, Authz, Cause, Denial, Head, Permission, Policy, Reject, RequireLayer, Rule,
    reject::{Empty, Grpc, Logic64, Logik, Problem, Scayle},
};

use crate::support::{Handler, KEY, Mood, MoodyStore, get, products_reader, store};

fn say(dialect: &dyn Reject<Bytes>, cause: Cause) -> (u16, String) {
    let response = dialect.reject(&cause.into());
    (response.status().as_u16(), String::from_utf8(response.into_body().to_vec()).unwrap())
}

#[test]
fn each_dialect_says_it_in_its_way() {
    let lacks = || Cause::MissingPermission(Permission::write("orders"));
    let reason = "the key lacks the permission orders:write";
    for (dialect, unauthorized, forbidden) in [
        (
            &Problem as &dyn Reject<Bytes>,
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"code":"invalid_api_key","detail":"a valid API key is required"}"#,
            format!(
                r#"{{"type":"about:blank","title":"Forbidden","status":403,"code":"missing_permission","detail":"{reason}"}}"#
            ),
        ),
        (
            &Scayle,
            r#"{"errors":[{"errorKey":"UNAUTHORIZED","message":"a valid API key is required","context":{"cause":"invalid_api_key"}}]}"#,
            format!(
                r#"{{"errors":[{{"errorKey":"FORBIDDEN","message":"{reason}","context":{{"cause":"missing_permission"}}}}]}}"#
            ),
        ),
        (
            &Logic64,
            r#"{"code":"INVALID_API_KEY","hint":"Run: logic64 login"}"#,
            format!(r#"{{"code":"FORBIDDEN","hint":"{reason}"}}"#),
        ),
        (&Logik, "", String::new()),
        (&Empty, "", String::new()),
    ] {
        assert_eq!(say(dialect, Cause::Revoked), (401, unauthorized.to_owned()));
        assert_eq!(say(dialect, lacks()), (403, forbidden));
    }
}

/// Sends a request that a check refuses for this cause.
async fn refused<R: Reject<Bytes>>(dialect: R, cause: Cause, method: &str, kind: &str) -> Response<Bytes> {
    let check = move |_: &Head<'_>| Err::<(), Denial>(cause.clone().into());
    let handler = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Bytes::from("handled"))));
    let request = Request::builder().method(method).uri("/").header("content-type", kind);
    let service = RequireLayer::new(check).with_rejection(dialect).layer(handler);
    service.oneshot(request.body(()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn grpc_answers_in_trailers_only() {
    for (cause, status) in [
        (Cause::Revoked, "16"),
        (Cause::AddressNotAllowed, "7"),
        (Cause::NoRule, "5"),
        (Cause::NotFound, "5"),
        (Cause::AmbiguousPath("x"), "3"),
        (Cause::StoreUnavailable { why: "x".into() }, "14"),
        (Cause::UnreadableRecord { why: "x".into() }, "13"),
    ] {
        let response = refused(Grpc::new(), cause, "POST", "application/grpc+proto").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], status);
        assert!(response.body().is_empty());
    }
}

/// A client that does not speak gRPC would take HTTP 200 for success, and after a `CONNECT` it would treat the
/// connection as a tunnel.
#[tokio::test]
async fn what_is_no_grpc_call_is_refused_in_another_dialect() {
    for (method, kind) in [
        ("POST", "application/json"),
        ("POST", "application/grpcx"),
        ("GET", "application/grpc"),
        ("HEAD", "application/grpc"),
        ("CONNECT", "application/grpc"),
    ] {
        let response = refused(Grpc::new(), Cause::Revoked, method, kind).await;
        assert_eq!(response.status(), 401, "{method} {kind}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {kind}");
        assert!(!response.headers().contains_key("grpc-status"), "{method} {kind}");
        let response = refused(Grpc::new().otherwise(Scayle), Cause::AddressNotAllowed, method, kind).await;
        assert_eq!(response.status(), 403, "{method} {kind}");
        assert_eq!(response.headers()["content-type"], "application/json", "{method} {kind}");
    }
}

/// A denial that a handler returns is rendered in the form that the request asked for, although the request is
/// consumed by then.
#[tokio::test]
async fn a_raised_denial_is_a_grpc_status_to_a_grpc_call_only() {
    let policy = Policy::builder().route("/", Rule::resource("products").unscoped().method(Method::POST, Access::Read));
    let app: axum::Router = axum::Router::new()
        .route("/", axum::routing::post(async || Denial::refused("not on Sundays")))
        .layer(Authz::new(store(products_reader()), policy.build().unwrap()).with_rejection(Grpc::new()));
    for (kind, status) in [("application/grpc", 200), ("application/json", 403)] {
        let request = Request::post("/").header("x-api-key", KEY).header("content-type", kind);
        let response = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{kind}");
        assert_eq!(response.headers().contains_key("grpc-status"), status == 200, "{kind}");
    }
}

/// The error of a store belongs in the log, and not in the response.
#[tokio::test]
async fn no_dialect_tells_what_the_store_says() {
    let policy = || Policy::builder().route("/", Rule::resource("products").unscoped()).build().unwrap();
    let down = MoodyStore { mood: Mood::Unavailable, keys: store(products_reader()) };
    let authz = || Authz::new(down.clone(), policy());
    let services = [
        authz().layer(Handler::default()).oneshot(get("/")).await,
        authz().with_rejection(Scayle).layer(Handler::default()).oneshot(get("/")).await,
        authz().with_rejection(Logic64).layer(Handler::default()).oneshot(get("/")).await,
        authz().with_rejection(Logik).layer(Handler::default()).oneshot(get("/")).await,
    ];
    for response in services {
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(response.extensions().get::<Denial>().unwrap().to_string().contains("down"));
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        assert!(!String::from_utf8(body.to_vec()).unwrap().contains("down"));
    }
}
