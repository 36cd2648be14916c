//! Tests keys whose format tells their kind.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer as _, ServiceExt as _};
use tower_authz::{
    Alphabet, ApiKey, AuthenticateLayer, Cause, Denial, Grant, KeyFormat, KeyFormats, KeyRecord,
    store::{KeyAdmin, KeyStore as _, NewKey, Overlap, StoreErrorKind, StoreSettings},
};

use crate::{
    stores::{Fixture, all, audit, changes::refused},
    support::Handler,
};

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn structured(prefix: &str) -> KeyFormat {
    KeyFormat::structured(prefix).public_id(Alphabet::LowerHex, 8).secret(Alphabet::LowerHex, 32).build().unwrap()
}

/// Formats of the kinds `live`, `test` and `legacy`, beside a default.
fn formats() -> KeyFormats {
    let formats = KeyFormats::new(structured("acme")).with_kind("live", structured("acme_live")).unwrap();
    let formats = formats.with_kind("test", structured("acme_test")).unwrap();
    formats.with_kind("legacy", KeyFormat::opaque(60, 64).unwrap()).unwrap()
}

fn new(kind: Option<&str>) -> NewKey {
    let new = NewKey::new("k", Grant::builder().read("products").build().unwrap());
    kind.map_or(new.clone(), |kind| new.kind(kind))
}

/// Returns the cause for which a request with this key is refused. The response must look like that to a key that nobody
/// has issued, whichever way the gate takes.
async fn denied<F: Fixture>(store: &F::Store, key: &str) -> Option<Cause> {
    let ask = async |gate: AuthenticateLayer, key: &str| -> Response<_> {
        let request = Request::builder().header("x-api-key", key).body(Full::<Bytes>::default()).unwrap();
        gate.layer(Handler::default()).oneshot(request).await.unwrap()
    };
    let gate = || AuthenticateLayer::new(store.clone());
    let unknown = format!("acme_ffffffff_{HEX}");
    let mut causes = Vec::new();
    for gate in [gate(), gate().remove_credential()] {
        let response = ask(gate.clone(), key).await;
        if response.status() != 200 {
            let expected = ask(gate, &unknown).await;
            assert_eq!((response.status(), response.headers()), (expected.status(), expected.headers()));
        }
        causes.push(response.extensions().get::<Denial>().map(|denial| denial.cause().clone()));
    }
    assert_eq!(causes[0], causes[1]);
    causes.remove(0)
}

pub async fn a_key_has_the_format_of_its_kind<F: Fixture>() {
    let fixture = F::fresh(formats().into()).await;
    let (store, formats) = (fixture.store(), formats());
    assert_eq!((store.formats(), store.settings().await.unwrap().formats()), (formats.clone(), &formats));
    let anna = store.as_actor("anna");
    for kind in [None, Some("live"), Some("test"), Some("legacy"), Some("liv"), Some("LIVE"), Some("admin")] {
        let issued = anna.issue(new(kind)).await.unwrap();
        let rotated = anna.rotate(issued.record.id(), Overlap::UntilRevoked).await.unwrap();
        for key in [issued, rotated] {
            assert!(formats.for_kind(kind).matches(key.api_key.expose().as_bytes()), "{kind:?}");
            assert_eq!(key.record.kind(), kind);
            assert_eq!(denied::<F>(store, key.api_key.expose()).await, None, "{kind:?}");
        }
    }
    for malformed in [
        format!("acme_prod_01234567_{HEX}"),
        format!("acme_live_01234567_{HEX}0"),
        format!("acme_live__{HEX}"),
        format!("acme_live_0123_{HEX}"),
        format!("Acme_live_01234567_{HEX}"),
        format!("acme_live_01234567_{}", HEX.to_uppercase()),
        "acme_live".to_owned(),
    ] {
        assert_eq!(denied::<F>(store, &malformed).await, Some(Cause::MalformedCredential), "{malformed}");
    }
}

/// Only the digest of an imported key is known, so that its format shows when it is used.
pub async fn a_key_with_the_format_of_another_kind_is_unknown<F: Fixture>() {
    let fixture = F::fresh(formats().into()).await;
    let store = fixture.store();
    let keys = [
        (None, format!("acme_01234567_{HEX}")),
        (Some("live"), format!("acme_live_01234567_{HEX}")),
        (Some("test"), format!("acme_test_01234567_{HEX}")),
        (Some("legacy"), "?".repeat(62)),
    ];
    let kinds = [None, Some("live"), Some("test"), Some("legacy"), Some("admin")];
    for (number, kind) in kinds.into_iter().enumerate() {
        let mut ids = Vec::new();
        for (index, (format, key)) in keys.iter().enumerate() {
            let id = format!("imported-{number}-{index}").parse().unwrap();
            let record = KeyRecord::builder(id, ApiKey::new(&**key).digest()).kind(kind.map(str::to_owned)).build();
            ids.push(record.id().clone());
            store.as_actor("anna").import([record]).await.unwrap();
            let fits = *format == kind.filter(|kind| *kind != "admin");
            let expected = (!fits).then_some(Cause::UnknownKey);
            assert_eq!(denied::<F>(store, key).await, expected, "{format:?} of {kind:?}");
            let used = store.show(ids.last().unwrap()).await.unwrap().last_used();
            assert!(fits || used.is_none(), "a refused key is not used");
        }
        for id in &ids {
            store.as_actor("anna").delete(id).await.unwrap();
        }
    }
}

pub async fn an_id_of_another_kind_is_refused<F: Fixture>() {
    let fixture = F::fresh(formats().into()).await;
    let store = fixture.store();
    let anna = store.as_actor("anna");
    let import = async |id: &str, kind: Option<&str>| {
        let key = ApiKey::new(format!("{id}-{kind:?}"));
        anna.import([KeyRecord::builder(id.parse().unwrap(), key.digest()).kind(kind.map(str::to_owned)).build()]).await
    };
    for (id, owner) in
        [("acme_01234567", None), ("acme_live_01234567", Some("live")), ("acme_test_01234567", Some("test"))]
    {
        for kind in [None, Some("live"), Some("test"), Some("legacy")] {
            if kind != owner {
                let before = (all(store).await, audit(store).await);
                let message = format!("key {id}: id: it has the ");
                refused(import(id, kind).await, StoreErrorKind::Invalid, &message);
                assert_eq!((all(store).await, audit(store).await), before);
            }
        }
        import(id, owner).await.unwrap();
    }
    // Ids that no format of the store gives are no evidence.
    for id in
        ["acme_live_0123456g", "acme_live_012345678", "acme_prod_01234567", "acme-live-01234567", "key_0123456789ab"]
    {
        import(id, Some("test")).await.unwrap();
    }
}

pub async fn formats_of_kinds_stay<F: Fixture>() {
    let fixture = F::fresh(formats().into()).await;
    let store = fixture.store();
    let anna = store.as_actor("anna");
    let more = formats().with_kind("more", structured("acme_more")).unwrap();
    for other in [KeyFormats::new(structured("acme")), more, KeyFormats::default()] {
        let outcome = anna.change_settings(move |old| Ok(old.clone().with_formats(other))).await;
        refused(outcome, StoreErrorKind::Conflict, "the formats of keys stay");
    }
    assert!(audit(store).await.is_empty());
    // The same formats in another order are no change.
    let legacy = KeyFormats::new(structured("acme")).with_kind("legacy", KeyFormat::opaque(60, 64).unwrap()).unwrap();
    let same = legacy.with_kind("test", structured("acme_test")).unwrap();
    let same = same.with_kind("live", structured("acme_live")).unwrap();
    anna.set_settings(StoreSettings::new().with_formats(same).with_networks_required_for(["ledger"])).await.unwrap();
    assert_eq!(store.settings().await.unwrap().formats(), &formats());
}

/// A whole key is recognized in a text whatever its kind, even if it was never issued.
pub async fn no_key_of_any_kind_is_kept_in_a_text<F: Fixture>() {
    let fixture = F::fresh(formats().into()).await;
    let store = fixture.store();
    let anna = store.as_actor("anna");
    let legacy = anna.issue(new(Some("legacy"))).await.unwrap().api_key;
    let before = (all(store).await, audit(store).await);
    let never_issued = ["acme", "acme_live", "acme_test"].map(|prefix| format!("{prefix}_01234567_{HEX}"));
    for key in never_issued.iter().map(String::as_str).chain([legacy.expose()]) {
        let text = format!("pasted: \"{key}\"");
        for outcome in [
            anna.issue(NewKey::new(&text, Grant::default())).await.map(drop),
            anna.issue(new(Some(key))).await.map(drop),
            anna.issue(new(Some("live")).tenant(&text)).await.map(drop),
        ] {
            let error = outcome.unwrap_err();
            assert!(error.kind() == StoreErrorKind::Invalid && !error.to_string().contains(key), "{error}");
        }
    }
    let long = "k".repeat(10_000);
    refused(anna.issue(new(Some(&long))).await, StoreErrorKind::Invalid, "kind: at most 256 characters");
    refused(anna.issue(new(Some(""))).await, StoreErrorKind::Invalid, "kind: leave it out");
    assert_eq!((all(store).await, audit(store).await), before);
}
