//! The life of a key in the store, seen through the gate.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::{Layer as _, ServiceExt as _};
use tower_authz::{
    Alphabet, AuthenticateLayer, Grant, KeyFormat,
    store::{KeyAdmin, KeyQuery, MemoryStore, NewKey, Overlap, StoreErrorKind},
};

use crate::support::{Handler, products_reader};

async fn status(store: &MemoryStore, key: &str) -> StatusCode {
    let request = Request::get("/").header("x-api-key", key).body(Full::<Bytes>::default()).unwrap();
    let service = AuthenticateLayer::new(store.clone()).layer(Handler::default());
    service.oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn issue_use_rotate_revoke_delete() {
    let store = MemoryStore::new();
    let first =
        store.by("test").issue(NewKey::new("prod", products_reader()).kind("admin").tenant("acme")).await.unwrap();
    assert_eq!(status(&store, first.api_key.expose()).await, 200);

    let second = store.by("test").rotate(first.record.id(), Overlap::UntilRevoked).await.unwrap();
    assert_ne!(first.record.id(), second.record.id());
    assert_eq!(second.record.grant(), first.record.grant());
    assert_eq!((second.record.kind(), second.record.tenant()), (Some("admin"), Some("acme")));
    assert_eq!(status(&store, first.api_key.expose()).await, 200, "the old one lives until it is revoked");
    assert_eq!(status(&store, second.api_key.expose()).await, 200);

    let revoked = store.by("test").revoke(first.record.id(), "").await.unwrap().record.unwrap();
    assert!(revoked.version() > first.record.version());
    assert_eq!(status(&store, first.api_key.expose()).await, 401);
    assert_eq!(status(&store, second.api_key.expose()).await, 200);
    let again = store.by("test").revoke(first.record.id(), "").await.unwrap().record.unwrap();
    assert_eq!(again.revoked_at(), revoked.revoked_at(), "revoked once and for all");
    let dead = store.by("test").rotate(first.record.id(), Overlap::UntilRevoked).await.unwrap_err();
    assert_eq!(dead.kind(), StoreErrorKind::Conflict);

    assert_eq!(store.list(&KeyQuery::new().limit(10_000)).await.unwrap().records.len(), 2);
    store.by("test").delete(second.record.id()).await.unwrap();
    assert_eq!(status(&store, second.api_key.expose()).await, 401);
    assert_eq!(store.show(second.record.id()).await.unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(store.by("test").delete(second.record.id()).await.unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[tokio::test]
async fn an_overlap_never_prolongs_a_life() {
    let store = MemoryStore::new();
    // Dates are kept to the microsecond.
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let soon = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs() + 60);
    let hour = Duration::from_secs(3600);
    let key = store.by("test").issue(NewKey::new("k", Grant::default()).expires_at(soon)).await.unwrap();
    store.by("test").rotate(key.record.id(), Overlap::For(hour)).await.unwrap();
    assert_eq!(store.show(key.record.id()).await.unwrap().expires_at(), Some(soon));

    let endless = store.by("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
    store.by("test").rotate(endless.record.id(), Overlap::For(Duration::ZERO)).await.unwrap();
    assert_eq!(status(&store, endless.api_key.expose()).await, 401, "no overlap, no life");
}

#[tokio::test]
async fn ids_are_unique_even_where_they_are_short() {
    let tiny = KeyFormat::structured("t").public_id(Alphabet::LowerHex, 4).build().unwrap();
    let store = MemoryStore::with_settings(tiny);
    let mut issued = 0;
    // 65,536 ids: with 2,000 keys, some thirty would collide if nobody looked.
    for _ in 0..2_000 {
        store.by("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
        issued += 1;
    }
    assert_eq!(store.list(&KeyQuery::new().limit(10_000)).await.unwrap().records.len(), issued);
}

/// Readers hammer a key while it is revoked and others come and go: whoever begins after `revoke` has
/// returned is refused.
#[test]
fn a_revocation_holds_for_every_request_that_begins_later() {
    let store = MemoryStore::new();
    for round in 0..50 {
        let key = futures::executor::block_on(store.by("test").issue(NewKey::new("k", Grant::default()))).unwrap();
        let revoked = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let after = revoked.load(Ordering::SeqCst);
                        let status = futures::executor::block_on(status(&store, key.api_key.expose()));
                        assert!(!after || status == 401, "admitted after the revocation, round {round}");
                        if after {
                            break;
                        }
                    }
                });
            }
            scope.spawn(|| {
                futures::executor::block_on(store.by("test").issue(NewKey::new("other", Grant::default()))).unwrap()
            });
            futures::executor::block_on(store.by("test").revoke(key.record.id(), "")).unwrap();
            revoked.store(true, Ordering::SeqCst);
        });
    }
}
