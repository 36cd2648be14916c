//! What the gate costs: the whole allowed path and the refused ones, beside the bare service and one
//! SHA-256 of the same key, in one run.
//!
//! `cargo bench --bench request`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that is surprised should stop")]
#![allow(missing_docs, reason = "nobody links to a bench")]

use std::{convert::Infallible, hint::black_box};

use axum::{Router, body::Body, routing::get};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures::FutureExt as _;
use http::{Request, Response, header::AUTHORIZATION};
use tower::{Layer as _, Service, service_fn};
use tower_authz::{
    Alphabet, ApiKey, Authz, Digest, Dimension, Directory, Grant, KeyFile, KeyFormat, KeyRecord, PeerAddress, Policy,
    Rule, check::Tie, reject::Empty, store::MemoryStore,
};

const PATTERN: &str = "/shops/{shop}/countries/{country}/orders/{id}";
const PATH: &str = "/shops/de/countries/at/orders/7";

/// 45 characters, `l64_abc12345_<32 hex>`: with its padding exactly one block of SHA-256.
fn key(number: usize) -> String {
    format!("l64_{number:08}_{:032x}", (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// A thousand keys that may do what is asked: one permission of two, a shop list, a company list,
/// eight networks.
fn authz() -> Authz<Empty> {
    guarded(Policy::builder())
}

fn guarded(policy: tower_authz::PolicyBuilder) -> Authz<Empty> {
    let format = KeyFormat::structured("l64")
        .public_id(Alphabet::LowerAlphanumeric, 8)
        .secret(Alphabet::LowerHex, 32)
        .build()
        .unwrap();
    let networks: Vec<String> = (0..8).map(|net| format!("10.{}.0.0/16", net * 7)).collect();
    let grant = Grant::builder()
        .write("orders")
        .read("products")
        .only("shop", ["ch", "de", "us"])
        .all_but("company", [3])
        .from_networks(networks)
        .build()
        .unwrap();
    let records = (0..1000).map(|number| {
        let key = key(number);
        let id = key.get(..12).unwrap().parse().unwrap();
        KeyRecord::builder(id, ApiKey::new(key).digest()).grant(grant.clone()).build()
    });
    let directory = Directory::builder()
        .shop("de", Some("1"))
        .shop("ch", Some("2"))
        .shop("fr", Some("1"))
        .country("de", "at", Some("1001"))
        .build()
        .unwrap();
    let store = MemoryStore::from_file(KeyFile::new(records, directory), format).unwrap();
    let rule = Rule::resource("orders").tied(Tie::path(Dimension::SHOP, "shop"));
    let policy = policy.route(PATTERN, rule).build().unwrap();
    Authz::new(store, policy).with_reject(Empty)
}

fn request<B: Default>(key: &str, path: &str) -> Request<B> {
    let mut request = Request::get(path)
        .header("host", "localhost")
        .header("user-agent", "bench")
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .body(B::default())
        .unwrap();
    request.extensions_mut().insert(PeerAddress(([10, 14, 1, 2], 4711).into()));
    request
}

/// Hands the request back, as a service would that did nothing.
fn carry_back() -> impl Service<Request<()>, Response = Response<Carried>, Error = Infallible> + Clone {
    service_fn(async |request: Request<()>| Ok(Response::new(Carried(Some(request)))))
}

/// The request inside of the response.
#[derive(Default)]
struct Carried(Option<Request<()>>);

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;
type Boxed = Box<dyn FnMut(Request<()>) -> Response<Carried>>;

fn boxed<S>(mut service: S) -> Boxed
where
    S: Service<Request<()>, Response = Response<Carried>, Error = Infallible> + 'static,
{
    Box::new(move |request| service.call(request).now_or_never().unwrap().unwrap())
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let known = key(500);
    // One run has all figures, so that a noisy machine slows them alike: compare them with each other.
    group.bench_function("sha256 of the key", |bencher| {
        bencher.iter(|| Digest::of(black_box(known.as_bytes())));
    });

    // An admitted request comes back in the response and goes round again, so that nothing is timed but
    // the gate; a refused one is gone, and its clone is timed beside it.
    let round_trip = |group: &mut Group<'_>, name: &str, mut service: Boxed| {
        let mut place = Some(request(&known, PATH));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let response = service(place.take().unwrap());
                assert_eq!(response.status(), 200, "what is timed was admitted");
                place = response.into_body().0;
            });
        });
    };
    round_trip(&mut group, "bare service", boxed(carry_back()));
    round_trip(&mut group, "allowed", boxed(authz().layer(carry_back())));
    let unwatched = guarded(Policy::builder().finish_in_flight());
    round_trip(&mut group, "allowed, to its end whatever becomes of the key", boxed(unwatched.layer(carry_back())));

    group.bench_function("clone of the request", |bencher| {
        let request = request::<()>(&known, PATH);
        bencher.iter(|| request.clone());
    });
    let refused = |group: &mut Group<'_>, name: &str, key: &str, path: &str, expected: u16| {
        let mut service = authz().layer(carry_back());
        let request = request(key, path);
        group.bench_function(format!("refused: {name} (and the clone)"), |bencher| {
            bencher.iter(|| {
                let response = service.call(request.clone()).now_or_never().unwrap().unwrap();
                assert_eq!(response.status(), expected, "what is timed was refused");
            });
        });
    };
    refused(&mut group, "unknown key", &key(5000), PATH, 401);
    refused(&mut group, "malformed key", "garbage", PATH, 401);
    refused(&mut group, "foreign shop", &known, "/shops/fr/countries/at/orders/7", 403);
    refused(&mut group, "no rule", &known, "/elsewhere", 404);
    group.finish();

    let mut group = criterion.benchmark_group("axum");
    let router = || Router::new().route(PATTERN, get(async || "ok"));
    for (name, app) in [("bare router", router()), ("allowed", router().layer(authz()))] {
        let mut app = app.with_state::<()>(());
        let request = request::<()>(&known, PATH);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || request.clone().map(|()| Body::empty()),
                |request| {
                    let response = Service::<Request<Body>>::call(&mut app, request).now_or_never().unwrap().unwrap();
                    assert_eq!(response.status(), 200);
                    response
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
