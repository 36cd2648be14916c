//! Tests hyper and tonic over real sockets, HTTP/2 included.

#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/hyper.rs"]
mod hyper_example;
#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/tonic.rs"]
mod tonic_example;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, transport::Endpoint};
use tower_authz::{ApiKey, KeyFile};

fn file(keys: &[(&str, &str)]) -> KeyFile {
    let entries: Vec<String> = keys
        .iter()
        .map(|(key, fields)| format!(r#"{{"id":"{key}-id","digest":"{}",{fields}}}"#, ApiKey::new(*key).digest()))
        .collect();
    KeyFile::parse(&format!(r#"{{"keys":[{}]}}"#, entries.join(",")), "keys.json").unwrap()
}

#[tokio::test]
async fn hyper_serves_both_versions() {
    let keys = file(&[
        ("token-clerk", r#""permissions":{"shops":"read"},"restrictions":{"shop":{"include":["ay"]}}"#),
        ("token-local", r#""permissions":{"products":"read"},"ip_ranges":["127.0.0.1"]"#),
        ("token-remote", r#""permissions":{"products":"read"},"ip_ranges":["192.0.2.0/24"]"#),
    ]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(hyper_example::serve(listener, keys, None));
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build_http();
        for (key, path, status) in [
            ("", "/health", 200),
            ("", "/products", 401),
            ("token-clerk", "/shops/ay", 200),
            ("token-clerk", "/shops/by", 403),
            ("token-clerk", "/shops/AY", 400),
            ("token-clerk", "/products/../shops/ay", 400),
            ("token-clerk", "/unlisted", 404),
            ("token-local", "/products", 200),
            ("token-remote", "/products", 403),
        ] {
            let mut request = Request::get(format!("http://{address}{path}")).version(version);
            if !key.is_empty() {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            let response = client.request(request.body(Full::default()).unwrap()).await.unwrap();
            assert_eq!(response.status(), status, "{version:?} {key} {path}");
            assert_eq!(response.version(), version);
            response.into_body().collect().await.unwrap();
        }
        for path in ["/health", "/products"] {
            let head = Request::head(format!("http://{address}{path}")).version(version);
            let response = client.request(head.body(Full::default()).unwrap()).await.unwrap();
            assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty(), "{version:?} {path}");
        }
    }
}

/// HTTP/2 can carry requests that HTTP/1 parsers refuse; a `:path` without a slash reaches no handler.
#[tokio::test]
async fn http2_needs_no_host_header_and_no_tricks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(hyper_example::serve(listener, file(&[("token-any", r#""permissions":{"products":"read"}"#)]), None));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://tenant.example/products").header("x-access-token", "token-any");
    let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn denials_are_grpc_statuses() {
    let keys = file(&[
        ("token-monitor", r#""permissions":{"health":"read"}"#),
        ("token-stranger", r#""permissions":{"orders":"write"}"#),
        ("token-elsewhere", r#""permissions":{"health":"read"},"ip_ranges":["192.0.2.0/24"]"#),
        ("token-here", r#""permissions":{"health":"read"},"ip_ranges":["127.0.0.0/8"]"#),
    ]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(tonic_example::serve(listener, keys));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    for (key, code) in [
        (None, Code::Unauthenticated),
        (Some("token-unknown"), Code::Unauthenticated),
        (Some("token-stranger"), Code::PermissionDenied),
        (Some("token-elsewhere"), Code::PermissionDenied),
        (Some("token-here"), Code::Ok),
        (Some("token-monitor"), Code::Ok),
    ] {
        let called = tonic_example::check(channel.clone(), key).await;
        assert_eq!(called.map_or_else(|status| status.code(), |()| Code::Ok), code, "{key:?}");
    }
}
