//! Measures each step of a decision alone, and how it scales: parse, digest, look-up, permission, restriction,
//! network, path and client address; then each layer alone, the whole chain with more rules, and look-ups among more
//! keys.
//!
//! `cargo bench -p tower-authz --bench steps`; `KEYS=10000000` measures more keys than a million.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that is surprised should stop")]
#![allow(missing_docs, reason = "nobody links to a bench")]

mod common;

use std::{hint::black_box, net::IpAddr};

use common::{Boxed, PATH, authz, boxed, carry_back, format, guarded, key, request, store};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime};
use futures::FutureExt as _;
use http::{HeaderMap, Request};
use tower::{Layer as _, ServiceBuilder};
use tower_authz::{
    AuthenticateLayer, CleanPath, ClientAddress, Digest, Dimension, Grant, Networks, Permission, Policy, RequireLayer,
    Restriction, Rule, TrustedProxies, reject::Empty, store::KeyStore as _,
};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    let known = key(500);
    let digest = |group: &mut Group<'_>, when: &str| {
        group.bench_function(BenchmarkId::new("sha256 of the key", when), |bencher| {
            bencher.iter(|| Digest::from_key(black_box(known.as_bytes())));
        });
    };
    digest(&mut group, "first");
    let format = format();
    group.bench_function("parse", |bencher| bencher.iter(|| assert!(format.matches(black_box(known.as_bytes())))));
    group.bench_function("clean path", |bencher| bencher.iter(|| CleanPath::new().validate(black_box(PATH)).unwrap()));
    let grant = Grant::builder().write("orders").read("products").build().unwrap();
    let permission = Permission::read("orders");
    group.bench_function("permission", |bencher| bencher.iter(|| assert!(grant.permits(black_box(&permission)))));

    for count in [10_usize, 1000, 100_000] {
        let ids: Vec<String> = (0..count).map(|number| format!("shop-{number}")).collect();
        let list = Restriction::include(&Dimension::SHOP, &ids).unwrap();
        // A thousand probes are spread over the list and allocated once, so that no id is fetched from main memory in
        // each call.
        let probes: Vec<&String> = (0..1024).map(|number| &ids[number * 7919 % count]).collect();
        let mut place = 0;
        group.bench_function(BenchmarkId::new("restriction", count), |bencher| {
            bencher.iter(|| {
                place = (place + 1) & 1023;
                assert!(list.allows(black_box(probes[place])));
            });
        });
    }
    for count in [1_u32, 8, 100, 10_000, 100_000] {
        // The networks are spread over the whole address space with gaps, so that none are merged.
        let v4: Vec<u32> = (0..count).map(|number| (number.wrapping_mul(0x9e37_79b1)) & !0x1ff).collect();
        let v4: Vec<IpAddr> = v4.into_iter().map(|bits| IpAddr::V4(bits.into())).collect();
        let v6 = |number: u32| (0x2001_u128 << 112) | (u128::from(number.wrapping_mul(0x9e37_79b1)) << 64);
        let v6: Vec<IpAddr> = (0..count).map(|number| IpAddr::V6(v6(number).into())).collect();
        for (family, prefix, list) in [("v4", 24, v4), ("v6", 64, v6)] {
            let networks = Networks::parse(list.iter().map(|ip| format!("{ip}/{prefix}"))).unwrap();
            // Half of the probes are in a network, and the other half are next to one.
            let probes: Vec<IpAddr> = (0..1024_usize)
                .map(|number| match list[number * 7919 % list.len()] {
                    IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) | if number % 2 == 0 { 7 } else { 0x107 }).into()),
                    IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) | if number % 2 == 0 { 7 } else { 1 << 100 }).into()),
                })
                .collect();
            let mut place = 0;
            group.bench_function(BenchmarkId::new(format!("networks, {family}"), count), |bencher| {
                bencher.iter(|| {
                    place = (place + 1) & 1023;
                    black_box(networks.contains(black_box(probes[place])))
                });
            });
        }
    }
    let proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    let peer = ClientAddress::from("10.0.0.1".parse::<IpAddr>().unwrap());
    for hops in [1, 5] {
        let mut headers = HeaderMap::new();
        let chain = format!("203.0.113.7{}", ", 10.0.0.2".repeat(hops - 1));
        headers.insert("x-forwarded-for", chain.parse().unwrap());
        group.bench_function(BenchmarkId::new("client address, hops", hops), |bencher| {
            bencher.iter(|| assert!(proxies.client(peer, black_box(&headers)).ip().is_some()));
        });
    }
    digest(&mut group, "last");
    group.finish();
}

/// Sends an admitted request again and again, so that only the gate and the bare service are timed.
fn round(group: &mut Group<'_>, name: BenchmarkId, mut service: Boxed, request: Request<()>) {
    let mut place = Some(request);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let response = service(place.take().unwrap());
            assert_eq!(response.status(), 200, "what is timed was admitted");
            place = response.into_body().0.map(|request| *request);
        });
    });
}

/// Measures each layer alone, and both together.
fn layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer");
    let asked = || request(&key(500), PATH);
    let authenticate = || AuthenticateLayer::new(store(1000)).with_rejection(Empty);
    let require = || RequireLayer::new(Rule::resource("orders").unscoped()).with_rejection(Empty);
    // `RequireLayer` needs a principal, which another layer has put into the request before.
    let authenticated = || {
        let response = boxed(authenticate().layer(carry_back()))(asked());
        *response.into_body().0.unwrap()
    };
    let alone = |name| BenchmarkId::new(name, "alone");
    round(&mut group, BenchmarkId::new("bare", "service"), boxed(carry_back()), asked());
    round(&mut group, alone("AuthenticateLayer"), boxed(authenticate().layer(carry_back())), asked());
    round(&mut group, alone("RequireLayer of a rule"), boxed(require().layer(carry_back())), authenticated());
    let clean_path = RequireLayer::new(CleanPath::new()).with_rejection(Empty);
    round(&mut group, alone("RequireLayer of a clean path"), boxed(clean_path.layer(carry_back())), asked());
    let both = ServiceBuilder::new().layer(authenticate()).layer(require()).service(carry_back());
    round(&mut group, BenchmarkId::new("AuthenticateLayer and RequireLayer", "of a rule"), boxed(both), asked());
    round(&mut group, BenchmarkId::new("Authz", "all of it"), boxed(authz().layer(carry_back())), asked());
    group.finish();
}

/// Measures the whole chain with more rules.
fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain");
    for rules in [10, 500] {
        let other = |number: usize| format!("/api/v1/area{number}/{{id}}");
        let policy = (1..rules).fold(Policy::builder(), |policy, number| {
            policy.route(&other(number), Rule::resource("products").unscoped())
        });
        let authz = guarded(policy, store(1000));
        let name = BenchmarkId::new("rules", rules);
        round(&mut group, name, boxed(authz.layer(carry_back())), request(&key(500), PATH));
    }
    round(&mut group, BenchmarkId::new("bare", "service"), boxed(carry_back()), request(&key(500), PATH));
    group.finish();
}

/// Measures a look-up alone. The bench `scale` measures the whole chain, and contention.
fn look_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("look-up");
    let most = std::env::var("KEYS").ok().and_then(|number| number.parse().ok()).unwrap_or(1_000_000);
    for keys in [1000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|keys| *keys <= most) {
        let store = store(keys);
        // There are more digests than slots fit into a cache. They are read in order, so that reading them costs
        // nothing itself.
        let digests: Vec<Digest> = (0..1 << 18)
            .map(|number: usize| Digest::from_key(key(number.wrapping_mul(7919) % keys).as_bytes()))
            .collect();
        let mut place = 0;
        group.bench_function(BenchmarkId::new("among keys", keys), |bencher| {
            bencher.iter(|| {
                place = (place + 1) & ((1 << 18) - 1);
                let found = store.lookup(black_box(&digests[place])).found().now_or_never().unwrap();
                assert!(found.unwrap().is_some());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps, layers, growth, look_up);
criterion_main!(benches);
