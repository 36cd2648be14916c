//! Takes the messages of GitHub's secret scanning, which tell of keys that were committed to public repositories, and
//! revokes them: <https://docs.github.com/code-security/secret-scanning/secret-scanning-partner-program>.
//!
//! Whoever joins that program gives GitHub the expression that finds the keys (`KeyFormat::regex`) and the address of this
//! server. Each message is signed; no API key is needed to send one, so this route stands outside of the gate.
//!
//! It is configured by `LISTEN`, `STORE` (a file that `authz init` has created) and `GITHUB_KEYS`, a file with GitHub's
//! public keys. It is read for each message, so that a job can renew it while the server runs:
//! `curl -sf https://api.github.com/meta/public_keys/secret_scanning -o new.json && mv new.json github-keys.json`.

#[path = "common/answer.rs"]
mod answer;
mod common;

use std::{env, error::Error, path::PathBuf, process::ExitCode, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tower_authz::{
    ApiKey, Digest,
    store::{KeyAdmin, KeyStore, SqliteStore, StoreError, StoreErrorKind},
};

/// GitHub sends few keys at a time. More than this is refused before it is read.
pub const LONGEST_BODY: usize = 256 * 1024;

/// The DER header of a public key on the curve P-256, which precedes its 65 bytes: the algorithm, the curve, the lengths.
pub const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The public keys that messages are signed with, as GitHub publishes them.
#[derive(Deserialize)]
struct PublicKeys {
    public_keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct PublicKey {
    key_identifier: String,
    /// In PEM.
    key: String,
}

/// One key that GitHub has found. It has no `Debug`, because the token is a secret.
#[derive(Deserialize)]
struct Alert {
    token: String,
    r#type: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    source: String,
}

/// Tells GitHub whether what it has found is a key. The token is named by its hash.
#[derive(Serialize)]
struct Feedback {
    token_hash: String,
    token_type: String,
    label: &'static str,
}

struct Receiver<S> {
    store: S,
    public_keys: PathBuf,
}

/// The route that messages come to, for the keys of this store.
pub fn app<S: KeyStore + KeyAdmin>(store: S, public_keys: PathBuf) -> Router {
    Router::new()
        .route("/github/leaks", post(receive::<S>))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(Arc::new(Receiver { store, public_keys }))
}

async fn receive<S: KeyStore + KeyAdmin>(
    State(receiver): State<Arc<Receiver<S>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Vec<Feedback>>, StatusCode> {
    // The server is at fault if it cannot read its file, and GitHub may try again.
    let keys = tokio::fs::read(&receiver.public_keys).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let keys: PublicKeys = serde_json::from_slice(&keys).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    // Nothing in the body counts before its signature is verified.
    if !keys.verify(&headers, &body) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let alerts: Vec<Alert> = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut feedback = Vec::with_capacity(alerts.len());
    let mut is_whole = true;
    for alert in alerts {
        let digest = ApiKey::new(&*alert.token).digest();
        match receiver.revoke(&alert, &digest).await {
            Ok(is_key) => feedback.push(Feedback {
                token_hash: digest.to_string(),
                token_type: alert.r#type,
                label: if is_key { "true_positive" } else { "false_positive" },
            }),
            // One key that cannot be revoked now keeps no other from being revoked.
            Err(_) => is_whole = false,
        }
    }
    if is_whole { Ok(Json(feedback)) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
}

impl PublicKeys {
    /// Whether the key that the message names has signed exactly this body.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none())?.to_str().ok()
        };
        let (id, signature) = (one("github-public-key-identifier"), one("github-public-key-signature"));
        let (Some(id), Some(signature)) = (id, signature) else { return false };
        let key = self.public_keys.iter().find(|key| key.key_identifier == id).and_then(PublicKey::point);
        let (Some(key), Ok(signature)) = (key, BASE64.decode(signature)) else { return false };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(body, &signature).is_ok()
    }
}

impl PublicKey {
    /// The point on the curve. A key of any other algorithm is none.
    fn point(&self) -> Option<Vec<u8>> {
        let lines = self.key.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let der = BASE64.decode(lines.collect::<String>()).ok()?;
        der.strip_prefix(&P256).map(<[u8]>::to_vec)
    }
}

impl<S: KeyStore + KeyAdmin> Receiver<S> {
    /// Revokes the key if it is one of this store, and says whether it is. A message that comes again changes nothing.
    async fn revoke(&self, alert: &Alert, digest: &Digest) -> Result<bool, StoreError> {
        let Some(record) = self.store.lookup(digest).found().await? else { return Ok(false) };
        if record.revoked_at().is_some() {
            return Ok(true);
        }
        let actor = self.store.as_actor("github-secret-scanning");
        let mut reason = format!("leaked: found by GitHub in {}, {}", alert.source, alert.url);
        if reason.contains(&alert.token) {
            reason.truncate("leaked: found by GitHub".len()); // the name of a file may be the key itself
        }
        match actor.revoke(record.id(), reason).await {
            // A store refuses a reason that is too long or has invisible characters. That is no reason to let the key live.
            Err(error) if error.kind() == StoreErrorKind::Invalid => {
                actor.revoke(record.id(), "leaked: found by GitHub").await.map(|_| true)
            }
            revoked => revoked.map(|_| true),
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let store = env::var_os("STORE").ok_or("STORE: name a file that `authz init` has created")?;
    let public_keys = env::var_os("GITHUB_KEYS").ok_or("GITHUB_KEYS: name a file with GitHub's public keys")?;
    answer::serve(app(SqliteStore::open(PathBuf::from(store))?, public_keys.into()), "").await
}

#[tokio::main]
async fn main() -> ExitCode {
    common::finish(run().await)
}
