//! Tests shops, their companies and their countries, with gaps in the directory, and without a directory.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, routing::get};
use http::Request;
use proptest::prelude::*;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_authz::{
    Authz, ClientAddress, Digest, Dimension, Directory, DirectoryBuilder, Filter, Grant, IdGrammar, KeyFile, KeyRecord,
    Policy, Principal, RequireLayer, Rule, check::EntityRef,
};

use crate::support::{KEY, record, send, store_of};

fn request(path: &str) -> Request<Body> {
    Request::get(path).header("x-api-key", KEY).body(Body::empty()).unwrap()
}

fn company() -> EntityRef {
    EntityRef::from_path(Dimension::COMPANY, "company")
}

fn shop() -> EntityRef {
    EntityRef::from_path(Dimension::SHOP, "shop")
}

fn policy() -> Policy {
    let country = EntityRef::from_path(Dimension::SHOP_COUNTRY, "country");
    Policy::builder()
        .route("/companies/{company}/shops/{shop}", Rule::resource("shops").scoped(company()).scoped(shop()))
        .route("/shops/{shop}", Rule::resource("shops").scoped(shop()))
        .route("/shared/{shop}", Rule::resource("shops").scoped(shop()).unscoped_for(Dimension::COMPANY))
        .route("/free/{shop}", Rule::resource("shops").scoped(shop()).unscoped())
        .route("/countries/{country}", Rule::resource("shops").scoped(country.clone()))
        .route(
            "/companies/{company}/shops/{shop}/countries/{country}",
            Rule::resource("shops").scoped(company()).scoped(shop()).scoped(country),
        )
        .build()
        .unwrap()
}

fn app(grant: Grant, directory: Directory) -> Router {
    let mut router = Router::new();
    let policy = policy();
    for pattern in policy.patterns() {
        router = router.route(pattern, get(async || "shown"));
    }
    router.layer(Authz::new(store_of([record("test-key", KEY, grant)], directory), policy))
}

async fn status(app: &Router, path: &str) -> u16 {
    send(app.clone(), request(path)).await.0.as_u16()
}

fn build(directory: DirectoryBuilder) -> Directory {
    directory.build().unwrap()
}

#[tokio::test]
async fn a_shop_that_the_directory_does_not_place_is_foreign() {
    let foreign = build(Directory::builder().shop("de", Some("2")));
    let gaps = [
        build(Directory::builder().shop("ch", Some("1"))),
        build(Directory::builder().shop("de", None).shop("ch", Some("1"))),
        build(Directory::builder().country("de", "at", None)),
        // The last shop was removed, so the directory is empty.
        build(Directory::builder()),
    ];
    let grants = [Grant::builder().only("company", [1]), Grant::builder().except("company", [2])];
    for grant in grants.map(|grant| grant.read("shops").build().unwrap()) {
        let known = app(grant.clone(), build(Directory::builder().shop("de", Some("1"))));
        for path in ["/companies/1/shops/de", "/shops/de", "/shared/de"] {
            assert_eq!(status(&known, path).await, 200, "{path}");
            let expected = send(app(grant.clone(), foreign.clone()), request(path)).await;
            assert_eq!(expected.0, 403, "{path}");
            for gap in &gaps {
                let got = send(app(grant.clone(), gap.clone()), request(path)).await;
                assert_eq!(got, expected, "{path}: {gap:?}");
            }
        }
    }
    // Without a company list the company of a shop does not matter.
    let grant = Grant::builder().read("shops").only("shop", ["de"]).build().unwrap();
    for gap in gaps {
        assert_eq!(status(&app(grant.clone(), gap), "/companies/1/shops/de").await, 200);
    }
}

#[tokio::test]
async fn a_country_that_the_directory_does_not_place_is_foreign() {
    let known = || build(Directory::builder().shop("de", Some("1")).country("de", "at", Some("1001")));
    let gaps = [
        build(Directory::builder().shop("de", Some("1"))),
        build(Directory::builder().shop("ch", Some("1")).country("ch", "ch", Some("1002"))),
        build(Directory::builder()),
    ];
    let one_company = Grant::builder().only("company", [1]);
    let not_ch = Grant::builder().except("shop", ["ch"]);
    for grant in [one_company, not_ch].map(|grant| grant.read("shops").build().unwrap()) {
        for path in ["/countries/1001", "/companies/1/shops/de/countries/1001"] {
            assert_eq!(status(&app(grant.clone(), known()), path).await, 200, "{path}");
            for gap in &gaps {
                assert_eq!(status(&app(grant.clone(), gap.clone()), path).await, 403, "{path}: {gap:?}");
            }
        }
    }
    // The directory knows the shop of the country, but not the company of the shop.
    let half = build(Directory::builder().country("de", "at", Some("1001")));
    let grant = Grant::builder().read("shops").only("company", [1]).build().unwrap();
    assert_eq!(status(&app(grant, half), "/countries/1001").await, 403);
}

/// If no hierarchy is declared, a rule decides by the entities that it names, and a restriction over a dimension that
/// it does not name refuses the request.
#[tokio::test]
async fn without_a_directory_a_rule_decides_by_what_it_names() {
    let both = || Grant::builder().read("shops").only("company", [1]).only("shop", ["de"]).build().unwrap();
    let declared_by_file = |text: &str| KeyFile::parse(text, "f").unwrap().directory().clone();
    for none in
        [Directory::default(), declared_by_file(r#"{"keys":[]}"#), declared_by_file(r#"{"keys":[],"directory":null}"#)]
    {
        let app = app(both(), none);
        for (path, expected) in [
            ("/companies/1/shops/de", 200),
            ("/companies/2/shops/de", 403),
            ("/companies/1/shops/ch", 403),
            ("/shops/de", 403),
            ("/shared/de", 200),
            ("/free/de", 403),
            ("/countries/1001", 403),
            ("/companies/1/shops/de/countries/1001", 200),
            ("/companies/1/shops/ch/countries/1001", 403),
        ] {
            assert_eq!(status(&app, path).await, expected, "{path}");
        }
    }
    // An empty directory that is given is still a declared one.
    for given in [r#"{"keys":[],"directory":{}}"#, r#"{"keys":[],"directory":{"shops":[]}}"#] {
        let again = KeyFile::parse(&KeyFile::parse(given, "f").unwrap().to_json().unwrap(), "f").unwrap();
        for directory in [declared_by_file(given), again.directory().clone()] {
            assert_eq!(status(&app(both(), directory), "/companies/1/shops/de").await, 403, "{given}");
        }
    }
}

/// The handling of companies in a rule also applies to what the handler checks, whether or not the rule leaves
/// obligations to it, and for one service as for two.
#[tokio::test]
async fn what_a_rule_says_holds_in_the_handler() {
    let silent = || Rule::resource("shops").scoped(shop());
    let saying = || silent().unscoped_for(Dimension::COMPANY);
    let own = |rule: Rule| rule.check(|_: &tower_authz::Head<'_>| Ok(()));
    let declared = || build(Directory::builder().shop("de", None));
    for (says, rule) in [
        (true, saying()),
        (true, saying().concealed()),
        (true, saying().unscoped_for("project")),
        (true, saying().filtered("project")),
        (true, own(saying())),
        (true, own(saying().concealed())),
        (false, silent()),
        (false, silent().concealed()),
        (false, silent().filtered("project")),
        (false, own(silent())),
    ] {
        for (directory, allowed) in [(Directory::default(), says), (declared(), false)] {
            let grant = Grant::builder().read("shops").only("company", [1]).build().unwrap();
            let policy = Policy::builder().route("/{shop}", rule.clone()).build().unwrap();
            let authz = Authz::new(store_of([record("test-key", KEY, grant)], directory), policy);
            let app: Router = Router::new().route("/{shop}", get(asks)).layer(authz);
            assert_eq!(status(&app, "/xx").await == 200, allowed, "{rule:?}");
        }
    }
}

/// Checks another shop than that of the path. The rule applies to both in the same way.
async fn asks(principal: Principal) -> Result<&'static str, tower_authz::Denial> {
    let _ = principal.scope("project");
    principal.require(Dimension::SHOP, "yy")?;
    Ok("shown")
}

fn pass() -> Rule {
    Rule::resource("shops").unscoped()
}

/// Returns the answer of `require` and `allows` about a shop, below a rule.
async fn answers(rule: Rule, grant: Grant, directory: Directory) -> bool {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let handler = service_fn(move |request: Request<Body>| {
        let principal = request.extensions().get::<Principal>().unwrap();
        let scope = principal.scope(Dimension::SHOP);
        sink.lock().unwrap().push((principal.require(Dimension::SHOP, "yy").is_ok(), scope.allows("yy")));
        std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())))
    });
    let mut request = request("/");
    request.extensions_mut().insert(principal(&grant, directory));
    assert_eq!(RequireLayer::new(rule).layer(handler).oneshot(request).await.unwrap().status(), 200);
    let (required, allowed) = seen.lock().unwrap()[0];
    assert_eq!(required, allowed);
    required
}

fn principal(grant: &Grant, directory: Directory) -> Principal {
    let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant.clone()).build();
    Principal::new(record.into(), directory, ClientAddress::UNKNOWN)
}

/// A rule without obligations, one with obligations that are met, and one that conceals handle companies alike, so a
/// handler gets the same answers below each.
#[tokio::test]
async fn obligations_change_no_answer() {
    let grant = Grant::builder().read("shops").only("company", [1]).build().unwrap();
    let own = |rule: Rule| rule.check(|_: &tower_authz::Head<'_>| Ok(()));
    for says in [true, false] {
        let rule = || if says { pass().unscoped_for(Dimension::COMPANY) } else { pass() };
        for rule in [rule(), rule().concealed(), rule().filtered(Dimension::SHOP), own(rule())] {
            assert_eq!(answers(rule.clone(), grant.clone(), Directory::default()).await, says, "{rule:?}");
            let declared = build(Directory::builder().shop("de", Some("1")));
            assert!(!answers(rule, grant.clone(), declared).await, "a gap never opens");
        }
    }
}

/// If several rules apply, each must name companies, as each would have had to if the shop had been in the path.
#[tokio::test]
async fn of_several_rules_each_has_to_name_what_counts() {
    let grant = || Grant::builder().read("shops").only("company", [1]).build().unwrap();
    let saying = || pass().unscoped_for(Dimension::COMPANY);
    for (outer, inner, allowed) in [(saying(), saying(), true), (saying(), pass(), false), (pass(), saying(), false)] {
        let handler = service_fn(async |request: Request<Body>| {
            let principal = request.extensions().get::<Principal>().unwrap();
            let response = principal.require(Dimension::SHOP, "yy").map(|()| http::Response::new(Body::empty()));
            Ok::<_, std::convert::Infallible>(response.unwrap_or_else(axum::response::IntoResponse::into_response))
        });
        let service = RequireLayer::new(outer).layer(RequireLayer::new(inner).layer(handler));
        let mut request = request("/");
        request.extensions_mut().insert(principal(&grant(), Directory::default()));
        assert_eq!(service.oneshot(request).await.unwrap().status() == 200, allowed);
    }
}

#[tokio::test]
async fn all_but_none_refuses_nowhere() {
    let none: [&str; 0] = [];
    let grant = Grant::builder().read("shops").except("project", none).build().unwrap();
    assert_eq!(status(&app(grant, Directory::default()), "/shops/de").await, 200);
    let text = |list: &str| {
        format!(
            r#"{{"keys":[{{"id":"k","digest":"{}","permissions":{{"shops":"read"}},"restrictions":{{"shop":{list}}}}}]}}"#,
            Digest::from_key(b"a key of its own")
        )
    };
    let grant = |list: &str| KeyFile::parse(&text(list), "f").unwrap().records()[0].grant().clone();
    assert!(grant(r#"{"exclude":[]}"#).restrictions().is_empty());
    assert_eq!(grant(r#"{"include":[]}"#).restrictions().len(), 1);
    assert!(KeyFile::parse(&text(r#"{"include":["de"],"exclude":[]}"#), "f").is_err(), "both lists at once");
}

// ---- The three answers of a scope agree ----------------------------------------------------------

const GRAMMARS: [IdGrammar; 5] = [
    IdGrammar::Number,
    IdGrammar::Slug,
    IdGrammar::Opaque,
    IdGrammar::Custom(is_upper),
    IdGrammar::Custom(is_anything),
];
const IDS: [&str; 8] = ["1", "03", "3", "de", "DE", "ch", "CH", "A.b"];
const COUNTRIES: [&str; 3] = ["1001", "1002", "1003"];

fn is_upper(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_anything(id: &str) -> bool {
    !id.is_empty()
}

/// Whether a query with this filter returns the row of an id.
fn shows(filter: &Filter, id: &str) -> bool {
    match filter {
        Filter::All => true,
        Filter::Only(ids) => ids.iter().any(|known| known == id),
        Filter::Except(ids) => ids.iter().all(|known| known != id),
    }
}

/// Returns the answers of a scope about ids, below a rule that names some dimensions: by its filter, by `allows`, and
/// by `require`.
fn said(rule: Rule, caller: Principal, over: &Dimension, ids: &[&str]) -> Vec<[bool; 3]> {
    let answers = Mutex::new(Vec::new());
    let handler = service_fn(|request: Request<Body>| {
        let principal = request.extensions().get::<Principal>().unwrap();
        let scope = principal.scope(over.clone());
        assert_eq!(scope.list(), principal.record().grant().restriction(over));
        let filter = scope.filter();
        // A database holds only valid ids of the dimension.
        for id in ids.iter().filter(|id| over.accepts(id)) {
            let required = principal.require(over.clone(), id).is_ok();
            answers.lock().unwrap().push([shows(&filter, id), scope.allows(id), required]);
        }
        std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())))
    });
    let mut request = request("/");
    request.extensions_mut().insert(caller);
    let response = futures::executor::block_on(RequireLayer::new(rule).layer(handler).oneshot(request)).unwrap();
    assert_eq!(response.status(), 200);
    answers.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The answers agree for every combination of the grammars of rule and key.
    #[test]
    fn a_scope_says_the_same_in_each_way(
        (read, spelt) in (0..GRAMMARS.len(), 0..GRAMMARS.len()),
        listed in prop::sample::subsequence(&IDS[..], 0..=4),
        include in any::<bool>(),
    ) {
        let project = |grammar: usize| Dimension::new("project", GRAMMARS[grammar]);
        let (over, of_key) = (project(read), project(spelt));
        let listed: Vec<_> = listed.into_iter().filter(|id| of_key.accepts(id)).collect();
        let grant = match include {
            true => Grant::builder().only(of_key, &listed),
            false => Grant::builder().except(of_key, &listed),
        };
        let caller = principal(&grant.build().unwrap(), Directory::default());
        for [filter, allows, requires] in said(Rule::authenticated().filtered(over.clone()), caller, &over, &IDS) {
            prop_assert_eq!((filter, requires), (allows, allows), "{:?}", listed);
        }
    }

    /// The answers agree for every directory, and for every set of dimensions that the rule names.
    #[test]
    fn a_scope_of_shops_says_the_same_in_each_way(
        declared in any::<bool>(),
        company_of in prop::collection::btree_map(prop::sample::select(&["de", "ch", "us"][..]), prop::option::of(1..3_u8), 0..=3),
        shop_of in prop::collection::btree_map(prop::sample::select(&COUNTRIES[..]), prop::sample::select(&["de", "ch"][..]), 0..=3),
        companies in prop::option::of(any::<bool>()),
        shops in prop::option::of((any::<bool>(), prop::sample::subsequence(&["de", "ch", "us", "xx"][..], 0..=3))),
        names in prop::sample::subsequence(vec![Dimension::COMPANY, Dimension::SHOP], 0..=2),
    ) {
        let mut directory = Directory::builder();
        for (shop, company) in &company_of {
            directory = directory.shop(shop, company.map(|company| company.to_string()).as_deref());
        }
        for (country, shop) in &shop_of {
            directory = directory.country(shop, "xx", Some(country));
        }
        let directory = if declared { directory.build().unwrap() } else { Directory::default() };
        let mut grant = Grant::builder();
        grant = match companies {
            None => grant,
            Some(true) => grant.only("company", [1]),
            Some(false) => grant.except("company", [1]),
        };
        grant = match &shops {
            None => grant,
            Some((true, ids)) => grant.only("shop", ids),
            Some((false, ids)) => grant.except("shop", ids),
        };
        let grant = grant.build().unwrap();
        let rule = names.iter().fold(Rule::authenticated().unscoped(), |rule, over| rule.unscoped_for(over.clone()));
        for (over, ids) in [
            (Dimension::SHOP, &["de", "ch", "us", "xx"][..]),
            (Dimension::SHOP_COUNTRY, &COUNTRIES[..]),
            (Dimension::COMPANY, &["1", "2", "3"][..]),
        ] {
            let caller = principal(&grant, directory.clone());
            for [filter, allows, requires] in said(rule.clone(), caller, &over, ids) {
                prop_assert_eq!((filter, requires), (allows, allows), "{}", over);
            }
        }
    }
}
