//! Tests the example that delivers webhooks, against a receiver that verifies, refuses and goes away.

#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/webhooks.rs"]
mod example;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tower_authz::{
    Grant,
    store::{KeyAdmin as _, MemoryStore, NewKey, Watch},
};

use self::example::{Message, Position, Sender, deliver};

const SECRET: &[u8] = b"a secret of twenty-four bytes, or more";

/// What has arrived: the id and the body of each message, and how it is answered.
#[derive(Clone, Default)]
struct Receiver {
    received: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

/// Verifies as the receiver of a webhook does (<https://www.standardwebhooks.com>).
async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = header("webhook-signature");
    let given = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    mac.verify_slice(&given).expect("it is signed");
    assert!(timestamp.parse::<u64>().unwrap().abs_diff(example_seconds()) < 60);
    receiver.received.lock().unwrap().push((id, serde_json::from_str(&body).unwrap()));
    receiver.answers.lock().unwrap().pop().unwrap_or(StatusCode::NO_CONTENT)
}

fn example_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

async fn receiver() -> (Receiver, Sender) {
    let receiver = Receiver::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let app = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let secret = format!("whsec_{}", STANDARD.encode(SECRET));
    let mut sender = Sender::new(&format!("http://{address}/hook"), &secret).unwrap();
    sender.waits = vec![Duration::from_millis(20)];
    (receiver, sender)
}

async fn until(receiver: &Receiver, count: usize) -> Vec<(String, serde_json::Value)> {
    let begin = std::time::Instant::now();
    loop {
        let received = receiver.received.lock().unwrap().clone();
        if received.len() >= count {
            return received;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{received:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn changes_are_delivered_in_order_until_they_are_accepted() {
    let (receiver, sender) = receiver().await;
    let store = MemoryStore::new();
    let day = Duration::from_secs(86_400);
    let new = NewKey::new("k", Grant::default()).owner("acct-7").expires_at(SystemTime::now() + day);
    let key = store.as_actor("anna").issue(new).await.unwrap();
    let folder = std::env::temp_dir().join(format!("tower-authz-webhooks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("position");
    std::fs::write(&file, "0").unwrap();
    // Popped from the end: the first message is refused twice.
    *receiver.answers.lock().unwrap() = vec![StatusCode::SERVICE_UNAVAILABLE; 2];
    let run = async || {
        let (position, watch) = (Position(Some(file.clone())), Watch::new().expiring_within(14 * day));
        deliver(&store, &sender, &position, watch).await.unwrap_err().to_string()
    };
    let changes = async {
        until(&receiver, 4).await;
        store.as_actor("anna").suspend(key.record.id(), "a test").await.unwrap();
        let received = until(&receiver, 5).await;
        let ids: Vec<_> = received.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(
            ids.iter().filter(|id| **id == "change_1").count()
                + ids.iter().filter(|id| id.starts_with("expiring_")).count(),
            4
        );
        let (id, body) = received.last().unwrap();
        assert_eq!(
            (id.as_str(), &body["type"], &body["data"]["note"]),
            ("change_2", &"key.suspended".into(), &"a test".into())
        );
        let expiring = received.iter().find(|(id, _)| id.starts_with("expiring_")).unwrap();
        assert_eq!((&expiring.1["type"], &expiring.1["data"]["owner"]), (&"key.expiring".into(), &"acct-7".into()));
        // A receiver that is gone for good ends the delivery; the change is delivered by the next one.
        receiver.answers.lock().unwrap().push(StatusCode::GONE);
        store.as_actor("anna").resume(key.record.id()).await.unwrap();
    };
    let (ended, ()) = tokio::join!(run(), changes);
    assert!(ended.contains("410"), "{ended}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "2", "what was not accepted is not done");
    assert!(!format!("{:?}", receiver.received.lock().unwrap()).contains(key.api_key.expose()));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_signature_is_about_all_of_a_message() {
    let (_, sender) = receiver().await;
    let message = Message { id: "change_1".to_owned(), body: "{}".to_owned() };
    let signature = sender.signature(&message, 7).unwrap();
    for other in [
        sender.signature(&message, 8),
        sender.signature(&Message { id: "change_2".to_owned(), ..message.clone() }, 7),
        sender.signature(&Message { body: "[]".to_owned(), ..message.clone() }, 7),
    ] {
        assert_ne!(other.unwrap(), signature);
    }
    // The vector of the specification's own libraries.
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let known = Sender::new("http://localhost", secret).unwrap();
    let message = Message { id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(), body: "{\"test\": 2432232314}".to_owned() };
    assert_eq!(known.signature(&message, 1_614_265_330).unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", "whsec_YQ=="] {
        assert!(Sender::new("http://localhost", bad).is_err(), "{bad}");
    }
    assert!(Sender::new("not a uri", secret).is_err());
}
