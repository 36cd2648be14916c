//! Tests roles: named grants that many keys refer to.

use http::Method;
use tower_authz::{
    Digest, Grant, GrantBuilder, KeyFile, KeyRecord, Permission, Status,
    store::{Action, IssuedKey, KeyAdmin as _, KeyQuery, MemoryStore, NewKey, Overlap, StoreErrorKind, StoreSettings},
};

use crate::stores::{Dice, Fixture, Gate, all, audit, in_flight, in_seconds};

fn partner() -> Grant {
    Grant::builder().read("products").write("orders").except("shop", ["us"]).build().unwrap()
}

async fn partner_key<F: Fixture>(fixture: &F, own: GrantBuilder) -> IssuedKey {
    let new = NewKey::new("k", own.build().unwrap()).roles(["partner"]);
    fixture.store().as_actor("test").issue(new).await.unwrap()
}

pub async fn a_role_is_what_its_keys_may_do<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new().with_role("partner", partner())).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let gate = Gate::of(store);
    let plain = partner_key(&fixture, Grant::builder()).await;
    let narrower = partner_key(&fixture, Grant::builder().only("shop", ["de", "us"])).await;
    let wider = partner_key(&fixture, Grant::builder().write("products")).await;
    let asked = async |key: &IssuedKey, method: Method, shop: &str| gate.ask(method, shop, key.api_key.expose()).await;
    let table = [(&plain, [200, 200, 403, 403]), (&narrower, [200, 403, 403, 403]), (&wider, [200, 200, 403, 200])];
    for (key, statuses) in table {
        let requests = [(Method::GET, "de"), (Method::GET, "ch"), (Method::GET, "us"), (Method::PUT, "de")];
        for ((method, shop), status) in requests.into_iter().zip(statuses) {
            assert_eq!(asked(key, method.clone(), shop).await, status, "{:?} {method} {shop}", key.record);
        }
    }
    let shown = store.show(wider.record.id()).await.unwrap();
    assert_eq!(shown.roles().collect::<Vec<_>>(), ["partner"]);
    assert_eq!(*shown.own_grant(), Grant::builder().write("products").build().unwrap());
    assert!(
        shown.grant().permits(&Permission::write("orders")) && !shown.own_grant().permits(&Permission::read("orders"))
    );
    assert_eq!(store.list(&KeyQuery::new().role("partner")).await.unwrap().records.len(), 3);
    // A rotated key has the roles of the old one; a key can be given others, and none.
    let rotated = by.rotate(wider.record.id(), Overlap::UntilRevoked).await.unwrap();
    assert_eq!(asked(&rotated, Method::PUT, "us").await, 403);
    by.set_roles::<&str>(wider.record.id(), []).await.unwrap();
    assert_eq!(asked(&wider, Method::PUT, "us").await, 200, "its own grant is not restricted");
    by.change_grant(rotated.record.id(), |own| {
        assert_eq!(*own, Grant::builder().write("products").build().unwrap(), "its own");
        Grant::builder().build()
    })
    .await
    .unwrap();
    assert_eq!((asked(&rotated, Method::PUT, "de").await, asked(&rotated, Method::GET, "de").await), (403, 200));
}

pub async fn a_changed_role_changes_all_its_keys<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new().with_role("partner", partner()).with_role("beside", partner())).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let gate = Gate::of(store);
    let (one, two) = (partner_key(&fixture, Grant::builder()).await, partner_key(&fixture, Grant::builder()).await);
    let other = crate::stores::issue(store).await;
    let (waiting, elsewhere) = (in_flight(store, &one).await, in_flight(store, &other).await);
    // What is widened ends nothing.
    let wider = Grant::builder().write("products").write("orders").build().unwrap();
    let changed = by.set_role("partner", wider).await.unwrap();
    assert_eq!((changed.keys, changed.changed), (2, true));
    assert_eq!((gate.put(&one).await, gate.ask(Method::PUT, "us", two.api_key.expose()).await), (200, 200));
    assert!(waiting.ensure_live().await.is_ok());
    // What is narrowed is in force at once, and ends what is in flight; of other keys nothing.
    by.set_role("partner", Grant::builder().read("products").build().unwrap()).await.unwrap();
    assert_eq!((gate.put(&one).await, gate.put(&two).await, gate.get(&one).await), (403, 403, 200));
    assert!(waiting.ensure_live().await.is_err() && elsewhere.ensure_live().await.is_ok());
    let grant = Grant::builder().read("products").build().unwrap();
    assert_eq!(*store.show(one.record.id()).await.unwrap().grant(), grant, "lists show what is in force");
    assert!(all(store).await.iter().all(|key| *key.grant() == grant));
    let again = by.set_role("partner", grant.clone()).await.unwrap();
    assert_eq!((again.keys, again.changed), (2, false));
    let records = audit(store).await;
    let records: Vec<_> = records.iter().filter(|record| record.action == Action::RoleChanged).collect();
    assert_eq!(records.len(), 3);
    assert_eq!(records[1].note.as_deref(), Some("partner: changed; 2 keys refer to it"));
    let after = records[1].after.as_deref().unwrap();
    assert!(records[1].key.is_none() && after.contains("partner") && !after.contains("beside"), "{after}");
    // Through `set_settings` it is the same.
    let settings = store.settings().await.unwrap().with_role("partner", Grant::default()).without_role("beside");
    by.set_settings(settings).await.unwrap();
    assert_eq!((gate.get(&one).await, gate.get(&other).await), (403, 200));
    by.suspend(one.record.id(), "").await.unwrap();
    by.set_role("partner", grant).await.unwrap();
    assert_eq!((gate.get(&one).await, gate.get(&two).await), (401, 200), "a role resumes nobody");
}

pub async fn a_role_in_use_stays<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new().with_role("partner", partner())).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let key = partner_key(&fixture, Grant::builder()).await;
    let error = by.delete_role("partner").await.unwrap_err();
    assert!(error.kind() == StoreErrorKind::Conflict && error.to_string().contains("1 key refers to it"), "{error}");
    let error = by.set_settings(StoreSettings::new()).await.unwrap_err();
    assert!(error.kind() == StoreErrorKind::Conflict && error.to_string().contains("the role partner"), "{error}");
    by.delete(key.record.id()).await.unwrap();
    by.delete_role("partner").await.unwrap();
    assert_eq!(store.settings().await.unwrap().roles().len(), 0);
    assert_eq!(by.delete_role("partner").await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

pub async fn what_is_no_role_is_refused<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new().with_role("partner", partner())).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let key = partner_key(&fixture, Grant::builder()).await;
    let before = audit(store).await.len();
    let secret = key.api_key.expose();
    for name in ["", "two words", "a,b", &"a".repeat(65), "a\nb", secret] {
        let error = by.set_role(name, partner()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
        assert!(!error.to_string().contains(secret));
        let settings = StoreSettings::new().with_role("partner", partner()).with_role(name, partner());
        assert_eq!(by.set_settings(settings).await.unwrap_err().kind(), StoreErrorKind::Invalid, "{name}");
    }
    let unknown = Grant::builder().only(tower_authz::Dimension::named("shops"), ["de"]).build().unwrap();
    for grant in [unknown, Grant::builder().read(secret.to_owned()).build().unwrap()] {
        assert_eq!(by.set_role("partner", grant).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    }
    let many: Vec<String> = (0..17).map(|number| format!("r{number}")).collect();
    for roles in [vec!["nobody".to_owned()], vec!["partner".to_owned(); 2], vec![secret.to_owned()], many] {
        let issued = by.issue(NewKey::new("k", Grant::default()).roles(roles.clone())).await.unwrap_err();
        let set = by.set_roles(key.record.id(), roles.clone()).await.unwrap_err();
        let record = KeyRecord::builder("imported".parse().unwrap(), Digest::from_key(b"i")).roles(roles).build();
        let imported = by.import([record]).await.unwrap_err();
        for error in [issued, set, imported] {
            assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
            assert!(!error.to_string().contains(secret));
        }
    }
    assert_eq!((audit(store).await.len(), all(store).await.len()), (before, 1), "nothing was written");
}

pub async fn an_export_has_roles_or_what_they_are<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new().with_role("partner", partner())).await;
    let key = partner_key(&fixture, Grant::builder().only("shop", ["de"])).await;
    let text = fixture.store().export().await.unwrap().to_json().unwrap();
    assert!(
        text.contains("\"roles\": [\n        \"partner\"\n      ]")
            && !text.contains("us\"\n          ]\n        }\n      }\n    }\n  ]")
    );
    let file = KeyFile::parse(&text, "exported").unwrap();
    assert_eq!(file.roles().collect::<Vec<_>>(), [("partner", &partner())]);
    let expanded = file.clone().expanded().to_json().unwrap();
    assert!(!expanded.contains("roles"), "{expanded}");
    for text in [&text, &expanded] {
        let store = MemoryStore::from_file(KeyFile::parse(text, "keys.json").unwrap(), StoreSettings::new()).unwrap();
        let gate = Gate::of(&store);
        assert_eq!((gate.get(&key).await, gate.ask(Method::GET, "us", key.api_key.expose()).await), (200, 403));
    }
    // A file whose key refers to a role that it has not.
    let error = KeyFile::parse(&text.replace("\"partner\": {", "\"other\": {"), "keys.json").unwrap_err().to_string();
    assert!(error.contains("there is no role partner; there are: other"), "{error}");
    let error =
        KeyFile::parse(&text.replace("\"partner\": {", "\"partner\": { \"roles\": [\"partner\"], "), "keys.json");
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("roles.partner") && error.contains("unknown field `roles`"),
        "a role refers to none: {error}"
    );
}

/// A role of the same name may be another one elsewhere: a key that comes from there must not be able to do more here.
pub async fn a_key_from_elsewhere_is_not_widened_by_a_role_of_the_same_name<F: Fixture>() {
    let narrow = Grant::builder().read("products").only("company", [3]).build().unwrap();
    let elsewhere = MemoryStore::with_settings(StoreSettings::new().with_role("partner", narrow.clone()));
    let issued = elsewhere.as_actor("test").issue(NewKey::new("k", Grant::default()).roles(["partner"])).await.unwrap();
    let fixture = F::fresh(StoreSettings::new().with_role("partner", partner())).await;
    let by = fixture.store().as_actor("test");
    let error = by.import([KeyRecord::clone(&issued.record)]).await.unwrap_err();
    assert!(error.to_string().contains("may do more than where it comes from"), "{error}");
    assert!(all(fixture.store()).await.is_empty());
    by.set_role("partner", narrow).await.unwrap();
    assert_eq!(by.import([KeyRecord::clone(&issued.record)]).await.unwrap().added, 1);
}

/// Random roles and keys: what is admitted is what a naive reading of the roles allows, before and after changes of roles.
pub async fn a_key_may_do_what_a_naive_reading_of_its_roles_says<F: Fixture>() {
    const SHOPS: [&str; 4] = ["de", "ch", "us", "at"];
    let mut dice = Dice(0x5eed);
    let random_grant = |dice: &mut Dice| {
        let mut grant = Grant::builder();
        match dice.roll(3) {
            0 => grant = grant.read("products"),
            1 => grant = grant.write("products"),
            _ => {}
        }
        let shops: Vec<&str> = SHOPS.into_iter().filter(|_| dice.roll(2) == 0).collect();
        match dice.roll(4) {
            0 => grant.only("shop", shops),
            1 => grant.except("shop", shops),
            _ => grant,
        }
        .build()
        .unwrap()
    };
    let allows = |parts: &[&Grant], write: bool, shop: &str| {
        let permission = if write { Permission::write("products") } else { Permission::read("products") };
        let shops = |part: &&&Grant| part.restriction(&"shop".into()).is_none_or(|list| list.allows(shop));
        parts.iter().any(|part| part.permits(&permission)) && parts.iter().filter(shops).count() == parts.len()
    };
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let gate = Gate::of(store);
    let names = ["a", "b", "c"];
    let mut roles: Vec<Grant> = names.iter().map(|_| random_grant(&mut dice)).collect();
    for (name, grant) in names.iter().zip(&roles) {
        by.set_role(*name, grant.clone()).await.unwrap();
    }
    let mut keys = Vec::new();
    for _ in 0..8 {
        let (own, of) = (random_grant(&mut dice), dice.roll(8) as usize);
        let of: Vec<usize> = (0..3).filter(|role| of >> role & 1 == 1).collect();
        let new = NewKey::new("k", own.clone()).roles(of.iter().map(|role| names[*role]));
        keys.push((by.issue(new).await.unwrap(), own, of));
    }
    let mut seen = [0; 2];
    for round in 0..8 {
        for (key, own, of) in &keys {
            let parts: Vec<&Grant> = of.iter().map(|role| &roles[*role]).chain([own]).collect();
            for (shop, write) in SHOPS.iter().flat_map(|shop| [(shop, false), (shop, true)]) {
                let method = if write { Method::PUT } else { Method::GET };
                let expected = allows(&parts, write, shop);
                let status = gate.ask(method, shop, key.api_key.expose()).await;
                assert_eq!(status == 200, expected, "{round} {own:?} {parts:?} {shop} {write}: {status}");
                seen[usize::from(expected)] += 1;
            }
        }
        let changed = dice.roll(3) as usize;
        roles[changed] = random_grant(&mut dice);
        by.set_role(names[changed], roles[changed].clone()).await.unwrap();
    }
    assert!(seen.iter().all(|count| *count > 60), "{seen:?}");
    assert!(all(store).await.iter().all(|key| key.status(in_seconds(0)) == Status::Active));
}
