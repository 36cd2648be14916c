//! Networks: how they are parsed, which addresses they contain, and how lists of them are interpreted.

use std::net::IpAddr;

use axum::{Router, body::Body, routing::get};
use http::{Request, header::AUTHORIZATION};
use serde_json::Value;
use tower_authz::{Authz, Denial, Directory, Grant, Head, Network, Networks, PeerAddress, Policy, Rule};

use crate::{
    cases::{
        Row, Table,
        exchange::{Seen, to_service},
        texts,
    },
    support::{KEY, record, store_of},
};

#[tokio::test]
async fn networks_are_parsed_and_hold_as_the_table_has_it() {
    Table::read("cidr", &["category", "cidrs_json", "ip"]).run(outcome).await.finish();
}

async fn outcome(row: &Row) -> Result<String, String> {
    match row.text("category") {
        "parse" => {
            let networks: Result<Vec<Network>, _> =
                texts(&row.json("cidrs_json")?)?.iter().map(|text| text.parse()).collect();
            Ok(match networks {
                Ok(all) => format!("ok:{}", all.iter().map(Network::to_string).collect::<Vec<_>>().join(",")),
                Err(_) => "reject".to_owned(),
            })
        }
        "semantics" => semantics(row).await,
        // Every other kind of row tests whether a list contains an address.
        _ => {
            let Ok(networks) = Networks::parse(texts(&row.json("cidrs_json")?)?) else {
                return Ok("reject".to_owned());
            };
            // A text that is not an address (because it has a zone, for example) is in no network.
            let inside = row.text("ip").parse::<IpAddr>().is_ok_and(|address| networks.contains(address));
            let one_by_one =
                row.text("ip").parse::<IpAddr>().is_ok_and(|address| networks.iter().any(|one| one.contains(address)));
            match inside == one_by_one {
                true => Ok(if inside { "in" } else { "out" }.to_owned()),
                false => Err(format!("the list says {inside}, its networks say {one_by_one}")),
            }
        }
    }
}

/// An allow list belongs to the key. Keys have no deny list: the application adds one as a check of its own, and a
/// request that either of them refuses is refused.
async fn semantics(row: &Row) -> Result<String, String> {
    let lists = row.object("cidrs_json", &["allow", "deny"])?;
    let list = |name: &str| lists.get(name).filter(|list| !list.is_null());
    let mut grant = Grant::builder().read("products");
    if let Some(allow) = list("allow") {
        grant = grant.from_networks(texts(allow)?);
    }
    let mut rule = Rule::resource("products");
    if let Some(deny) = list("deny") {
        rule = rule.check(refuse_from(deny)?);
    }
    let Ok(grant) = grant.build() else { return Ok("reject".to_owned()) };
    let policy = Policy::builder().route("/products", rule).build().unwrap();
    let seen = Seen::default();
    let noted = seen.clone();
    let app: Router = Router::new()
        .route("/products", get(async move || noted.note("handler")))
        .layer(Authz::new(store_of([record("test-key", KEY, grant)], Directory::default()), policy));
    let mut request =
        Request::get("/products").header(AUTHORIZATION, format!("Bearer {KEY}")).body(Body::empty()).unwrap();
    if let Ok(address) = row.text("ip").parse::<IpAddr>() {
        request.extensions_mut().insert(PeerAddress((address, 1).into()));
    }
    let answer = to_service(app, Some(request)).await;
    match (answer.status, seen.take().len()) {
        (200, 1) => Ok("allow".to_owned()),
        (status, 0) => Ok(format!("deny:{status}")),
        (status, runs) => Err(format!("the handler ran {runs} times, the status is {status}")),
    }
}

fn refuse_from(deny: &Value) -> Result<impl Fn(&Head<'_>) -> Result<(), Denial> + use<>, String> {
    let deny = Networks::parse(texts(deny)?).map_err(|error| error.to_string())?;
    Ok(move |head: &Head<'_>| match head.client_address().ip() {
        Some(address) if !deny.contains(address) => Ok(()),
        // An unknown address could be in the deny list, so it is refused.
        _ => Err(Denial::refused("not from here")),
    })
}
