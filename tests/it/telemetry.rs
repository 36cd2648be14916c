//! Each decision has one event and one count, and neither contains a secret.

use std::{cell::RefCell, io, sync::Once};

use metrics_util::debugging::DebuggingRecorder;
use tower::Layer as _;
use tower_authz::{Authz, Policy, Rule};

use crate::support::{Handler, KEY, get, products_reader, send, store};

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Collects the log of this thread. There is one subscriber for the whole process, because with one for each test, a
/// parallel test without a subscriber could disable the events permanently.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> impl tower::Service<
    http::Request<http_body_util::Full<bytes::Bytes>>,
    Response = http::Response<http_body_util::Full<bytes::Bytes>>,
    Error = std::convert::Infallible,
> + Clone {
    let policy = Policy::builder()
        .public("/health")
        .route("/products/{id}", Rule::resource("products").unscoped())
        .route("/orders", Rule::resource("orders").unscoped().kind("admin"))
        .build()
        .unwrap();
    Authz::new(store(products_reader()), policy).layer(Handler::default())
}

#[test]
fn each_decision_is_one_event_without_secrets() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| Lines)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    let keyless = http::Request::get("/orders").body(http_body_util::Full::default()).unwrap();
    for request in [get("/products/7"), get("/orders"), keyless, get("/health")] {
        let span = tracing::info_span!("request", key_id = tracing::field::Empty);
        span.in_scope(|| futures::executor::block_on(send(gate(), request)));
    }
    let text = String::from_utf8(LINES.take()).unwrap();
    let events: Vec<&str> = text.lines().collect();
    assert_eq!(events.len(), 3, "{text}");
    assert!(events[0].contains(r#"key_id="test-key""#) && events[0].contains(r#"outcome="allowed""#), "{text}");
    assert!(
        events[1].contains("causes=wrong_kind,missing_permission") && events[1].contains(r#"route="/orders""#),
        "{text}"
    );
    assert!(events[2].contains("causes=missing_credential") && events[2].contains("status=401"), "{text}");
    for event in &events[..2] {
        assert!(event.contains("request{key_id=\"test-key\"}"), "the span knows who calls, refused or not: {text}");
    }
    assert!(!events[2].contains("key_id"), "{text}");
    assert!(!text.contains(KEY));
}

#[test]
fn decisions_are_counted_by_outcome_and_cause() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        futures::executor::block_on(async {
            send(gate(), get("/products/7")).await;
            send(gate(), get("/products/8")).await;
            send(gate(), get("/nowhere")).await;
        });
    });
    let mut counts: Vec<String> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels: Vec<String> =
                key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            format!("{} {} {value:?}", key.key().name(), labels.join(","))
        })
        .collect();
    counts.sort();
    assert_eq!(
        counts,
        [
            "tower_authz_decisions_total outcome=allowed,cause= Counter(2)",
            "tower_authz_decisions_total outcome=denied,cause=no_rule Counter(1)",
        ]
    );
}
