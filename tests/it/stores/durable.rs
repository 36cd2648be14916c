//! Further guarantees of a store that outlives its process: no acknowledged change is lost, and a change by one
//! process takes effect in the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use http::Method;
use tower_authz::{
    Digest, Directory, Grant, KeyRecord,
    store::{Action, KeyAdmin as _, KeyStore as _, NewKey, Overlap, StoreSettings},
};

use crate::stores::{Dice, Durable, Gate, all, audit, child::Process, hierarchies, in_seconds, issue};

/// The stores guarantee one second, even if the machine is busy with other tests at the same time.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(1);

pub async fn everything_is_found_again<F: Durable>() {
    let directory = Directory::builder().country("de", "at", Some("1001")).build().unwrap();
    let settings = StoreSettings::new().with_networks_required_for(["ledger"]).with_directory(directory);
    let fixture = F::fresh(settings).await;
    let store = fixture.store();
    let anna = store.as_actor("anna");
    let (plain, changed, revoked, deleted, rotated) =
        (issue(store).await, issue(store).await, issue(store).await, issue(store).await, issue(store).await);
    anna.set_grant(changed.record.id(), Grant::builder().write("products").build().unwrap()).await.unwrap();
    anna.rename(changed.record.id(), "another name").await.unwrap();
    anna.revoke(revoked.record.id(), "lost").await.unwrap();
    anna.delete(deleted.record.id()).await.unwrap();
    let new = anna.rotate(rotated.record.id(), Overlap::For(Duration::ZERO)).await.unwrap();
    anna.import([KeyRecord::builder("imported".parse().unwrap(), Digest::from_key(b"imported key")).build()])
        .await
        .unwrap();
    let dates = NewKey::new("dates", Grant::default()).not_before(in_seconds(-5)).expires_at(in_seconds(500));
    anna.issue(dates.kind("admin").tenant("acme")).await.unwrap();

    let before = (all(store).await, audit(store).await, store.settings().await.unwrap().to_json().unwrap());
    let fixture = fixture.reopen().await;
    let store = fixture.store();
    let after = (all(store).await, audit(store).await, store.settings().await.unwrap().to_json().unwrap());
    assert_eq!(after, before);
    assert_eq!(store.directory().shop_of_country("1001"), Some("de"));
    let gate = Gate::of(store);
    assert_eq!((gate.get(&plain).await, gate.put(&plain).await), (200, 403));
    assert_eq!((gate.get(&changed).await, gate.put(&changed).await), (200, 200));
    assert_eq!((gate.get(&revoked).await, gate.get(&deleted).await), (401, 401));
    assert_eq!((gate.get(&rotated).await, gate.get(&new).await), (401, 200));
    // The store continues with the next version and the next number.
    store.as_actor("bob").rename(changed.record.id(), "third name").await.unwrap();
    assert_eq!(store.show(changed.record.id()).await.unwrap().version(), 4);
    let numbers: Vec<_> = audit(store).await.iter().map(|record| record.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
}

pub async fn uses_are_found_again<F: Durable>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (used, unused) = (issue(fixture.store()).await, issue(fixture.store()).await);
    let before = in_seconds(-1);
    // The use follows immediately after the store was opened, in any part of the second.
    let fixture = fixture.reopen().await;
    assert_eq!(Gate::of(fixture.store()).get(&used).await, 200);
    let fixture = fixture.reopen().await;
    let last = fixture.store().show(used.record.id()).await.unwrap().last_used().unwrap();
    assert!((before..=in_seconds(0)).contains(&last));
    assert_eq!(fixture.store().show(unused.record.id()).await.unwrap().last_used(), None);
    // The time stays as it is without a further use.
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store().show(used.record.id()).await.unwrap().last_used(), Some(last));
}

/// The process does not end here, so another one sees the use only after a while. This is the one slow test.
pub async fn a_use_is_written_within_a_minute<F: Durable>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let other = F::open(&fixture.place()).await.unwrap();
    let key = issue(fixture.store()).await;
    assert_eq!(Gate::of(fixture.store()).get(&key).await, 200);
    let begin = Instant::now();
    while other.show(key.record.id()).await.unwrap().last_used().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A change creates a new record from the database, while the use is still only in memory.
pub async fn a_use_is_not_lost_by_a_change<F: Durable>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let other = F::open(&fixture.place()).await.unwrap();
    let (here, there, by_settings) =
        (issue(fixture.store()).await, issue(fixture.store()).await, issue(fixture.store()).await);
    let gate = Gate::of(fixture.store());
    for key in [&here, &there, &by_settings] {
        assert_eq!(gate.get(key).await, 200);
    }
    fixture.store().as_actor("test").rename(here.record.id(), "renamed here").await.unwrap();
    other.as_actor("test").set_grant(there.record.id(), Grant::default()).await.unwrap();
    assert_eq!(status_within(&gate, there.api_key.expose(), 403).await, 403);
    // New settings make the store read everything again.
    other.as_actor("test").set_settings(StoreSettings::new().with_networks_required_for(["ledger"])).await.unwrap();
    other.as_actor("test").set_grant(by_settings.record.id(), Grant::default()).await.unwrap();
    assert_eq!(status_within(&gate, by_settings.api_key.expose(), 403).await, 403);
    drop((gate, other));
    let fixture = fixture.reopen().await;
    for key in [here, there, by_settings] {
        let record = fixture.store().show(key.record.id()).await.unwrap();
        assert!(record.last_used().is_some(), "the use of {} is lost", record.name());
    }
}

/// Returns the expected status as soon as it is reached, or the current one after the guaranteed time.
async fn status_within(gate: &Gate, key: &str, expected: u16) -> u16 {
    let begin = Instant::now();
    loop {
        let status = gate.ask(Method::GET, "de", key).await;
        if status == expected || begin.elapsed() > IN_FORCE_WITHIN {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn a_change_through_another_handle_is_in_force_within_a_second<F: Durable>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let other = F::open(&fixture.place()).await.unwrap();
    let (gate, anna) = (Gate::of(fixture.store()), other.as_actor("anna"));
    let key = issue(&other).await;
    let secret = key.api_key.expose();
    assert_eq!(status_within(&gate, secret, 200).await, 200, "issued");
    anna.set_grant(key.record.id(), Grant::default()).await.unwrap();
    assert_eq!(status_within(&gate, secret, 403).await, 403, "nothing granted");
    anna.set_grant(key.record.id(), Grant::builder().read("products").only("company", [1]).build().unwrap())
        .await
        .unwrap();
    let directory = |company| Directory::builder().shop("de", Some(company)).build().unwrap();
    anna.set_settings(StoreSettings::new().with_directory(directory("1"))).await.unwrap();
    assert_eq!(status_within(&gate, secret, 200).await, 200, "the shop is of the right company");
    anna.set_settings(StoreSettings::new().with_directory(directory("2"))).await.unwrap();
    assert_eq!(status_within(&gate, secret, 403).await, 403, "the shop is of another company");
    anna.revoke(key.record.id(), "lost").await.unwrap();
    assert_eq!(status_within(&gate, secret, 401).await, 401, "revoked");
    let deleted = issue(&other).await;
    assert_eq!(status_within(&gate, deleted.api_key.expose(), 200).await, 200);
    anna.delete(deleted.record.id()).await.unwrap();
    assert_eq!(status_within(&gate, deleted.api_key.expose(), 401).await, 401, "deleted");
    // A change by this handle takes all changes of the other one into account at once.
    let last = issue(&other).await;
    anna.rename(last.record.id(), "by the other").await.unwrap();
    let renamed = fixture.store().as_actor("here").rename(last.record.id(), "here").await.unwrap().record.unwrap();
    assert_eq!(renamed.version(), 3);
    let dead = issue(&other).await;
    assert_eq!(status_within(&gate, dead.api_key.expose(), 200).await, 200);
    anna.revoke(dead.record.id(), "by the other").await.unwrap();
    fixture.store().as_actor("here").revoke(dead.record.id(), "here").await.unwrap();
    assert_eq!(gate.get(&dead).await, 401, "revoke has returned, whoever did it");
    assert_eq!(gate.get(&last).await, 200);
}

pub async fn a_role_through_another_handle_is_in_force_within_a_second<F: Durable>() {
    let role = |resource: &'static str| Grant::builder().read(resource).build().unwrap();
    let fixture = F::fresh(StoreSettings::new().with_role("r", role("products"))).await;
    let other = F::open(&fixture.place()).await.unwrap();
    let gate = Gate::of(fixture.store());
    let new = NewKey::new("k", Grant::default()).roles(["r"]);
    let key = other.as_actor("anna").issue(new).await.unwrap();
    assert_eq!(status_within(&gate, key.api_key.expose(), 200).await, 200, "issued");
    let waiting = crate::stores::in_flight(fixture.store(), &key).await;
    other.as_actor("anna").set_role("r", role("orders")).await.unwrap();
    assert_eq!(status_within(&gate, key.api_key.expose(), 403).await, 403, "narrowed");
    assert!(waiting.ensure_live().await.is_err());
    other.as_actor("anna").set_role("r", role("products")).await.unwrap();
    assert_eq!(status_within(&gate, key.api_key.expose(), 200).await, 200, "and back");
}

pub async fn a_hierarchy_through_another_handle_is_in_force_within_a_second<F: Durable>() {
    let fixture = F::fresh(hierarchies::settings(hierarchies::levels())).await;
    let other = F::open(&fixture.place()).await.unwrap();
    hierarchies::is_published(&other, fixture.store()).await;
    let expected = other.settings().await.unwrap().to_json().unwrap();
    drop(other);
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store().settings().await.unwrap().to_json().unwrap(), expected);
}

/// An id or a digest that was released may be reused together with another one, and both changes arrive at once. The
/// old record must not remain, and the new one must not be lost.
pub async fn ids_and_digests_that_change_hands_are_told_apart<F: Durable>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let other = F::open(&fixture.place()).await.unwrap();
    let (gate, by) = (Gate::of(fixture.store()), other.as_actor("test"));
    for round in 0..10 {
        let (gone, stays) = (issue(&other).await, issue(&other).await);
        for key in [&gone, &stays] {
            assert_eq!(status_within(&gate, key.api_key.expose(), 200).await, 200);
        }
        let grant = || Grant::builder().read("products").build().unwrap();
        // Another key gets the id of a deleted one.
        let id = gone.record.id();
        let new = KeyRecord::builder(id.clone(), Digest::from_key(&[id.as_str().as_bytes(), b" key"].concat()))
            .grant(grant())
            .build();
        by.delete(id).await.unwrap();
        by.import([new]).await.unwrap();
        // The same key gets another id, which sorts before or after the old one.
        let id = if round % 2 == 0 { format!("A{round}") } else { format!("z{round}") };
        let moved = KeyRecord::builder(id.parse().unwrap(), *stays.record.digest()).grant(grant()).build();
        by.delete(stays.record.id()).await.unwrap();
        by.import([moved]).await.unwrap();
        assert_eq!(status_within(&gate, gone.api_key.expose(), 401).await, 401, "deleted, round {round}");
        assert_eq!(gate.get(&stays).await, 200, "it goes on, round {round}");
    }
}

pub async fn a_change_by_another_process_is_in_force_within_a_second<F: Durable>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let gate = Gate::of(fixture.store());
    let key = issue(fixture.store()).await;
    let (id, secret) = (key.record.id(), key.api_key.expose());
    let mut child = Process::start::<F>(&fixture.place());
    assert_eq!(child.ask(&format!("get {secret}")), "200");
    for (change, status) in [
        (format!("grant {id} orders"), 403),
        (format!("grant {id} products"), 200),
        ("settings 7".to_owned(), 200),
        (format!("rename {id} by-another-process"), 200),
        (format!("revoke {id} lost"), 401),
    ] {
        assert_eq!(child.ask(&change), "done");
        assert_eq!(status_within(&gate, secret, status).await, status, "{change}");
    }
    let issued = child.ask("issue elsewhere");
    let [_, new, secret] = issued.split(' ').collect::<Vec<_>>()[..] else { panic!("{issued}") };
    assert_eq!(status_within(&gate, secret, 200).await, 200);
    assert_eq!(child.ask(&format!("delete {new}")), "done");
    assert_eq!(status_within(&gate, secret, 401).await, 401);
    // Changes also reach the child process from here.
    let back = issue(fixture.store()).await;
    let begin = Instant::now();
    while child.ask(&format!("get {}", back.api_key.expose())) != "200" {
        assert!(begin.elapsed() < IN_FORCE_WITHIN);
    }
    child.end();
    assert_eq!(fixture.store().directory().company_of("de"), Some("7"));
    let record = fixture.store().show(id).await.unwrap();
    assert_eq!((record.name(), record.revocation_reason()), ("by-another-process", Some("lost")));
}

pub async fn two_processes_that_change_one_key_lose_nothing<F: Durable>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let key = issue(store).await;
    let id = key.record.id();
    let mut child = Process::start::<F>(&fixture.place());
    for round in 0..30 {
        child.tell(&format!("rename {id} child-{round}"));
    }
    for round in 0..30 {
        store.as_actor("parent").rename(id, format!("parent-{round}")).await.unwrap();
    }
    for _ in 0..30 {
        assert_eq!(child.next().as_deref(), Some("done"));
    }
    child.end();
    assert_eq!(store.show(id).await.unwrap().version(), 61);
    let changes = audit(store).await;
    assert_eq!(changes.len(), 61);
    for pair in changes.windows(2) {
        assert_eq!(pair[0].after, pair[1].before);
    }
}

/// The changes that a process acknowledged before it was killed.
#[derive(Default)]
struct Acknowledged {
    issued: BTreeSet<String>,
    revoked: BTreeSet<String>,
    deleted: BTreeSet<String>,
    changes: usize,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        match &words[..] {
            [verb, key] if verb == "issued" => self.issued.insert(key.clone()),
            [verb, key] if verb == "revoked" => self.revoked.insert(key.clone()),
            [verb, key] if verb == "deleted" => self.deleted.insert(key.clone()),
            [verb, _, new] if verb == "rotated" => self.issued.insert(new.clone()),
            _ => panic!("{line}"),
        };
        self.changes += 1;
    }
}

pub async fn killed_at_any_moment_it_comes_back_whole<F: Durable>() {
    const ROUNDS: u64 = 8;
    let fixture = F::fresh(StoreSettings::new()).await;
    let place = fixture.place();
    let mut known = Acknowledged::default();
    let seed = u64::from(std::process::id()) | 1;
    let mut dice = Dice(seed);
    for round in 1..=ROUNDS {
        let mut child = Process::start::<F>(&place);
        child.tell(&format!("churn {}", seed + round));
        let enough = 1000 * round / ROUNDS;
        while known.changes < enough as usize {
            known.note(&child.next().unwrap());
        }
        // The kill falls anywhere in the next few changes, and not right after an acknowledgement.
        std::thread::sleep(Duration::from_micros(dice.roll(20_000)));
        let begun = known.changes;
        child.kill().iter().for_each(|line| known.note(line));
        assert!(known.changes >= begun);

        F::assert_sound(&place).await;
        let store = F::open(&place).await.unwrap();
        check(&known, round, &all(&store).await, &audit(&store).await, seed);
    }
    assert!(known.changes >= 1000);
    // The handle that stayed open has received every change.
    let store = fixture.store();
    check(&known, ROUNDS, &all(store).await, &audit(store).await, seed);
}

fn check(
    known: &Acknowledged,
    kills: u64,
    records: &[std::sync::Arc<KeyRecord>],
    changes: &[tower_authz::store::AuditRecord],
    seed: u64,
) {
    let records: BTreeMap<&str, &KeyRecord> = records.iter().map(|it| (it.id().as_str(), &**it)).collect();
    let of = |action: Action| -> BTreeMap<&str, Option<&str>> {
        let of_action = changes.iter().filter(|change| change.action == action);
        of_action.map(|change| (change.key.as_ref().unwrap().as_str(), change.note.as_deref())).collect()
    };
    let (issued, revoked, deleted) = (of(Action::Issued), of(Action::Revoked), of(Action::Deleted));

    // Every acknowledged change is present.
    let missing = |wanted: &BTreeSet<String>, found: &BTreeMap<&str, Option<&str>>| {
        let missing: Vec<_> = wanted.iter().filter(|key| !found.contains_key(&***key)).cloned().collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?} (seed {seed})");
    };
    missing(&known.issued, &issued);
    missing(&known.revoked, &revoked);
    missing(&known.deleted, &deleted);

    // No change is incomplete: keys and audit records agree.
    for key in issued.keys() {
        assert_ne!(records.contains_key(key), deleted.contains_key(key), "{key} (seed {seed})");
    }
    for (key, record) in &records {
        assert!(issued.contains_key(key), "{key} has no audit record (seed {seed})");
        let reason = format!("reason of {key}");
        assert_eq!(record.revoked_at().is_some(), revoked.contains_key(key), "{key} (seed {seed})");
        if record.revoked_at().is_some() {
            assert_eq!((record.revocation_reason(), revoked[key]), (Some(&*reason), Some(&*reason)));
        }
    }
    // A rotation writes two audit records, one for each key.
    let rotated = changes.iter().filter(|change| change.action == Action::Rotated);
    // It writes a third record if it also ends the key before the old one.
    let mut thirds = 0;
    let old: BTreeSet<_> = rotated
        .map(|change| change.note.clone().unwrap())
        .filter(|note| {
            note.ends_with(" takes its place") || {
                thirds += 1;
                false
            }
        })
        .collect();
    let new = issued.iter().filter(|(_, note)| note.is_some());
    assert_eq!(old, new.map(|(key, _)| format!("{key} takes its place")).collect(), "seed {seed}");

    // Any further change was in progress when the process was killed: at most one for each kill.
    let rotations = old.len();
    let done = changes.len() - rotations - thirds;
    assert!(done >= known.changes && done <= known.changes + kills as usize, "{done}, {} (seed {seed})", known.changes);
}
