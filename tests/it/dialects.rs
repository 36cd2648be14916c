//! The same denials in each dialect, and what none of them may tell.

use bytes::Bytes;
use http::{Response, StatusCode};
use tower::{Layer as _, ServiceExt as _};
use tower_authz::{
    Authz, Cause, Denial, Permission, Policy, Reject, Rule,
    reject::{Empty, Grpc, Logic64, Logik, Problem, Scayle},
};

use crate::support::{Handler, Mood, MoodyStore, get, products_reader, store};

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
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"code":"invalid_api_key","detail":"a valid API key is needed"}"#,
            format!(
                r#"{{"type":"about:blank","title":"Forbidden","status":403,"code":"missing_permission","detail":"{reason}"}}"#
            ),
        ),
        (
            &Scayle,
            r#"{"errors":[{"errorKey":"UNAUTHORIZED","message":"a valid API key is needed","context":{"cause":"invalid_api_key"}}]}"#,
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

#[test]
fn grpc_answers_in_trailers_only() {
    for (cause, status) in [
        (Cause::Revoked, "16"),
        (Cause::ForeignAddress, "7"),
        (Cause::NoRule, "5"),
        (Cause::UncleanPath("x"), "3"),
        (Cause::StoreUnavailable { why: "x".into() }, "14"),
        (Cause::UnreadableRecord { why: "x".into() }, "13"),
    ] {
        let response: Response<Bytes> = Grpc.reject(&cause.into());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], status);
        assert!(response.body().is_empty());
    }
}

/// What a store says of its troubles is for the log.
#[tokio::test]
async fn no_dialect_tells_what_the_store_says() {
    let policy = || Policy::builder().route("/", Rule::resource("products").unscoped()).build().unwrap();
    let down = MoodyStore { mood: Mood::Unavailable, keys: store(products_reader()) };
    let authz = || Authz::new(down.clone(), policy());
    let services = [
        authz().layer(Handler::default()).oneshot(get("/")).await,
        authz().with_reject(Scayle).layer(Handler::default()).oneshot(get("/")).await,
        authz().with_reject(Logic64).layer(Handler::default()).oneshot(get("/")).await,
        authz().with_reject(Logik).layer(Handler::default()).oneshot(get("/")).await,
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
