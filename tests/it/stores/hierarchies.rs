//! Hierarchies of an application's own dimensions in every store: they are kept, judged at once, and logged.

use std::time::{Duration, Instant};

use crate::{
    stores::{Fixture, audit},
    support::Handler,
};
use http::Request;
use tower::{Layer as _, ServiceExt as _};
use tower_authz::{
    Authz, Dimension, Directory, DirectoryBuilder, Grant, IdGrammar, KeyFile, Policy, Principal, Rule,
    check::EntityRef,
    reject::Empty,
    store::{IssuedKey, KeyAdmin, KeyStore, NewKey, StoreErrorKind, StoreSettings},
};

const WORKSPACE: Dimension = Dimension::new("workspace", IdGrammar::Slug);
const PROJECT: Dimension = Dimension::new("project", IdGrammar::Opaque);
const ENVIRONMENT: Dimension = Dimension::new("environment", IdGrammar::Slug);

pub fn levels() -> DirectoryBuilder {
    Directory::builder().hierarchy(PROJECT, WORKSPACE).hierarchy(ENVIRONMENT, PROJECT)
}

fn apollo(workspace: Option<&str>) -> DirectoryBuilder {
    levels().entity(&PROJECT, "Apollo", workspace).entity(&ENVIRONMENT, "live", Some("Apollo"))
}

pub fn settings(directory: DirectoryBuilder) -> StoreSettings {
    let own = StoreSettings::new().with_dimension(WORKSPACE).with_dimension(PROJECT).with_dimension(ENVIRONMENT);
    own.with_directory(directory.build().unwrap())
}

async fn of_nasa(store: &impl KeyAdmin) -> IssuedKey {
    let grant = Grant::builder().read("r").only(WORKSPACE, ["nasa"]).build().unwrap();
    store.as_actor("test").issue(NewKey::new("k", grant)).await.unwrap()
}

/// Sends a request for the environment `live`.
async fn ask(store: &(impl KeyStore + Clone), key: &str) -> (u16, Option<Principal>) {
    let rule = Rule::resource("r").scoped(EntityRef::from_path(ENVIRONMENT, "environment"));
    let policy = Policy::builder().route("/{environment}", rule).build().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let own = std::sync::Arc::clone(&seen);
    let note = tower::util::MapRequestLayer::new(move |request: Request<http_body_util::Full<bytes::Bytes>>| {
        *own.lock().unwrap() = request.extensions().get::<Principal>().cloned();
        request
    });
    let gate = Authz::new(store.clone(), policy).with_rejection(Empty).layer(note.layer(Handler::default()));
    let request = Request::get("/live").header("x-api-key", key);
    let status = gate
        .oneshot(request.body(http_body_util::Full::<bytes::Bytes>::default()).unwrap())
        .await
        .unwrap()
        .status()
        .as_u16();
    (status, seen.lock().unwrap().take())
}

pub async fn own_hierarchies_are_judged_by_the_newest_settings<F: Fixture>() {
    let fixture = F::fresh(settings(levels())).await;
    let (store, actor) = (fixture.store(), fixture.store().as_actor("test"));
    let key = of_nasa(store).await;
    let mut admitted: Option<Principal> = None;
    for (directory, status) in [
        (levels(), 403),
        (apollo(Some("nasa")), 200),
        (apollo(Some("nasa")).entity(&PROJECT, "other", Some("rka")), 200),
        (apollo(Some("rka")), 403),
        (apollo(Some("nasa")), 200),
        (apollo(None), 403),
        (apollo(Some("nasa")), 200),
        (Directory::builder(), 403),
    ] {
        actor.set_settings(settings(directory)).await.unwrap();
        let (got, principal) = ask(store, key.api_key.expose()).await;
        assert_eq!(got, status);
        if let Some(before) = admitted {
            let ended = futures::FutureExt::now_or_never(before.ended()).is_some();
            assert_eq!((ended, before.ensure_live().await.is_err()), (status == 403, status == 403));
        }
        admitted = principal.filter(|_| status == 200);
    }
}

pub async fn own_hierarchies_are_kept_as_they_were_given<F: Fixture>() {
    let known = || apollo(Some("nasa")).alias(&PROJECT, "prj-11", "Apollo").shop("de", Some("1"));
    let fixture = F::fresh(settings(known())).await;
    let store = fixture.store();
    let expected = settings(known()).to_json().unwrap();
    assert_eq!(store.settings().await.unwrap().to_json().unwrap(), expected);
    let text = store.export().await.unwrap().to_json().unwrap();
    let file = KeyFile::parse_with(&text, "export", &[WORKSPACE, PROJECT, ENVIRONMENT]).unwrap();
    let elsewhere = F::fresh(settings(levels())).await;
    let directory = file.directory().clone();
    let change = |old: &StoreSettings| Ok(old.clone().with_directory(directory));
    elsewhere.store().as_actor("test").change_settings(change).await.unwrap();
    assert_eq!(elsewhere.store().settings().await.unwrap().to_json().unwrap(), expected);
    assert_eq!(elsewhere.store().directory().parent_of(&PROJECT, "prj-11"), Some("nasa"));
    // The log says what has changed, and not what has not.
    let many = |workspace: &str| {
        let all = (0..2000)
            .fold(apollo(Some(workspace)), |all, number| all.entity(&PROJECT, &format!("p{number}"), Some("nasa")));
        settings(all)
    };
    let actor = store.as_actor("anna");
    actor.set_settings(many("nasa")).await.unwrap();
    actor.set_settings(many("rka")).await.unwrap();
    let records = audit(store).await;
    let last = records.last().unwrap();
    for (text, workspace) in [(&last.before, "nasa"), (&last.after, "rka")] {
        let value: serde_json::Value = serde_json::from_str(text.as_ref().unwrap()).unwrap();
        let own = serde_json::json!({ "parent": "workspace", "entities": [{ "id": "Apollo", "parent": workspace }] });
        assert_eq!(value["directory"], serde_json::json!({ "shops": [], "hierarchies": { "project": own } }));
    }
}

/// Nothing could read the store any more.
pub async fn hierarchies_of_unknown_dimensions_are_refused<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, actor) = (fixture.store(), fixture.store().as_actor("test"));
    let known = StoreSettings::new().with_dimension(PROJECT).with_dimension(ENVIRONMENT);
    for (own, place) in [
        (StoreSettings::new(), "directory.hierarchies.project: no such dimension is declared"),
        (known, "directory.hierarchies.project.parent: no such dimension is declared: \"workspace\""),
        (
            settings(levels()).with_dimension(Dimension::new("project", IdGrammar::Number)),
            "directory project \"Apollo\"",
        ),
    ] {
        let directory = apollo(Some("nasa")).build().unwrap();
        let error = actor.set_settings(own.with_directory(directory)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(place), "{error}");
    }
    assert!(audit(store).await.is_empty() && !store.directory().is_declared());
}

/// How long a change may take to be in force elsewhere.
#[cfg(feature = "sqlite")]
const IN_FORCE_WITHIN: Duration = Duration::from_secs(1);

/// Changes the directory at one replica, and waits until another one decides by it, and has ended what it has admitted.
#[cfg(feature = "sqlite")]
pub async fn is_published<S: KeyStore + KeyAdmin + Clone>(here: &S, elsewhere: &S) {
    let (actor, key) = (here.as_actor("anna"), of_nasa(here).await);
    for (directory, status) in [(apollo(Some("nasa")), 200), (apollo(Some("rka")), 403), (apollo(Some("nasa")), 200)] {
        let admitted = ask(elsewhere, key.api_key.expose()).await;
        actor.set_settings(settings(directory)).await.unwrap();
        let begin = Instant::now();
        while ask(elsewhere, key.api_key.expose()).await.0 != status {
            assert!(begin.elapsed() < IN_FORCE_WITHIN, "{status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let ((200, Some(principal)), 403) = (admitted, status) {
            assert!(tokio::time::timeout(IN_FORCE_WITHIN, principal.ended()).await.is_ok());
        }
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hierarchy_is_published_to_replicas_of_postgres() {
    use tower_authz::store::{PostgresOptions, PostgresStore};

    use crate::stores::postgres;

    if postgres::server().is_none() {
        return;
    }
    let address = postgres::address(&postgres::database().await);
    let one = PostgresStore::create(&address, settings(levels())).await.unwrap();
    let other = PostgresOptions::new().connect(&address).await.unwrap();
    is_published(&one, &other).await;
    is_published(&other, &one).await;
}

/// The file is edited: the project goes to another workspace, and a hierarchy with a circle changes nothing.
#[cfg(all(feature = "file", feature = "sqlite"))]
#[tokio::test]
async fn a_file_with_another_hierarchy_is_in_force_once_it_is_read() {
    use tower_authz::{ApiKey, KeyFormat, KeyRecord, store::FileStore};

    let folder = crate::stores::sqlite::Folder::new();
    let path = folder.path().join("keys.json");
    let grant = Grant::builder().read("r").only(WORKSPACE, ["nasa"]).build().unwrap();
    let record =
        KeyRecord::builder("k".parse().unwrap(), ApiKey::new(crate::support::KEY).digest()).grant(grant).build();
    let text =
        |directory: DirectoryBuilder| KeyFile::new([record.clone()], directory.build().unwrap()).to_json().unwrap();
    std::fs::write(&path, text(apollo(Some("nasa")))).unwrap();
    let own = settings(levels()).with_format(KeyFormat::opaque(16, 64).unwrap());
    let store = FileStore::open_reporting(&path, own, |_| ()).unwrap();
    let until = async |what: &str, is: &dyn Fn(u16, &FileStore) -> bool| {
        let begin = Instant::now();
        while !is(ask(&store, crate::support::KEY).await.0, &store) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until("nasa", &|status, _| status == 200).await;
    std::fs::write(&path, text(apollo(Some("rka")))).unwrap();
    until("rka", &|status, _| status == 403).await;
    let circle = text(apollo(Some("nasa"))).replace("\"parent\": \"workspace\"", "\"parent\": \"environment\"");
    std::fs::write(&path, circle).unwrap();
    let is_reported =
        |fault: &str| fault.contains("keys.json: directory.hierarchies.project: the dimensions form a circle");
    until("circle", &|status, store| status == 403 && store.status().fault.is_some_and(|fault| is_reported(&fault)))
        .await;
    std::fs::write(&path, text(apollo(Some("nasa")))).unwrap();
    until("nasa again", &|status, store| status == 200 && store.status().fault.is_none()).await;
}
