//! No printed value may contain a part of a secret.

use tower_authz::{
    ApiKey, AuthenticateLayer, Authz, Directory, Grant, KeyFile, KeyFormat, Policy, Source,
    store::{KeyAdmin as _, KeyStore as _, MemoryStore, NewKey},
};

/// Whether the text contains any eight consecutive characters of the secret part.
fn leaks(shown: &str, key: &str) -> bool {
    let secret = key.rsplit('_').next().unwrap();
    secret.as_bytes().windows(8).any(|part| shown.contains(std::str::from_utf8(part).unwrap()))
}

#[tokio::test]
async fn debug_shows_no_part_of_a_secret() {
    let store = MemoryStore::new();
    let issued = store.as_actor("test").issue(NewKey::new("canary", Grant::default())).await.unwrap();
    let key = issued.api_key.expose().to_owned();
    let policy = Policy::builder().build().unwrap();
    let authz = Authz::new(store.clone(), policy);
    let file = KeyFile::new([(*issued.record).clone()], Directory::default());
    let shown = [
        format!("{:?} {:#?}", issued.api_key, issued),
        format!("{:?} {:?}", issued.record, issued.record.digest()),
        format!("{store:?} {:?}", store.lookup(issued.record.digest())),
        format!("{authz:?} {:?}", AuthenticateLayer::new(store.clone())),
        format!("{file:?} {}", file.to_json().unwrap()),
        format!("{:?} {:?}", KeyFormat::default(), Source::bearer()),
    ];
    for shown in shown {
        assert!(!leaks(&shown, &key), "{shown}");
        assert!(!shown.contains(&key));
    }
    assert!(leaks(&key, &key), "the test can tell");
}

#[test]
fn errors_do_not_repeat_what_may_be_a_key() {
    let key = "key_0123456789_abcdefghijklmnopqrstuvwxyzABCD0vBwtQ";
    assert!(KeyFormat::default().key_id(key.as_bytes()).is_none(), "its checksum is wrong, it is only a canary");
    for text in [
        format!(r#"{{"keys":[{{"id":"a","name":"n","digest":"{key}"}}]}}"#),
        format!(r#"{{"keys":[{{"id":"a","name":"n","digest":"{key}","expires_at":"{key}"}}]}}"#),
    ] {
        let error = KeyFile::parse(&text, "keys.json").unwrap_err().to_string();
        assert!(!leaks(&error, key), "{error}");
    }
}

#[tokio::test]
async fn a_whole_key_in_place_of_an_id_is_refused() {
    let issued = MemoryStore::new().as_actor("test").issue(NewKey::new("n", Grant::default())).await.unwrap();
    let key = issued.api_key.expose();
    let text = format!(r#"{{"keys":[{{"id":"{key}","name":"n","digest":"{}"}}]}}"#, ApiKey::new(key).digest());
    for field in ["id", "name", "kind", "tenant", "revocation_reason", "replaces", "replaced_by"] {
        let digest = ApiKey::new(key).digest();
        let id = if field == "id" { "" } else { r#""id":"k","# };
        let text = format!(r#"{{"keys":[{{{id}"{field}":"{key}","digest":"{digest}"}}]}}"#);
        let error = KeyFile::parse(&text, "keys.json").unwrap_err().to_string();
        let wanted = format!("keys.json: keys[0]: {field}: this is the whole API key");
        assert!(error.starts_with(&wanted) && !leaks(&error, key), "{error}");
    }
    // The key is not repeated either if the record has a second error.
    let error = KeyFile::parse(&text.replace("digest", "digst"), "keys.json").unwrap_err().to_string();
    assert!(
        error.starts_with("keys.json: keys[0]: ") && error.contains("unknown field") && !leaks(&error, key),
        "{error}"
    );
}
