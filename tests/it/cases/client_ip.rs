//! The address of the client, with and without proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use axum::{Router, routing::get};
use http::header::AUTHORIZATION;
use tower_authz::{
    Authz, ClientAddress, Directory, Grant, GrantBuilder, PeerAddress, Policy, Principal, Rule, TrustedProxies,
};

use crate::{
    cases::{
        Row, Table,
        exchange::{Line, Seen, lines, request, to_service},
        texts,
    },
    support::{KEY, record, store_of},
};

#[tokio::test]
async fn the_client_is_found_as_the_table_has_it() {
    Table::read("client_ip", &["mode", "peer", "trusted_json", "headers_json"]).run(outcome).await.finish();
}

async fn outcome(row: &Row) -> Result<String, String> {
    let trusted = texts(&row.json("trusted_json")?)?;
    let proxies = TrustedProxies::new(trusted).map_err(|error| error.to_string())?;
    let proxies = match row.text("mode") {
        "xff" => proxies,
        "forwarded" => proxies.with_forwarded_header(),
        other => return Err(format!("the harness does not know the mode {other:?}")),
    };
    let (peer, headers) = (peer(row.text("peer")), lines(&row.json("headers_json")?)?);
    let Some(built) = request("GET", b"/", &headers) else {
        // The parser has refused the request, so it has no client address.
        return Ok("unknown".to_owned());
    };
    let found = proxies.client(peer.map_or(ClientAddress::UNKNOWN, ClientAddress::from), built.headers());

    // The handlers must see the result of the pure function, and the networks of keys must be compared with it.
    let everywhere = Grant::builder().read("products");
    let seen = ask(&proxies, peer, &headers, everywhere.clone()).await;
    let text = found.ip().map_or("unknown".to_owned(), |address| address.to_string());
    if seen.as_ref() != Some(&text) {
        return Err(format!("the function says {text}, the handler saw {seen:?}"));
    }
    let admitted = ask(&proxies, peer, &headers, everywhere.clone().from_networks(["0.0.0.0/0", "::/0"])).await;
    if admitted.is_some() != found.ip().is_some() {
        return Err(format!("the client is {text}, and a key for all networks: {admitted:?}"));
    }
    if let Some(address) = found.ip()
        && ask(&proxies, peer, &headers, everywhere.from_networks([address.to_string()])).await.is_none()
    {
        return Err(format!("the client is {text}, and a key for that address alone is refused"));
    }
    Ok(text)
}

/// Parses a socket address, with or without a port. Any other text (`@` for a Unix socket, or an empty one) is no
/// peer.
fn peer(text: &str) -> Option<SocketAddr> {
    let plain = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0));
    text.parse().ok().or_else(plain).or_else(|| zoned(text))
}

/// Parses an address with a zone, such as `[fe80::1%eth0]:9999`. A socket reports the zone as a number, so any number
/// replaces the name of the interface.
fn zoned(text: &str) -> Option<SocketAddr> {
    let (address, rest) = text.trim_start_matches('[').split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let port = rest.rsplit_once("]:").and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
    Some(SocketAddrV6::new(address, port, 0, 7).into())
}

/// Sends a request through the whole stack, and returns the address that the handler saw, or `None` if it did not
/// run.
async fn ask(
    proxies: &TrustedProxies,
    peer: Option<SocketAddr>,
    headers: &[Line],
    grant: GrantBuilder,
) -> Option<String> {
    let policy = Policy::builder().route("/products", Rule::resource("products")).build().unwrap();
    let store = store_of([record("test-key", KEY, grant.build().unwrap())], Directory::default());
    let seen = Seen::default();
    let noted = seen.clone();
    let handler = async move |principal: Principal| {
        noted.note(principal.client_address().ip().map_or("unknown".to_owned(), |address| address.to_string()));
    };
    let app: Router = Router::new()
        .route("/products", get(handler))
        .layer(Authz::new(store, policy).with_trusted_proxies(proxies.clone()));
    let mut request = request("GET", b"/products", headers).unwrap();
    request.headers_mut().insert(AUTHORIZATION, format!("Bearer {KEY}").parse().unwrap());
    if let Some(peer) = peer {
        request.extensions_mut().insert(PeerAddress(peer));
    }
    to_service(app, Some(request)).await;
    seen.take().pop()
}
