//! Inputs of known attacks, verbatim, that are not in the other tables.

use std::net::IpAddr;

use http::HeaderMap;
use tower_authz::{ClientAddress, Network, TrustedProxies};

use crate::cases::{
    credential_extraction::Fixture,
    exchange::{Line, over_the_wire, raw, request, to_service},
    expand::key,
    method_path::{Probe, everything, needs},
};

const PRODUCTS: &str = "/api/admin/v1/products";

fn probe(method: &str, target: &str, lines: &[(&str, &str)]) -> Probe {
    let lines = lines.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Probe { method: method.to_owned(), target: target.to_owned(), lines, allow_preflight: false }
}

#[tokio::test]
async fn a_file_extension_makes_nothing_public() {
    for target in ["/api/admin/v1/products/1.png", "/api/admin/v1/products/logo.css"] {
        assert_eq!(needs(&probe("GET", target, &[]), "products:read").await, Ok(()), "{target}");
    }
}

#[tokio::test]
async fn headers_that_name_another_path_or_method_mean_nothing() {
    for name in ["x-original-url", "x-rewrite-url", "x-forwarded-uri", "x-forwarded-prefix"] {
        let lines = [(name, "/health"), ("x-original-method", "GET")];
        assert_eq!(needs(&probe("POST", PRODUCTS, &lines), "products:write").await, Ok(()), "{name}");
        let other_shop = probe("GET", "/api/admin/v1/shops/de", &[(name, "/api/admin/v1/shops/ch")]);
        assert_eq!(needs(&other_shop, "shops:read@shop=de").await, Ok(()), "{name}");
    }
}

/// A request for a scoped path is refused however the prefix is disguised, even for a key that may do everything.
#[tokio::test]
async fn prefixes_are_never_stripped() {
    for target in ["/api%2e/admin/v1/products", "/api%2e%2e/admin/v1/products", "/api../admin/v1/products"] {
        let answer = probe("GET", target, &[]).send(Some(everything())).await;
        assert_eq!(answer.as_deref(), Ok("deny:400"), "{target}");
    }
}

#[tokio::test]
async fn control_bytes_and_floods_of_headers_are_refused() {
    let fixture = Fixture::new().await;
    let bearer = |value: &[u8]| -> Vec<Line> { vec![(b"Authorization".to_vec(), [b"Bearer ", value].concat())] };
    let nul = bearer(b"a\0b");
    assert!(request("GET", PRODUCTS.as_bytes(), &nul).is_none(), "no such value can be built");
    assert_eq!(over_the_wire(fixture.server, "GET", PRODUCTS, &nul).await.unwrap().status, 400);

    let flood = vec![(b"X-API-Key".to_vec(), key("K1").unwrap().into()); 500];
    let answer = to_service(fixture.app.clone(), request("GET", PRODUCTS.as_bytes(), &flood)).await;
    assert_eq!(answer.status, 401);
    assert_eq!(over_the_wire(fixture.server, "GET", PRODUCTS, &flood).await.unwrap().status, 431);
    assert!(fixture.seen.take().is_empty());
}

/// No handler runs for a request that carried no key of its own, however hyper interprets the framing.
#[tokio::test]
async fn ambiguous_framing_gets_nobody_in() {
    let fixture = Fixture::new().await;
    let body = "0\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: +5\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
    ] {
        for version in ["1.1", "1.0"] {
            let text = format!("POST {PRODUCTS} HTTP/{version}\r\nHost: h\r\n{framing}Connection: close\r\n\r\n{body}");
            let status = raw(fixture.server, text.as_bytes()).await.unwrap().status;
            assert!([400, 401].contains(&status), "{framing:?} {version}: {status}");
            assert!(fixture.seen.take().is_empty(), "{framing:?} {version}");
        }
    }
}

#[tokio::test]
async fn an_origin_is_compared_whole() {
    let fixture = Fixture::new().await;
    for (origin, status) in [
        ("https://shop.example", 200),
        ("https://shop.example.evil.com", 403),
        ("https://evil-shop.example", 403),
        ("https://shop.example@evil.com", 403),
    ] {
        let bearer = format!("Bearer {}", key("KT").unwrap());
        let lines = [(b"Origin".to_vec(), origin.into()), (b"Authorization".to_vec(), bearer.into())];
        let answer = to_service(fixture.app.clone(), request("GET", b"/api/runtime/v1/configure", &lines)).await;
        assert_eq!(answer.status, status, "{origin}");
    }
}

#[test]
fn texts_that_parsers_read_differently_are_no_addresses() {
    assert!("010.0.0.0/8".parse::<Network>().is_err());
    let forwarded = TrustedProxies::new(["10.0.0.0/8"]).unwrap().with_forwarded_header();
    let peer = ClientAddress::from("10.0.0.1".parse::<IpAddr>().unwrap());
    for open in [r#"for="1.1.1.1, for=2.2.2.2"#, r#"for=2.2.2.2, for="1.1.1.1"#] {
        let mut headers = HeaderMap::new();
        headers.insert("forwarded", open.parse().unwrap());
        assert_eq!(forwarded.client(peer, &headers), ClientAddress::UNKNOWN, "{open}");
    }
}
