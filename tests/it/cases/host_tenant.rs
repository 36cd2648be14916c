//! Tests which tenant a host names, and that the keys of one tenant are unknown to the others.

use std::net::SocketAddr;

use axum::{Router, body::Body, routing::get};
use http::{HeaderName, HeaderValue, Request, Uri, Version, header, uri::Authority};
use tower_authz::{
    ApiKey, Authz, Directory, Grant, KeyRecord, PeerAddress, Policy, Principal, Rule, TenantHosts, TrustedProxies,
    store::MemoryStore,
};

use crate::{
    cases::{
        Row, Table,
        exchange::{Answer, Seen, to_service},
        expand::{expand, latin1},
        texts,
    },
    support::store_of,
};

const TENANTS: [&str; 2] = ["acme-live", "other-live"];
const PROXY: &str = "192.0.2.1";

#[tokio::test]
async fn hosts_name_tenants_as_the_table_has_it() {
    let fixtures = [Fixture::new(0), Fixture::new(1_000)];
    let evaluate = async |row: &Row| {
        let [few, many] = [fixtures[0].outcome(row).await?, fixtures[1].outcome(row).await?];
        // The result must not depend on the number of tenants (CVE-2026-27588).
        if few == many { Ok(few) } else { Err(format!("{few} with two tenants, {many} with a thousand")) }
    };
    Table::read("host_tenant", &["version", "authority_json", "host_lines_json"]).run(evaluate).await.finish();
}

struct Fixture {
    app: Router,
    seen: Seen,
}

/// The conditions of a row besides the host: lines of the form `#Name: value`.
#[derive(Default)]
struct Conditions {
    headers: Vec<(String, String)>,
    /// The tenant whose key is sent, if the row names one.
    key: Option<String>,
    keyless: bool,
    trusted_peer: bool,
}

impl Conditions {
    fn add(&mut self, line: &str) -> Result<(), String> {
        let unknown = || format!("the harness does not know the condition {line:?}");
        let (name, value) = line.split_once(':').ok_or_else(unknown)?;
        let value = value.trim();
        match (name, value.split_once(' ').map_or(value, |(first, _)| first)) {
            ("key", "none") => self.keyless = true,
            ("key", "tenant") => self.key = value.strip_prefix("tenant ").map(str::to_owned),
            ("peer", "trusted") => self.trusted_peer = true,
            ("peer", "untrusted") => {}
            // Every row runs with few tenants and with many, whichever it names.
            ("tenants", _) => {}
            // Header names have capitals or a hyphen; conditions are a single word in lower case.
            _ if name.starts_with(char::is_uppercase) || name.contains('-') => {
                self.headers.push((name.to_owned(), value.to_owned()))
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

fn api_key(tenant: &str) -> String {
    format!("a-key-of-the-tenant-{tenant}")
}

fn store(tenants: &[String]) -> MemoryStore {
    let record = |tenant: &String| {
        let grant = Grant::builder().read("products").build().unwrap();
        let digest = ApiKey::new(api_key(tenant)).digest();
        KeyRecord::builder(format!("key-{tenant}").parse().unwrap(), digest).tenant(tenant.clone()).grant(grant).build()
    };
    store_of(tenants.iter().map(record), Directory::default())
}

impl Fixture {
    fn new(more: usize) -> Self {
        let tenants: Vec<String> =
            TENANTS.iter().map(|tenant| (*tenant).to_owned()).chain((0..more).map(|n| format!("t{n}-live"))).collect();
        let hosts = TenantHosts::new("{tenant}-{space}.admin.api.example.com").unwrap();
        let hosts = hosts.known(tenants.clone()).with_trusted_proxies(TrustedProxies::new([PROXY]).unwrap());
        let policy = Policy::builder().route("/products", Rule::resource("products").unscoped()).build().unwrap();
        let seen = Seen::default();
        let noted = seen.clone();
        let handler = async move |principal: Principal| noted.note(principal.record().tenant().unwrap_or_default());
        let app = Router::new()
            .route("/products", get(handler))
            .layer(Authz::new(store(&tenants), policy).with_tenant_hosts(hosts));
        Self { app, seen }
    }

    async fn outcome(&self, row: &Row) -> Result<String, String> {
        let mut conditions = Conditions::default();
        let mut hosts = Vec::new();
        for line in texts(&row.json("host_lines_json")?)? {
            match line.strip_prefix('#') {
                Some(condition) => conditions.add(condition)?,
                None => hosts.push(latin1(&expand(&line)?)?),
            }
        }
        let authority = texts(&row.json("authority_json")?)?.first().map(|text| latin1(&expand(text)?)).transpose()?;
        let version = match row.text("version") {
            "h1" => Version::HTTP_11,
            "h2" => Version::HTTP_2,
            other => return Err(format!("the harness does not know the version {other:?}")),
        };
        let ask = async |key: &str| {
            let request = request(version, authority.as_deref(), &hosts, &conditions, key);
            let answer = to_service(self.app.clone(), request).await;
            (answer, self.seen.take())
        };
        let unknown = ask("a-key-that-was-never-issued").await;
        if let Some(tenant) = &conditions.key {
            return verdict(&ask(&api_key(tenant)).await, &unknown.0);
        }
        // A row that does not name a key is sent with the key of each tenant: the host must admit exactly one of
        // them.
        let mut verdicts = Vec::new();
        for tenant in TENANTS {
            verdicts.push(verdict(&ask(&api_key(tenant)).await, &unknown.0)?);
        }
        match verdicts.iter().filter(|one| *one != "deny:401").collect::<Vec<_>>().as_slice() {
            [] => Ok("deny:401".to_owned()),
            [only] if only.starts_with("tenant:") => Ok((*only).clone()),
            [one, other] if one == other && one.starts_with("deny:") => Ok((*one).clone()),
            _ => Err(format!("the keys of {TENANTS:?} get {verdicts:?}")),
        }
    }
}

/// Returns the outcome as text. A 401 must be identical to that of a key that was never issued.
fn verdict((answer, ran): &(Answer, Vec<String>), unknown: &Answer) -> Result<String, String> {
    match (answer.status, ran.as_slice()) {
        (200, [tenant]) => Ok(format!("tenant:{tenant}")),
        (401, []) if answer != unknown => Err(format!("{answer:?} and not {unknown:?}")),
        (status, []) => Ok(format!("deny:{status}")),
        (status, _) => Err(format!("a handler ran, and the status is {status}")),
    }
}

/// Builds the request. It is `None` if the parser would have refused it with 400.
fn request(
    version: Version,
    authority: Option<&[u8]>,
    hosts: &[Vec<u8>],
    conditions: &Conditions,
    key: &str,
) -> Option<Request<Body>> {
    let mut request = Request::new(Body::empty());
    *request.version_mut() = version;
    let mut uri = Uri::builder().path_and_query("/products");
    if let Some(authority) = authority {
        // The authority comes from the absolute form of HTTP/1.1, or from `:authority`.
        uri = uri.scheme("https").authority(Authority::try_from(authority).ok()?);
    }
    *request.uri_mut() = uri.build().ok()?;
    let headers = request.headers_mut();
    for host in hosts {
        headers.append(header::HOST, HeaderValue::from_bytes(host).ok()?);
    }
    for (name, value) in &conditions.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    if !conditions.keyless {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}")).ok()?);
    }
    let peer = if conditions.trusted_peer { PROXY } else { "198.51.100.7" };
    request.extensions_mut().insert(PeerAddress(SocketAddr::new(peer.parse().ok()?, 1)));
    Some(request)
}
