//! Tests the example that takes GitHub's messages of leaked keys, with keys of its own and with GitHub's documented one.

#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/leaks.rs"]
mod example;

use std::{fs, path::PathBuf};

use axum::{Router, body::Body};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_authz::{
    Digest, Status,
    store::{KeyAdmin as _, MemoryStore, NewKey},
};

/// The public key and a message that GitHub's documentation gives, with the signature.
const DOCUMENTED_ID: &str = "f9525bf080f75b3506ca1ead061add62b8633a346606dc5fe544e29231c6ee0d";
const DOCUMENTED_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEsz9ugWDj5jK5ELBK42ynytbo38gP\n\
                              HzZFI03Exwz8Lh/tCfL3YxwMdLjB+bMznsanlhK0RwcGP3IDb34kQDIo3Q==\n-----END PUBLIC KEY-----";
const DOCUMENTED_BODY: &str = r#"[{"token":"some_token","type":"some_type","url":"some_url","source":"some_source"}]"#;
const DOCUMENTED_SIGNATURE: &str =
    "MEUCIFLZzeK++IhS+y276SRk2Pe5LfDrfvTXu6iwKKcFGCrvAiEAhHN2kDOhy2I6eGkOFmxNkOJ+L2y8oQ9A2T9GGJo6WJY=";

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    fn pem(&self) -> String {
        let der = [&example::P256[..], self.0.public_key().as_ref()].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(der))
    }

    fn sign(&self, body: &str) -> String {
        BASE64.encode(self.0.sign(&SystemRandom::new(), body.as_bytes()).unwrap())
    }
}

struct Server {
    store: MemoryStore,
    signer: Signer,
    other: Signer,
    app: Router,
    file: PathBuf,
}

impl Server {
    fn new(name: &str) -> Self {
        let file = std::env::temp_dir().join(format!("tower-authz-leaks-{}-{name}.json", std::process::id()));
        let (signer, other) = (Signer::new(), Signer::new());
        let keys = json!({ "public_keys": [
            { "key_identifier": "other", "key": other.pem(), "is_current": false },
            { "key_identifier": "own", "key": signer.pem(), "is_current": true },
            { "key_identifier": DOCUMENTED_ID, "key": DOCUMENTED_KEY, "is_current": true },
            { "key_identifier": "garbage", "key": "-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----" },
            { "key_identifier": "rsa", "key": format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", BASE64.encode([0x30; 91])) },
        ] });
        fs::write(&file, keys.to_string()).unwrap();
        let store = MemoryStore::new();
        Self { app: example::app(store.clone(), file.clone()), store, signer, other, file }
    }

    async fn issue(&self) -> (tower_authz::KeyId, String) {
        let key = self.store.as_actor("test").issue(NewKey::new("k", tower_authz::Grant::default())).await.unwrap();
        (key.record.id().clone(), key.api_key.expose().to_owned())
    }

    async fn send(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
        let request = Request::post("/github/leaks").header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    /// Sends a body with the signature, under the name of a public key.
    async fn tell(&self, id: &str, signature: &str, body: &str) -> (u16, String) {
        let headers = [("Github-Public-Key-Identifier", id), ("Github-Public-Key-Signature", signature)];
        let response = self.send(&headers, body.to_owned()).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn status(&self, id: &tower_authz::KeyId) -> Status {
        self.store.show(id).await.unwrap().status(std::time::SystemTime::now())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

fn message(tokens: &[&str]) -> String {
    let url = "https://github.com/octocat/Hello-World/blob/12345/foo/bar.txt";
    let alert = |token: &&str| json!({ "token": token, "type": "acme_key", "url": url, "source": "commit" });
    Value::from(tokens.iter().map(alert).collect::<Vec<_>>()).to_string()
}

#[tokio::test]
async fn what_github_has_found_is_revoked_and_feedback_is_given() {
    let server = Server::new("revoked");
    let ((id, key), (untouched, _)) = (server.issue().await, server.issue().await);
    let unknown = key.replace("key_", "kee_");
    let body = message(&[&key, &unknown]);
    let signature = server.signer.sign(&body);
    // A message that comes twice gets the same answer.
    for _ in 0..2 {
        let (status, answer) = server.tell("own", &signature, &body).await;
        let expected = json!([
            { "token_hash": Digest::from_key(key.as_bytes()).to_string(), "token_type": "acme_key", "label": "true_positive" },
            { "token_hash": Digest::from_key(unknown.as_bytes()).to_string(), "token_type": "acme_key", "label": "false_positive" },
        ]);
        assert_eq!((status, serde_json::from_str::<Value>(&answer).unwrap()), (200, expected));
        assert_eq!((server.status(&id).await, server.status(&untouched).await), (Status::Revoked, Status::Active));
    }
    let record = server.store.show(&id).await.unwrap();
    let reason = "leaked: found by GitHub in commit, https://github.com/octocat/Hello-World/blob/12345/foo/bar.txt";
    assert_eq!(record.revocation_reason(), Some(reason));
    let log = server.store.audit(&tower_authz::store::AuditQuery::new()).await.unwrap();
    assert_eq!((log.len(), log[0].by.as_str()), (3, "github-secret-scanning"));
}

#[tokio::test]
async fn the_documented_message_is_verified() {
    let server = Server::new("documented");
    let (status, answer) = server.tell(DOCUMENTED_ID, DOCUMENTED_SIGNATURE, DOCUMENTED_BODY).await;
    let digest = Digest::from_key(b"some_token").to_string();
    assert_eq!(status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&answer).unwrap(),
        json!([{ "token_hash": digest, "token_type": "some_type", "label": "false_positive" }])
    );
    assert_eq!(
        server.tell(DOCUMENTED_ID, DOCUMENTED_SIGNATURE, &DOCUMENTED_BODY.replace("some_url", "any_url")).await.0,
        401
    );
}

#[tokio::test]
async fn whatever_is_not_signed_by_the_named_key_changes_nothing() {
    let server = Server::new("unsigned");
    let (id, key) = server.issue().await;
    let body = message(&[&key]);
    let good = server.signer.sign(&body);
    let of_other = server.other.sign(&body);
    let stranger = Signer::new().sign(&body);
    let spaced = body.replace(':', ": ");
    let broken = {
        let mut bytes = BASE64.decode(&good).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        BASE64.encode(bytes)
    };
    for (key_id, signature, body, what) in [
        ("own", &*broken, &body, "a wrong signature"),
        ("own", "", &body, "an empty one"),
        ("own", "????", &body, "one that is not base64"),
        ("own", &good[..good.len() - 8], &body, "one that is cut off"),
        ("own", &stranger, &body, "one by a key that nobody knows"),
        ("own", &of_other, &body, "one by another key"),
        ("other", &good, &body, "a message that is sent again under the name of another key"),
        ("nobody", &good, &body, "a key id that nobody knows"),
        ("", &good, &body, "an empty key id"),
        ("OWN", &good, &body, "a key id in capitals"),
        ("garbage", &good, &body, "a key that is not one"),
        ("rsa", &good, &body, "a key of another algorithm"),
        ("own", &good, &spaced, "the same JSON in other bytes"),
        ("own", &good, &message(&[&key, &key]), "another body"),
        ("own", &good, &String::new(), "no body"),
    ] {
        assert_eq!(server.tell(key_id, signature, body).await, (401, String::new()), "{what}");
    }
    let names = ("Github-Public-Key-Identifier", "Github-Public-Key-Signature");
    for headers in [
        &[][..],
        &[(names.0, "own")],
        &[(names.1, &*good)],
        &[(names.0, "own"), (names.0, "own"), (names.1, &*good)],
        &[(names.0, "own"), (names.1, &*good), (names.1, &*good)],
    ] {
        assert_eq!(server.send(headers, body.clone()).await.status(), 401, "{headers:?}");
    }
    assert_eq!(server.status(&id).await, Status::Active);
    assert_eq!(server.tell("own", &good, &body).await.0, 200, "the message itself is good");
}

#[tokio::test]
async fn odd_messages_are_refused_or_revoke_all_the_same() {
    let server = Server::new("odd");
    let long = format!("[{}]", " ".repeat(example::LONGEST_BODY));
    let headers =
        [("Github-Public-Key-Identifier", "own"), ("Github-Public-Key-Signature", &*server.signer.sign(&long))];
    assert_eq!(server.send(&headers, long.clone()).await.status(), 413, "a body with a length");
    let parts = futures::stream::iter((0..long.len()).step_by(4096).map(|_| Ok::<_, std::io::Error>(vec![b' '; 4096])));
    assert_eq!(server.send(&headers, Body::from_stream(parts)).await.status(), 413, "a stream without one");
    for body in
        ["", "{}", "null", "[{}]", "[1]", r#"[{"token":1,"type":"t"}]"#, r#"[{"token":"t"}]"#, "[", "\u{feff}[]"]
    {
        assert_eq!(server.tell("own", &server.signer.sign(body), body).await, (400, String::new()), "{body}");
    }
    assert_eq!(server.tell("own", &server.signer.sign("[]"), "[]").await, (200, "[]".to_owned()));
    assert_eq!(
        server.app.clone().oneshot(Request::get("/github/leaks").body(Body::empty()).unwrap()).await.unwrap().status(),
        405
    );

    for url in [
        "u".repeat(5000),
        "line\nbreak".to_owned(),
        "\u{202e}".to_owned(),
        String::new(),
        "KEY".to_owned(),
        "a/KEY/b".to_owned(),
    ] {
        let (id, key) = server.issue().await;
        let url = url.replace("KEY", &key);
        let body = json!([{ "token": key, "type": "t", "url": url, "source": "s", "more": 1 }]).to_string();
        let (status, answer) = server.tell("own", &server.signer.sign(&body), &body).await;
        assert!(status == 200 && answer.contains("true_positive") && !answer.contains(&key), "{status} {url}");
        let record = server.store.show(&id).await.unwrap();
        let reason = record.revocation_reason().unwrap();
        assert!(reason.starts_with("leaked: found by GitHub") && !reason.contains(&key), "{reason}");
    }

    fs::write(&server.file, "not JSON").unwrap();
    assert_eq!(server.tell("own", &server.signer.sign("[]"), "[]").await.0, 503);
    fs::remove_file(&server.file).unwrap();
    assert_eq!(server.tell("own", &server.signer.sign("[]"), "[]").await.0, 503, "keys that are missing let nobody in");
}
