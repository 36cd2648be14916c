//! Delivers what happens to keys as webhooks, signed as Standard Webhooks has it (<https://www.standardwebhooks.com>): each
//! change from the audit log, and keys that expire soon or that nobody uses. What is not accepted is sent again, later and
//! later; a change is never left out, and one may come twice after a restart (`webhook-id` tells).
//!
//! It is configured by `STORE` (the path of a SQLite store), `TARGET` (where to, `http://..`), `SECRET` (`whsec_` and the key
//! in base64), and `POSITION` (a file for the number of the last change that was delivered; without it, only changes that
//! come after the start are). Put a proxy that speaks TLS in front of `TARGET`, or another connector into the client.

mod common;

use std::{
    env,
    error::Error,
    fs, io,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{FutureExt as _, StreamExt as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use sha2::Sha256;
use tower_authz::store::{AuditQuery, AuditRecord, KeyAdmin, KeyEvent, SqliteOptions, Watch};

const DAY: Duration = Duration::from_secs(86_400);

/// A webhook, as it is sent: the same bytes each time, as the signature is about them.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The same each time that the message is sent, so that the receiver can tell a message that came twice.
    pub(crate) id: String,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn of_change(change: &AuditRecord) -> Self {
        let state = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let data = json!({
            "number": change.number,
            "by": change.by,
            "address": change.address,
            "key": change.key.as_ref().map(|key| key.as_str()),
            "note": change.note,
            "before": state(&change.before),
            "after": state(&change.after),
        });
        Self::new(format!("change_{}", change.number), &format!("key.{}", change.action), change.at, &data)
    }

    pub(crate) fn of_event(event: &KeyEvent, now: SystemTime) -> Self {
        let key = event.key();
        let data = json!({
            "key": key.id().as_str(),
            "name": key.name(),
            "owner": key.metadata().owner(),
            "expires_at": key.expires_at().map(seconds),
            "last_used": key.last_used().map(seconds),
        });
        // One that becomes true again, after a use or another end, is another message.
        let moment = match event {
            KeyEvent::Expiring(key) => key.expires_at(),
            _ => key.last_used().or(key.created_at()),
        };
        let moment = moment.map(seconds).unwrap_or_default();
        Self::new(format!("{}_{}_{moment}", event.name(), key.id()), &format!("key.{}", event.name()), now, &data)
    }

    fn new(id: String, kind: &str, at: SystemTime, data: &Value) -> Self {
        Self { id, body: json!({ "type": kind, "timestamp": seconds(at), "data": data }).to_string() }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Signs and sends messages.
pub(crate) struct Sender {
    target: Uri,
    secret: Vec<u8>,
    client: Client<HttpConnector, Full<Bytes>>,
    /// How long to wait before a message is sent again: the next one each time, and the last one from then on.
    pub(crate) waits: Vec<Duration>,
}

impl Sender {
    pub(crate) fn new(target: &str, secret: &str) -> Result<Self, Box<dyn Error>> {
        let encoded = secret.strip_prefix("whsec_").ok_or("SECRET: write whsec_ and the key in base64")?;
        // The error of the decoder would quote a part of it.
        let secret = STANDARD.decode(encoded).map_err(|_| "SECRET: it is not base64")?;
        if secret.len() < 24 {
            return Err("SECRET: a key has at least 24 bytes".into());
        }
        Ok(Self {
            target: target.parse().map_err(|error| format!("TARGET: {error}"))?,
            secret,
            client: Client::builder(TokioExecutor::new()).build_http(),
            waits: [5, 60, 300, 1800, 7200].map(Duration::from_secs).to_vec(),
        })
    }

    /// The value of `webhook-signature`, which the receiver computes as well.
    pub(crate) fn signature(&self, message: &Message, timestamp: u64) -> Result<String, Box<dyn Error>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret)?;
        mac.update(format!("{}.{timestamp}.{}", message.id, message.body).as_bytes());
        Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }

    async fn send_once(&self, message: &Message) -> Result<StatusCode, Box<dyn Error>> {
        // The time of this attempt: a receiver refuses what is old.
        let timestamp = seconds(SystemTime::now());
        let request = Request::post(self.target.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.signature(message, timestamp)?)
            .body(Full::from(message.body.clone()))?;
        let answer = tokio::time::timeout(Duration::from_secs(15), self.client.request(request)).await;
        Ok(answer.map_err(|_| "no answer in 15 seconds")??.status())
    }

    /// Sends a message until it is accepted.
    ///
    /// # Errors
    /// If the receiver is gone for good (410).
    pub(crate) async fn send(&self, message: &Message) -> Result<(), Box<dyn Error>> {
        let last = self.waits.last().copied().unwrap_or(Duration::from_secs(60));
        let mut waits = self.waits.iter().copied();
        loop {
            let why = match self.send_once(message).await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(StatusCode::GONE) => return Err("the receiver is gone for good (410)".into()),
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            let wait = waits.next().unwrap_or(last);
            common::note(format!("{} was not accepted ({why}); again in {} s", message.id, wait.as_secs()));
            tokio::time::sleep(wait).await;
        }
    }
}

/// Where the delivery has got to.
pub(crate) struct Position(pub(crate) Option<PathBuf>);

impl Position {
    fn read(&self) -> Result<Option<u64>, Box<dyn Error>> {
        let Some(path) = &self.0 else { return Ok(None) };
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim().parse().map_err(|_| format!("POSITION: {}: no number", path.display()))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("POSITION: {}: {error}", path.display()).into()),
        }
    }

    /// Replaces the file, so that it is whole whenever the program is killed.
    fn write(&self, number: u64) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let new = path.with_extension("new");
        fs::write(&new, number.to_string())?;
        fs::rename(new, path)
    }
}

/// Delivers every change after the position, and what the watch finds.
pub(crate) async fn deliver(
    store: &impl KeyAdmin,
    sender: &Sender,
    position: &Position,
    mut watch: Watch,
) -> Result<(), Box<dyn Error>> {
    let newest = store.audit(&AuditQuery::new().limit(1)).await?.first().map_or(0, |newest| newest.number);
    let mut log = store.follow_audit(position.read()?.unwrap_or(newest));
    let mut look = tokio::time::interval(Duration::from_secs(3600));
    loop {
        let next = tokio::select! {
            next = log.next() => next,
            _ = look.tick() => {
                for event in watch.events(store).await? {
                    sender.send(&Message::of_event(&event, SystemTime::now())).await?;
                }
                continue;
            }
        };
        let Some(change) = next.transpose()? else { return Ok(()) };
        sender.send(&Message::of_change(&change)).await?;
        position.write(change.number)?;
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str| env::var(name).map_err(|_| format!("{name} is required"));
    let store = SqliteOptions::new().uncached().open(setting("STORE")?)?;
    let sender = Sender::new(&setting("TARGET")?, &setting("SECRET")?)?;
    let position = Position(env::var_os("POSITION").map(PathBuf::from));
    let watch = Watch::new().expiring_within(14 * DAY).unused_for(90 * DAY);
    // Boxed: the future of a stream with a request inside is large.
    deliver(&store, &sender, &position, watch).boxed_local().await
}

#[tokio::main]
async fn main() -> ExitCode {
    common::finish(run().await)
}
