//! Tests the counts of decisions, and that the audit log can be followed.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use futures::StreamExt as _;
use http::{Method, Request};
use tower::{Layer as _, ServiceExt as _};
use tower_authz::{
    AuthenticateLayer, PeerAddress,
    store::{Action, AuditQuery, IssuedKey, KeyAdmin as _, KeyUsage, StoreErrorKind, StoreSettings, UsageQuery},
};

use crate::{
    stores::{Fixture, Gate, audit, in_seconds, issue},
    support::Handler,
};

async fn usage_of<F: Fixture>(fixture: &F, key: &IssuedKey) -> KeyUsage {
    let all = fixture.store().usage(&UsageQuery::new().key(key.record.id().clone())).await.unwrap();
    assert_eq!(all.len(), 1);
    all.into_iter().next().unwrap()
}

pub async fn decisions_are_counted_by_key_and_cause<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, gate) = (fixture.store(), Gate::of(fixture.store()));
    let (key, other, unused) = (issue(store).await, issue(store).await, issue(store).await);
    for _ in 0..20 {
        assert_eq!(gate.get(&key).await, 200);
    }
    // The rule is enforced by a layer inside, which this gate knows nothing of.
    assert_eq!(gate.put(&key).await, 403);
    assert_eq!(gate.get(&other).await, 200);
    assert_eq!(gate.ask(Method::GET, "de", "key_0000000000_000000000000000000000000000000000000").await, 401);
    store.as_actor("test").revoke(other.record.id(), "").await.unwrap();
    for _ in 0..3 {
        assert_eq!(gate.get(&other).await, 401);
    }
    let used = usage_of(&fixture, &key).await;
    assert_eq!((used.allowed(), used.refused(), used.days.len()), (21, 0, 1));
    assert!(used.days[0].begin() <= SystemTime::now() && used.days[0].begin() > in_seconds(-2 * 86_400));
    let refused = usage_of(&fixture, &other).await;
    assert_eq!((refused.allowed(), refused.days[0].refused.get("revoked")), (1, Some(&3)));
    let all = store.usage(&UsageQuery::new()).await.unwrap();
    let mut ids: Vec<_> = [&key, &other].map(|key| key.record.id().clone()).into();
    ids.sort();
    assert_eq!(all.iter().map(|usage| usage.key.clone()).collect::<Vec<_>>(), ids, "in order, without {unused:?}");
    // What was asked for once is asked for again, and counted on.
    assert_eq!(gate.get(&key).await, 200);
    assert_eq!(usage_of(&fixture, &key).await.allowed(), 22);
    let past = UsageQuery::new().until(in_seconds(-86_400));
    assert!(store.usage(&past).await.unwrap().is_empty(), "of other days there is nothing");
    // Counts outlive their key.
    store.as_actor("test").delete(key.record.id()).await.unwrap();
    assert_eq!(usage_of(&fixture, &key).await.allowed(), 22);
}

pub async fn nothing_is_counted_where_nobody_asks_for_it<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let key = issue(fixture.store()).await;
    let service = AuthenticateLayer::new(fixture.store().clone()).without_usage_counts().layer(Handler::default());
    let request = Request::builder().header("x-api-key", key.api_key.expose());
    let request = request.body(http_body_util::Full::<bytes::Bytes>::default()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    assert!(fixture.store().usage(&UsageQuery::new()).await.unwrap().is_empty());
}

pub async fn the_last_use_says_from_where<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let key = issue(fixture.store()).await;
    let service = AuthenticateLayer::new(fixture.store().clone()).layer(Handler::default());
    let ask = async |header: &str, address: [u8; 4]| {
        let value = if header == "authorization" { "Bearer " } else { "" }.to_owned() + key.api_key.expose();
        let mut request =
            Request::builder().header(header, value).body(http_body_util::Full::<bytes::Bytes>::default()).unwrap();
        request.extensions_mut().insert(PeerAddress((address, 4711).into()));
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 200);
    };
    for (header, address) in [("x-api-key", [10, 0, 0, 7]), ("authorization", [192, 0, 2, 1])] {
        ask(header, address).await;
        let last = usage_of(&fixture, &key).await.last.unwrap();
        assert_eq!((last.address, last.source.as_deref()), (Some(IpAddr::from(address)), Some(header)));
        assert!(last.at > in_seconds(-60) && last.at <= SystemTime::now());
        // It is noted once in a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
}

pub async fn a_day_of_its_own_is_counted_apart<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let (store, key) = (fixture.store(), issue(fixture.store()).await);
    for (days, count) in [(-2, 3), (-1, 2), (0, 1)] {
        let gate = Gate::at(store, in_seconds(days * 86_400));
        for _ in 0..count {
            assert_eq!(gate.get(&key).await, 200);
        }
    }
    let counted: Vec<_> = usage_of(&fixture, &key).await.days.iter().map(|day| day.allowed).collect();
    assert_eq!(counted, [3, 2, 1]);
    let query = UsageQuery::new().since(in_seconds(-86_400)).until(in_seconds(-86_400));
    let of_a_day = store.usage(&query).await.unwrap();
    assert_eq!(of_a_day[0].days.iter().map(|day| day.allowed).collect::<Vec<_>>(), [2]);
}

pub async fn the_log_is_followed<F: Fixture>() {
    let fixture = F::fresh(StoreSettings::new()).await;
    let store = fixture.store();
    let key = issue(store).await;
    let newer = store.audit(&AuditQuery::new().after(0).limit(10)).await.unwrap();
    assert_eq!(newer.len(), 1);
    let first = newer[0].number;
    assert!(store.audit(&AuditQuery::new().after(first)).await.unwrap().is_empty());
    assert!(store.audit(&AuditQuery::new().after(u64::MAX)).await.unwrap().is_empty());
    let mut log = store.follow_audit(0);
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(10), log.next()).await;
        next.expect("it comes soon").unwrap().unwrap()
    };
    assert_eq!((next().await.action, first), (Action::Issued, first));
    // What comes while the stream waits, and many at once.
    let change = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let address = IpAddr::from([192, 0, 2, 7]);
        let anna = store.as_actor("anna").from_address(address).with_request_id("req-1");
        anna.suspend(key.record.id(), "a test").await.unwrap();
    };
    let (followed, ()) = tokio::join!(next(), change);
    assert_eq!((followed.action, followed.by.as_str()), (Action::Suspended, "anna"));
    assert_eq!((followed.address, followed.request_id.as_deref()), (Some([192, 0, 2, 7].into()), Some("req-1")));
    for round in 0..20 {
        store.as_actor("test").rename(key.record.id(), format!("round {round}")).await.unwrap();
    }
    let mut numbers = vec![followed.number];
    for _ in 0..20 {
        numbers.push(next().await.number);
    }
    assert!(numbers.is_sorted_by(|one, other| one < other), "in order, none twice: {numbers:?}");
    let all = audit(store).await;
    assert_eq!(all.last().unwrap().number, *numbers.last().unwrap());
    let hidden = store.as_actor("anna").with_request_id("a\nb").resume(key.record.id()).await.unwrap_err();
    assert_eq!(hidden.kind(), StoreErrorKind::Invalid);
    let secret =
        store.as_actor("anna").with_request_id(key.api_key.expose()).resume(key.record.id()).await.unwrap_err();
    assert!(!secret.to_string().contains(key.api_key.expose()) && secret.kind() == StoreErrorKind::Invalid);
}
