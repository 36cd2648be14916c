//! Measures two states of the crate in turns, in one program: `.ci/compare` builds it with an earlier commit as `old` and
//! the working tree as `new`. Each figure is the least of many rounds, in nanoseconds over the same service without a gate.

mod new_common;
mod old_common;

use std::{hint::black_box, time::Instant};

use axum::{Router, body::Body, routing::get};
use futures::FutureExt as _;
use http::Request;
use tower::Service as _;
use tower_layer::Layer as _;

const ROUNDS: usize = 61;
const CALLS: usize = 2000;

/// Times some calls, and returns the nanoseconds of one.
type Timed = Box<dyn FnMut() -> f64>;

fn timed<B: 'static>(make: impl Fn() -> Request<B> + 'static, mut call: impl FnMut(Request<B>) + 'static) -> Timed {
    Box::new(move || {
        let mut requests: Vec<_> = (0..CALLS).map(|_| make()).collect();
        let begin = Instant::now();
        while let Some(request) = requests.pop() {
            call(request);
        }
        begin.elapsed().as_nanos() as f64 / CALLS as f64
    })
}

macro_rules! cases {
    ($krate:ident, $common:ident) => {{
        use $common::{FOREIGN, PATH, PATTERN, authz, boxed, carry_back, key, request, rule, store};
        let bare = |mut service: $common::Boxed, key: String, path: &'static str| {
            timed(move || request::<()>(&key, path), move |request| drop(black_box(service(request))))
        };
        let router = || Router::new().route(PATTERN, get(async || "x"));
        let gate = || {
            let policy = $krate::Policy::builder().route(PATTERN, rule()).build().unwrap();
            $krate::Authz::new(store(1000), policy)
        };
        macro_rules! axum {
            ($service:expr, $key:expr) => {{
                let (mut service, key) = ($service, $key);
                timed(
                    move || request::<Body>(&key, PATH),
                    move |request| drop(black_box(service.call(request).now_or_never().unwrap())),
                )
            }};
        }
        let gated = || boxed(authz().layer(carry_back()));
        [
            ("bare tower", bare(boxed(carry_back()), key(500), PATH)),
            ("  allowed", bare(gated(), key(500), PATH)),
            ("  foreign shop", bare(gated(), key(500), FOREIGN)),
            ("  unknown key", bare(gated(), key(5000), PATH)),
            ("  malformed key", bare(gated(), "garbage".to_owned(), PATH)),
            ("bare axum", axum!(router(), key(500))),
            ("  layer inside", axum!(router().layer(gate()), key(500))),
            ("  gate outside", axum!(gate().layer(router()), key(500))),
            ("  unknown key", axum!(router().layer(gate()), key(5000))),
        ]
    }};
}

fn main() {
    let mut old = cases!(old, old_common);
    let mut new = cases!(new, new_common);
    let mut least = vec![[f64::MAX; 2]; old.len()];
    for _ in 0..ROUNDS {
        for (least, ((_, old), (_, new))) in least.iter_mut().zip(old.iter_mut().zip(&mut new)) {
            *least = [least[0].min(old()), least[1].min(new())];
        }
    }
    let mut base = [0.0; 2];
    println!("{:16} {:>8} {:>8} {:>6}", "ns over bare", "before", "now", "ratio");
    for ((name, _), [before, now]) in old.iter().zip(least) {
        if !name.starts_with(' ') {
            base = [before, now];
            println!("{name:16} {before:8.0} {now:8.0}");
            continue;
        }
        let (before, now) = (before - base[0], now - base[1]);
        println!("{name:16} {before:8.0} {now:8.0} {:6.2}", now / before);
    }
}
