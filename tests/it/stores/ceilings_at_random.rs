//! Tests random sequences of changes by an actor that is bound to a ceiling, against the decision.

use std::{sync::Arc, time::Duration};

use http::Request;
use tower_authz::{
    Check as _, ClientAddress, Digest, Dimension, Directory, Grant, Head, IdGrammar, KeyId, KeyRecord, Policy,
    Principal, Rule,
    check::EntityRef,
    store::{
        KeyAdmin, NewKey, Overlap, StoreError,
        StoreErrorKind::{Conflict, Forbidden, NotFound},
        StoreSettings,
    },
};

use crate::stores::{Dice, Fixture, all, in_seconds};

const PROJECT: Dimension = Dimension::new("project", IdGrammar::Opaque);

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
    let fixture = F::fresh(StoreSettings::new().with_dimension(PROJECT)).await;
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
                Err(error) => assert_eq!(error.kind(), Conflict, "{error}"),
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
