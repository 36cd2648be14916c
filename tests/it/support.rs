//! Keys, stores and services that several tests need.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt as _};
use tower_authz::{
    ApiKey, Digest, Directory, Grant, KeyFile, KeyFormat, KeyFormats, KeyRecord,
    store::{Found, KeyStore, Lookup, MemoryStore, StoreError},
};

/// The format is opaque, so that tests can invent keys.
pub fn format() -> KeyFormat {
    KeyFormat::opaque(16, 128).unwrap()
}

pub const KEY: &str = "a-key-that-was-issued";

pub fn record(id: &str, key: &str, grant: Grant) -> KeyRecord {
    KeyRecord::builder(id.parse().unwrap(), ApiKey::new(key).digest()).grant(grant).build()
}

pub fn store_of(records: impl IntoIterator<Item = KeyRecord>, directory: Directory) -> MemoryStore {
    MemoryStore::from_file(KeyFile::new(records, directory), format()).unwrap()
}

/// Returns a store with [`KEY`], which has this grant and the id `test-key`.
pub fn store(grant: Grant) -> MemoryStore {
    store_of([record("test-key", KEY, grant)], Directory::default())
}

pub fn products_reader() -> Grant {
    Grant::builder().read("products").build().unwrap()
}

pub fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header(AUTHORIZATION, format!("Bearer {KEY}")).body(Full::default()).unwrap()
}

/// Answers each request with 200, and counts the requests.
#[derive(Clone, Default)]
pub struct Handler {
    calls: Arc<AtomicUsize>,
}

impl Handler {
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl<B> Service<Request<B>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(Response::new(Full::from("handled"))))
    }
}

/// The way in which a store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    AtOnce,
    Later,
    Unavailable,
    UnavailableLater,
    Unreadable,
    Panics,
    PanicsLater,
    /// The store returns a record that was not asked for.
    Lies,
}

/// A store of one key that answers in this way.
#[derive(Clone)]
pub struct MoodyStore {
    pub mood: Mood,
    pub keys: MemoryStore,
}

impl KeyStore for MoodyStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        let keys = self.keys.clone();
        let digest = *digest;
        match self.mood {
            Mood::AtOnce => keys.lookup(&digest),
            Mood::Later => Lookup::pending(async move {
                YieldOnce(false).await;
                find(&keys, &digest).await
            }),
            Mood::Unavailable => Lookup::ready(Err(StoreError::unavailable("down"))),
            Mood::UnavailableLater => Lookup::pending(async {
                YieldOnce(false).await;
                Err(StoreError::unavailable("down"))
            }),
            Mood::Unreadable => Lookup::ready(Err(StoreError::unreadable("a corrupt row"))),
            Mood::Panics => panic!("the store panics"),
            Mood::PanicsLater => Lookup::pending(async {
                YieldOnce(false).await;
                panic!("the store panics")
            }),
            Mood::Lies => Lookup::pending(async move { find(&keys, &ApiKey::new(KEY).digest()).await }),
        }
    }

    fn formats(&self) -> KeyFormats {
        self.keys.formats()
    }
}

/// Looks a key up through the public interface, because the look-up of the store itself is under test.
pub fn find(keys: &MemoryStore, digest: &Digest) -> impl Future<Output = Found> + use<> {
    use tower_authz::store::{KeyAdmin as _, KeyQuery};
    let (keys, digest) = (keys.clone(), *digest);
    async move { Ok(keys.list(&KeyQuery::new()).await?.records.into_iter().find(|record| *record.digest() == digest)) }
}

pub struct YieldOnce(pub bool);

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Serves an application on a socket, by HTTP/1 and HTTP/2, as long as the test runs.
pub async fn serve(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                // A client may disconnect at any time, so an error here is ignored.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Sends one request, and returns status and body.
pub async fn send<S, B, R>(service: S, request: Request<B>) -> (StatusCode, String)
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: std::fmt::Debug,
    R: http_body::Body,
    R::Error: std::fmt::Debug,
{
    let response = service.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A file that is mounted over another, as containers do it, until this is dropped.
#[cfg(target_os = "linux")]
pub struct Mount(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Mount {
    /// Returns `None` if this user may not mount: then the test is skipped, which is reported, unless
    /// `REQUIRE_MOUNT=1`.
    pub fn new(outside: &std::path::Path, inside: &std::path::Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        let is_mounted = mount.arg("--bind").args([outside, inside]).status().is_ok_and(|status| status.success());
        if !is_mounted {
            assert!(std::env::var_os("REQUIRE_MOUNT").is_none(), "REQUIRE_MOUNT is set, and nothing can be mounted");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: this user may not mount\n");
            return None;
        }
        Some(Self(inside.to_owned()))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
