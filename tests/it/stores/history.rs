//! Tests the audit log: it has one record for each change, with actor and time, and no secrets.

use std::time::SystemTime;

use tower_authz::{
    Directory, Grant, KeyId,
    store::{Action, AuditQuery, AuditRecord, KeyAdmin as _, NewKey, Overlap, StoreSettings},
};

use crate::stores::{Fixture, audit, in_seconds, issue};

/// Returns the content of a record, without its number and time.
fn content(record: &AuditRecord) -> (Action, &str, Option<&KeyId>, Option<&str>) {
    (record.action, &record.by, record.key.as_ref(), record.note.as_deref())
}

fn json(text: &Option<String>) -> serde_json::Value {
    text.as_ref().map_or(serde_json::Value::Null, |text| serde_json::from_str(text).unwrap())
}

pub async fn every_change_leaves_one_record<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let start = in_seconds(0);
    let grant = Grant::builder().read("products").build().unwrap();
    let key = store.as_actor("anna").issue(NewKey::new("one", grant).kind("admin")).await.unwrap();
    let id = key.record.id();
    store.as_actor("bob").rename(id, "two").await.unwrap();
    store.as_actor("anna").set_grant(id, Grant::builder().write("orders").build().unwrap()).await.unwrap();
    store.as_actor("carl").revoke(id, "it was in a \"public\" log").await.unwrap();
    store.as_actor("carl").revoke(id, "twice").await.unwrap();
    store.as_actor("dora").delete(id).await.unwrap();
    let back = store.as_actor("erik").import([tower_authz::KeyRecord::clone(&key.record)]).await.unwrap();
    assert_eq!((back.added, back.refused), (0, 1), "revoked is for good, though it was deleted");
    store.as_actor("erik").import([tower_authz::KeyRecord::clone(&key.record)]).await.unwrap();
    let directory = Directory::builder().shop("de", Some("1")).build().unwrap();
    store.as_actor("anna").set_settings(StoreSettings::new().with_directory(directory)).await.unwrap();
    let end = in_seconds(0);

    let records = audit(store).await;
    let changes: Vec<_> = records.iter().map(content).collect();
    let expected = [
        (Action::Issued, "anna", Some(id), None),
        (Action::Renamed, "bob", Some(id), None),
        (Action::GrantChanged, "anna", Some(id), None),
        (Action::Revoked, "carl", Some(id), Some("it was in a \"public\" log")),
        (Action::RevokedAgain, "carl", Some(id), Some("twice")),
        (Action::Deleted, "dora", Some(id), None),
        (Action::SettingsChanged, "anna", None, None),
    ];
    assert_eq!(changes, expected);

    let mut last = start;
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.number, index as u64 + 1);
        assert!((last..=end).contains(&record.at), "{:?} is not between {last:?} and {end:?}", record.at);
        last = record.at;
    }
    let record = |index: usize| (json(&records[index].before), json(&records[index].after));
    let (none, issued) = record(0);
    assert!(none.is_null());
    assert_eq!(
        (&issued["id"], &issued["name"], &issued["kind"]),
        (&id.as_str().into(), &"one".into(), &"admin".into())
    );
    assert_eq!(issued["permissions"]["products"], "read");
    assert_eq!(record(1).0, issued);
    assert_eq!(record(1).1["name"], "two");
    assert_eq!(record(2).0["permissions"]["products"], "read");
    assert_eq!(record(2).1["permissions"], serde_json::json!({ "orders": "write" }));
    let (living, revoked) = record(3);
    assert!(living["revoked_at"].is_null() && revoked["revoked_at"].is_string());
    assert_eq!(revoked["revocation_reason"], "it was in a \"public\" log");
    assert_eq!(record(4), (revoked.clone(), revoked.clone()));
    assert_eq!(record(5), (revoked, serde_json::Value::Null));
    let (old, new) = record(6);
    assert!(old["directory"].is_null(), "none was declared");
    assert_eq!(new["directory"]["shops"][0]["company"], "1");
    assert_eq!(new.as_object().unwrap().len(), 1, "what stays as it was is not kept");
}

/// The log records only the changed entries of a large directory.
pub async fn a_directory_is_kept_by_what_changes<F: Fixture>() {
    let directory = |shops: usize, company: &str| {
        let all = (0..shops).fold(Directory::builder(), |all, shop| all.shop(&format!("shop-{shop}"), Some("1")));
        StoreSettings::new().with_directory(all.shop("de", Some(company)).build().unwrap())
    };
    let fixture = F::fresh(directory(2000, "1")).await;
    let store = fixture.store();
    store.as_actor("anna").set_settings(directory(2000, "2")).await.unwrap();
    store.as_actor("anna").set_settings(directory(1999, "2").with_networks_required_for(["ledger"])).await.unwrap();
    let records = audit(store).await;
    let shops = |text: &Option<String>| json(text)["directory"]["shops"].clone();
    assert_eq!(shops(&records[0].before), serde_json::json!([{ "key": "de", "company": "1" }]));
    assert_eq!(shops(&records[0].after), serde_json::json!([{ "key": "de", "company": "2" }]));
    assert_eq!(shops(&records[1].before), serde_json::json!([{ "key": "shop-1999", "company": "1" }]));
    assert_eq!(shops(&records[1].after), serde_json::json!([]));
    assert_eq!(json(&records[1].after)["ip_restricted"], serde_json::json!(["ledger"]));
    assert!(records.iter().all(|record| record.before.as_ref().unwrap().len() < 200));
}

/// Settings that are set again are published again, so that a process that missed them receives them.
pub async fn settings_that_are_set_again_are_published_again<F: Fixture>() {
    let settings = || StoreSettings::new().with_networks_required_for(["ledger"]);
    let fixture = F::fresh(settings()).await;
    let store = fixture.store();
    store.as_actor("anna").set_settings(settings()).await.unwrap();
    let records = audit(store).await;
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record.action, Action::SettingsChanged);
    assert_eq!(record.note.as_deref(), Some("they were the same; published again"));
    assert_eq!((record.before.as_deref(), record.after.as_deref()), (Some("{}"), Some("{}")));
}

pub async fn a_rotation_leaves_two_that_name_each_other<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let old = issue(store).await;
    let new = store.as_actor("anna").rotate(old.record.id(), Overlap::For(std::time::Duration::ZERO)).await.unwrap();
    let (old, new) = (old.record.id(), new.record.id());
    let (of_new, of_old) = (format!("in place of {old}"), format!("{new} takes its place"));
    let records = audit(store).await;
    let changes: Vec<_> = records.iter().skip(1).map(content).collect();
    let expected =
        [(Action::Issued, "anna", Some(new), Some(&*of_new)), (Action::Rotated, "anna", Some(old), Some(&*of_old))];
    assert_eq!(changes, expected);
    assert!(json(&records[2].before)["expires_at"].is_null() && json(&records[2].after)["expires_at"].is_string());
}

pub async fn a_purge_leaves_one_for_each_key<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let keys = [issue(store).await, issue(store).await, issue(store).await];
    for key in &keys[..2] {
        store.as_actor("test").revoke(key.record.id(), "").await.unwrap();
    }
    let before = audit(store).await.len();
    assert_eq!(store.as_actor("janitor").purge(SystemTime::now()).await.unwrap(), 2);
    assert_eq!(store.as_actor("janitor").purge(SystemTime::now()).await.unwrap(), 0);
    let records = audit(store).await;
    let mut purged: Vec<_> = records[before..].iter().map(|record| record.key.clone().unwrap()).collect();
    purged.sort();
    let mut expected = [keys[0].record.id().clone(), keys[1].record.id().clone()];
    expected.sort();
    assert_eq!(purged, expected);
    for record in &records[before..] {
        assert_eq!((record.action, &*record.by, &record.after), (Action::Purged, "janitor", &None));
        assert!(json(&record.before)["revoked_at"].is_string());
    }
}

pub async fn pages_go_back_in_time<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let (one, two) = (issue(store).await, issue(store).await);
    for round in 0..10 {
        store.as_actor("test").rename(one.record.id(), format!("one {round}")).await.unwrap();
        store.as_actor("test").rename(two.record.id(), format!("two {round}")).await.unwrap();
    }
    let everything = audit(store).await;
    assert_eq!(everything.len(), 22);
    for key in [&one, &two] {
        let query = AuditQuery::new().key(key.record.id().clone()).limit(4);
        let mut seen = Vec::new();
        let mut page = store.audit(&query).await.unwrap();
        while let Some(last) = page.last() {
            assert!(page.len() <= 4);
            let before = last.number;
            seen.extend(page);
            // Records that are added meanwhile are newer than the remaining pages.
            store.as_actor("test").rename(key.record.id(), "later").await.unwrap();
            page = store.audit(&query.clone().before(before)).await.unwrap();
        }
        seen.reverse();
        let expected: Vec<_> =
            everything.iter().filter(|record| record.key.as_ref() == Some(key.record.id())).cloned().collect();
        assert_eq!(seen, expected);
    }
    assert_eq!(store.audit(&AuditQuery::new().limit(0)).await.unwrap().len(), 1, "a page has one at least");
    assert!(store.audit(&AuditQuery::new().before(1)).await.unwrap().is_empty());
    assert!(store.audit(&AuditQuery::new().before(0)).await.unwrap().is_empty());
    assert!(store.audit(&AuditQuery::new().key("nobody".parse().unwrap())).await.unwrap().is_empty());
    let newest = store.audit(&AuditQuery::new().before(u64::MAX).limit(1)).await.unwrap();
    assert_eq!(newest, store.audit(&AuditQuery::new().limit(1)).await.unwrap());
}

pub async fn neither_keys_nor_digests_are_in_it<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let one = issue(store).await;
    let two = store.as_actor("test").rotate(one.record.id(), Overlap::UntilRevoked).await.unwrap();
    store.as_actor("test").set_grant(two.record.id(), Grant::default()).await.unwrap();
    store.as_actor("test").revoke(two.record.id(), "").await.unwrap();
    store.as_actor("test").purge(in_seconds(0)).await.unwrap();
    store.as_actor("test").import([tower_authz::KeyRecord::clone(&two.record)]).await.unwrap();
    store.as_actor("test").set_settings(StoreSettings::new()).await.unwrap();
    let records = format!("{:?}", audit(store).await);
    for key in [&one, &two] {
        assert!(records.contains(key.record.id().as_str()));
        let secret = key.api_key.expose().rsplit('_').next().unwrap();
        for hidden in [secret, &key.record.digest().to_string()] {
            assert!(!records.contains(hidden), "{hidden} is in the audit records");
        }
    }
}

/// Only old records are removed, never the newest one, and revoked keys stay revoked.
pub async fn a_log_is_thinned_out<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let key = issue(store).await;
    store.as_actor("anna").revoke(key.record.id(), "lost").await.unwrap();
    for young in [in_seconds(0), in_seconds(-3500), in_seconds(3600)] {
        assert!(store.as_actor("anna").prune_audit(young).await.unwrap_err().to_string().contains("last hour"));
    }
    assert_eq!(store.as_actor("anna").prune_audit(in_seconds(-3700)).await.unwrap(), 0);
    assert_eq!(audit(store).await.len(), 2, "where nothing is removed there is nothing to tell");
}
