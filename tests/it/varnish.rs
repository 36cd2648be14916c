//! Tests a shared cache in front of the gate: Varnish with its built-in rules. Without Varnish the test reports that
//! it is skipped, unless `REQUIRE_VARNISH=1`.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, routing::get};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use tower_authz::{
    Authz, Directory, Grant, Policy, Rule,
    store::{KeyAdmin as _, MemoryStore},
};

use crate::support::{KEY, record, serve, store_of};

const OTHER: &str = "another-key-that-was-issued";

/// A running cache with a socket in its own directory, both of which are removed on drop.
struct Varnish {
    child: Child,
    folder: PathBuf,
}

impl Varnish {
    async fn start(backend: SocketAddr) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("tower-authz-varnish-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
            .map(|place| place.join("varnishd"))
            .find(|program| program.is_file());
        let Some(program) = found else {
            assert!(std::env::var_os("REQUIRE_VARNISH").is_none(), "REQUIRE_VARNISH is set, and there is no varnishd");
            // The line is written directly to standard error, which the harness would capture otherwise.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no varnishd was found");
            return None;
        };
        let child = Command::new(program)
            .args(["-F", "-j", "none", "-s", "malloc,4m", "-b", &backend.to_string()])
            .arg("-n")
            .arg(folder.join("work"))
            .arg("-a")
            .arg(folder.join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let varnish = Self { child, folder };
        for _ in 0..200 {
            // The cache is ready when the first request succeeds.
            if UnixStream::connect(varnish.socket()).await.is_ok() && varnish.get("/open", "").await.0 == 200 {
                return Some(varnish);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("varnishd does not answer");
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Returns status and body of the response to a GET with these header lines. The status is 0 if there is none.
    async fn get(&self, path: &str, lines: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // The worker of Varnish ends with its parent.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Counts the requests that reach the handler.
async fn count(State(calls): State<Arc<AtomicUsize>>) -> String {
    format!("answer {}", calls.fetch_add(1, Ordering::SeqCst))
}

fn app(keys: MemoryStore) -> Router {
    let policy = Policy::builder()
        .public("/open")
        .route("/products", Rule::resource("products").unscoped())
        .route("/marked", Rule::resource("products").unscoped())
        .route("/secrets", Rule::resource("secrets").unscoped().concealed())
        .build()
        .unwrap();
    let marked = async |calls: State<Arc<AtomicUsize>>| ([("cache-control", "public, max-age=60")], count(calls).await);
    Router::new()
        .route("/open", get(count))
        .route("/products", get(count))
        .route("/marked", get(marked))
        .route("/secrets", get(count))
        .with_state(Arc::<AtomicUsize>::default())
        .layer(Authz::new(keys, policy))
}

#[tokio::test]
async fn a_shared_cache_hands_nothing_on() {
    let reader = |resources: &[&'static str]| {
        resources.iter().fold(Grant::builder(), |grant, resource| grant.read(*resource)).build().unwrap()
    };
    let records = [record("one", KEY, reader(&["products", "secrets"])), record("other", OTHER, reader(&["products"]))];
    let keys = store_of(records, Directory::default());
    let Some(varnish) = Varnish::start(serve(app(keys.clone())).await).await else { return };
    let header = |name: &str, key: &str| format!("{name}: {key}\r\n");
    let (mine, others) = (header("x-api-key", KEY), header("x-api-key", OTHER));

    // A public response is cached, and served to all clients.
    let open = varnish.get("/open", "").await;
    assert_eq!(varnish.get("/open", "").await, open, "this is no cache");
    assert_eq!(varnish.get("/open", &mine).await, open);

    // A response to a key is for that request only, and a refusal is not served to a client with a key.
    for path in ["/products", "/marked"] {
        assert_eq!(varnish.get(path, "").await.0, 401, "{path}");
        let first = varnish.get(path, &mine).await;
        assert_eq!(first.0, 200, "{path}");
        let token = varnish.get(path, &header("x-access-token", KEY)).await;
        assert!(token.0 == 200 && token != first, "{path}");
        let other = varnish.get(path, &others).await;
        assert!(other.0 == 200 && other != first, "{path}: another key has an answer of its own");
        for lines in [String::new(), header("x-api-key", "garbage"), header("x-access-token", "garbage")] {
            assert_eq!(varnish.get(path, &lines).await.0, 401, "{path} {lines}");
        }
    }
    assert_ne!(varnish.get("/products", &mine).await, varnish.get("/products", &mine).await, "not even for itself");
    let marked = varnish.get("/marked", &mine).await;
    assert_eq!(varnish.get("/marked", &mine).await, marked, "the handler says that it may be kept");

    // The 404 for a key that may not know of a route must not be served to one that may. Caches store a 404 unless
    // told otherwise.
    assert_eq!(varnish.get("/secrets", &others).await.0, 404);
    assert_eq!(varnish.get("/secrets", &mine).await.0, 200);
    assert_eq!(varnish.get("/secrets", &others).await.0, 404);

    assert_eq!(varnish.get("/products", &mine).await.0, 200);
    keys.as_actor("test").revoke(&"one".parse().unwrap(), "").await.unwrap();
    assert_eq!(varnish.get("/products", &mine).await.0, 401, "revoked, and served from the cache");
}
