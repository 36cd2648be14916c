//! The three public APIs that the crate originates from, as the examples serve them, with key files of our own. The
//! tests cover every sentence of their documentation that describes how a server handles a key.

#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/logic64.rs"]
mod logic64;
#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/logik.rs"]
mod logik;
#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/scayle.rs"]
mod scayle;

use std::net::SocketAddr;

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_authz::{ApiKey, Dimension, IdGrammar, KeyFile, TrustedProxies};

/// Returns a key file with these keys: each is a plain key, and the fields of its record besides id and digest.
fn file(keys: &[(&str, &str)]) -> KeyFile {
    let entries: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(index, (key, fields))| {
            let comma = if fields.is_empty() { "" } else { "," };
            let id = if key.starts_with("l64_") { &key[..12] } else { &*format!("key{index}") };
            format!(r#"{{"id":"{id}","digest":"{}"{comma}{fields}}}"#, ApiKey::new(*key).digest())
        })
        .collect();
    let directory = r#"{"shops":[
        {"key":"ay","company":"1","countries":[{"code":"de","id":"1001"},{"code":"at","id":"1002"}]},
        {"key":"by","company":"2","countries":[{"code":"ch","id":"1003"}]}]}"#;
    let text = format!(r#"{{"keys":[{}],"directory":{directory}}}"#, entries.join(","));
    KeyFile::parse_with(&text, "keys.json", &[Dimension::new("project", IdGrammar::Slug)]).unwrap()
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

async fn ask(app: &Router, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from(body.to_owned())).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711))));
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

const SHOP_CLERK: &str = "token-shop-clerk";
const BIDDEN: &str = "token-all-but-ay";
const READER: &str = "token-reader";
const OFFICE: &str = "token-office";
const BOUND_OFFICE: &str = "token-bound-office";

fn scayle_app(proxies: Option<TrustedProxies>, https: bool) -> Router {
    let keys = file(&[
        (
            SHOP_CLERK,
            r#""permissions":{"products":"write","orders":"write","shops":"read","fulfillment":"write"},"restrictions":{"shop":{"include":["ay"]}}"#,
        ),
        (
            BIDDEN,
            r#""permissions":{"orders":"read","shops":"read","companies":"write"},"restrictions":{"shop":{"exclude":["ay"]},"company":{"exclude":[3]}}"#,
        ),
        (READER, r#""permissions":{"products":"read","customers":"read","reports":"read"}"#),
        (OFFICE, r#""permissions":{"customers":"read"},"ip_ranges":["203.0.113.0/24"]"#),
        (
            BOUND_OFFICE,
            r#""permissions":{"customers":"read","reports":"read"},"restrictions":{"shop":{"include":["ay"]}},"ip_ranges":["127.0.0.0/8"]"#,
        ),
        ("token-expired", r#""permissions":{"products":"read"},"expires_at":"2020-01-01T00:00:00Z""#),
    ]);
    scayle::app(keys, proxies, https).unwrap()
}

#[tokio::test]
async fn scayle_restricts_by_resource_company_shop_and_network() {
    let app = scayle_app(None, false);
    for (key, method, path, status) in [
        (READER, "GET", "/products", 200),
        (READER, "POST", "/products", 403),
        (READER, "POST", "/products/search", 200),
        (READER, "GET", "/variants/7", 200),
        (SHOP_CLERK, "PATCH", "/variants/7", 200),
        (SHOP_CLERK, "DELETE", "/products/7", 200),
        (SHOP_CLERK, "GET", "/shops/ay", 200),
        (SHOP_CLERK, "PATCH", "/shops/ay", 403),
        (SHOP_CLERK, "GET", "/shops/by", 403),
        (SHOP_CLERK, "PUT", "/shops/ay/countries/de/orders/7", 200),
        (SHOP_CLERK, "GET", "/shops/by/countries/ay/orders/7", 403),
        (SHOP_CLERK, "GET", "/shop-countries/1001", 200),
        (SHOP_CLERK, "GET", "/shop-countries/1003", 403),
        (SHOP_CLERK, "GET", "/shop-countries/9999", 403),
        (BIDDEN, "GET", "/shops/ay/countries/de/orders/7", 403),
        (BIDDEN, "GET", "/shops/by/countries/ch/orders/7", 200),
        (BIDDEN, "GET", "/shop-countries/1002", 403),
        (BIDDEN, "PATCH", "/companies/1", 200),
        (BIDDEN, "GET", "/companies/3", 403),
        (BIDDEN, "GET", "/companies/+1", 400),
        (READER, "GET", "/customers/1/password-hash", 403),
        (OFFICE, "GET", "/customers/1/password-hash", 403),
        // Keys that are restricted to shops cannot access routes that belong to shops, or that concern all of them.
        (BOUND_OFFICE, "GET", "/reports/run", 403),
        (BOUND_OFFICE, "GET", "/customers/1/password-hash", 403),
        (READER, "GET", "/reports/run", 200),
        (READER, "OPTIONS", "/reports/run", 200),
        (READER, "PUT", "/reports/run", 403),
        (READER, "PROPFIND", "/reports/run", 405),
        ("token-expired", "GET", "/products", 401),
        ("token-deleted", "GET", "/products", 401),
    ] {
        let target = format!("/api/admin/v1{path}");
        for headers in [[("x-access-token", key)], [("authorization", &*format!("Bearer {key}"))]] {
            let answer = ask(&app, method, &target, &headers, "").await;
            assert_eq!(answer.status, status, "{key} {method} {path}: {}", answer.body);
            if answer.status.is_client_error() && method != "HEAD" {
                assert!(answer.body.starts_with(r#"{"errors":[{"errorKey":""#), "{}", answer.body);
            }
        }
    }
    for path in ["/health", "/public/a/b.png"] {
        assert_eq!(ask(&app, "GET", path, &[], "").await.status, 200);
    }
}

#[tokio::test]
async fn scayle_lists_and_bulk_requests_stay_in_scope() {
    let app = scayle_app(None, false);
    let json = ("content-type", "application/json");
    let shops = ask(&app, "GET", "/api/admin/v1/shops", &[("x-access-token", BIDDEN)], "").await;
    assert!(shops.body.contains(r#""shops":["by"]"#), "{}", shops.body);
    let companies = ask(&app, "GET", "/api/admin/v1/companies", &[("x-access-token", BIDDEN)], "").await;
    assert!(companies.body.contains(r#""companies":["1","2"]"#), "{}", companies.body);

    let operations = r#"[{"key":"a","method":"PATCH","url":"/products/1"},
        {"key":"b","method":"GET","url":"/api/admin/v1/shops/by"}, {"key":"c","method":"GET","url":"/shops/ay?x=1"},
        {"key":"d","method":"GET","url":"/shops"}, {"key":"e","method":"GET","url":"/products/../shops/by"},
        {"key":"f","method":"GET","url":"//evil.example/shops/ay"}, {"key":"g","method":"GET","url":"/nowhere"}]"#;
    let path = "/api/admin/v1/products/bulk-requests";
    let answer = ask(&app, "POST", path, &[("x-access-token", SHOP_CLERK), json], operations).await;
    let parsed: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let verdicts = parsed["entities"]["operations"].as_array().unwrap();
    let statuses: Vec<u64> = verdicts.iter().map(|verdict| verdict["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 403, 200, 403, 400, 400, 404]);

    let path = "/api/admin/v1/fulfillment/shipments";
    for (company, shop, status) in [("1", "ay", 200), ("1", "by", 403), ("2", "AY", 400)] {
        let headers = [("x-access-token", SHOP_CLERK), ("x-company-id", company), json];
        let answer = ask(&app, "POST", path, &headers, &format!(r#"{{"shopKey":"{shop}"}}"#)).await;
        assert_eq!(answer.status, status, "{company} {shop}");
    }
    let without = ask(&app, "POST", path, &[("x-access-token", SHOP_CLERK), json], r#"{"shopKey":"ay"}"#).await;
    assert_eq!(without.status, 400, "the company header is required");
}

#[tokio::test]
async fn scayle_reads_addresses_and_https_from_trusted_proxies() {
    let hash = "/api/admin/v1/customers/1/password-hash";
    let trusting = || Some(TrustedProxies::new(["127.0.0.0/8"]).unwrap());
    for (proxies, forwarded, status) in [
        (trusting(), "203.0.113.7", 200),
        (trusting(), "203.0.113.7, 198.51.100.1", 403),
        (trusting(), "unknown", 403),
        (None, "203.0.113.7", 403),
    ] {
        let headers = [("x-access-token", OFFICE), ("x-forwarded-for", forwarded)];
        let answer = ask(&scayle_app(proxies, false), "GET", hash, &headers, "").await;
        assert_eq!(answer.status, status, "{forwarded}");
    }
    for (proxies, proto, status) in
        [(trusting(), "https", 200), (trusting(), "http", 403), (trusting(), "https, http", 403), (None, "https", 403)]
    {
        let headers = [("x-access-token", READER), ("x-forwarded-proto", proto)];
        let answer = ask(&scayle_app(proxies, true), "GET", "/api/admin/v1/products", &headers, "").await;
        assert_eq!(answer.status, status, "{proto}");
    }
    let plain = ask(&scayle_app(trusting(), true), "GET", "/health", &[], "").await;
    assert_eq!(plain.status, 403, "plain HTTP fails everywhere");
}

const CI: &str = "l64_abc12345_0123456789abcdef0123456789abcdef";
const ADMIN: &str = "l64_admin000_0123456789abcdef0123456789abcdef";
const APOLLO: &str = "l64_apollo11_0123456789abcdef0123456789abcdef";
/// This key is an admin of one project.
const BOUND: &str = "l64_bound000_0123456789abcdef0123456789abcdef";

fn logic64_app() -> Router {
    let keys = file(&[
        (CI, r#""permissions":{"bundles":"write"}"#),
        (ADMIN, r#""kind":"admin""#),
        (APOLLO, r#""permissions":{"bundles":"write"},"restrictions":{"project":{"include":["apollo"]}}"#),
        (BOUND, r#""kind":"admin","restrictions":{"project":{"include":["apollo"]}}"#),
    ]);
    logic64::app(keys, None).unwrap()
}

#[tokio::test]
async fn logic64_takes_bearer_exactly_and_the_legacy_header() {
    let app = logic64_app();
    let latest = "/bundles/latest";
    let bearer = format!("Bearer {CI}");
    let fine = ask(&app, "GET", latest, &[("authorization", &bearer)], "").await;
    assert_eq!(fine.status, 200);
    assert!(!fine.headers.contains_key("deprecation"));
    let legacy = ask(&app, "GET", latest, &[("x-api-key", CI)], "").await;
    assert_eq!((legacy.status, &legacy.headers["deprecation"]), (StatusCode::OK, &"@1767225600".parse().unwrap()));
    assert_eq!(legacy.headers["sunset"], "Thu, 01 Jul 2027 00:00:00 GMT");

    let sixty_three = "Bearer l64_abc12345_e3b0c44298fc1c149afb4c8996fb92427ae41e4649b934ca495991b7852b855";
    let lower = format!("bearer {CI}");
    let spaced = format!("Bearer {CI} ");
    let cases: [&[(&str, &str)]; 7] = [
        &[],
        &[("authorization", sixty_three)],
        &[("authorization", &lower)],
        &[("authorization", &spaced)],
        &[("authorization", "Bearer garbage"), ("x-api-key", CI)],
        &[("x-api-key", &CI[..44])],
        &[("x-access-token", CI)],
    ];
    for headers in cases {
        let answer = ask(&app, "GET", latest, headers, "").await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.body, r#"{"code":"INVALID_API_KEY","hint":"Run: logic64 login"}"#);
        assert!(answer.headers.contains_key("www-authenticate"));
    }
}

#[tokio::test]
async fn logic64_revokes_at_once_and_hides_foreign_projects() {
    let app = logic64_app();
    let bearer = |key: &str| format!("Bearer {key}");
    let repackage = |project: &str| format!("/projects/{project}/bundles/repackage");
    for (project, status) in [("apollo", 200), ("gemini", 404)] {
        let answer = ask(&app, "POST", &repackage(project), &[("authorization", &bearer(APOLLO))], "").await;
        assert_eq!(answer.status, status, "{project}");
        assert!(!answer.body.contains("project") || status == 200, "{}", answer.body);
    }
    // Bundles belong to projects, whichever path names them: 7 belongs to apollo, 6 and 8 belong to gemini.
    let mut hidden = Vec::new();
    for (method, path, mine) in [
        ("GET", "/bundles/7", true),
        ("GET", "/bundles/7/download", true),
        ("POST", "/bundles/7/ack", true),
        ("GET", "/bundles/8", false),
        ("GET", "/bundles/6/download", false),
        ("POST", "/bundles/8/ack", false),
        ("GET", "/bundles/9", false),
    ] {
        let answer = ask(&app, method, path, &[("authorization", &bearer(APOLLO))], "").await;
        assert_eq!(answer.status, if mine { 200 } else { 404 }, "{method} {path}");
        if !mine {
            hidden.push((format!("{:?}", answer.headers), answer.body));
        }
        let all = ask(&app, method, path, &[("authorization", &bearer(CI))], "").await;
        assert_eq!(all.status, if path == "/bundles/9" { 404 } else { 200 }, "{method} {path}");
    }
    assert!(hidden.iter().all(|one| *one == hidden[0]), "one of others is as one that is not: {hidden:?}");
    for (key, latest) in [(APOLLO, r#""bundle":"7""#), (CI, r#""bundle":"8""#)] {
        let answer = ask(&app, "GET", "/bundles/latest", &[("authorization", &bearer(key))], "").await;
        assert!(answer.status == 200 && answer.body.contains(latest), "{}", answer.body);
    }
    let bound = ask(&app, "POST", "/admin/keys/l64_abc12345/revoke", &[("authorization", &bearer(BOUND))], "").await;
    assert_eq!(bound.status, 403, "an admin of one project does not revoke the keys of others");
    let revoke = "/admin/keys/l64_abc12345/revoke";
    assert_eq!(ask(&app, "POST", revoke, &[("authorization", &bearer(CI))], "").await.status, 403);
    assert_eq!(ask(&app, "GET", "/bundles/7", &[("authorization", &bearer(CI))], "").await.status, 200);
    assert_eq!(ask(&app, "POST", revoke, &[("authorization", &bearer(ADMIN))], "").await.status, 200);
    for key in [bearer(CI)] {
        assert_eq!(ask(&app, "GET", "/bundles/7", &[("authorization", &key)], "").await.status, 401);
    }
}

/// "authorize access to your workspaces and bundles": a key for one workspace reaches the projects in it, and their
/// bundles, and learns of no others.
#[tokio::test]
async fn logic64_keeps_workspaces_apart() {
    let digest = |key: &str| ApiKey::new(key).digest();
    let (moon, both) =
        ("l64_moonbase_0123456789abcdef0123456789abcdef", "l64_bothbase_0123456789abcdef0123456789abcdef");
    let key = |key: &str, lists: &str| {
        let id = &key[..12];
        format!(
            r#"{{"id":"{id}","digest":"{}","permissions":{{"bundles":"write"}},"restrictions":{{{lists}}}}}"#,
            digest(key)
        )
    };
    let keys = [
        key(moon, r#""workspace":{"include":["moon"]}"#),
        key(both, r#""workspace":{"include":["moon"]},"project":{"exclude":["apollo"]}"#),
    ];
    let text = format!(
        r#"{{"keys":[{}],"directory":{{"hierarchies":{{"project":{{"parent":"workspace","entities":[
            {{"id":"apollo","parent":"moon"}},{{"id":"artemis","parent":"moon"}},{{"id":"gemini","parent":"orbit"}}]}}}}}}}}"#,
        keys.join(",")
    );
    let own = ["workspace", "project"].map(|name| Dimension::new(name, IdGrammar::Slug));
    let app = logic64::app(KeyFile::parse_with(&text, "keys.json", &own).unwrap(), None).unwrap();
    for (method, path, of_moon, of_both) in [
        ("GET", "/workspaces/moon/projects", 200, 200),
        ("GET", "/workspaces/orbit/projects", 403, 403),
        ("POST", "/projects/apollo/bundles/repackage", 200, 404),
        ("POST", "/projects/artemis/bundles/repackage", 200, 200),
        ("POST", "/projects/gemini/bundles/repackage", 404, 404),
        ("POST", "/projects/unknown/bundles/repackage", 404, 404),
        ("GET", "/bundles/7", 200, 404),
        ("GET", "/bundles/8/download", 404, 404),
        ("GET", "/bundles/latest", 200, 403),
    ] {
        for (key, status) in [(moon, of_moon), (both, of_both)] {
            let answer = ask(&app, method, path, &[("authorization", &format!("Bearer {key}"))], "").await;
            assert_eq!(answer.status, status, "{method} {path} {key}: {}", answer.body);
            assert!(path != "/bundles/latest" || status != 200 || answer.body.contains(r#""bundle":"7""#));
        }
    }
    for (key, projects) in [(moon, r#"["apollo","artemis"]"#), (both, r#"["artemis"]"#)] {
        let authorization = format!("Bearer {key}");
        let answer = ask(&app, "GET", "/workspaces/moon/projects", &[("authorization", &authorization)], "").await;
        assert!(answer.body.contains(&format!(r#""projects":{projects}"#)), "{}", answer.body);
    }
}

#[tokio::test]
async fn logik_keeps_tenants_kinds_and_origins_apart() {
    let app = logik::app(
        file(&[
            ("token-runtime", r#""kind":"runtime","tenant":"acme.test","permissions":{"configuration":"write","bom":"read"},"origins":["https://shop.example"]"#),
            ("token-admin", r#""kind":"admin","tenant":"acme.test","permissions":{"blueprints":"write","managed-tables":"read"}"#),
            ("token-other", r#""kind":"admin","tenant":"other.prod","permissions":{"blueprints":"write"}"#),
        ]),
        None,
    )
    .unwrap();
    let acme = "acme.test.localhost:3000";
    let shop = Some("https://shop.example");
    for (host, key, origin, method, path, status) in [
        (acme, "token-runtime", shop, "POST", "/api", 200),
        (acme, "token-runtime", shop, "PATCH", "/api/uuid-1", 200),
        (acme, "token-runtime", shop, "GET", "/api/uuid-1/bom", 200),
        (acme, "token-runtime", None, "GET", "/api/uuid-1/bom", 403),
        (acme, "token-runtime", Some("https://shop.example.evil.com"), "GET", "/api/uuid-1", 403),
        (acme, "token-runtime", shop, "GET", "/api/managedTables/v1/tables", 403),
        (acme, "token-runtime", shop, "GET", "/api/admin/v2/blueprints", 403),
        (acme, "token-admin", None, "POST", "/api/admin/v2/blueprints", 200),
        (acme, "token-admin", None, "GET", "/api/managedTables/v1/tables", 200),
        (acme, "token-admin", None, "POST", "/api/managedTables/v1/tables", 403),
        (acme, "token-admin", shop, "POST", "/api", 403),
        (acme, "token-other", None, "GET", "/api/admin/v2/blueprints", 401),
        ("other.prod.localhost", "token-other", None, "GET", "/api/admin/v2/blueprints", 200),
        ("nobody.test.localhost", "token-admin", None, "GET", "/api/admin/v2/blueprints", 404),
        ("acme.test.localhost.evil.com", "token-admin", None, "GET", "/api/admin/v2/blueprints", 404),
        ("acme.test.localhost,evil", "token-admin", None, "GET", "/api/admin/v2/blueprints", 400),
    ] {
        let bearer = format!("Bearer {key}");
        let mut headers = vec![("host", host), ("authorization", &*bearer)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = ask(&app, method, path, &headers, "").await;
        assert_eq!(answer.status, status, "{host} {key} {method} {path}: {}", answer.body);
        if matches!(status, 401 | 403) {
            assert_eq!(answer.body, "", "401 and 403 are empty");
        }
    }
}
