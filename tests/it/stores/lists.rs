//! Tests queries over many keys, and the export of all of them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tower_authz::{
    Digest, Directory, Grant, KeyFile, KeyId, KeyRecord, Status,
    store::{KeyAdmin, KeyQuery, KeyStore as _, StoreSettings},
};

use crate::stores::{Dice, Fixture, Gate, all, in_seconds, issue};

const NAMES: [&str; 6] = ["prod", "Prod-2026", "staging", "STAGING ÄÖÜ", "ci", "%_'"];
const KINDS: [Option<&str>; 3] = [None, Some("admin"), Some("runtime")];
const TENANTS: [Option<&str>; 3] = [None, Some("acme"), Some("acme-live")];
const RESOURCES: [&str; 3] = ["products", "product", "orders"];
const STATUSES: [Status; 4] = [Status::Active, Status::NotYetValid, Status::Expired, Status::Revoked];
/// The offsets are whole minutes, so that the duration of the test does not change the results.
const MINUTES: [i64; 5] = [-600, -60, 60, 600, 6000];

fn random_record(dice: &mut Dice, number: u32) -> KeyRecord {
    let maybe = |dice: &mut Dice| (dice.roll(3) == 0).then(|| in_seconds(dice.pick(&MINUTES) * 60));
    let (start, end, revoked) = (maybe(dice), maybe(dice), maybe(dice).filter(|time| *time < in_seconds(0)));
    let used = maybe(dice).filter(|time| *time < in_seconds(0));
    let mut grant = Grant::builder();
    for resource in RESOURCES {
        grant = match dice.roll(3) {
            0 => grant.read(resource),
            1 => grant.write(resource),
            _ => grant,
        };
    }
    // The ids are not in the order in which the keys are added.
    let id = format!("{}_{number}", dice.pick(&["a", "B", "b-", "!", "~"]));
    KeyRecord::builder(id.parse().unwrap(), Digest::from_key(&number.to_be_bytes()))
        .name(dice.pick(&NAMES))
        .kind(dice.pick(&KINDS).map(str::to_owned))
        .tenant(dice.pick(&TENANTS).map(str::to_owned))
        .created_at(in_seconds(-86_400))
        .not_before(start)
        .expires_at(end)
        .revoked_at(revoked)
        .revocation_reason(revoked.map(|_| "lost".to_owned()))
        .grant(grant.build().unwrap())
        .last_used(used)
        .build()
}

/// A condition as a query, and as an equivalent predicate.
type Condition = (KeyQuery, Box<dyn Fn(&KeyRecord) -> bool>);

const CONDITIONS: u64 = 7;

fn condition(which: u64, dice: &mut Dice, query: KeyQuery) -> Condition {
    let now = in_seconds(0);
    match which {
        0 => {
            let part = dice.pick(&["PROD", "stag", "äöü", "%", "_", "", "nothing"]);
            (query.name(part), Box::new(move |key| key.name().to_lowercase().contains(&part.to_lowercase())))
        }
        1 => {
            let kind = dice.pick(&["admin", "runtime", "Admin"]);
            (query.kind(kind), Box::new(move |key| key.kind() == Some(kind)))
        }
        2 => {
            let tenant = dice.pick(&["acme", "acme-live", ""]);
            (query.tenant(tenant), Box::new(move |key| key.tenant() == Some(tenant)))
        }
        3 => {
            let status = dice.pick(&STATUSES);
            (query.status(status), Box::new(move |key| key.status(now) == status))
        }
        4 => {
            let resource = dice.pick(&["products", "product", "order"]);
            let held = move |key: &KeyRecord| key.grant().permissions().iter().any(|held| held.resource() == resource);
            (query.resource(resource), Box::new(held))
        }
        5 => {
            let time = in_seconds(dice.pick(&MINUTES) * 60 + 30);
            (query.expires_before(time), Box::new(move |key| key.expires_at().is_some_and(|end| end < time)))
        }
        _ => {
            let time = Duration::from_secs(dice.pick(&[0, 1800, 18_000, 86_400]));
            let unused = move |key: &KeyRecord| key.last_used().is_none_or(|used| used + time <= now);
            (query.unused_for(time), Box::new(unused))
        }
    }
}

/// Returns the keys of a query, read in pages of this size.
async fn found(store: &impl KeyAdmin, query: &KeyQuery, limit: usize) -> Vec<Arc<KeyRecord>> {
    let mut query = query.clone().limit(limit);
    let mut records = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        assert!(page.records.len() <= limit && page.unreadable.is_empty());
        records.extend(page.records);
        match page.next {
            Some(last) => query = query.after(last),
            None => return records,
        }
    }
}

pub async fn filters_find_what_a_naive_search_finds<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let mut dice = Dice(0x5eed);
    let mut records: Vec<_> = (0..300).map(|number| random_record(&mut dice, number)).collect();
    store.as_actor("test").import(records.clone()).await.unwrap();
    records.sort_by(|a, b| a.id().as_str().as_bytes().cmp(b.id().as_str().as_bytes()));
    let mut hits = 0;
    for round in 0..200 {
        let mut query = KeyQuery::new();
        let mut conditions = Vec::new();
        for which in 0..CONDITIONS {
            if dice.roll(4) == 0 {
                let (more, holds) = condition(which, &mut dice, query);
                query = more;
                conditions.push(holds);
            }
        }
        let expected: Vec<_> = records.iter().filter(|key| conditions.iter().all(|it| it(key))).collect();
        let limit = 1 + dice.roll(400) as usize;
        let found = found(store, &query, limit).await;
        assert_eq!(found.iter().map(|key| &**key).collect::<Vec<_>>(), expected, "round {round}: {query:?} by {limit}");
        hits += found.len();
    }
    assert!(hits > 1000, "{hits} hits: the conditions find next to nothing");
}

/// Keys are added and deleted before, at and after the position that the reader has reached.
pub async fn pages_are_stable_while_keys_come_and_go<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let record = |number: u32| {
        KeyRecord::builder(format!("k_{number:05}").parse().unwrap(), Digest::from_key(&number.to_be_bytes())).build()
    };
    // Keys with even numbers stay. Of the odd ones, some exist from the beginning and are deleted, and others are
    // added.
    let steady: Vec<_> = (0..10_000).step_by(2).map(record).collect();
    let passing: Vec<_> = (1..10_000).step_by(4).map(record).collect();
    store.as_actor("test").import(steady.iter().chain(&passing).cloned()).await.unwrap();
    let mut query = KeyQuery::new().limit(700);
    let mut seen: Vec<KeyId> = Vec::new();
    let mut dice = Dice(7);
    loop {
        let page = store.list(&query).await.unwrap();
        seen.extend(page.records.iter().map(|record| record.id().clone()));
        let Some(last) = page.next else { break };
        query = query.after(last.clone());
        let coming = (0..20).map(|_| 3 + 4 * dice.roll(2_499) as u32).collect::<BTreeSet<_>>();
        store.as_actor("test").import(coming.into_iter().map(record)).await.unwrap();
        for going in [1 + 4 * dice.roll(2_499) as u32, 1 + 4 * dice.roll(2_499) as u32] {
            let _ = store.as_actor("test").delete(record(going).id()).await; // it may be deleted already
        }
        // The last key of a page is deleted, too: the next page must still begin after it.
        if last.as_str().ends_with(['1', '3', '5', '7', '9']) {
            store.as_actor("test").delete(&last).await.unwrap();
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
    let seen: BTreeSet<_> = seen.iter().collect();
    assert!(steady.iter().all(|record| seen.contains(record.id())), "none left out");
}

pub async fn limits_are_kept<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let empty = store.list(&KeyQuery::new()).await.unwrap();
    assert!(empty.records.is_empty() && empty.next.is_none());
    let records = (0..12_001_u32).map(|number| {
        KeyRecord::builder(format!("k_{number:05}").parse().unwrap(), Digest::from_key(&number.to_be_bytes())).build()
    });
    store.as_actor("test").import(records).await.unwrap();
    for (limit, expected) in [(0, 1), (1, 1), (1000, 1000), (10_000, 10_000), (usize::MAX, 10_000)] {
        let page = store.list(&KeyQuery::new().limit(limit)).await.unwrap();
        assert_eq!(page.records.len(), expected);
        assert_eq!(page.next.as_ref(), page.records.last().map(|last| last.id()));
    }
    assert_eq!(store.list(&KeyQuery::new()).await.unwrap().records.len(), 1000);
    let rest = KeyQuery::new().after("k_11999".parse().unwrap());
    let page = store.list(&rest).await.unwrap();
    assert_eq!((page.records.len(), page.next), (1, None));
    let behind = store.list(&KeyQuery::new().after("zzz".parse().unwrap())).await.unwrap();
    assert!(behind.records.is_empty() && behind.next.is_none());
    assert_eq!(store.export().await.unwrap().records().len(), 12_001);
}

pub async fn what_is_exported_can_be_imported<F: Fixture>() {
    let directory = Directory::builder().country("de", "at", Some("1001")).build().unwrap();
    let fixture = F::fresh(StoreSettings::new().with_directory(directory)).await;
    let store = fixture.store();
    let mut dice = Dice(11);
    store.as_actor("test").import((0..50).map(|number| random_record(&mut dice, number))).await.unwrap();
    let grant = Grant::builder().read("products").except("shop", ["de"]).from_networks(["10.0.0.0/8"]);
    let key = issue(store).await;
    store.as_actor("test").set_grant(key.record.id(), grant.build().unwrap()).await.unwrap();
    store.as_actor("test").revoke(key.record.id(), "lost,\"found\"").await.unwrap();
    let text = store.export().await.unwrap().to_json().unwrap();
    assert!(!text.contains(key.api_key.expose()));

    let file = KeyFile::parse(&text, "export").unwrap();
    let elsewhere = F::fresh(StoreSettings::new().with_directory(file.directory().clone())).await;
    let other = elsewhere.store();
    other.as_actor("test").import(file.records().to_vec()).await.unwrap();
    assert_eq!(other.export().await.unwrap().to_json().unwrap(), text);
    assert_eq!(other.directory().shop_of_country("1001"), Some("de"));
    for (old, new) in all(store).await.iter().zip(all(other).await) {
        assert_eq!((old.id(), old.digest(), old.grant()), (new.id(), new.digest(), new.grant()));
        assert_eq!((old.revoked_at(), old.revocation_reason()), (new.revoked_at(), new.revocation_reason()));
    }
    assert_eq!(Gate::of(other).get(&key).await, 401, "a revoked key stays revoked");
}
