//! Tests decisions entity by entity: permissions, restrictions, kind, origin, network, HTTPS.

use std::net::IpAddr;

use axum::{Router, body::Body, routing::any};
use http::{Request, header::AUTHORIZATION};
use serde_json::{Map, Value, json};
use tower_authz::{
    ApiKey, Authz, Denial, Dimension, Filter, KeyFile, PeerAddress, Policy, Principal, Rule, SecureConnection,
    TrustedProxies, check::EntityRef, store::MemoryStore,
};

use crate::{
    cases::{
        Row, Table,
        exchange::{Seen, to_service},
        texts,
    },
    support::{KEY, Mood, MoodyStore, format, products_reader, store},
};

#[tokio::test]
async fn keys_are_judged_as_the_table_has_it() {
    Table::read("scope_decisions", &["key_json", "request_json"]).run(outcome).await.finish();
}

const KEY_FIELDS: [&str; 6] = ["res", "shops", "companies", "ips", "kind", "origins"];
const REQUEST_FIELDS: [&str; 13] = [
    "res",
    "op",
    "shop",
    "country",
    "company",
    "where",
    "route",
    "origin",
    "ip",
    "scheme",
    "xfp",
    "x_forwarded_proto_underscore",
    "peer",
];
/// The only trusted proxy. Its address is in no network that a key of the table names.
const PROXY: &str = "203.0.113.254";

/// Loads the keys as a key file has them. A record that cannot be read is refused individually, with 500.
fn keys(key: &Map<String, Value>) -> MoodyStore {
    let file = json!({ "keys": [{
        "id": "test-key",
        "name": "of the table",
        "digest": ApiKey::new(KEY).digest().to_string(),
        "permissions": key.get("res").filter(|res| !res.is_null()).unwrap_or(&json!({})),
        "restrictions": { "shop": key.get("shops"), "company": key.get("companies") },
        "ip_ranges": key.get("ips"),
        "kind": key.get("kind"),
        "origins": key.get("origins"),
    }] });
    match KeyFile::parse(&file.to_string(), "keys").and_then(|file| MemoryStore::from_file(file, format())) {
        Ok(keys) => MoodyStore { mood: Mood::AtOnce, keys },
        Err(_) => MoodyStore { mood: Mood::Unreadable, keys: store(products_reader()) },
    }
}

/// A request of the table: the rule of its route, its path, and the entities that it concerns.
struct Ask {
    rule: Rule,
    pattern: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    /// The entities that the body names. The handler checks each of them.
    body: Vec<(String, String)>,
    /// Whether the body has to name an entity.
    pending: bool,
    /// The dimensions that the handler filters by.
    filtered: Vec<Dimension>,
}

impl Ask {
    fn new(request: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| request.get(name).map_or(Ok(Vec::new()), texts);
        let mut rule = match text("res")?.pop() {
            Some(resource) => Rule::resource(resource),
            None => Rule::authenticated(),
        };
        let route = text("route")?.pop().unwrap_or_default();
        rule = match route.as_str() {
            "" | "filters_by_scope" => rule,
            "admin" => rule.kind("admin"),
            "runtime" => rule.kind("runtime").require_origin(),
            "unscoped" | "shop_independent" => rule.unscoped(),
            "require_networks" => rule.require_networks(),
            other => return Err(format!("the harness does not know the route {other:?}")),
        };
        let mut ask = Self {
            rule,
            pattern: "/of".to_owned(),
            path: "/of".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            pending: false,
            filtered: Vec::new(),
        };
        let location = text("where")?.pop().unwrap_or_else(|| "path".to_owned());
        for (name, header) in [("company", "x-company"), ("shop", "x-shop")] {
            let dimension = Dimension::named(name);
            let ids = text(name)?;
            let in_body = location == "body" || ids.len() > 1;
            match (request.get(name), location.as_str()) {
                (None | Some(Value::Null), _) => {}
                (Some(_), "path" | "body") if in_body => {
                    ask.body.extend(ids.into_iter().map(|id| (name.to_owned(), id)));
                    ask.rule = ask.rule.deferred(dimension);
                    ask.pending = true;
                }
                (Some(_), "path") => {
                    ask.segment(name, ids.first().map_or("", String::as_str));
                    ask.rule = ask.rule.scoped(EntityRef::from_path(dimension, name));
                }
                (Some(_), "header") => {
                    ask.headers.extend(ids.into_iter().map(|id| (header, id)));
                    ask.rule =
                        ask.rule.scoped(EntityRef::from_header(dimension, http::HeaderName::from_static(header)));
                }
                (_, other) => return Err(format!("the harness does not know the place {other:?}")),
            }
        }
        if let Some(country) = text("country")?.pop() {
            ask.segment("country", &country);
        }
        if route == "filters_by_scope" {
            // The handler lists the dimensions of which the request names no entity, or shops if there are none.
            let mut open: Vec<&str> =
                ["company", "shop"].into_iter().filter(|name| request.get(*name) == Some(&Value::Null)).collect();
            if open.is_empty() {
                open.push("shop");
            }
            ask.filtered = open.into_iter().map(Dimension::named).collect();
            ask.rule = ask.filtered.iter().fold(ask.rule, |rule, dimension| rule.filtered(dimension.clone()));
        }
        ask.headers.extend(text("origin")?.into_iter().map(|origin| ("origin", origin)));
        ask.headers.extend(text("xfp")?.into_iter().map(|scheme| ("x-forwarded-proto", scheme)));
        let underscore = text("x_forwarded_proto_underscore")?;
        ask.headers.extend(underscore.into_iter().map(|scheme| ("x_forwarded_proto", scheme)));
        Ok(ask)
    }

    /// Adds `/shops/{shop}` to the pattern, and the encoded id to the path.
    fn segment(&mut self, name: &str, id: &str) {
        let encoded: String = id
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect();
        self.pattern += &format!("/{name}/{{{name}}}");
        self.path += &format!("/{name}/{encoded}");
    }
}

async fn outcome(row: &Row) -> Result<String, String> {
    let key = row.object("key_json", &KEY_FIELDS)?;
    let fields = row.object("request_json", &REQUEST_FIELDS)?;
    let ask = Ask::new(&fields)?;
    let field = |name: &str| fields.get(name).and_then(Value::as_str);
    let method = match field("op") {
        None | Some("read") => "GET",
        Some("write") => "PUT",
        Some(other) => return Err(format!("the harness does not know the operation {other:?}")),
    };
    let (ip, peer) = (field("ip"), field("peer"));
    let mut request = Request::builder().method(method).uri(&ask.path).header(AUTHORIZATION, format!("Bearer {KEY}"));
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    let address = match peer {
        Some("trusted") => {
            // The proxy forwards the address of its client.
            request = ip.iter().fold(request, |request, ip| request.header("x-forwarded-for", *ip));
            Some(PROXY)
        }
        None | Some("untrusted") => ip,
        Some(other) => return Err(format!("the harness does not know the peer {other:?}")),
    };
    let mut request = request.body(Body::from(json!(ask.body).to_string())).map_err(|error| error.to_string())?;
    if let Some(address) = address {
        let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
        request.extensions_mut().insert(PeerAddress((address, 1).into()));
    }
    let scheme = field("scheme");
    match scheme {
        Some("https") => drop(request.extensions_mut().insert(SecureConnection)),
        None | Some("http") => {}
        Some(other) => return Err(format!("the harness does not know the scheme {other:?}")),
    }

    let policy = Policy::builder().route(&ask.pattern, ask.rule.clone()).build().map_err(|error| error.to_string())?;
    let mut authz = Authz::new(keys(&key), policy).with_trusted_proxies(TrustedProxies::new([PROXY]).unwrap());
    // A row that states the scheme of the request tests whether HTTPS is required.
    if ["scheme", "xfp", "x_forwarded_proto_underscore"].iter().any(|name| fields.contains_key(*name)) {
        authz = authz.https_only();
    }
    let seen = Seen::default();
    let app: Router = Router::new().route(&ask.pattern, handler(&seen, ask.pending, ask.filtered.clone())).layer(authz);
    let answer = to_service(app, Some(request)).await;
    match (seen.take().as_slice(), answer.status) {
        ([shown], 200) if ask.filtered.is_empty() => Ok(format!("allow{shown}")),
        ([shown], 200) => {
            let wanted = filters(&ask.filtered, &key)?;
            if *shown == wanted {
                Ok("allow:filtered".to_owned())
            } else {
                Err(format!("the scope is {shown}, not {wanted}"))
            }
        }
        ([], status) => Ok(format!("deny:{status}")),
        (_, status) => Err(format!("the handler ran, and the status is {status}")),
    }
}

/// Returns a handler that checks every entity in the body before it does anything, and then returns its filters.
fn handler(seen: &Seen, settle: bool, filtered: Vec<Dimension>) -> axum::routing::MethodRouter {
    let seen = seen.clone();
    any(async move |principal: Principal, body: String| {
        let named: Vec<(String, String)> =
            serde_json::from_str(&body).map_err(|_| principal.refuse("a broken body"))?;
        if settle && named.is_empty() {
            return Err(principal.refuse("the body names nothing"));
        }
        for (name, id) in &named {
            principal.require(Dimension::named(name), id)?;
        }
        let filters: Vec<Filter> = filtered.iter().map(|over| principal.scope(over.clone()).filter()).collect();
        seen.note(if filters.is_empty() { String::new() } else { format!("{filters:?}") });
        Ok::<_, Denial>(())
    })
}

/// Returns the lists of the key as filters, computed independently of the crate.
fn filters(dimensions: &[Dimension], key: &Map<String, Value>) -> Result<String, String> {
    let filter = |dimension: &Dimension| {
        let lists = key.get(if *dimension == Dimension::SHOP { "shops" } else { "companies" });
        let list = |name: &str| lists.and_then(|lists| lists.get(name)).filter(|list| !list.is_null());
        let sorted = |list: &Value| {
            texts(list).map(|mut ids| {
                ids.sort();
                ids
            })
        };
        Ok::<_, String>(match (list("include"), list("exclude")) {
            (Some(ids), _) => Filter::Only(sorted(ids)?),
            (_, Some(ids)) => Filter::Except(sorted(ids)?),
            _ => Filter::All,
        })
    };
    let filters: Vec<Filter> = dimensions.iter().map(filter).collect::<Result<_, _>>()?;
    Ok(format!("{filters:?}"))
}
