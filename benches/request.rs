//! Measures the cost of the gate: the whole allowed path and the refused ones, beside the bare service and one
//! SHA-256 of the same key, in one run.
//!
//! `cargo bench -p tower-authz --bench request`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that is surprised should stop")]
#![allow(missing_docs, reason = "nobody links to a bench")]

mod common;

use std::hint::black_box;

use axum::{Router, body::Body, routing::get};
use common::{Boxed, FOREIGN, PATH, PATTERN, authz, boxed, carry_back, guarded, key, request, store};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures::FutureExt as _;
use http::Request;
use tower::{Layer as _, Service};
use tower_authz::{Digest, Policy};

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;
fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    let known = key(500);
    // All figures come from one run, so that other load on the machine slows them alike. Compare them only with each
    // other.
    group.bench_function("sha256 of the key", |bencher| {
        bencher.iter(|| Digest::from_key(black_box(known.as_bytes())));
    });

    // An admitted request comes back in the response and is sent again, so that only the gate is timed. A refused one
    // is dropped, and its clone is timed with it.
    let round_trip = |group: &mut Group<'_>, name: &str, mut service: Boxed| {
        let mut next = Some(request(&known, PATH));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let response = service(next.take().unwrap());
                assert_eq!(response.status(), 200, "what is timed was admitted");
                next = response.into_body().0.map(|request| *request);
            });
        });
    };
    round_trip(&mut group, "bare service", boxed(carry_back()));
    round_trip(&mut group, "allowed", boxed(authz().layer(carry_back())));
    let unwatched = guarded(Policy::builder().finish_in_flight(), store(1000));
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
    refused(&mut group, "foreign shop", &known, FOREIGN, 403);
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
