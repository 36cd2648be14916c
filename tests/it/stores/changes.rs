//! Tests how a change alters a record, and which changes are refused.

use std::{
    fmt::Debug,
    time::{Duration, UNIX_EPOCH},
};

use tower_authz::{
    Alphabet, Digest, Dimension, Directory, Grant, IdGrammar, KeyFormat, KeyFormats, KeyRecord, Metadata, Permission,
    store::{KeyAdmin, KeyStore as _, NewKey, Overlap, StoreError, StoreErrorKind, StoreSettings},
};

use crate::stores::{Fixture, Gate, all, audit, in_seconds, issue};

pub async fn a_record_is_kept_as_it_was_given<F: Fixture>() {
    const PROJECT: Dimension = Dimension::new("project", IdGrammar::Opaque);
    let fixture = F::fresh(StoreSettings::new().with_dimension(PROJECT)).await;
    let store = fixture.store();
    let grant = Grant::builder()
        .write("products")
        .read("*")
        .only("company", [1_u64, u64::MAX])
        .except("shop", ["de", "ch"])
        .only::<&str>(PROJECT, [])
        .from_networks(["10.0.0.0/8", "10.0.0.0/9", "2001:db8::/32"])
        .from_origins(["https://shop.example"])
        .build()
        .unwrap();
    // The year 9999 and times before 1970 are valid, too.
    let (start, end) = (UNIX_EPOCH - Duration::from_secs(86_400), UNIX_EPOCH + Duration::from_secs(253_402_000_000));
    let new = NewKey::new("Ünïcode 'quoted' \"name\" \u{1f511}", grant.clone()).kind("admin").tenant("acme-live");
    let before = in_seconds(0);
    let key = store.as_actor("test").issue(new.not_before(start).expires_at(end)).await.unwrap();
    let record = store.show(key.record.id()).await.unwrap();
    assert_eq!(record, key.record);
    assert_eq!(all(store).await, [key.record]);
    assert_eq!(*record.grant(), grant);
    assert_eq!(*record.digest(), Digest::from_key(key.api_key.expose().as_bytes()));
    assert_eq!((record.kind(), record.tenant()), (Some("admin"), Some("acme-live")));
    assert_eq!(record.name(), "Ünïcode 'quoted' \"name\" \u{1f511}");
    assert_eq!((record.not_before(), record.expires_at()), (Some(start), Some(end)));
    assert!((before..=in_seconds(0)).contains(&record.created_at().unwrap()));
    assert_eq!((record.revoked_at(), record.revocation_reason(), record.last_used()), (None, None, None));
    assert_eq!(record.version(), 1);
    assert!(store.formats().matches(key.api_key.expose().as_bytes()));
}

pub async fn every_change_is_one_version<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let (anna, key) = (store.as_actor("anna"), issue(store).await);
    let id = key.record.id();
    let version = async |expected: u64| assert_eq!(store.show(id).await.unwrap().version(), expected);
    version(1).await;
    assert_eq!(anna.rename(id, "b").await.unwrap().record.unwrap().version(), 2);
    version(2).await;
    assert_eq!(anna.set_grant(id, Grant::default()).await.unwrap().record.unwrap().version(), 3);
    version(3).await;
    assert_eq!(anna.rotate(id, Overlap::For(Duration::from_secs(60))).await.unwrap().record.version(), 1);
    version(4).await;
    let again = anna.rotate(id, Overlap::UntilRevoked).await.unwrap_err();
    assert_eq!(again.kind(), StoreErrorKind::Conflict, "of one key two secrets live at most: {again}");
    version(4).await;
    assert_eq!(anna.revoke(id, "lost").await.unwrap().record.unwrap().version(), 5);
    version(5).await;
    assert!(!anna.revoke(id, "lost again").await.unwrap().changed);
    version(5).await;
    anna.rename(id, "dead").await.unwrap();
    version(6).await;
    assert_eq!(store.show(id).await.unwrap().name(), "dead");
}

pub async fn no_version_is_lost_when_many_change_one_key<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let key = issue(store).await;
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (store, id) = (store.clone(), key.record.id().clone());
            tokio::spawn(async move {
                for round in 0..10 {
                    store.as_actor("test").rename(&id, format!("{task}-{round}")).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.show(key.record.id()).await.unwrap().version(), 41);
    // Each audit record must begin with the state in which the previous one ended.
    let changes = audit(store).await;
    assert_eq!(changes.len(), 41);
    for pair in changes.windows(2) {
        assert_eq!(pair[0].after, pair[1].before);
    }
}

pub async fn keys_are_issued_and_revoked_at_once<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let tasks = [(); 3].map(|()| {
        let (store, gate) = (store.clone(), gate.clone());
        tokio::spawn(async move {
            for _ in 0..15 {
                let key = issue(&store).await;
                assert_eq!(gate.get(&key).await, 200);
                store.as_actor("test").revoke(key.record.id(), "").await.unwrap();
                assert_eq!(gate.get(&key).await, 401);
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    let records = all(store).await;
    assert_eq!(records.len(), 45);
    assert!(records.iter().all(|record| record.revoked_at().is_some()));
}

/// Of 65,536 ids, 8,000 are taken, so 150 new ids without a collision are practically impossible by chance.
pub async fn ids_are_unique_even_where_they_are_short<F: Fixture>() {
    let tiny = KeyFormat::structured("t").public_id(Alphabet::LowerHex, 4).build().unwrap();
    let fixture = F::fresh(tiny.into()).await;
    let store = fixture.store();
    let taken = (0..8000).map(|number: u32| {
        KeyRecord::builder(format!("t_{number:04x}").parse().unwrap(), Digest::from_key(&number.to_be_bytes())).build()
    });
    assert_eq!(store.as_actor("test").import(taken).await.unwrap().added, 8000);
    for _ in 0..150 {
        let key = issue(store).await;
        assert!(key.record.id().as_str() >= "t_1f40", "{} was taken", key.record.id());
        assert!(key.api_key.expose().starts_with(key.record.id().as_str()));
    }
    assert_eq!(all(store).await.len(), 8150);
}

#[track_caller]
pub fn refused<T: Debug>(outcome: Result<T, StoreError>, kind: StoreErrorKind, message: &str) {
    let error = outcome.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(message), "{text:?} does not say {message:?}");
    assert!(!text.contains(char::is_control), "one line: {text:?}");
}

pub async fn what_cannot_be_done_changes_nothing<F: Fixture>() {
    use StoreErrorKind::{Conflict, Invalid, NotFound};
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let (anna, key, dead) = (store.as_actor("anna"), issue(store).await, issue(store).await);
    anna.revoke(dead.record.id(), "lost").await.unwrap();
    let (id, dead) = (key.record.id(), dead.record.id());
    let nobody = "key_nobody".parse().unwrap();
    let before = (all(store).await, audit(store).await);
    let new = |name: &str| NewKey::new(name, Grant::default());
    let foreign = || Grant::builder().only("shops", ["de"]).build().unwrap();

    let unknown = "there is no key key_nobody";
    refused(store.show(&nobody).await, NotFound, unknown);
    refused(anna.rename(&nobody, "n").await, NotFound, unknown);
    refused(anna.set_grant(&nobody, Grant::default()).await, NotFound, unknown);
    refused(anna.rotate(&nobody, Overlap::UntilRevoked).await, NotFound, unknown);
    refused(anna.revoke(&nobody, "").await, NotFound, unknown);
    refused(anna.delete(&nobody).await, NotFound, unknown);

    refused(anna.set_grant(dead, Grant::default()).await, Conflict, "is revoked, for good");
    refused(anna.rotate(dead, Overlap::UntilRevoked).await, Conflict, "is not alive");

    let undeclared = "restrictions.shops: no such dimension is declared";
    refused(anna.issue(NewKey::new("k", foreign())).await, Invalid, undeclared);
    refused(anna.set_grant(id, foreign()).await, Invalid, undeclared);

    for bad in ["line\nbreak", "\u{1b}[2Jescape", "nul\0", "\u{9b}c1", &"x".repeat(257)] {
        refused(anna.issue(new(bad)).await, Invalid, "name: at most 256 characters");
        refused(anna.issue(new("k").kind(bad)).await, Invalid, "kind: at most 256 characters");
        refused(anna.issue(new("k").tenant(bad)).await, Invalid, "tenant: at most 256 characters");
        refused(anna.rename(id, bad).await, Invalid, "name: at most 256 characters");
        refused(store.as_actor(bad).rename(id, "n").await, Invalid, "who makes a change: at most 256 characters");
        refused(store.as_actor(bad).revoke(id, "").await, Invalid, "who makes a change");
    }
    refused(anna.revoke(id, "line\nbreak").await, Invalid, "reason: at most 1024 characters");
    refused(anna.revoke(id, "x".repeat(1025)).await, Invalid, "reason: at most 1024 characters");
    refused(store.as_actor("").revoke(id, "").await, Invalid, "say who makes the change");
    refused(anna.issue(new("k").kind("")).await, Invalid, "kind: leave it out");
    refused(anna.issue(new("k").tenant("")).await, Invalid, "tenant: leave it out");

    let beyond = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
    refused(anna.issue(new("k").expires_at(beyond)).await, Invalid, "between the years -9999 and 9999");
    refused(anna.issue(new("k").not_before(beyond)).await, Invalid, "between the years -9999 and 9999");
    let ages = Overlap::For(Duration::from_secs(300_000_000_000));
    refused(anna.rotate(id, ages).await, Invalid, "between the years -9999 and 9999");
    refused(anna.purge(beyond).await, Invalid, "between the years -9999 and 9999");

    assert_eq!((all(store).await, audit(store).await), before);
    assert_eq!(Gate::of(store).get(&key).await, 200);
    // Texts of exactly the maximum length are accepted.
    anna.rename(id, "ü".repeat(256)).await.unwrap();
    store.as_actor(&"ü".repeat(256)).revoke(id, "ü".repeat(1024)).await.unwrap();
}

/// A whole API key is refused in each text that is stored, and the error does not repeat it: a key with a prefix is
/// detected by its format, and an opaque one because the store knows it.
pub async fn no_whole_key_is_kept_in_any_text<F: Fixture>() {
    const DOCUMENT: Dimension = Dimension::new("document", IdGrammar::Opaque);
    for format in [KeyFormat::default(), KeyFormat::opaque(24, 64).unwrap()] {
        let context = format!("{format:?}");
        let fixture = F::fresh(StoreSettings::from(format).with_dimension(DOCUMENT)).await;
        let store = fixture.store();
        let (anna, issued) = (store.as_actor("anna"), issue(store).await);
        let (id, key) = (issued.record.id(), issued.api_key.expose());
        let before = (all(store).await, audit(store).await);
        let new = |name: &str| NewKey::new(name, Grant::default());
        let quoted = format!("\"{key}\",");
        let outcomes = [
            anna.issue(new(key)).await.map(drop),
            anna.issue(new(&format!("the key {key}"))).await.map(drop),
            anna.issue(new(&quoted)).await.map(drop),
            anna.issue(new("k").kind(key)).await.map(drop),
            anna.issue(new("k").tenant(key)).await.map(drop),
            anna.rename(id, key).await.map(drop),
            anna.revoke(id, format!("{key} was lost")).await.map(drop),
            anna.revoke(id, format!("found in /var/log/{key}.log")).await.map(drop),
            anna.suspend(id, format!("https://example.com/?key={key}&x=1")).await.map(drop),
            anna.set_metadata(id, Metadata::new().with_note(format!("path:/{key}/x"))).await.map(drop),
            store.as_actor(key).rename(id, "another").await.map(drop),
            store.as_actor(key).revoke(id, "").await.map(drop),
            store.as_actor(key).delete(id).await.map(drop),
        ];
        let grants = [
            Grant::builder().only(DOCUMENT, [key]).build().unwrap(),
            Grant::builder().except(DOCUMENT, ["a", key]).build().unwrap(),
        ];
        let mut outcomes = Vec::from(outcomes);
        for grant in grants {
            outcomes.push(anna.issue(NewKey::new("k", grant.clone())).await.map(drop));
            outcomes.push(anna.set_grant(id, grant).await.map(drop));
        }
        let other = |id: &str| KeyRecord::builder(id.parse().unwrap(), Digest::from_key(b"another key"));
        for record in [
            other("k").replaces(Some(key.parse().unwrap())).build(),
            other("k").replaced_by(Some(key.parse().unwrap())).build(),
            other("k").revoked_at(UNIX_EPOCH).revocation_reason(Some(key.to_owned())).build(),
            other(key).build(),
            other(&format!("({key})")).build(),
            KeyRecord::builder(
                "(a-new-key-of-24-letters)".parse().unwrap(),
                Digest::from_key(b"a-new-key-of-24-letters"),
            )
            .build(),
        ] {
            outcomes.push(anna.import([record]).await.map(drop));
        }
        for (number, outcome) in outcomes.into_iter().enumerate() {
            let error = outcome.expect_err(&format!("outcome {number}, {context}"));
            assert!(!error.to_string().contains(key) && !format!("{error:?}").contains(key), "outcome {number}");
            assert!(!format!("{error:?}").contains("a-new-key"), "outcome {number}: {error:?}");
            assert_eq!(error.kind(), StoreErrorKind::Invalid, "outcome {number}: {error}");
        }
        assert_eq!((all(store).await, audit(store).await), before);
    }
}

pub async fn an_import_is_whole_or_not_at_all<F: Fixture>() {
    use StoreErrorKind::{Conflict, Invalid};
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let (anna, key) = (store.as_actor("anna"), issue(store).await);
    let before = (all(store).await, audit(store).await);
    let good = || KeyRecord::builder("good".parse().unwrap(), Digest::from_key(b"good key"));
    let bad = || KeyRecord::builder("bad".parse().unwrap(), Digest::from_key(b"bad key"));
    let beyond = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
    let foreign = Grant::builder().only("shops", ["de"]).build().unwrap();
    for (bad, kind, message) in [
        (KeyRecord::builder(key.record.id().clone(), Digest::from_key(b"bad key")), Conflict, "has the id"),
        (KeyRecord::builder("good".parse().unwrap(), Digest::from_key(b"bad key")), Conflict, "has the id"),
        (KeyRecord::builder("bad".parse().unwrap(), Digest::from_key(b"good key")), Conflict, "the digest of bad"),
        (bad().grant(foreign), Invalid, "key bad: restrictions.shops: no such dimension"),
        (bad().name("line\nbreak"), Invalid, "key bad: name: "),
        (bad().kind("line\nbreak".to_owned()), Invalid, "key bad: kind: "),
        (bad().kind(String::new()), Invalid, "key bad: kind: "),
        (bad().tenant(String::new()), Invalid, "key bad: tenant: "),
        (bad().revocation_reason("line\nbreak".to_owned()), Invalid, "key bad: revocation_reason: "),
        (bad().not_before(beyond), Invalid, "key bad: a date"),
        (bad().expires_at(beyond), Invalid, "key bad: a date"),
        (bad().created_at(beyond), Invalid, "key bad: a date"),
        (bad().revoked_at(beyond), Invalid, "key bad: a date"),
    ] {
        refused(anna.import([good().build(), bad.build()]).await, kind, message);
        assert_eq!((all(store).await, audit(store).await), before, "{message}");
    }
    // Times finer than a microsecond are truncated, as when a key is issued, because no store could return them.
    let (time, fine) = (in_seconds(0), Duration::from_nanos(999));
    let record = good().created_at(time + fine).not_before(time + fine).expires_at(time + fine).revoked_at(time + fine);
    anna.import([record.build()]).await.unwrap();
    let good = store.show(&"good".parse().unwrap()).await.unwrap();
    let dates = [good.created_at(), good.not_before(), good.expires_at(), good.revoked_at()];
    assert_eq!(dates, [Some(time); 4]);
}

pub async fn dimensions_are_declared<F: Fixture>() {
    let upper = Dimension::new("project", IdGrammar::Custom(|id| id.bytes().all(|byte| byte.is_ascii_uppercase())));
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let over = |ids: [&'static str; 1], as_declared: &Dimension| {
        Grant::builder().read("products").only(as_declared.clone(), ids).build().unwrap()
    };
    let undeclared = store.as_actor("test").issue(NewKey::new("k", over(["APOLLO"], &upper))).await;
    refused(undeclared, StoreErrorKind::Invalid, "restrictions.project: no such dimension");

    store.as_actor("test").set_settings(StoreSettings::new().with_dimension(upper.clone())).await.unwrap();
    assert_eq!(store.settings().await.unwrap().dimensions(), std::slice::from_ref(&upper));
    let key = store.as_actor("test").issue(NewKey::new("k", over(["APOLLO"], &upper))).await.unwrap();
    assert!(store.show(key.record.id()).await.unwrap().grant().restriction(&upper).unwrap().allows("APOLLO"));
    // The grammar of the store applies, not the one that the grant was built with.
    let slugs = Dimension::new("project", IdGrammar::Slug);
    let other = store.as_actor("test").issue(NewKey::new("k", over(["apollo"], &slugs))).await;
    refused(other, StoreErrorKind::Invalid, "restrictions.project: \"apollo\" is not the canonical spelling");
}

/// Without the dimension the keys could no longer be read once the store is opened again.
pub async fn a_dimension_that_keys_are_restricted_over_stays<F: Fixture>() {
    let project = Dimension::new("project", IdGrammar::Slug);
    let fixture = F::fresh(StoreSettings::new().with_dimension(project.clone())).await;
    let store = fixture.store();
    let grant = Grant::builder().read("products").only(project.clone(), ["apollo"]).build().unwrap();
    let key = store.as_actor("test").issue(NewKey::new("k", grant)).await.unwrap();
    let before = (all(store).await, audit(store).await);
    let id = key.record.id();
    for without in
        [StoreSettings::new(), StoreSettings::new().with_dimension(Dimension::new("project", IdGrammar::Number))]
    {
        let outcome = store.as_actor("test").set_settings(without).await;
        refused(outcome, StoreErrorKind::Conflict, &format!("key {id}: restrictions.project: "));
        assert_eq!((all(store).await, audit(store).await), before);
    }
    store.as_actor("test").delete(id).await.unwrap();
    store.as_actor("test").set_settings(StoreSettings::new()).await.unwrap();
    assert!(store.settings().await.unwrap().dimensions().is_empty());
}

/// The error would go unnoticed until the store is opened again, which would then fail.
pub async fn settings_that_could_not_be_read_back_are_refused<F: Fixture>() {
    let upper = IdGrammar::Custom(|id| id.bytes().all(|byte| byte.is_ascii_uppercase()));
    let shops = Dimension::new("shop", upper);
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let directory = Directory::builder().shop("DE", Some("1")).build_with(&shops).unwrap();
    let outcome = store.as_actor("test").set_settings(StoreSettings::new().with_directory(directory.clone())).await;
    refused(outcome, StoreErrorKind::Invalid, "directory shop \"DE\": it is not the canonical spelling");
    assert!(audit(store).await.is_empty());
    assert_eq!(store.directory().company_of("DE"), None);
    store
        .as_actor("test")
        .set_settings(StoreSettings::new().with_dimension(shops).with_directory(directory))
        .await
        .unwrap();
    assert_eq!(store.directory().company_of("DE"), Some("1"));
}

pub async fn a_format_stays<F: Fixture>() {
    let tiny = KeyFormat::structured("t").public_id(Alphabet::LowerHex, 8).build().unwrap();
    let fixture = F::fresh(tiny.clone().into()).await;
    let store = fixture.store();
    let other = store.as_actor("test").set_settings(StoreSettings::new()).await;
    refused(other, StoreErrorKind::Conflict, "the formats of keys stay");
    assert!(audit(store).await.is_empty());
    let formats = KeyFormats::from(tiny);
    assert_eq!((store.formats(), store.settings().await.unwrap().formats()), (formats.clone(), &formats));
    assert!(issue(store).await.record.id().as_str().starts_with("t_"));
}

pub async fn what_is_hardly_meant_is_told<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new().with_networks_required_for(["ledger"])).await;
    let store = fixture.store();
    let anna = store.as_actor("anna");
    let networks = "the routes of ledger demand a key with networks, and it has none";
    let narrow = || Grant::builder().from_networks(["10.0.0.0/8"]);
    for (grant, message) in [
        (Grant::builder().read("ledger"), vec![networks]),
        (Grant::builder().write("ledger"), vec![networks]),
        (narrow().read("ledger"), vec![]),
        (Grant::builder().read("products"), vec![]),
        (Grant::builder(), vec!["it has no permissions"]),
        (
            Grant::builder().read("ledger").from_networks(["0.0.0.0/0", "10.0.0.0/8", "::/0"]),
            vec![
                "the network 0.0.0.0/0 is every address of its family",
                "the network ::/0 is every address of its family",
            ],
        ),
        (Grant::builder().read("ledger").from_networks::<&str>([]), vec!["its list of networks is empty"]),
    ] {
        let grant = grant.build().unwrap();
        let issued = anna.issue(NewKey::new("k", grant.clone())).await.unwrap();
        assert_eq!(issued.warnings, message);
        let changed = anna.set_grant(issued.record.id(), grant).await.unwrap();
        assert_eq!(changed.warnings, message, "the same for a change");
        let rotated = anna.rotate(issued.record.id(), Overlap::UntilRevoked).await.unwrap();
        assert_eq!(rotated.warnings, message, "and for a rotation");
    }
    let grant = narrow().read("ledger").build().unwrap();
    assert!(grant.permits(&Permission::read("ledger")));
    let past = anna.issue(NewKey::new("k", grant).expires_at(in_seconds(-1))).await.unwrap();
    assert_eq!(past.warnings, ["it is expired already"]);
}

/// A value that could never match is refused when it is set, and the error gives the correct spelling.
pub async fn what_never_matches_is_refused<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let new = || NewKey::new("k", Grant::default());
    let error = store.as_actor("test").issue(new().tenant("Acme-Live")).await.unwrap_err();
    assert!(error.to_string().contains("write \"acme-live\""), "{error}");
    let key = store.as_actor("test").issue(new().tenant("acme-live")).await.unwrap();
    let record = tower_authz::KeyRecord::builder("key_other".parse().unwrap(), tower_authz::Digest::from_key(b"x"));
    let error = store.as_actor("test").import([record.tenant("ACME".to_owned()).build()]).await.unwrap_err();
    assert!(error.to_string().contains("write \"acme\""), "{error}");
    assert_eq!(store.show(key.record.id()).await.unwrap().tenant(), Some("acme-live"));
}
