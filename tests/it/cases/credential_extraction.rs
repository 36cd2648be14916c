//! Tests which sources hold a credential, how its syntax is parsed, and that all 401 responses are identical.

use std::{net::SocketAddr, sync::Mutex, time::UNIX_EPOCH};

use axum::{
    Router,
    routing::{any, get},
};
use tower_authz::{
    Alphabet, ApiKey, Authz, Directory, Grant, KeyFile, KeyFormat, KeyRecord, Policy, Principal, Rule,
    store::MemoryStore,
};

use crate::cases::{
    Row, Table,
    exchange::{Answer, Seen, lines, over_the_wire, request, serve, to_service},
    expand::{KEYS, expand, key},
};

#[tokio::test]
async fn credentials_are_found_as_the_table_has_it() {
    let fixture = Fixture::new().await;
    let table = Table::read("credential_extraction", &["category", "via", "method", "target", "headers_json"]);
    let mut report = table.run(async |row| fixture.outcome(row).await).await;
    for (id, difference) in fixture.differences() {
        report.fail(&id, "the same 401 as all others", difference);
    }
    report.finish();
}

pub struct Fixture {
    pub app: Router,
    pub server: SocketAddr,
    pub seen: Seen,
    /// Each 401 response with the id of its row, and whether its body is present, since a response to HEAD has none.
    refused: Mutex<Vec<(String, bool, Answer)>>,
}

fn store() -> MemoryStore {
    let format = KeyFormat::structured("l64")
        .public_id(Alphabet::LowerAlphanumeric, 8)
        .secret(Alphabet::LowerHex, 32)
        .build()
        .unwrap();
    let record = |name: &str, kind: &str| {
        let key = key(name).unwrap();
        let id = format.key_id(key.as_bytes()).unwrap().parse().unwrap();
        let grant = Grant::builder().read("products").from_origins(["https://shop.example"]).build().unwrap();
        KeyRecord::builder(id, ApiKey::new(key).digest()).kind(kind.to_owned()).grant(grant)
    };
    let records = [
        record("K1", "admin"),
        record("K2", "admin"),
        record("KR", "admin").revoked_at(UNIX_EPOCH),
        record("KE", "admin").expires_at(UNIX_EPOCH),
        record("KT", "runtime"),
    ];
    let file = KeyFile::new(records.map(|record| record.build()), Directory::default());
    MemoryStore::from_file(file, format).unwrap()
}

impl Fixture {
    pub async fn new() -> Self {
        let seen = Seen::default();
        let handler = || {
            let seen = seen.clone();
            async move |principal: Principal| seen.note(principal.key_id().as_str())
        };
        let policy = Policy::builder()
            .route("/api/admin/v1/products", Rule::resource("products").kind("admin").unscoped())
            .route("/api/runtime/v1/configure", Rule::authenticated().kind("runtime").require_origin().unscoped())
            .build()
            .unwrap();
        let app: Router = Router::new()
            .route("/api/admin/v1/products", get(handler()).post(handler()))
            .route("/api/runtime/v1/configure", any(handler()))
            .layer(Authz::new(store(), policy));
        Self { server: serve(app.clone()).await, app, seen, refused: Mutex::default() }
    }

    async fn outcome(&self, row: &Row) -> Result<String, String> {
        let (method, target) = (row.text("method"), expand(row.text("target"))?);
        let lines = lines(&row.json("headers_json")?)?;
        self.seen.take();
        let answer = match row.text("via") {
            "service" => to_service(self.app.clone(), request(method, target.as_bytes(), &lines)).await,
            "wire" | "wire-raw" => over_the_wire(self.server, method, &target, &lines).await?,
            other => return Err(format!("the harness does not know the way {other:?}")),
        };
        match (self.seen.take().as_slice(), answer.status) {
            ([id], 200) => Ok(format!("use:{}", name(id)?)),
            ([], status) => {
                if status == 401 {
                    let with_body = row.text("via") == "service" || method != "HEAD";
                    self.refused.lock().unwrap().push((row.id().to_owned(), with_body, answer));
                }
                Ok(format!("deny:{status}"))
            }
            (ids, status) => Err(format!("{} handlers ran, and the status is {status}", ids.len())),
        }
    }

    /// Returns the rows whose 401 response differs from the others. There must be none.
    fn differences(&self) -> Vec<(String, String)> {
        let refused = self.refused.lock().unwrap();
        let Some((_, _, first)) = refused.iter().find(|(_, with_body, _)| *with_body) else { return Vec::new() };
        let differs = |with_body: bool, answer: &Answer| {
            let same_body = !with_body || answer.body == first.body;
            answer.headers != first.headers || !same_body || !answer.has_header("www-authenticate")
        };
        let different = refused.iter().filter(|(_, with_body, answer)| differs(*with_body, answer));
        different.map(|(id, _, answer)| (id.clone(), format!("{answer:?} and not {first:?}"))).collect()
    }
}

/// Returns the name of the fixture key with this id.
fn name(id: &str) -> Result<&'static str, String> {
    let found = KEYS.iter().find(|(_, key)| key.rsplit_once('_').is_some_and(|(public, _)| public == id));
    found.map(|(name, _)| *name).ok_or_else(|| format!("the handler saw the unknown key {id}"))
}
