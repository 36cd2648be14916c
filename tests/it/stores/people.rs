//! Tests what people do with keys: whose they are, how long they live, and that they are switched off for a while.

use std::time::Duration;

use http::Method;
use tower_authz::{
    Cause, Digest, Grant, KeyId, KeyRecord, Metadata, Status,
    store::{
        Action, IssuedKey, KeyAdmin as _, KeyQuery, NewKey, Overlap, Rotation, StoreError, StoreErrorKind,
        StoreSettings,
    },
};

use crate::stores::{Fixture, Gate, all, audit, in_flight, in_seconds, issue};

const DAY: Duration = Duration::from_secs(86_400);

fn grant() -> Grant {
    Grant::builder().read("products").build().unwrap()
}

fn acme() -> Metadata {
    Metadata::new()
        .with_owner("acct-7")
        .with_note("for their ERP")
        .with_label("env", "prod")
        .with_label("team", "search")
}

pub async fn metadata_is_kept_found_and_changed<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let key = by.issue(NewKey::new("k", grant()).metadata(acme())).await.unwrap();
    let other = by.issue(NewKey::new("other", grant()).owner("acct-8")).await.unwrap();
    let nobody = issue(store).await;
    let id = key.record.id();
    assert_eq!(*store.show(id).await.unwrap().metadata(), acme());
    let found = async |query: KeyQuery| {
        let page = store.list(&query).await.unwrap();
        page.records.iter().map(|record| record.id().clone()).collect::<Vec<_>>()
    };
    assert_eq!(found(KeyQuery::new().owner("acct-7")).await, std::slice::from_ref(id));
    assert_eq!(found(KeyQuery::new().owner("acct-7").name("other")).await, [] as [KeyId; 0]);
    assert_eq!(found(KeyQuery::new().owner("acct")).await, [] as [KeyId; 0], "an owner is not searched by parts");
    assert_eq!(found(KeyQuery::new().label("env", "prod")).await, std::slice::from_ref(id));
    assert_eq!(found(KeyQuery::new().label("env", "test")).await, [] as [KeyId; 0]);
    assert_eq!(found(KeyQuery::new().has_label("team")).await, std::slice::from_ref(id));

    let changed =
        by.change_metadata(id, |old| Ok(old.clone().with_owner("acct-8").without_label("team"))).await.unwrap();
    let expected = acme().with_owner("acct-8").without_label("team");
    assert_eq!(*changed.record.unwrap().metadata(), expected);
    assert_eq!(*store.show(id).await.unwrap().metadata(), expected);
    assert_eq!(found(KeyQuery::new().owner("acct-7")).await, [] as [KeyId; 0]);
    let mut both = [id.clone(), other.record.id().clone()];
    both.sort();
    assert_eq!(found(KeyQuery::new().owner("acct-8")).await, both);
    // Nothing else changes it, and a rotated key belongs to whom the old one did.
    by.rename(id, "renamed").await.unwrap();
    let rotated = by.rotate(id, Overlap::UntilRevoked).await.unwrap();
    assert_eq!(*rotated.record.metadata(), expected);
    by.set_metadata(id, Metadata::new()).await.unwrap();
    assert_eq!(*store.show(id).await.unwrap().metadata(), Metadata::new());
    assert_eq!(*store.show(nobody.record.id()).await.unwrap().metadata(), Metadata::new());
    // The log has it, and an export brings it elsewhere.
    let last = audit(store).await.pop().unwrap();
    assert_eq!(last.action, Action::MetadataChanged);
    assert!(last.before.unwrap().contains("\"labels\":{\"env\":\"prod\"}") && !last.after.unwrap().contains("labels"));
    let exported = store.export().await.unwrap();
    let elsewhere = F::fresh(StoreSettings::new()).await;
    elsewhere.store().as_actor("test").import(exported.records().to_vec()).await.unwrap();
    let listed = all(elsewhere.store()).await;
    assert_eq!(listed.iter().filter(|key| key.metadata().owner() == Some("acct-8")).count(), 2);
}

pub async fn what_is_no_metadata_is_refused<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let key = issue(store).await;
    let (id, before) = (key.record.id(), audit(store).await.len());
    let secret = key.api_key.expose().to_owned();
    let many = (0..17).fold(Metadata::new(), |some, at| some.with_label(format!("l{at}"), ""));
    for bad in [
        Metadata::new().with_owner("a".repeat(10_000)),
        Metadata::new().with_note("\u{1b}[2J"),
        Metadata::new().with_label("two words", ""),
        Metadata::new().with_label("env", "a\u{0}b"),
        many,
        Metadata::new().with_owner(&*secret),
        Metadata::new().with_note(format!("it is {secret}.")),
        Metadata::new().with_label("key", &*secret),
    ] {
        let issued = by.issue(NewKey::new("k", grant()).metadata(bad.clone())).await.unwrap_err();
        let changed = by.set_metadata(id, bad.clone()).await.unwrap_err();
        let record =
            KeyRecord::builder("imported".parse().unwrap(), Digest::from_key(b"another")).metadata(bad).build();
        let imported = by.import([record]).await.unwrap_err();
        for error in [issued, changed, imported] {
            assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
            assert!(!error.to_string().contains(&secret), "an error quotes no key");
        }
    }
    let unknown = by.set_metadata(&"nobody".parse().unwrap(), acme()).await.unwrap_err();
    assert_eq!(unknown.kind(), StoreErrorKind::NotFound);
    assert_eq!((audit(store).await.len(), all(store).await.len()), (before, 1), "nothing was written");
}

pub async fn all_keys_of_an_owner_are_revoked_at_once<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let gate = Gate::of(store);
    let mut keys = Vec::new();
    for owner in ["acct-7", "acct-7", "acct-7", "acct-8", ""] {
        keys.push(by.issue(NewKey::new("k", grant()).owner(owner)).await.unwrap());
    }
    by.revoke(keys[0].record.id(), "earlier").await.unwrap();
    by.suspend(keys[1].record.id(), "").await.unwrap();
    let revoked = by.revoke_all_of("acct-7", "the contract ended").await.unwrap();
    assert_eq!((revoked.records.len(), revoked.unchanged, revoked.unreadable), (2, 1, 0));
    for (key, status) in keys.iter().zip([401, 401, 401, 200, 200]) {
        assert_eq!(gate.get(key).await, status);
    }
    let records = audit(store).await;
    let reasons = records.iter().filter(|record| record.note.as_deref() == Some("the contract ended"));
    assert_eq!(reasons.count(), 3, "each key has a record of it, that which had been revoked as well");
    assert_eq!(store.show(keys[0].record.id()).await.unwrap().revocation_reason(), Some("earlier"));
    // Once more it is published again.
    let again = by.revoke_all_of("acct-7", "").await.unwrap();
    assert_eq!((again.records.len(), again.unchanged), (0, 3));
    for (owner, kind) in
        [("acct-9", StoreErrorKind::NotFound), ("", StoreErrorKind::NotFound), ("a\nb", StoreErrorKind::Invalid)]
    {
        assert_eq!(by.revoke_all_of(owner, "").await.unwrap_err().kind(), kind, "{owner:?}");
    }
    assert_eq!(gate.get(&keys[4]).await, 200, "a key that belongs to nobody is nobody's");
}

/// Imports a key that was issued so many days ago, and ends in so many.
async fn aged<F: Fixture>(fixture: &F, id: &str, issued: i64, ends: Option<i64>) -> KeyId {
    let days = |days: i64| in_seconds(days * 86_400);
    let record = KeyRecord::builder(id.parse().unwrap(), Digest::from_key(format!("{id}, the key").as_bytes()))
        .created_at(days(-issued))
        .expires_at(ends.map(days))
        .grant(grant())
        .build();
    assert_eq!(fixture.store().as_actor("test").import([record]).await.unwrap().added, 1);
    id.parse().unwrap()
}

/// How many days the key of a rotation lives, to the nearest one.
fn days(issued: &Result<IssuedKey, StoreError>) -> Option<u64> {
    let record = &issued.as_ref().unwrap().record;
    let length = record.expires_at()?.duration_since(record.created_at().unwrap()).unwrap();
    Some((length.as_secs() + 43_200) / 86_400)
}

pub async fn a_rotated_key_lives_as_long_as_the_old_one_was_issued_for<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let until = Overlap::UntilRevoked;
    let last_day = aged(&fixture, "last-day", 89, Some(1)).await;
    assert_eq!(days(&by.rotate(&last_day, until).await), Some(90));
    let stated = aged(&fixture, "stated", 89, Some(1)).await;
    let issued = by.rotate(&stated, Rotation::new(Overlap::For(DAY / 2)).expires_at(in_seconds(30 * 86_400))).await;
    assert_eq!(days(&issued), Some(30));
    let old = issued.unwrap().replaced.unwrap();
    assert_eq!(old.id(), &stated, "the answer names both ends");
    assert!(old.expires_at().unwrap() < in_seconds(86_400));
    let endless = aged(&fixture, "endless", 89, Some(1)).await;
    assert_eq!(days(&by.rotate(&endless, Rotation::new(until).never_expires()).await), None);
    let never = aged(&fixture, "never", 89, None).await;
    let first = by.rotate(&never, Overlap::For(DAY)).await;
    assert_eq!(days(&first), None);
    // The overlap has cut the old key short: how long it was issued for is not known any more, and its successor, whose end
    // may have been stated, does not tell.
    let cut = aged(&fixture, "cut", 10, Some(80)).await;
    for old in [&never, &cut] {
        let first = match old == &never {
            true => first.as_ref().unwrap().record.clone(),
            false => by.rotate(old, Rotation::new(Overlap::For(DAY)).never_expires()).await.unwrap().record,
        };
        by.revoke(first.id(), "lost at once").await.unwrap();
        let again = by.rotate(old, until).await.unwrap();
        assert_eq!(again.record.expires_at(), store.show(old).await.unwrap().expires_at());
        assert!(again.warnings.iter().any(|warning| warning.contains("is not known")), "{:?}", again.warnings);
    }
    // A key that begins later gives one that begins then.
    let later = NewKey::new("k", grant()).not_before(in_seconds(86_400)).expires_at(in_seconds(11 * 86_400));
    let later = by.issue(later).await.unwrap();
    let rotated = by.rotate(later.record.id(), until).await.unwrap().record;
    assert_eq!((rotated.not_before(), rotated.expires_at()), (later.record.not_before(), later.record.expires_at()));
    // Where nobody knows when a key was issued, no key comes of it that lives longer.
    let end = in_seconds(86_400);
    let unknown =
        KeyRecord::builder("unknown".parse().unwrap(), Digest::from_key(b"u")).name("k").expires_at(end).build();
    by.import([unknown]).await.unwrap();
    let issued = by.rotate(&"unknown".parse().unwrap(), until).await.unwrap();
    assert_eq!(issued.record.expires_at(), Some(end));
    assert!(issued.warnings.iter().any(|warning| warning.contains("is not known")), "{:?}", issued.warnings);
    // An end beyond all dates is refused, not cut.
    let eternal = aged(&fixture, "eternal", 20_000, Some(7_950 * 365)).await;
    assert_eq!(by.rotate(&eternal, until).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    assert_eq!(store.show(&eternal).await.unwrap().replaced_by(), None);
}

pub async fn an_end_is_moved_both_ways<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let gate = Gate::of(store);
    let soon = in_seconds(60);
    let key = by.issue(NewKey::new("k", grant()).expires_at(soon)).await.unwrap();
    let id = key.record.id();
    let later = in_seconds(90 * 86_400);
    let changed = by.set_expiry(id, later).await.unwrap();
    assert_eq!((changed.record.unwrap().expires_at(), changed.changed), (Some(later), true));
    assert_eq!(Gate::at(store, soon).get(&key).await, 200, "it lives on");
    assert_eq!(Gate::at(store, later).get(&key).await, 401);
    assert!(!by.set_expiry(id, later).await.unwrap().changed, "the same once more");
    by.set_expiry(id, None).await.unwrap();
    assert_eq!(Gate::at(store, later).get(&key).await, 200);
    by.set_expiry(id, soon).await.unwrap();
    assert_eq!((gate.get(&key).await, Gate::at(store, soon).get(&key).await), (200, 401));
    let past = by.set_expiry(id, in_seconds(-1)).await.unwrap();
    assert!(past.warnings.iter().any(|warning| warning.contains("expired already")), "{:?}", past.warnings);
    assert_eq!(gate.get(&key).await, 401, "at once");
    let revoked = issue(store).await;
    by.revoke(revoked.record.id(), "").await.unwrap();
    assert_eq!(by.set_expiry(revoked.record.id(), None).await.unwrap_err().kind(), StoreErrorKind::Conflict);
    assert_eq!(by.set_expiry(&"nobody".parse().unwrap(), None).await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

pub async fn an_expired_key_is_renewed_only_as_the_settings_say<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let young = aged(&fixture, "young", 100, Some(-1)).await;
    let old = aged(&fixture, "old", 500, Some(-1)).await;
    let expired =
        KeyRecord::builder("unknown".parse().unwrap(), Digest::from_key(b"u")).expires_at(in_seconds(-5)).build();
    by.import([expired]).await.unwrap();
    let later = in_seconds(86_400);
    let refused = async |id: &KeyId, why: &str| {
        let error = by.set_expiry(id, later).await.unwrap_err();
        assert!(error.kind() == StoreErrorKind::Conflict && error.to_string().contains(why), "{error}");
    };
    refused(&young, "do not let expired keys be renewed").await;
    let settings = StoreSettings::new().with_renewal_of_expired(Some(400 * DAY));
    by.set_settings(settings).await.unwrap();
    assert_eq!(store.settings().await.unwrap().renewal_of_expired(), Some(400 * DAY));
    refused(&old, "older than the settings").await;
    refused(&"unknown".parse().unwrap(), "age of its secret is not known").await;
    let renewed = by.set_expiry(&young, later).await.unwrap().record.unwrap();
    assert_eq!(renewed.status(in_seconds(0)), Status::Active);
    // One whose place another took would be a third living secret of a key that was rotated again.
    let first = issue(store).await;
    by.rotate(first.record.id(), Overlap::For(Duration::ZERO)).await.unwrap();
    refused(first.record.id(), "took its place").await;
    // And so would one that took the place of a key which was rotated again since.
    let old = issue(store).await;
    let second =
        by.rotate(old.record.id(), Rotation::new(Overlap::UntilRevoked).expires_at(in_seconds(-1))).await.unwrap();
    let third = by.rotate(old.record.id(), Overlap::UntilRevoked).await.unwrap();
    refused(second.record.id(), "was rotated again since").await;
    let gate = Gate::of(store);
    assert_eq!((gate.get(&old).await, gate.get(&second).await, gate.get(&third).await), (200, 401, 200));
}

pub async fn a_suspended_key_is_refused_until_it_is_resumed<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, by) = (fixture.store(), fixture.store().as_actor("test"));
    let gate = Gate::of(store);
    let (key, other) = (issue(store).await, issue(store).await);
    let id = key.record.id();
    let waiting = in_flight(store, &key).await;
    let suspended = by.suspend(id, "under investigation").await.unwrap();
    assert!(suspended.changed);
    assert_eq!((gate.get(&key).await, gate.get(&other).await), (401, 200));
    let ended = waiting.ensure_live().await.unwrap_err();
    assert_eq!(ended.cause(), &Cause::Suspended, "and what is in flight hears of it: 401, not 403");
    assert_eq!(store.show(id).await.unwrap().status(in_seconds(0)), Status::Suspended);
    assert_eq!(store.list(&KeyQuery::new().status(Status::Suspended)).await.unwrap().records.len(), 1);
    let since = suspended.record.unwrap().suspended_at();
    let again = by.suspend(id, "").await.unwrap();
    assert_eq!((again.changed, again.record.unwrap().suspended_at()), (false, since));
    // Nothing else resumes it.
    by.rename(id, "renamed").await.unwrap();
    by.set_grant(id, Grant::builder().write("products").build().unwrap()).await.unwrap();
    by.set_expiry(id, in_seconds(86_400)).await.unwrap();
    let rotated = by.rotate(id, Overlap::UntilRevoked).await.unwrap_err();
    assert!(rotated.to_string().contains("resume it first"), "{rotated}");
    let exported = store.export().await.unwrap();
    let elsewhere = F::fresh(StoreSettings::new()).await;
    elsewhere.store().as_actor("test").import(exported.records().to_vec()).await.unwrap();
    let there = Gate::of(elsewhere.store());
    assert_eq!((gate.get(&key).await, there.get(&key).await, there.get(&other).await), (401, 401, 200));
    let resumed = by.resume(id).await.unwrap();
    assert!(resumed.changed && !by.resume(id).await.unwrap().changed);
    assert_eq!((gate.get(&key).await, gate.ask(Method::PUT, "de", key.api_key.expose()).await), (200, 200));
    // Revoked stays terminal, suspended or not.
    by.suspend(id, "").await.unwrap();
    by.revoke(id, "lost").await.unwrap();
    for (refused, what) in [(by.resume(id).await, "resume"), (by.suspend(id, "").await, "suspend")] {
        assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Conflict, "{what}");
    }
    assert_eq!((gate.get(&key).await, store.show(id).await.unwrap().status(in_seconds(0))), (401, Status::Revoked));
    let actions: Vec<_> = audit(store).await.iter().map(|record| record.action).collect();
    let count = |action| actions.iter().filter(|known| **known == action).count();
    assert_eq!((count(Action::Suspended), count(Action::Resumed)), (3, 2));
}
