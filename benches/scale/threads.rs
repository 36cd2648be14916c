//! Compares two threads with one: the extra cost of a look-up, and of the whole chain, when a second thread does the
//! same.
//!
//! A machine whose cores share a cache, or are two hardware threads of one core, slows any two threads. The same test
//! is therefore run on a map that is never written to, which shares nothing else. The limit applies to how much more
//! than the map our store is slowed, in the same round. A second map increments and decrements a reference count for
//! each look-up, as any store that returns shared records must.

use std::{
    collections::HashMap,
    convert::Infallible,
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use http::{Request, Response};
use tower::{Layer as _, Service};
use tower_authz::{
    Digest, KeyRecord, Policy,
    store::{KeyStore as _, MemoryStore},
};

use crate::{
    common::{Carried, boxed, carry_back, guarded, key, store},
    measure::{Circle, Random, Scale, median, nanos},
    table::{self, Mark, count, ratio, thousands},
};

/// The number of calls between two reads of the clock.
const CHUNK: usize = 256;

/// The number of digests that each thread looks up: their records do not fit into the cache of a core.
const PROBES: usize = 1 << 16;

type Probes = Arc<[Vec<Digest>; 2]>;

/// Makes a chunk of calls.
type Work = Box<dyn FnMut()>;

struct Contender {
    name: &'static str,
    /// Returns the work that the thread with this number repeats.
    worker: Box<dyn Fn(usize) -> Work + Send + Sync>,
    mark: Mark,
}

pub(crate) fn run(scale: Scale) {
    let keys = if scale.smoke { scale.keys } else { 100_000 };
    let window = Duration::from_millis(if scale.smoke { 2 } else { 50 });
    let contenders = contenders(keys);
    let mut rounds: Vec<Vec<Pair>> = Vec::with_capacity(scale.rounds);
    for _ in 0..scale.rounds {
        let pair = |contender: &Contender| Pair {
            alone: together(contender, 1, window),
            beside: together(contender, 2, window),
        };
        rounds.push(contenders.iter().map(pair).collect());
    }
    print(keys, &contenders, &rounds);
}

/// The two maps come first.
fn contenders(keys: usize) -> [Contender; 5] {
    let store = store(keys);
    let digest = |number: usize| Digest::from_key(key(number).as_bytes());
    // The maps hold the same records as the store, not copies of them.
    let record = |number: usize| {
        let digest = digest(number);
        (*digest.as_bytes(), found(&store, &digest).unwrap())
    };
    let map: Arc<HashMap<[u8; 32], Arc<KeyRecord>>> = Arc::new((0..keys).map(record).collect());
    let probes: Probes = Arc::new([1, 2].map(|seed| {
        let mut random = Random::new(seed);
        (0..PROBES).map(|_| digest(random.below(keys))).collect()
    }));
    let (cloning, chained) = (Arc::clone(&map), store.clone());
    let service = |store| guarded(Policy::builder(), store).layer(carry_back());
    let own = || self::store(keys);
    [
        look_up("bare map", Mark::None, &probes, move |digest| black_box(map.get(digest.as_bytes())).is_some()),
        look_up("bare map, `Arc` cloned", Mark::None, &probes, move |digest| {
            black_box(cloning.get(digest.as_bytes()).cloned()).is_some()
        }),
        look_up("`MemoryStore`", Mark::AtMost(1.1), &probes, move |digest| found(&store, digest).is_some()),
        chain("the whole chain", Mark::AtMost(1.1), keys, vec![service(chained)]),
        chain("the whole chain, nothing shared", Mark::None, keys, vec![service(own()), service(own())]),
    ]
}

fn found(store: &MemoryStore, digest: &Digest) -> Option<Arc<KeyRecord>> {
    store.lookup(digest).found().now_or_never().unwrap().unwrap()
}

fn look_up<L>(name: &'static str, mark: Mark, probes: &Probes, look: L) -> Contender
where
    L: Fn(&Digest) -> bool + Clone + Send + Sync + 'static,
{
    let probes = Arc::clone(probes);
    let worker = move |thread: usize| -> Work {
        let (probes, look) = (Arc::clone(&probes), look.clone());
        let mut position = 0;
        Box::new(move || {
            for digest in &probes[thread][position..position + CHUNK] {
                assert!(look(black_box(digest)), "what is timed was found");
            }
            position = (position + CHUNK) % PROBES;
        })
    };
    Contender { name, worker: Box::new(worker), mark }
}

/// Each thread has a clone of the service, as a server's connections do, and its own requests. If each thread has a
/// service of its own instead, the extra cost of two threads is the machine's.
fn chain<S>(name: &'static str, mark: Mark, keys: usize, services: Vec<S>) -> Contender
where
    S: Service<Request<()>, Response = Response<Carried>, Error = Infallible> + Clone + Send + Sync + 'static,
{
    let worker = move |thread: usize| -> Work {
        let service = services[thread % services.len()].clone();
        let mut circle = Circle::new(boxed(service), keys, thread as u64 + 1);
        Box::new(move || {
            for _ in 0..CHUNK {
                circle.call();
            }
        })
    };
    Contender { name, worker: Box::new(worker), mark }
}

/// The time and the number of calls of one thread.
struct Spent {
    time: Duration,
    calls: usize,
}

/// Returns nanoseconds per call while this many threads make calls.
fn together(contender: &Contender, threads: usize, window: Duration) -> f64 {
    let (start, over) = (Barrier::new(threads), AtomicBool::new(false));
    let spent: Vec<Spent> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                let (start, over) = (&start, &over);
                scope.spawn(move || spend((contender.worker)(number), start, over, window))
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    nanos(spent.iter().map(|one| one.time).sum(), spent.iter().map(|one| one.calls).sum())
}

/// Works for the length of the window. The thread that finishes first stops both, so that neither runs alone at the
/// end.
fn spend(mut work: Work, start: &Barrier, over: &AtomicBool, window: Duration) -> Spent {
    // The warm-up fills the caches as if no other contender had run.
    let begin = Instant::now();
    while begin.elapsed() < window / 4 {
        work();
    }
    start.wait();
    let begin = Instant::now();
    let mut calls = 0;
    while !over.load(Ordering::Relaxed) {
        work();
        calls += CHUNK;
        if begin.elapsed() >= window {
            over.store(true, Ordering::Relaxed);
        }
    }
    Spent { time: begin.elapsed(), calls }
}

/// Nanoseconds per call, in one round.
struct Pair {
    alone: f64,
    beside: f64,
}

impl Pair {
    fn slowdown(&self) -> f64 {
        self.beside / self.alone
    }
}

/// Each round has one pair for each contender.
fn print(keys: usize, contenders: &[Contender], rounds: &[Vec<Pair>]) {
    println!("{} keys, medians of {} interleaved rounds.\n", count(keys), rounds.len());
    let over = |figure: &dyn Fn(&[Pair]) -> f64| median(rounds.iter().map(|round| figure(round)));
    table::head(&[
        "contender",
        "ns alone",
        "ns with two threads",
        "slowdown",
        "÷ that of the bare map",
        "÷ that of the map with `Arc` cloned",
        "mark, beside the bare map",
    ]);
    for (position, contender) in contenders.iter().enumerate() {
        let more = over(&|round| round[position].slowdown() / round[0].slowdown());
        table::row(&[
            contender.name.to_owned(),
            thousands(over(&|round| round[position].alone)),
            thousands(over(&|round| round[position].beside)),
            ratio(over(&|round| round[position].slowdown())),
            ratio(more),
            ratio(over(&|round| round[position].slowdown() / round[1].slowdown())),
            contender.mark.judge(more),
        ]);
    }
}
