//! Tests actors that are bound to a ceiling: what they may hand out, and what they see.

use std::{sync::Arc, time::Duration};

use tower_authz::{
    Alphabet, Digest, Dimension, Grant, IdGrammar, KeyFormat, KeyId, KeyRecord,
    store::{
        Action, Ceiling, KeyAdmin, NewKey, Overlap, Rotation,
        StoreErrorKind::{Forbidden, NotFound},
        StoreSettings,
    },
};

use crate::stores::{Fixture, all, audit, changes::refused, in_seconds, issue};

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
    // Nor is such a key changed on the way: the one before the key that is rotated would end.
    let wide = within(grant().to_builder().write("orders").build().unwrap());
    let first = root.issue(wide).await.unwrap().record;
    let second = root.rotate(first.id(), Overlap::UntilRevoked).await.unwrap().record;
    root.set_grant(second.id(), grant()).await.unwrap();
    let error = anna.rotate(second.id(), Overlap::UntilRevoked).await;
    refused(error, Forbidden, &format!("the key {}, which it would change as well", first.id()));
    assert_eq!(store.show(first.id()).await.unwrap().expires_at(), first.expires_at());
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
    let suspended = ceiling(store).await;
    root.suspend(suspended.id(), "").await.unwrap();
    attempt(&suspended, &format!("{gone} is suspended")).await;
    refused(store.as_actor("anna").within(&*suspended).resume(suspended.id()).await, Forbidden, "is suspended");
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
        refused(anna.set_role("narrow", Grant::default()).await, Forbidden, message);
        refused(anna.delete_role("narrow").await, Forbidden, message);
        refused(anna.revoke_all_of("acct-7", "").await, Forbidden, message);
    }
    assert_eq!((all(store).await, audit(store).await), before);
}

pub async fn roles_and_ends_stay_within_a_ceiling<F: Fixture>() {
    let fixture = fresh::<F>().await;
    let (store, root) = (fixture.store(), fixture.store().as_actor("root"));
    root.set_role("narrow", grant()).await.unwrap();
    root.set_role("wide", grant().to_builder().read("customers").build().unwrap()).await.unwrap();
    let own = ceiling(store).await;
    let anna = store.as_actor("anna").within(&*own);
    let key = anna.issue(within(Grant::default()).roles(["narrow"])).await.unwrap().record;
    let beyond = "the permission customers:read";
    refused(anna.issue(within(Grant::default()).roles(["wide"])).await, Forbidden, beyond);
    refused(anna.set_roles(key.id(), ["narrow", "wide"]).await, Forbidden, beyond);
    refused(anna.set_roles::<&str>(key.id(), []).await, Forbidden, "what the key would reach of");
    refused(anna.set_expiry(key.id(), in_seconds(7200)).await, Forbidden, "the end of the key");
    refused(anna.set_expiry(key.id(), None).await, Forbidden, "a key without an end");
    let never = Rotation::new(Overlap::UntilRevoked).never_expires();
    refused(anna.rotate(key.id(), never).await, Forbidden, "a key without an end");
    anna.set_expiry(key.id(), in_seconds(1800)).await.unwrap();
    anna.change_metadata(key.id(), |old| Ok(old.clone().with_owner("acct-7"))).await.unwrap();
    anna.suspend(key.id(), "").await.unwrap();
    anna.resume(key.id()).await.unwrap();
    // A role that has become wider is beyond, and so are its keys.
    root.set_role("narrow", grant().to_builder().read("customers").build().unwrap()).await.unwrap();
    for error in [
        anna.rename(key.id(), "n").await.unwrap_err(),
        anna.suspend(key.id(), "").await.unwrap_err(),
        anna.set_metadata(key.id(), tower_authz::Metadata::new()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), NotFound, "{error}");
    }
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
