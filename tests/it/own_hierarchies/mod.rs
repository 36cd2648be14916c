//! Tests hierarchies of an application's own dimensions: bundles belong to environments, environments to projects, and
//! projects to workspaces.

mod files;
mod model;

use std::sync::Arc;

use axum::{Router, body::Body, routing::get};
use http::{Method, Request};
use tower_authz::{
    Authz, Cause, ClientAddress, Denial, Digest, Dimension, Directory, DirectoryBuilder, Filter, Grant, GrantBuilder,
    IdGrammar, KeyRecord, Policy, Principal, Rule,
    check::EntityRef,
    store::{KeyAdmin as _, MemoryStore, NewKey, StoreErrorKind, StoreSettings},
};

use crate::support::{KEY, record, send, store_of};

pub const WORKSPACE: Dimension = Dimension::new("workspace", IdGrammar::Slug);
pub const PROJECT: Dimension = Dimension::new("project", IdGrammar::Slug);
pub const ENVIRONMENT: Dimension = Dimension::new("environment", IdGrammar::Slug);

fn levels() -> DirectoryBuilder {
    Directory::builder().hierarchy(PROJECT, WORKSPACE).hierarchy(ENVIRONMENT, PROJECT)
}

/// Two workspaces with a project each, and a project whose workspace is not known.
fn directory() -> Directory {
    let known = levels()
        .entity(&PROJECT, "apollo", Some("nasa"))
        .alias(&PROJECT, "prj-11", "apollo")
        .entity(&PROJECT, "soyuz", Some("rka"))
        .entity(&PROJECT, "lost", None)
        .entity(&ENVIRONMENT, "apollo-live", Some("apollo"))
        .alias(&ENVIRONMENT, "env-7", "apollo-live")
        .entity(&ENVIRONMENT, "soyuz-live", Some("soyuz"))
        .entity(&ENVIRONMENT, "lost-live", Some("lost"))
        .entity(&ENVIRONMENT, "gone-live", Some("gone"))
        .entity(&ENVIRONMENT, "by-alias", Some("prj-11"));
    known.build().unwrap()
}

fn policy() -> Policy {
    let by = |dimension: Dimension, name: &'static str| EntityRef::from_path(dimension, name);
    Policy::builder()
        .route("/workspaces/{w}", Rule::resource("r").scoped(by(WORKSPACE, "w")))
        .route("/projects/{p}", Rule::resource("r").scoped(by(PROJECT, "p")))
        .route("/environments/{e}", Rule::resource("r").scoped(by(ENVIRONMENT, "e")))
        .route("/workspaces/{w}/projects/{p}", Rule::resource("r").scoped(by(WORKSPACE, "w")).scoped(by(PROJECT, "p")))
        .route("/shared/{p}", Rule::resource("r").scoped(by(PROJECT, "p")).unscoped())
        .route("/projects", Rule::resource("r").filtered(PROJECT))
        .route("/silent", Rule::resource("r"))
        .build()
        .unwrap()
}

fn app(grant: GrantBuilder, directory: Directory) -> Router {
    let mut router = Router::new();
    let policy = policy();
    for pattern in policy.patterns() {
        let handler = async |principal: Principal| drop(principal.scope(PROJECT));
        router = router.route(pattern, get(handler));
    }
    let grant = grant.read("r").build().unwrap();
    router.layer(Authz::new(store_of([record("test-key", KEY, grant)], directory), policy))
}

async fn status(app: &Router, path: &str) -> u16 {
    let request = Request::get(path).header("x-api-key", KEY).body(Body::empty()).unwrap();
    send(app.clone(), request).await.0.as_u16()
}

fn principal(grant: GrantBuilder, directory: &Directory) -> Principal {
    let grant = grant.build().unwrap();
    let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant).build();
    Principal::new(Arc::new(record), directory.clone(), ClientAddress::UNKNOWN)
}

#[tokio::test]
async fn a_list_of_workspaces_applies_over_all_levels() {
    let nasa = || Grant::builder().only("workspace", ["nasa"]);
    let not_rka = || Grant::builder().except("workspace", ["rka"]);
    let apollo = || Grant::builder().only("project", ["apollo"]);
    let not_soyuz = || Grant::builder().except("project", ["soyuz"]);
    // An environment that the lists of each of the four keys allow, or some of them.
    for (path, allowed) in [
        ("/workspaces/nasa", [true, true, false, false]),
        ("/workspaces/rka", [false, false, false, false]),
        ("/projects/apollo", [true, true, true, true]),
        ("/projects/prj-11", [true, true, true, true]),
        ("/projects/soyuz", [false, false, false, false]),
        ("/projects/lost", [false, false, false, true]),
        ("/projects/unknown", [false, false, false, false]),
        ("/environments/apollo-live", [true, true, true, true]),
        ("/environments/env-7", [true, true, true, true]),
        ("/environments/by-alias", [true, true, true, true]),
        ("/environments/soyuz-live", [false, false, false, false]),
        ("/environments/lost-live", [false, false, false, true]),
        ("/environments/gone-live", [false, false, false, false]),
        ("/environments/unknown", [false, false, false, false]),
        ("/workspaces/nasa/projects/apollo", [true, true, true, true]),
        ("/workspaces/nasa/projects/soyuz", [false, false, false, false]),
        ("/workspaces/rka/projects/apollo", [false, false, true, true]),
        ("/shared/apollo", [true, true, true, true]),
        ("/shared/lost", [false, false, false, true]),
        ("/projects", [true, true, true, true]),
        ("/silent", [false, false, false, false]),
    ] {
        for (grant, allowed) in [nasa(), not_rka(), apollo(), not_soyuz()].into_iter().zip(allowed) {
            let expected = if allowed { 200 } else { 403 };
            assert_eq!(status(&app(grant.clone(), directory()), path).await, expected, "{path} {grant:?}");
        }
        assert_eq!(status(&app(Grant::builder(), directory()), path).await, 200, "{path}: no list, no parent matters");
    }
}

/// Nobody learns which entities exist: an unknown one is refused like one of another workspace.
#[tokio::test]
async fn an_unknown_entity_is_foreign() {
    let app = app(Grant::builder().only("workspace", ["nasa"]), directory());
    let request = |path: &str| Request::get(path).header("x-api-key", KEY).body(Body::empty()).unwrap();
    let foreign = send(app.clone(), request("/projects/soyuz")).await;
    for path in ["/projects/unknown", "/projects/lost"] {
        assert_eq!(send(app.clone(), request(path)).await, foreign, "{path}");
    }
}

/// Where no hierarchy is declared between two dimensions, a rule decides by what it names; where one is, a gap closes,
/// and so does a directory that knows nobody.
#[tokio::test]
async fn only_a_declared_hierarchy_reaches_down() {
    let nasa = || Grant::builder().only("workspace", ["nasa"]);
    for none in [Directory::default(), Directory::builder().build().unwrap()] {
        let app = app(nasa(), none);
        for (path, expected) in [
            ("/workspaces/nasa", 200),
            ("/projects/apollo", 403),
            ("/workspaces/nasa/projects/apollo", 200),
            ("/workspaces/rka/projects/apollo", 403),
            ("/shared/apollo", 200),
        ] {
            assert_eq!(status(&app, path).await, expected, "{path}");
        }
    }
    let empty = app(nasa(), levels().build().unwrap());
    for path in ["/projects/apollo", "/workspaces/nasa/projects/apollo", "/shared/apollo", "/environments/apollo-live"]
    {
        assert_eq!(status(&empty, path).await, 403, "{path}");
    }
    assert_eq!(status(&empty, "/workspaces/nasa").await, 200, "of workspaces, the list of the key decides");
}

/// Companies and shops take part: warehouses belong to shops, and companies to holdings.
#[tokio::test]
async fn own_dimensions_and_standard_ones_are_one_hierarchy() {
    const HOLDING: Dimension = Dimension::new("holding", IdGrammar::Slug);
    const WAREHOUSE: Dimension = Dimension::new("warehouse", IdGrammar::Number);
    let directory = Directory::builder()
        .shop("de", Some("1"))
        .country("de", "at", Some("1001"))
        .shop("ch", Some("2"))
        .shop("xx", Some("3"))
        .hierarchy(WAREHOUSE, Dimension::SHOP)
        .entity(&WAREHOUSE, "7", Some("de"))
        .entity(&WAREHOUSE, "8", Some("ch"))
        .hierarchy(Dimension::COMPANY, HOLDING)
        .entity(&Dimension::COMPANY, "1", Some("north"))
        .entity(&Dimension::COMPANY, "2", Some("south"))
        .build()
        .unwrap();
    for grant in [
        Grant::builder().only("holding", ["north"]),
        Grant::builder().only("company", [1]),
        Grant::builder().except("company", [2]),
        Grant::builder().only("shop", ["de"]),
    ] {
        let shop_list = grant.clone().build().unwrap().restriction(&Dimension::SHOP).is_some();
        let caller = principal(grant, &directory);
        for (dimension, mine, foreign) in [
            (Dimension::SHOP, "de", "ch"),
            (Dimension::SHOP, "de", "xx"),
            (Dimension::SHOP_COUNTRY, "1001", "1002"),
            (WAREHOUSE, "7", "8"),
            (WAREHOUSE, "7", "9"),
        ] {
            assert!(caller.require(dimension.clone(), mine).is_ok(), "{dimension}");
            assert!(caller.require(dimension.clone(), foreign).is_err(), "{dimension} {foreign}");
        }
        assert_eq!(caller.require(Dimension::COMPANY, "3").is_ok(), shop_list, "a company that no holding has");
        assert_eq!(caller.scope(WAREHOUSE).filter(), Filter::Only(vec!["7".into()]));
        assert_eq!(caller.scope(Dimension::SHOP).filter(), Filter::Only(vec!["de".into()]));
    }
    assert_eq!(directory.parent_of(&WAREHOUSE, "7"), Some("de"));
    assert_eq!(directory.parent_of(&Dimension::COMPANY, "1"), Some("north"));
    assert_eq!(directory.entities(&HOLDING).collect::<Vec<_>>(), ["north", "south"]);
    assert_eq!(directory.parent_dimension(&Dimension::SHOP), Some(&Dimension::COMPANY));
    assert_eq!(directory.parent_dimension(&Dimension::COMPANY), Some(&HOLDING));
}

#[test]
fn a_scope_of_projects_is_that_of_the_workspaces() {
    let only = |ids: &[&str]| Filter::Only(ids.iter().map(|id| (*id).to_owned()).collect());
    let scope = |grant: GrantBuilder, over: Dimension| principal(grant, &directory()).scope(over).filter();
    let nasa = || Grant::builder().only("workspace", ["nasa"]);
    assert_eq!(scope(nasa(), PROJECT), only(&["apollo", "prj-11"]));
    assert_eq!(scope(nasa(), ENVIRONMENT), only(&["apollo-live", "by-alias", "env-7"]));
    assert_eq!(scope(nasa(), WORKSPACE), only(&["nasa"]));
    assert_eq!(scope(Grant::builder().except("workspace", ["nasa"]), PROJECT), only(&["soyuz"]));
    assert_eq!(scope(Grant::builder().except("project", ["apollo"]), PROJECT), only(&["lost", "soyuz"]));
    assert_eq!(scope(Grant::builder().only("project", ["apollo", "unknown"]), PROJECT), only(&["apollo", "prj-11"]));
    assert_eq!(scope(nasa().only("project", ["apollo", "soyuz"]), PROJECT), only(&["apollo", "prj-11"]));
    assert_eq!(scope(Grant::builder().only("workspace", [""; 0]), PROJECT), only(&[]));
    assert_eq!(scope(Grant::builder(), PROJECT), Filter::All);
    assert_eq!(scope(Grant::builder().only("environment", ["env-8"]), PROJECT), Filter::All);
}

/// Stores refuse a list with an alias. One that came by another way excludes both ids, and includes none.
#[test]
fn a_list_that_names_an_alias_opens_nothing() {
    for (grant, allowed) in [
        (Grant::builder().except("project", ["prj-11"]), false),
        (Grant::builder().only("project", ["prj-11"]), false),
        (Grant::builder().only("project", ["apollo"]), true),
        (Grant::builder().except("project", ["soyuz"]), true),
    ] {
        let caller = principal(grant.clone(), &directory());
        for (dimension, id) in
            [(PROJECT, "apollo"), (PROJECT, "prj-11"), (ENVIRONMENT, "apollo-live"), (ENVIRONMENT, "env-7")]
        {
            assert_eq!(caller.require(dimension, id).is_ok(), allowed, "{id} {grant:?}");
        }
    }
}

/// A check of an environment is one of its project and workspace, and not the other way round.
#[tokio::test]
async fn a_question_about_a_child_answers_for_its_parents() {
    type Ask = fn(&Principal) -> Result<(), Denial>;
    let asks: [(Dimension, Ask); 3] = [
        (WORKSPACE, |it| it.require(WORKSPACE, "nasa")),
        (PROJECT, |it| it.require(PROJECT, "apollo")),
        (ENVIRONMENT, |it| it.require(ENVIRONMENT, "apollo-live")),
    ];
    for (open, (deferred, _)) in asks.iter().enumerate() {
        for (asked, (about, ask)) in asks.iter().enumerate() {
            let ask = *ask;
            let rule = Rule::resource("r").deferred(deferred.clone());
            let policy = Policy::builder().route("/", rule).build().unwrap();
            let grant = Grant::builder().read("r").only("workspace", ["nasa"]).build().unwrap();
            let store = store_of([record("test-key", KEY, grant)], directory());
            let handler = get(async move |principal: Principal| ask(&principal));
            let app = Router::new().route("/", handler).layer(Authz::new(store, policy));
            let expected = if asked >= open { 200 } else { 500 };
            assert_eq!(status(&app, "/").await, expected, "{deferred} by {about}");
        }
    }
}

/// An operation in a body leaves nothing to a handler, so a key with a list over the parent is refused.
#[test]
fn an_operation_is_refused_where_the_handler_would_have_to_filter() {
    let policy = policy();
    let decide = |grant: GrantBuilder, path: &str| {
        policy.authorize_operation(&principal(grant.read("r"), &directory()), &Method::GET, path)
    };
    let nasa = || Grant::builder().only("workspace", ["nasa"]);
    assert_eq!(decide(nasa(), "/projects").unwrap_err().cause(), &Cause::DimensionNotDeclared(PROJECT));
    assert!(decide(Grant::builder(), "/projects").is_ok());
    assert!(decide(nasa(), "/environments/apollo-live").is_ok());
    assert!(decide(nasa(), "/environments/soyuz-live").is_err());
}

fn settings(directory: Directory) -> StoreSettings {
    let own = StoreSettings::new().with_dimension(WORKSPACE).with_dimension(PROJECT).with_dimension(ENVIRONMENT);
    own.with_directory(directory)
}

/// What takes something away ends what is in flight; what takes nothing away, or from others, does not.
#[tokio::test]
async fn a_directory_that_takes_something_away_is_noticed() {
    let known = || levels().entity(&PROJECT, "apollo", Some("nasa")).entity(&ENVIRONMENT, "live", Some("apollo"));
    let nasa = || Grant::builder().only("workspace", ["nasa"]);
    let not_apollo = || Grant::builder().except("project", ["apollo"]);
    let live = || Grant::builder().only("environment", ["live"]);
    let moved = levels().entity(&PROJECT, "apollo", Some("rka")).entity(&ENVIRONMENT, "live", Some("apollo"));
    let orphan = levels().entity(&PROJECT, "apollo", None).entity(&ENVIRONMENT, "live", Some("apollo"));
    let elsewhere = known().entity(&PROJECT, "soyuz", Some("rka")).entity(&ENVIRONMENT, "old", None);
    let no_project = levels().entity(&ENVIRONMENT, "live", Some("apollo"));
    let undeclared = Directory::builder().hierarchy(ENVIRONMENT, PROJECT).entity(&ENVIRONMENT, "live", Some("apollo"));
    for (what, directory, taken) in [
        ("the same", known(), [false, false, false, false]),
        ("another entity", elsewhere, [false, false, false, false]),
        ("another workspace", moved, [true, false, false, false]),
        ("no workspace", orphan, [true, false, false, false]),
        ("no project", no_project, [true, false, false, false]),
        ("no environment", levels().entity(&PROJECT, "apollo", Some("nasa")), [true, false, true, false]),
        ("an alias", known().alias(&ENVIRONMENT, "env-7", "live"), [false, false, false, false]),
        ("fewer hierarchies", undeclared, [true, true, true, false]),
        ("no hierarchy", Directory::builder(), [true, true, true, false]),
    ] {
        let store = MemoryStore::with_settings(settings(known().build().unwrap()));
        let actor = store.as_actor("test");
        let mut callers = Vec::new();
        for grant in [nasa(), not_apollo(), live(), Grant::builder()] {
            let key = actor.issue(NewKey::new("k", grant.build().unwrap())).await.unwrap();
            let policy = Policy::builder().route("/", Rule::authenticated().unscoped()).build().unwrap();
            let handler = get(async |principal: Principal| axum::Extension(principal));
            let app: Router = Router::new().route("/", handler).layer(Authz::new(store.clone(), policy));
            let request = Request::get("/").header("x-api-key", key.api_key.expose()).body(Body::empty()).unwrap();
            let response = tower::ServiceExt::oneshot(app, request).await.unwrap();
            callers.push(response.extensions().get::<Principal>().unwrap().clone());
        }
        actor.set_settings(settings(directory.build().unwrap())).await.unwrap();
        for (caller, taken) in callers.iter().zip(taken) {
            let ended = futures::FutureExt::now_or_never(caller.ended()).is_some();
            let live = caller.ensure_live().await;
            assert_eq!((ended, live.is_err()), (taken, taken), "{what}: {:?}", caller.record().grant());
        }
    }
}

/// A list with an alias is refused when it is issued, and an alias that a list names when it is declared.
#[tokio::test]
async fn lists_and_aliases_do_not_meet_in_a_store() {
    let store = MemoryStore::with_settings(settings(directory()));
    let actor = store.as_actor("test");
    for grant in [Grant::builder().only("project", ["prj-11"]), Grant::builder().except("project", ["prj-11"])] {
        let error = actor.issue(NewKey::new("k", grant.build().unwrap())).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(error.to_string().contains(r#"restrictions.project: "prj-11" is an alias of "apollo""#), "{error}");
    }
    let grant = Grant::builder().except("project", ["prj-12"]).build().unwrap();
    actor.issue(NewKey::new("k", grant)).await.unwrap();
    let aliased = levels().entity(&PROJECT, "apollo", None).alias(&PROJECT, "prj-12", "apollo").build().unwrap();
    let error = actor.set_settings(settings(aliased)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict);
    assert!(error.to_string().contains(r#""prj-12" is an alias of "apollo""#), "{error}");
}
