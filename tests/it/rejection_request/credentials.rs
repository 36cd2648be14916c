//! Tests that no rejection sees a credential, whatever the source, and whatever else a client sends.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_authz::{
    AuthenticateLayer, Authz, Denial, FindCredential, Head, RequireLayer, Source, Sources,
    reject::{self, WithRequest},
    store::MemoryStore,
};

use super::{ask, handlers, policy, request};
use crate::support::{KEY, products_reader, store};

/// Repeats every header that it sees, marked as sensitive or not.
fn repeat_all(denial: &Denial) -> Response<Body> {
    let headers = denial.request().unwrap().headers().iter();
    let lines: Vec<_> = headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    let mut response = Response::new(Body::from(format!("{:?}\n{}", denial, lines.join("\n"))));
    *response.status_mut() = denial.status();
    response
}

/// A key after a colon.
#[derive(Debug)]
struct AfterColon;

impl FindCredential for AfterColon {
    fn header(&self) -> HeaderName {
        HeaderName::from_static("x-compound")
    }

    fn find<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        value.iter().position(|byte| *byte == b':').and_then(|colon| value.get(colon + 1..))
    }

    fn strip(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Whatever the source, whether the key is good, and whatever else the client sends.
#[tokio::test]
async fn no_rejection_sees_a_credential() {
    let sources = [
        Source::bearer(),
        Source::scheme("token").unwrap(),
        Source::header(HeaderName::from_static("x-acme-key")),
        Source::cookie("api_key").unwrap(),
        Source::custom(AfterColon),
    ];
    let bad = "a-key-that-nobody-issued";
    let authz = Authz::new(store(products_reader()), policy()).with_sources(sources);
    let app = handlers().layer(authz.with_rejection(WithRequest::new(repeat_all)));
    for key in [KEY, bad] {
        let (bearer, token) = (format!("Bearer {key}"), format!("Token {key}"));
        let (basic, cookie, compound) = (format!("Basic {key}"), format!("a=b; api_key={key}"), format!("a:{key}"));
        let all = [
            ("authorization", bearer.as_str()),
            ("authorization", &token),
            ("authorization", &basic),
            ("proxy-authorization", &basic),
            ("x-acme-key", key),
            ("cookie", &cookie),
            ("x-compound", &compound),
        ];
        let alone = all.iter().map(|header| vec![*header]);
        for headers in alone.chain([all.to_vec()]) {
            for (method, path) in [("POST", "/products"), ("GET", "/refused"), ("GET", "/ghost"), ("GET", "//")] {
                let (status, _, body) = ask(&app, request(method, path, &headers)).await;
                assert!(status >= 400, "{headers:?}");
                assert!(body.contains("x-request-id: r-7"), "{body}");
                assert!(!body.contains(key), "{method} {path} {headers:?}: {body}");
            }
        }
    }
}

/// A layer that knows no sources leaves out what is marked, and the headers that always hold credentials.
#[tokio::test]
async fn nor_does_that_of_a_layer_without_sources() {
    let handler = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let check = |_: &Head<'_>| Err::<(), _>(Denial::refused("never"));
    let app = RequireLayer::new(check).with_rejection(WithRequest::new(repeat_all)).layer(handler);
    let mut request = request("GET", "/", &[("authorization", "Bearer secret"), ("cookie", "session=secret")]);
    let mut marked = HeaderValue::from_static("secret");
    marked.set_sensitive(true);
    request.headers_mut().insert("x-acme-key", marked);
    let (status, _, body) = ask(&app, request).await;
    assert_eq!(status, 403);
    assert!(body.ends_with("host: localhost\nx-request-id: r-7"), "{body}");
    assert!(!body.contains("secret"), "{body}");

    // The gate outside marks the headers of its sources.
    let sources = Sources::from([Source::header(HeaderName::from_static("x-acme-key"))]);
    let app = AuthenticateLayer::new(store(products_reader())).with_sources(sources).layer(app);
    let handled = app.oneshot(super::request("GET", "/", &[("x-acme-key", KEY)])).await.unwrap();
    let body = String::from_utf8(handled.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(body.ends_with("host: localhost\nx-request-id: r-7") && !body.contains(KEY), "{body}");
}

/// Nothing that a client sends makes a rejection panic, or the gate let it through.
#[tokio::test]
async fn odd_requests_are_refused_as_others() {
    let rejection = WithRequest::new(|denial: &Denial| {
        let request = denial.request().unwrap();
        let mut response = Response::new(Bytes::from(format!("{} {request:?}", request.headers().len())));
        *response.status_mut() = denial.status();
        reject::headers(denial, response.headers_mut());
        response
    });
    let handler = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Bytes::new())));
    let app = Authz::new(MemoryStore::new(), policy()).with_rejection(rejection).layer(handler);
    let mut odd = Request::builder().method("CONNECT").uri("user:secret@api.example:443").body(()).unwrap();
    odd.headers_mut().insert("x-binary", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    let response = app.clone().oneshot(odd).await.unwrap();
    assert!(response.status().is_client_error());
    assert!(!String::from_utf8_lossy(response.body()).contains("secret"));

    let mut many = Request::get("/products").body(()).unwrap();
    for number in 0..20_000 {
        many.headers_mut().insert(HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from(number));
    }
    let response = app.oneshot(many).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.body().starts_with(b"20000 "));
}
