//! Tests the effect of each operation on the next request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use tower_authz::{
    Directory, Grant, KeyRecord, Status,
    store::{IssuedKey, KeyAdmin as _, KeyQuery, MemoryStore, NewKey, Overlap, StoreErrorKind, StoreSettings},
};

use crate::stores::{Fixture, Gate, all, audit, in_seconds, issue};

pub async fn only_what_was_issued_is_admitted<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let stranger = issue(&MemoryStore::new()).await;
    assert_eq!(gate.get(&stranger).await, 401, "an empty store knows nobody");
    let key = issue(store).await;
    assert_eq!(gate.get(&key).await, 200);
    assert_eq!(gate.put(&key).await, 403);
    assert_eq!(gate.get(&stranger).await, 401, "well-formed, but issued elsewhere");
    assert_eq!(gate.ask(Method::GET, "de", key.record.id().as_str()).await, 401, "an id opens nothing");
}

pub async fn a_new_grant_judges_the_next_request<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let key = issue(store).await;
    let secret = key.api_key.expose();
    let id = key.record.id();
    for (grant, get, put, get_elsewhere) in [
        (Grant::builder().write("products"), 200, 200, 200),
        (Grant::builder().write("products").only("shop", ["de"]), 200, 200, 403),
        (Grant::builder().read("products").except("shop", ["de"]), 403, 403, 200),
        (Grant::builder().read("products").from_networks(["10.0.0.0/8"]), 403, 403, 403),
        (Grant::builder().read("product"), 403, 403, 403),
        (Grant::builder(), 403, 403, 403),
        (Grant::builder().read("products"), 200, 403, 200),
    ] {
        let grant = grant.build().unwrap();
        let changed = store.as_actor("test").set_grant(id, grant.clone()).await.unwrap();
        assert_eq!(*changed.record.unwrap().grant(), grant);
        let seen = (gate.get(&key).await, gate.put(&key).await, gate.ask(Method::GET, "ch", secret).await);
        assert_eq!(seen, (get, put, get_elsewhere), "{grant:?}");
        assert_eq!(*store.show(id).await.unwrap().grant(), grant);
    }
}

pub async fn a_revoked_key_is_refused_and_the_others_go_on<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let (key, other) = (issue(store).await, issue(store).await);
    assert_eq!(gate.get(&key).await, 200);
    let before = in_seconds(0);
    let revoked = store.as_actor("anna").revoke(key.record.id(), "the laptop was lost").await.unwrap().record.unwrap();
    assert_eq!((gate.get(&key).await, gate.get(&other).await), (401, 200));
    assert_eq!(revoked.revocation_reason(), Some("the laptop was lost"));
    assert!((before..=in_seconds(0)).contains(&revoked.revoked_at().unwrap()));
    assert_eq!(store.show(key.record.id()).await.unwrap(), revoked);

    let again = store.as_actor("bob").revoke(key.record.id(), "another reason").await.unwrap().record.unwrap();
    assert_eq!(again, revoked, "revoked once and for all");

    store.as_actor("anna").revoke(other.record.id(), "").await.unwrap();
    assert_eq!(gate.get(&other).await, 401);
    assert_eq!(store.show(other.record.id()).await.unwrap().revocation_reason(), None);
}

pub async fn a_deleted_key_is_unknown<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let (key, other) = (issue(store).await, issue(store).await);
    let id = key.record.id();
    let last = store.as_actor("test").delete(id).await.unwrap().record.unwrap();
    assert_eq!(*last, *key.record);
    assert_eq!((gate.get(&key).await, gate.get(&other).await), (401, 200));
    assert_eq!(store.show(id).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(all(store).await, [other.record]);
}

pub async fn a_purge_takes_the_dead_and_leaves_the_living<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let grant = || Grant::builder().read("products").build().unwrap();
    let ending = async |seconds| {
        store.as_actor("test").issue(NewKey::new("k", grant()).expires_at(in_seconds(seconds))).await.unwrap()
    };
    let (long_expired, expired, living, endless) =
        (ending(-100).await, ending(-10).await, ending(100).await, issue(store).await);
    let revoked = issue(store).await;
    store.as_actor("test").revoke(revoked.record.id(), "").await.unwrap();

    assert_eq!(store.as_actor("test").purge(in_seconds(-1000)).await.unwrap(), 0);
    assert_eq!(store.as_actor("test").purge(in_seconds(-50)).await.unwrap(), 1);
    assert_eq!(store.show(long_expired.record.id()).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(store.as_actor("test").purge(in_seconds(0)).await.unwrap(), 2);
    for gone in [&expired, &revoked] {
        assert_eq!(store.show(gone.record.id()).await.unwrap_err().kind(), StoreErrorKind::NotFound);
        assert_eq!(gate.get(gone).await, 401);
    }
    assert_eq!((gate.get(&living).await, gate.get(&endless).await), (200, 200));
    assert_eq!(all(store).await.len(), 2);
}

pub async fn a_rotated_key_lives_until_it_is_revoked<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let grant = Grant::builder().read("products").except("shop", ["ch"]).build().unwrap();
    let (start, end) = (in_seconds(-60), in_seconds(60));
    let new = NewKey::new("prod", grant).kind("admin").tenant("acme").not_before(start).expires_at(end);
    let old = store.as_actor("test").issue(new).await.unwrap();
    let new = store.as_actor("test").rotate(old.record.id(), Overlap::UntilRevoked).await.unwrap();
    assert_ne!(old.record.id(), new.record.id());
    assert_ne!(old.record.digest(), new.record.digest());
    for record in [&old.record, &new.record, &store.show(new.record.id()).await.unwrap()] {
        assert_eq!((record.name(), record.kind(), record.tenant()), ("prod", Some("admin"), Some("acme")));
        assert_eq!(record.grant(), old.record.grant());
    }
    assert_eq!((old.record.not_before(), old.record.expires_at()), (Some(start), Some(end)));
    assert_eq!(new.record.not_before(), None, "a beginning that has come is none");
    assert!((end..in_seconds(61)).contains(&new.record.expires_at().unwrap()), "as long as the old one was issued for");
    assert_eq!((gate.get(&old).await, gate.get(&new).await), (200, 200), "the old one lives until it is revoked");
    assert_eq!(gate.ask(Method::GET, "ch", new.api_key.expose()).await, 403);
    store.as_actor("test").revoke(old.record.id(), "rotated").await.unwrap();
    assert_eq!((gate.get(&old).await, gate.get(&new).await), (401, 200));
    let dead = store.as_actor("test").rotate(old.record.id(), Overlap::UntilRevoked).await.unwrap_err();
    assert_eq!(dead.kind(), StoreErrorKind::Conflict);
}

pub async fn a_rotated_key_lives_for_the_overlap<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let hour = Duration::from_secs(3600);
    let old = issue(store).await;
    let before = in_seconds(0);
    let new = store.as_actor("test").rotate(old.record.id(), Overlap::For(hour)).await.unwrap();
    let end = store.show(old.record.id()).await.unwrap().expires_at().unwrap();
    assert!((before + hour..=in_seconds(0) + hour).contains(&end));
    assert_eq!(new.record.expires_at(), None, "only the old one ends");
    let just_before = Gate::at(store, end - Duration::from_micros(1));
    assert_eq!((just_before.get(&old).await, just_before.get(&new).await), (200, 200));
    let then = Gate::at(store, end);
    assert_eq!((then.get(&old).await, then.get(&new).await), (401, 200));
}

pub async fn of_one_key_at_most_two_secrets_live<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let hour = Overlap::For(Duration::from_secs(3600));
    let first = issue(store).await;
    let second = store.as_actor("test").rotate(first.record.id(), hour).await.unwrap();
    assert_eq!((gate.get(&first).await, gate.get(&second).await), (200, 200));
    let third = store.as_actor("test").rotate(second.record.id(), hour).await.unwrap();
    assert_eq!((gate.get(&first).await, gate.get(&second).await, gate.get(&third).await), (401, 200, 200));
    // A key cannot have two successors.
    let again = store.as_actor("test").rotate(second.record.id(), hour).await.unwrap_err();
    assert_eq!(again.kind(), StoreErrorKind::Conflict);
}

pub async fn in_whatever_order_a_key_is_revoked_and_rotated_it_is_refused<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    for rotate_at in 0..3 {
        let old = issue(store).await;
        let mut new = None;
        for step in 0..3 {
            if step == rotate_at {
                new = store.as_actor("test").rotate(old.record.id(), Overlap::UntilRevoked).await.ok();
            } else {
                store.as_actor("test").revoke(old.record.id(), "lost").await.unwrap();
                assert_eq!(gate.get(&old).await, 401, "rotated at {rotate_at}, step {step}");
            }
        }
        assert_eq!(gate.get(&old).await, 401, "rotated at {rotate_at}");
        assert_eq!(new.is_some(), rotate_at == 0, "a dead key has no successor");
        if let Some(new) = new {
            assert_eq!(gate.get(&new).await, 200, "the successor is another key");
        }
    }
    // The operations also run concurrently.
    for _ in 0..20 {
        let old = issue(store).await;
        let (id, by) = (old.record.id(), store.as_actor("test"));
        let (one, other, _) = tokio::join!(by.revoke(id, ""), by.revoke(id, ""), by.rotate(id, Overlap::UntilRevoked));
        assert_eq!((gate.get(&old).await, one.is_ok() && other.is_ok()), (401, true));
    }
}

pub async fn an_overlap_never_prolongs_a_life<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let soon = in_seconds(60);
    let key = store.as_actor("test").issue(NewKey::new("k", Grant::default()).expires_at(soon)).await.unwrap();
    store.as_actor("test").rotate(key.record.id(), Overlap::For(Duration::from_secs(3600))).await.unwrap();
    assert_eq!(store.show(key.record.id()).await.unwrap().expires_at(), Some(soon));

    let endless = issue(store).await;
    store.as_actor("test").rotate(endless.record.id(), Overlap::For(Duration::ZERO)).await.unwrap();
    assert_eq!(Gate::of(store).get(&endless).await, 401, "no overlap, no life");
    let dead = store.as_actor("test").rotate(endless.record.id(), Overlap::UntilRevoked).await.unwrap_err();
    assert_eq!(dead.kind(), StoreErrorKind::Conflict, "an expired key is not rotated");
}

pub async fn dates_hold_to_the_microsecond<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let (start, end) = (in_seconds(100), in_seconds(200));
    let micro = Duration::from_micros(1);
    let grant = Grant::builder().read("products").build().unwrap();
    let new = NewKey::new("k", grant).not_before(start).expires_at(end);
    let key = store.as_actor("test").issue(new).await.unwrap();
    for (now, status) in [(start - micro, 401), (start, 200), (end - micro, 200), (end, 401), (end + micro, 401)] {
        assert_eq!(Gate::at(store, now).get(&key).await, status, "{now:?}");
    }
    // Times that are finer than a microsecond are truncated at once, and not only when they are read again.
    let fine = NewKey::new("k", Grant::default()).expires_at(end + Duration::from_nanos(999));
    assert_eq!(store.as_actor("test").issue(fine).await.unwrap().record.expires_at(), Some(end));
}

pub async fn nothing_brings_a_revoked_key_back<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let key = issue(store).await;
    let id = key.record.id();
    let exported = store.export().await.unwrap();
    let revoked = store.as_actor("test").revoke(id, "lost").await.unwrap().record.unwrap();

    store.as_actor("test").rename(id, "another name").await.unwrap();
    let grant = Grant::builder().write("products").build().unwrap();
    assert_eq!(store.as_actor("test").set_grant(id, grant.clone()).await.unwrap_err().kind(), StoreErrorKind::Conflict);
    let rotated = store.as_actor("test").rotate(id, Overlap::UntilRevoked).await;
    assert_eq!(rotated.unwrap_err().kind(), StoreErrorKind::Conflict);
    store.as_actor("test").revoke(id, "found again").await.unwrap();
    let imported = store.as_actor("test").import(exported.records().to_vec()).await.unwrap();
    assert_eq!((imported.added, imported.skipped), (0, 1), "the living copy of before is left out");
    let other_id = KeyRecord::builder("k".parse().unwrap(), *key.record.digest()).grant(grant).build();
    let imported = store.as_actor("test").import([other_id]).await.unwrap();
    assert_eq!((imported.added, imported.skipped), (0, 1), "the digest is what counts, not the id");
    store.as_actor("test").set_settings(StoreSettings::new()).await.unwrap();
    assert_eq!(store.as_actor("test").purge(in_seconds(-1000)).await.unwrap(), 0);

    assert_eq!(gate.get(&key).await, 401);
    assert_eq!(Gate::at(store, in_seconds(-86_400)).get(&key).await, 401, "nor does a clock that is set back");
    let now = store.show(id).await.unwrap();
    assert_eq!(now.status(in_seconds(0)), Status::Revoked);
    assert_eq!((now.revoked_at(), now.revocation_reason()), (revoked.revoked_at(), Some("lost")));
    assert_eq!(all(store).await, [now]);
}

/// A key that was revoked in another store stays revoked, although its record was imported, deleted or purged here.
pub async fn revoked_is_for_good_however_a_key_came_and_went<F: Fixture>() {
    let elsewhere = MemoryStore::new();
    let keys = [issue(&elsewhere).await, issue(&elsewhere).await, issue(&elsewhere).await];
    let before = elsewhere.export().await.unwrap().records().to_vec();
    for key in &keys {
        elsewhere.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
    }
    let after = elsewhere.export().await.unwrap().records().to_vec();
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let by = store.as_actor("test");
    assert_eq!(by.import(after.clone()).await.unwrap().added, 3);
    // One key stays, one is deleted, and one is purged.
    let [_, deleted, purged] = &keys;
    by.delete(deleted.record.id()).await.unwrap();
    by.delete(keys[0].record.id()).await.unwrap();
    by.import(after.iter().filter(|record| record.id() == keys[0].record.id()).cloned()).await.unwrap();
    assert_eq!(by.purge(in_seconds(60)).await.unwrap(), 2, "{}", purged.record.id());
    for _ in 0..2 {
        let back = by.import(before.clone()).await.unwrap();
        assert_eq!((back.added, back.skipped, back.refused), (0, 0, 3));
        for key in &keys {
            assert_eq!(gate.get(key).await, 401);
        }
        // The revoked records may be imported again.
        assert_eq!(by.import(after.clone()).await.unwrap().added, 3);
        by.purge(in_seconds(60)).await.unwrap();
    }
}

/// Readers request with a key while it is revoked and while other keys are issued: a request that begins after `revoke`
/// has returned is refused.
pub async fn a_revocation_holds_for_every_request_that_begins_later<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    for round in 0..40 {
        let key = issue(store).await;
        let revoked = Arc::new(AtomicBool::new(false));
        let readers = [(); 2].map(|()| {
            let (gate, key, revoked) = (Gate::of(store), key.clone(), Arc::clone(&revoked));
            tokio::spawn(async move {
                loop {
                    let after = revoked.load(Ordering::SeqCst);
                    let status = gate.get(&key).await;
                    assert!(!after || status == 401, "admitted after the revocation, round {round}");
                    if after {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            })
        });
        let other = tokio::spawn({
            let store = store.clone();
            async move { issue(&store).await }
        });
        store.as_actor("test").revoke(key.record.id(), "").await.unwrap();
        revoked.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
        other.await.unwrap();
    }
}

pub async fn an_imported_key_is_admitted<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    // The records come from another store: one active, one revoked, one expired.
    let elsewhere = MemoryStore::new();
    let (alive, revoked, expired) = (issue(&elsewhere).await, issue(&elsewhere).await, issue(&elsewhere).await);
    elsewhere.as_actor("test").revoke(revoked.record.id(), "lost").await.unwrap();
    elsewhere.as_actor("test").rotate(expired.record.id(), Overlap::For(Duration::ZERO)).await.unwrap();
    let records = elsewhere.export().await.unwrap().records().to_vec();
    let imported = store.as_actor("test").import(records.clone()).await.unwrap();
    assert_eq!((imported.added, imported.skipped), (4, 0));
    assert_eq!((gate.get(&alive).await, gate.get(&revoked).await, gate.get(&expired).await), (200, 401, 401));
    let again = store.as_actor("test").import(records).await.unwrap();
    assert_eq!((again.added, again.skipped), (0, 4));
}

pub async fn who_belongs_to_whom_is_judged_by_the_newest_settings<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let grant = Grant::builder().read("products").only("company", ["1"]).build().unwrap();
    let key = store.as_actor("test").issue(NewKey::new("k", grant)).await.unwrap();
    for (company, status) in [(None, 403), (Some("1"), 200), (Some("2"), 403), (Some("1"), 200), (None, 403)] {
        let directory = Directory::builder().shop("de", company).build().unwrap();
        store.as_actor("test").set_settings(StoreSettings::new().with_directory(directory)).await.unwrap();
        assert_eq!(gate.get(&key).await, status, "the shop belongs to {company:?}");
        assert_eq!(store.settings().await.unwrap().to_json().unwrap().contains("\"company\""), company.is_some());
    }
}

/// The use is visible before it is written.
pub async fn a_use_is_known_at_once_where_it_was_made<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let (used, other) = (issue(store).await, issue(store).await);
    assert_eq!(Gate::of(store).get(&used).await, 200);
    let last_used = async |key: &IssuedKey| store.show(key.record.id()).await.unwrap().last_used();
    assert!(last_used(&used).await.is_some() && last_used(&other).await.is_none());
    let page = store.list(&KeyQuery::new()).await.unwrap();
    assert_eq!(page.records.iter().filter(|record| record.last_used().is_some()).count(), 1);
    let unused = store.list(&KeyQuery::new().unused_for(Duration::from_secs(60))).await.unwrap();
    assert_eq!(unused.records.iter().map(|record| record.id()).collect::<Vec<_>>(), [other.record.id()]);
}

pub async fn only_an_admitted_request_is_a_use<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let gate = Gate::of(store);
    let (used, unused, revoked) = (issue(store).await, issue(store).await, issue(store).await);
    store.as_actor("test").revoke(revoked.record.id(), "").await.unwrap();
    assert_eq!(store.show(used.record.id()).await.unwrap().last_used(), None);
    let before = in_seconds(-3); // uses are stored in whole seconds, by a clock that lags by up to one
    assert_eq!((gate.get(&used).await, gate.get(&revoked).await), (200, 401));
    drop(gate);
    let fixture = fixture.with_uses_written().await;
    let store = fixture.store();
    let last_used = async |key: &IssuedKey| store.show(key.record.id()).await.unwrap().last_used();
    assert!((before..=in_seconds(0)).contains(&last_used(&used).await.unwrap()));
    assert_eq!((last_used(&unused).await, last_used(&revoked).await), (None, None));
    // A use is not a change: it adds neither a version nor an audit record.
    assert_eq!(store.show(used.record.id()).await.unwrap().version(), 1);
    assert_eq!(audit(store).await.len(), 4);
}
