//! Tests the quickstart as its reader runs it: a real server, real sockets, bytes as `curl` sends them.

#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/quickstart.rs"]
mod example;

use std::{collections::HashMap, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower_authz::store::MemoryStore;

struct Server {
    address: SocketAddr,
    keys: HashMap<&'static str, String>,
}

async fn start() -> Server {
    let store = MemoryStore::with_settings(example::settings().unwrap());
    let keys = example::issue_keys(&store).await.unwrap().into_iter().collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = example::app(store).unwrap().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server { address, keys }
}

impl Server {
    /// Sends one request as bytes, and returns status, header lines in lower case, and body.
    async fn ask(&self, method: &str, target: &str, headers: &[String], body: &str) -> (u16, String, String) {
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for header in headers {
            text += &format!("{header}\r\n");
        }
        text += &format!("content-length: {}\r\n\r\n{body}", body.len());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn status(&self, key: &str, method: &str, target: &str) -> u16 {
        let header = format!("Authorization: Bearer {}", self.keys[key]);
        self.ask(method, target, &[header], "").await.0
    }
}

#[tokio::test]
async fn each_key_gets_where_it_may() {
    let server = start().await;
    for (key, method, target, status) in [
        ("reader", "GET", "/products", 200),
        ("reader", "HEAD", "/products", 200),
        ("reader", "POST", "/products", 403),
        ("reader", "TRACE", "/products", 405),
        ("reader", "BREW", "/products", 405),
        ("clerk", "POST", "/products", 200),
        ("clerk", "GET", "/shops/de/countries/at/orders/7", 200),
        ("clerk", "PUT", "/shops/de/countries/at/orders/7", 200),
        ("clerk", "GET", "/shops/ch/countries/at/orders/7", 403),
        ("clerk", "GET", "/shops/at/countries/de/orders/7", 403),
        ("clerk", "GET", "/shops/DE/countries/at/orders/7", 400),
        ("partner", "GET", "/shops/de/countries/at/orders/7", 403),
        ("partner", "GET", "/shops/ch/countries/at/orders/7", 200),
        ("partner", "PUT", "/shops/ch/countries/at/orders/7", 403),
        ("partner", "GET", "/companies/1", 200),
        ("partner", "PATCH", "/companies/2", 200),
        ("partner", "GET", "/companies/3", 403),
        ("partner", "GET", "/companies/03", 400),
        ("partner", "GET", "/companies/+3", 400),
        ("office", "GET", "/companies/3", 200),
        ("office", "GET", "/companies/+3", 400),
        ("office", "GET", "/companies/%33", 200),
        ("office", "GET", "/ledger", 200),
        ("remote", "GET", "/ledger", 403),
        ("roaming", "GET", "/ledger", 403),
        ("expired", "GET", "/products", 401),
        ("revoked", "GET", "/products", 401),
        ("clerk", "GET", "/unlisted", 404),
        ("clerk", "GET", "/nowhere", 404),
    ] {
        assert_eq!(server.status(key, method, target).await, status, "{key} {method} {target}");
    }
}

#[tokio::test]
async fn lists_and_bodies_are_kept_in_scope() {
    let server = start().await;
    let bearer = |key: &str| format!("Authorization: Bearer {}", server.keys[key]);
    let (_, _, clerk) = server.ask("GET", "/shops", &[bearer("clerk")], "").await;
    assert!(clerk.contains(r#"{"shops":["de"]}"#), "{clerk}");
    let (_, _, partner) = server.ask("GET", "/shops", &[bearer("partner")], "").await;
    assert!(partner.contains(r#"{"shops":["ch","us"]}"#), "{partner}");
    let json = || "content-type: application/json".to_owned();
    for (body, status) in [(r#"{"shop":"de"}"#, 200), (r#"{"shop":"ch"}"#, 403), (r#"{"shop":"DE"}"#, 400), ("{", 400)]
    {
        let answer = server.ask("POST", "/shipments", &[bearer("clerk"), json()], body).await;
        assert_eq!(answer.0, status, "{body}: {}", answer.2);
    }
}

#[tokio::test]
async fn every_bad_credential_gets_the_same_401() {
    let server = start().await;
    let key = &server.keys["reader"];
    let mut changed = key.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == '0' { '1' } else { '0' });
    let bearer = |key: &str| format!("Authorization: Bearer {key}");
    let cases = [
        vec![],
        vec![bearer("garbage")],
        vec![bearer(&key[..key.len() - 3])],
        vec![bearer(&changed)],
        vec![bearer(&server.keys["expired"])],
        vec![bearer(&server.keys["revoked"])],
        vec!["Authorization: Basic dXNlcjpwYXNz".to_owned()],
        vec![bearer(key), bearer(key)],
        vec![format!("X-API-Key: {key}"), format!("X-API-Key: {key}")],
        vec![bearer("garbage"), format!("X-API-Key: {key}")],
        vec!["X-API-Key: garbage".to_owned(), format!("X-Access-Token: {key}")],
    ];
    let mut bodies = std::collections::HashSet::new();
    for headers in cases {
        let (status, head, body) = server.ask("GET", "/products", &headers, "").await;
        assert_eq!(status, 401, "{headers:?}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        bodies.insert(body);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    for header in
        [format!("authorization: BEARER {key}"), format!("x-api-key: {key}"), format!("X-Access-Token: {key}")]
    {
        assert_eq!(server.ask("GET", "/products", &[header], "").await.0, 200);
    }
    assert_eq!(server.ask("GET", "/health", &[bearer("garbage")], "").await.0, 200);
}
