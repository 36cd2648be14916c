//! Tests actors that are bound to a ceiling: what they may hand out, and what they see.

use std::{sync::Arc, time::Duration};

use http::Request;
use tower_authz::{
    Alphabet, Check as _, ClientAddress, Digest, Dimension, Directory, Grant, Head, IdGrammar, KeyFormat, KeyId,
    KeyRecord, Policy, Principal, Rule,
    check::EntityRef,
    store::{
        Action, Ceiling, KeyAdmin, NewKey, Overlap, StoreError,
        StoreErrorKind::{self, Forbidden, NotFound},
        StoreSettings,
    },
};

use crate::stores::{Dice, Fixture, all, audit, changes::refused, in_seconds, issue};

const PROJECT: Dimension = Dimension::new("project", IdGrammar::Opaque);

fn grant() -> Grant {
    Grant::builder()
        .write("products")
        .read("orders")
        .only("shop", ["de", "ch"])
        .except(PROJECT, ["Apollo"])
        .from_networks(["10.0.0.0/9", "10.128.0.0/9"])
        .from_origins(["https://a.example"])
        .build()
        .unwrap()
}

async fn fresh<F: Fixture>() -> F {
    F::fresh(StoreSettings::new().with_dimension(PROJECT).with_networks_required_for(["ledger"])).await
}

/// The key that bounds the actors of these tests: an admin of a tenant that ends in an hour.
async fn ceiling(store: &impl KeyAdmin) -> Arc<KeyRecord> {
    let new = NewKey::new("ceiling", grant()).kind("admin").tenant("acme").expires_at(in_seconds(3600));
    store.as_actor("root").issue(new).await.unwrap().record
}

fn within(grant: Grant) -> NewKey {
    NewKey::new("k", grant).tenant("acme").expires_at(in_seconds(600))
}

/// Every grant that is wider than that of the ceiling in one part, and what the error calls the part.
fn wider() -> Vec<(Grant, &'static str)> {
    let amended = [
        (grant().to_builder().write("orders"), "the permission orders:write"),
        (grant().to_builder().read("customers"), "the permission customers:read"),
        (grant().to_builder().only("shop", ["de", "us"]), "what the key would reach of shop"),
        (grant().to_builder().except("shop", ["us"]), "what the key would reach of shop"),
        (grant().to_builder().without_restriction("shop"), "what the key would reach of shop"),
        (grant().to_builder().only(PROJECT, ["Apollo"]), "what the key would reach of project"),
        (grant().to_builder().except(PROJECT, ["Gemini"]), "what the key would reach of project"),
        (grant().to_builder().without_restriction(PROJECT), "what the key would reach of project"),
        (grant().to_builder().from_networks(["10.0.0.0/7"]), "the list of networks"),
        (grant().to_builder().from_anywhere(), "the list of networks"),
        (grant().to_builder().from_origins(["https://b.example"]), "the list of origins"),
    ];
    amended.into_iter().map(|(builder, what)| (builder.build().unwrap(), what)).collect()
}

fn narrower() -> Vec<Grant> {
    [
        grant().to_builder(),
        grant().to_builder().read("products").without_permission("orders"),
        grant().to_builder().only("shop", ["de"]).only("company", [1]),
        grant().to_builder().only(PROJECT, ["Gemini"]),
        grant().to_builder().except(PROJECT, ["Apollo", "Gemini"]),
        grant().to_builder().from_networks(["10.0.0.0/8"]).without_origins(),
    ]
    .map(|builder| builder.build().unwrap())
    .into()
}

pub async fn nothing_is_handed_out_beyond_a_ceiling<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let own = ceiling(store).await;
    let anna = store.as_actor("anna").within(&*own);
    let key = anna.issue(within(grant())).await.unwrap().record;
    let id = key.id();
    let imported = |name: &str, grant: Grant| {
        KeyRecord::builder(name.parse().unwrap(), Digest::from_key(format!("the secret of {name}").as_bytes()))
            .tenant("acme".to_owned())
            .expires_at(in_seconds(600))
            .grant(grant)
            .build()
    };
    for (number, grant) in narrower().into_iter().enumerate() {
        anna.issue(within(grant.clone())).await.unwrap();
        anna.set_grant(id, grant.clone()).await.unwrap();
        let record = imported(&format!("imported-{number}"), grant);
        assert_eq!(anna.import([record]).await.unwrap().added, 1);
    }
    anna.set_grant(id, grant()).await.unwrap();
    let before = (all(store).await, audit(store).await);
    for (grant, what) in wider() {
        refused(anna.issue(within(grant.clone())).await, Forbidden, what);
        refused(anna.set_grant(id, grant.clone()).await, Forbidden, what);
        let same = grant.clone();
        refused(anna.change_grant(id, move |_| Ok(same)).await, Forbidden, what);
        let good = imported("good", self::grant());
        let bad = imported("bad", grant);
        refused(anna.import([good, bad]).await, Forbidden, what);
    }
    let new = || NewKey::new("k", grant());
    let end = in_seconds(600);
    for (new, what) in [
        (new().expires_at(end), "a key without tenant"),
        (new().expires_at(end).tenant("other"), "the tenant other"),
        (new().expires_at(end).tenant("acme").kind("runtime"), "the kind runtime"),
        (new().expires_at(in_seconds(7200)).tenant("acme"), "the end of the key"),
        (new().tenant("acme"), "a key without an end"),
    ] {
        refused(anna.issue(new).await, Forbidden, what);
    }
    assert_eq!((all(store).await, audit(store).await), before, "nothing was changed");
    anna.issue(within(grant()).kind("admin")).await.unwrap();
    anna.issue(NewKey::new("k", grant()).tenant("acme").expires_at(own.expires_at().unwrap())).await.unwrap();
    let runtime = within(grant()).kind("runtime");
    store.as_actor("anna").within(Ceiling::from(&*own).kind("runtime")).issue(runtime).await.unwrap();
}

/// The error is that for a key which does not exist, whatever the state of the key is and whatever is asked.
pub async fn what_is_beyond_a_ceiling_is_unknown<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let root = store.as_actor("root");
    let own = ceiling(store).await;
    let anna = store.as_actor("anna").within(own.id().clone());
    let mut beyond = vec![issue(store).await.record.id().clone()];
    for new in [
        within(grant().to_builder().write("orders").build().unwrap()),
        within(grant()).kind("runtime"),
        within(grant()).tenant("other"),
    ] {
        beyond.push(root.issue(new).await.unwrap().record.id().clone());
    }
    let dead = issue(store).await;
    root.revoke(dead.record.id(), "").await.unwrap();
    beyond.push(dead.record.id().clone());
    beyond.push("key_nobody".parse().unwrap());
    let before = (all(store).await, audit(store).await);
    for id in &beyond {
        let unknown = format!("there is no key {id}");
        refused(anna.rename(id, "n").await, NotFound, &unknown);
        refused(anna.set_grant(id, Grant::default()).await, NotFound, &unknown);
        refused(anna.rotate(id, Overlap::UntilRevoked).await, NotFound, &unknown);
        refused(anna.revoke(id, "").await, NotFound, &unknown);
        refused(anna.delete(id).await, NotFound, &unknown);
    }
    assert_eq!((all(store).await, audit(store).await), before);
    // What is within is changed and taken back as by anybody, the ceiling itself included.
    let key = anna.issue(within(grant())).await.unwrap().record;
    anna.rename(key.id(), "n").await.unwrap();
    let next = anna.rotate(key.id(), Overlap::For(Duration::from_secs(60))).await.unwrap().record;
    assert_eq!(next.grant(), key.grant());
    anna.revoke(next.id(), "").await.unwrap();
    anna.delete(key.id()).await.unwrap();
    anna.revoke(own.id(), "").await.unwrap();
    refused(anna.issue(within(grant())).await, Forbidden, "the key that bounds this actor is revoked");
}

/// A key that was given a longer end by somebody else can be narrowed and revoked, but gets no successor.
pub async fn a_key_does_not_outlive_its_ceiling<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let own = ceiling(store).await;
    let anna = store.as_actor("anna").within(&*own);
    for new in [NewKey::new("k", grant()).tenant("acme"), within(grant()).expires_at(in_seconds(7200))] {
        let key = store.as_actor("root").issue(new).await.unwrap().record;
        let error = anna.rotate(key.id(), Overlap::UntilRevoked).await.unwrap_err();
        assert_eq!(error.kind(), Forbidden, "{error}");
        anna.set_grant(key.id(), narrower().swap_remove(1)).await.unwrap();
        anna.rename(key.id(), "n").await.unwrap();
        anna.revoke(key.id(), "").await.unwrap();
    }
    let soon = store.as_actor("anna").within(Ceiling::from(&*own).expires_at(in_seconds(60)));
    refused(soon.issue(within(grant())).await, Forbidden, "the end of the key");
    soon.issue(within(grant()).expires_at(in_seconds(30))).await.unwrap();
}

pub async fn a_ceiling_is_read_with_each_change<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let root = store.as_actor("root");
    let gone = "the key that bounds this actor";
    let attempt = async |own: &KeyRecord, message: &str| {
        let key = root.issue(within(grant())).await.unwrap().record;
        for ceiling in [Ceiling::from(own), Ceiling::from_key(own.id().clone())] {
            let anna = store.as_actor("anna").within(ceiling);
            refused(anna.issue(within(grant())).await, Forbidden, message);
            refused(anna.rename(key.id(), "n").await, Forbidden, message);
            refused(anna.revoke(key.id(), "").await, Forbidden, message);
        }
    };
    let revoked = ceiling(store).await;
    root.revoke(revoked.id(), "").await.unwrap();
    attempt(&revoked, &format!("{gone} is revoked")).await;
    let deleted = ceiling(store).await;
    root.delete(deleted.id()).await.unwrap();
    attempt(&deleted, &format!("{gone} does not exist any more")).await;
    for (new, status) in [
        (within(grant()).expires_at(in_seconds(-1)), "is expired"),
        (within(grant()).not_before(in_seconds(60)), "is not-yet-valid"),
    ] {
        let own = root.issue(new).await.unwrap().record;
        attempt(&own, &format!("{gone} {status}")).await;
    }
    // A key that has the id of the ceiling is not the ceiling.
    let id: KeyId = "key_again".parse().unwrap();
    let record = |secret: &[u8]| {
        let record = KeyRecord::builder(id.clone(), Digest::from_key(secret)).tenant("acme".to_owned());
        record.grant(grant()).build()
    };
    root.import([record(b"one")]).await.unwrap();
    let anna = store.as_actor("anna").within(&record(b"one"));
    anna.issue(within(grant())).await.unwrap();
    root.delete(&id).await.unwrap();
    root.import([record(b"another")]).await.unwrap();
    refused(anna.issue(within(grant())).await, Forbidden, "does not exist any more");
    // A ceiling that is narrowed bounds what is issued, and what is seen, from then on.
    let own = ceiling(store).await;
    let anna = store.as_actor("anna").within(&*own);
    let key = anna.issue(within(grant())).await.unwrap().record;
    let less = own.grant().to_builder().only("shop", ["de"]).build().unwrap();
    root.set_grant(own.id(), less.clone()).await.unwrap();
    refused(anna.issue(within(grant())).await, Forbidden, "what the key would reach of shop");
    refused(anna.revoke(key.id(), "").await, NotFound, "there is no key");
    refused(anna.set_grant(own.id(), grant()).await, Forbidden, "what the key would reach of shop");
    anna.issue(within(less)).await.unwrap();
    // Of a ceiling that belongs to one tenant, nothing is of another.
    let other = store.as_actor("anna").within(Ceiling::from(&*own).tenant("other"));
    refused(other.issue(within(grant())).await, Forbidden, "another tenant");
}

/// Whatever comes after the revocation of a ceiling in the log of the store, it is not by the actor that it bound.
pub async fn a_ceiling_that_is_revoked_meanwhile_admits_nothing<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let own = ceiling(store).await;
    let tasks = [(); 3].map(|()| {
        let (store, own) = (store.clone(), own.clone());
        tokio::spawn(async move {
            let anna = store.as_actor("anna").within(&*own);
            for issued in 0..10_000 {
                if let Err(error) = anna.issue(within(grant())).await {
                    assert_eq!(error.kind(), Forbidden, "{error}");
                    return issued;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            panic!("the ceiling was never revoked")
        })
    });
    while all(store).await.len() < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.as_actor("root").revoke(own.id(), "").await.unwrap();
    let mut issued = 0;
    for task in tasks {
        issued += task.await.unwrap();
    }
    let log = audit(store).await;
    let end = log.iter().find(|audit| audit.action == Action::Revoked).unwrap().number;
    let theirs: Vec<u64> = log.iter().filter(|audit| audit.by == "anna").map(|audit| audit.number).collect();
    assert!(theirs.len() == issued && issued >= 7 && theirs.iter().all(|number| *number < end));
}

pub async fn a_bound_actor_changes_single_keys_only<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let own = ceiling(store).await;
    let before = (all(store).await, audit(store).await);
    for ceiling in [Ceiling::from(&*own), Ceiling::from(grant())] {
        let anna = store.as_actor("anna").within(ceiling);
        let message = "may only change single keys";
        refused(anna.purge(in_seconds(0)).await, Forbidden, message);
        refused(anna.prune_audit(in_seconds(-86_400)).await, Forbidden, message);
        refused(anna.set_settings(StoreSettings::new()).await, Forbidden, message);
        refused(anna.change_settings(|old| Ok(old.clone())).await, Forbidden, message);
    }
    assert_eq!((all(store).await, audit(store).await), before);
}

pub async fn a_grant_and_several_ceilings_bound_too<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let own = ceiling(store).await;
    let signed_in = || Ceiling::from_grant(grant()).tenant("acme").kind("admin").expires_at(in_seconds(3600));
    let anna = store.as_actor("anna").within(signed_in());
    anna.issue(within(grant()).kind("admin")).await.unwrap();
    for (grant, what) in wider() {
        refused(anna.issue(within(grant)).await, Forbidden, what);
    }
    refused(anna.issue(NewKey::new("k", grant()).tenant("acme")).await, Forbidden, "a key without an end");
    refused(anna.issue(within(grant()).kind("runtime")).await, Forbidden, "the kind runtime");
    refused(anna.issue(within(grant()).tenant("other")).await, Forbidden, "the tenant other");
    let plain = store.as_actor("anna").within(grant());
    plain.issue(NewKey::new("k", grant())).await.unwrap();
    refused(plain.issue(within(grant())).await, Forbidden, "the tenant acme");
    // A second ceiling never takes the place of the first one.
    let less = grant().to_builder().only("shop", ["de"]).build().unwrap();
    let everything = Grant::builder().write("products").write("orders").write("customers").build().unwrap();
    for both in [
        store.as_actor("anna").within(&*own).within(Ceiling::from(less.clone()).tenant("acme")),
        store.as_actor("anna").within(Ceiling::from(less.clone()).tenant("acme")).within(&*own),
    ] {
        refused(both.issue(within(grant())).await, Forbidden, "what the key would reach of shop");
        both.issue(within(less.clone())).await.unwrap();
    }
    let wide = store.as_actor("anna").within(&*own).within(Ceiling::from(everything).tenant("acme"));
    refused(wide.issue(within(wider().swap_remove(1).0)).await, Forbidden, "the permission customers:read");
    // A rule that demands networks would refuse a ceiling without any, so it hands out nothing for there.
    let ledger = Grant::builder().write("ledger").build().unwrap();
    let open = store.as_actor("anna").within(ledger.clone());
    open.issue(NewKey::new("k", ledger.clone())).await.unwrap();
    let confined = ledger.to_builder().from_networks(["10.0.0.0/8"]).build().unwrap();
    refused(open.issue(NewKey::new("k", confined.clone())).await, Forbidden, "the resource ledger");
    store.as_actor("anna").within(confined.clone()).issue(NewKey::new("k", confined)).await.unwrap();
}

/// Of 65,536 ids, 8,000 are taken: a bound actor draws another one as anybody does.
pub async fn a_bound_actor_gets_a_free_id<F: Fixture>() {
    let tiny = KeyFormat::structured("t").public_id(Alphabet::LowerHex, 4).build().unwrap();
    let fixture = F::fresh(tiny.into()).await;
    let store = fixture.store();
    let taken = (0..8000).map(|number: u32| {
        KeyRecord::builder(format!("t_{number:04x}").parse().unwrap(), Digest::from_key(&number.to_be_bytes())).build()
    });
    assert_eq!(store.as_actor("root").import(taken).await.unwrap().added, 8000);
    let anna = store.as_actor("anna").within(Grant::default());
    for _ in 0..40 {
        let key = anna.issue(NewKey::new("k", Grant::default())).await.unwrap().record;
        anna.rotate(key.id(), Overlap::UntilRevoked).await.unwrap();
    }
    assert_eq!(all(store).await.len(), 8080);
}

/// What a key may do, asked of rules of several kinds.
fn admissions(record: &KeyRecord) -> Vec<bool> {
    let directory = Directory::builder().shop("de", Some("1")).shop("ch", Some("1")).shop("us", Some("2")).build();
    let directory = directory.unwrap();
    let rules = |resource| {
        let of = |over: Dimension| {
            let name = over.name().to_owned();
            EntityRef::from_path(over, name)
        };
        [
            Rule::resource(resource),
            Rule::resource(resource).unscoped(),
            Rule::resource(resource).scoped(of(Dimension::SHOP)),
            Rule::resource(resource).scoped(of(Dimension::COMPANY)).unscoped(),
            Rule::resource(resource).scoped(of(Dimension::SHOP)).scoped(of(PROJECT)),
        ]
    };
    let mut answers = Vec::new();
    let record = Arc::new(record.clone());
    for rule in ["products", "orders"].into_iter().flat_map(rules) {
        let policy = Policy::builder().route("/{shop}/{company}/{project}", rule).build().unwrap();
        for (method, shop) in ["GET", "PUT"].iter().flat_map(|method| ["de", "ch", "us"].map(|shop| (*method, shop))) {
            for (company, project) in [("1", "Apollo"), ("2", "Gemini"), ("3", "Mercury")] {
                for address in ["10.0.0.1", "10.200.0.1", "192.0.2.1"] {
                    let request = Request::builder().method(method).uri(format!("/{shop}/{company}/{project}"));
                    let mut request = request.body(()).unwrap();
                    let address: std::net::IpAddr = address.parse().unwrap();
                    let address = ClientAddress::from(address);
                    let principal = Principal::new(Arc::clone(&record), directory.clone(), address);
                    request.extensions_mut().insert(principal);
                    answers.push(policy.evaluate(&Head::new(&request)).is_ok());
                }
            }
        }
    }
    answers
}

fn random_grant(dice: &mut Dice) -> Grant {
    let mut grant = Grant::builder();
    for resource in ["products", "orders"] {
        grant = match dice.roll(3) {
            0 => grant.read(resource),
            1 => grant.write(resource),
            _ => grant,
        };
    }
    for (over, ids) in [
        (Dimension::SHOP, ["de", "ch", "us"]),
        (Dimension::COMPANY, ["1", "2", "3"]),
        (PROJECT, ["Apollo", "Gemini", "Mercury"]),
    ] {
        let listed: Vec<&str> = ids.into_iter().filter(|_| dice.roll(2) == 0).collect();
        grant = match dice.roll(3) {
            0 => grant.only(over, listed),
            1 => grant.except(over, listed),
            _ => grant,
        };
    }
    match dice.roll(3) {
        0 => grant.from_networks([dice.pick(&["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "192.0.2.0/24"])]),
        1 => grant.from_networks(["10.0.0.0/9", "10.128.0.0/9"]),
        _ => grant,
    }
    .build()
    .unwrap()
}

/// A grant that is often a part of the other one.
fn likely_grant(dice: &mut Dice, of: &Grant) -> Grant {
    match dice.roll(4) {
        0 => random_grant(dice),
        1 => of.clone(),
        2 => of
            .permissions()
            .iter()
            .fold(of.to_builder(), |less, held| less.read(held.resource().to_owned()))
            .build()
            .unwrap(),
        _ if of.restriction(&Dimension::COMPANY).is_none() => of.to_builder().only("company", [1]).build().unwrap(),
        _ => of.to_builder().from_networks(["10.0.0.0/9"]).build().unwrap(),
    }
}

/// Random sequences of calls of a bound actor, between which others change the ceiling: no key comes of them that may do
/// what the ceiling may not, and no key that is beyond is touched.
pub async fn no_sequence_of_changes_leads_beyond_a_ceiling<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let store = fixture.store();
    let root = store.as_actor("root");
    let (mut done, mut forbidden, mut unknown) = (0, 0, 0);
    for seed in 1..=6 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let tenant = dice.pick(&[None, Some("acme")]);
        let mut new = NewKey::new("ceiling", random_grant(&mut dice)).kind("admin");
        new = tenant.into_iter().fold(new, NewKey::tenant);
        new = if dice.roll(2) == 0 { new.expires_at(in_seconds(3600)) } else { new };
        let own = root.issue(new).await.unwrap().record;
        let anna = store.as_actor("anna").within(&*own);
        for round in 0..25 {
            let ceiling = store.show(own.id()).await.unwrap();
            let before = all(store).await;
            let target = before[dice.roll(before.len() as u64) as usize].id().clone();
            let grant = likely_grant(&mut dice, ceiling.grant());
            let end = dice.pick(&[None, Some(60), Some(3000), Some(7200)]).map(in_seconds);
            let kind = dice.pick(&[None, Some("admin"), Some("runtime")]);
            let tenant = dice.pick(&[tenant, tenant, Some("other")]);
            let outcome: Result<(), StoreError> = match dice.roll(9) {
                0..=2 => {
                    let new = kind.into_iter().fold(NewKey::new("k", grant), NewKey::kind);
                    let new = tenant.into_iter().fold(new, NewKey::tenant);
                    anna.issue(end.into_iter().fold(new, NewKey::expires_at)).await.map(drop)
                }
                3 => {
                    let id = format!("i-{seed}-{round}");
                    let record = KeyRecord::builder(
                        id.parse().unwrap(),
                        Digest::from_key(format!("the secret of {id}").as_bytes()),
                    );
                    let record = record.kind(kind.map(str::to_owned)).tenant(tenant.map(str::to_owned));
                    anna.import([record.expires_at(end).grant(grant).build()]).await.map(drop)
                }
                4 => anna.set_grant(&target, grant).await.map(drop),
                5 => {
                    let more = |old: &Grant| old.to_builder().write("products").from_anywhere().build();
                    anna.change_grant(&target, more).await.map(drop)
                }
                6 => anna.rotate(&target, Overlap::For(Duration::from_secs(60))).await.map(drop),
                7 => anna.rename(&target, format!("{round}")).await.map(drop),
                _ => match dice.roll(2) {
                    0 => anna.revoke(&target, "").await.map(drop),
                    _ => anna.delete(&target).await.map(drop),
                },
            };
            match outcome {
                Ok(()) => done += 1,
                Err(error) if error.kind() == Forbidden => forbidden += 1,
                Err(error) if error.kind() == NotFound => unknown += 1,
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}"),
            }
            assert_within(&ceiling, &before, &all(store).await);
            if store.show(own.id()).await.is_err() {
                break; // the actor has deleted its own key
            }
            if dice.roll(8) == 0 {
                let other = likely_grant(&mut dice, ceiling.grant());
                let _ = root.set_grant(own.id(), other).await;
            }
        }
    }
    assert!(done > 20 && forbidden > 15 && unknown > 5, "{done} {forbidden} {unknown}");
}

/// Whatever differs between two states of the store was, and is, within the ceiling.
fn assert_within(ceiling: &KeyRecord, before: &[Arc<KeyRecord>], after: &[Arc<KeyRecord>]) {
    let may = admissions(ceiling);
    let belongs = |record: &KeyRecord| {
        let mut both = admissions(record).into_iter().zip(&may);
        both.all(|(admitted, limit)| *limit || !admitted)
            && record.tenant() == ceiling.tenant()
            && record.kind().is_none_or(|kind| Some(kind) == ceiling.kind())
    };
    let find = |records: &[Arc<KeyRecord>], id: &KeyId| records.iter().find(|record| record.id() == id).cloned();
    for new in after {
        let old = find(before, new.id());
        if old.as_ref() != Some(new) {
            assert!(belongs(new), "{new:?} is not within {ceiling:?}");
            let never = in_seconds(1_000_000);
            let end = |record: &KeyRecord| record.expires_at().unwrap_or(never);
            assert!(
                end(new) <= end(ceiling).max(old.as_deref().map_or(end(ceiling), end)),
                "{new:?} outlives {ceiling:?}"
            );
            assert!(old.as_deref().is_none_or(belongs), "{old:?} was not within {ceiling:?}");
        }
    }
    for old in before {
        assert!(find(after, old.id()).is_some() || belongs(old), "{old:?} was not within {ceiling:?}");
    }
}
