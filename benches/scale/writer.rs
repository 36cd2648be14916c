//! Measures the chain while keys change: the latency of each request, with and without a thread that makes a thousand
//! changes a second.
//!
//! Windows without and with changes alternate, and a ratio compares two adjacent ones. Every request is timed
//! individually, including the reads of the clock, because only a few requests pay for a change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures::executor::block_on;
use tower::Layer as _;
use tower_authz::{
    Grant, KeyId, Policy,
    store::{KeyAdmin as _, MemoryStore, NewKey},
};

use crate::{
    common::{boxed, carry_back, guarded, store},
    measure::{Circle, Scale, median},
    table::{self, Mark, count, ratio, thousands},
};

/// The interval between two changes.
const PACE: Duration = Duration::from_millis(1);

/// Fewer windows have too few requests for the 99th percentile.
const WINDOWS: usize = 21;

pub(crate) fn run(scale: Scale) {
    let keys = if scale.smoke { scale.keys } else { 100_000 };
    let length = Duration::from_millis(if scale.smoke { 10 } else { 200 });
    let windows = if scale.smoke { scale.rounds } else { scale.rounds.max(WINDOWS) };
    let store = store(keys);
    let service = guarded(Policy::builder(), store.clone()).layer(carry_back());
    let mut watched = Watched { circle: Circle::new(boxed(service), keys, 1), times: Vec::with_capacity(1 << 20) };
    let writer = Writer::start(store);
    watched.window(length); // the figures of the warm-up are dropped
    let mut pairs = Vec::with_capacity(windows);
    for _ in 0..windows {
        let without = watched.window(length);
        writer.resume();
        let with = watched.window(length);
        writer.pause();
        pairs.push(Pair { without, with });
    }
    print(keys, &pairs, &writer.end());
}

/// Latencies of a window, in nanoseconds per request.
struct Latency {
    median: f64,
    p99: f64,
    requests: usize,
}

struct Pair {
    without: Latency,
    with: Latency,
}

struct Watched {
    circle: Circle,
    /// The buffer is kept from window to window, so that nothing is allocated for it while requests are timed.
    times: Vec<u32>,
}

impl Watched {
    fn window(&mut self, length: Duration) -> Latency {
        self.times.clear();
        let begin = Instant::now();
        loop {
            let start = Instant::now();
            self.circle.call();
            let end = Instant::now();
            self.times.push(u32::try_from((end - start).as_nanos()).unwrap_or(u32::MAX));
            if end - begin >= length {
                break;
            }
        }
        self.times.sort_unstable();
        let requests = self.times.len();
        let among = |hundredth: usize| f64::from(self.times[(requests - 1) * hundredth / 100]);
        Latency { median: among(50), p99: among(99), requests }
    }
}

/// The thread that changes keys while its switch is on.
struct Writer {
    switch: Arc<Switch>,
    thread: JoinHandle<Written>,
}

#[derive(Default)]
struct Switch {
    on: AtomicBool,
    over: AtomicBool,
}

/// The number of changes, and the time that they took.
#[derive(Default)]
struct Written {
    changes: u32,
    time: Duration,
}

impl Writer {
    fn start(store: MemoryStore) -> Self {
        let switch = Arc::new(Switch::default());
        let thread = thread::spawn({
            let switch = Arc::clone(&switch);
            move || write(&store, &switch)
        });
        Self { switch, thread }
    }

    fn resume(&self) {
        self.switch.on.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    fn pause(&self) {
        self.switch.on.store(false, Ordering::Release);
    }

    fn end(self) -> Written {
        self.pause();
        self.switch.over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap()
    }
}

fn write(store: &MemoryStore, switch: &Switch) -> Written {
    let mut written = Written::default();
    let mut issued = None;
    while !switch.over.load(Ordering::Acquire) {
        if !switch.on.load(Ordering::Acquire) {
            thread::park();
            continue;
        }
        let start = Instant::now();
        for number in 0_u32.. {
            // Changes follow a fixed schedule, so that a late one does not delay all later ones.
            thread::sleep((start + PACE * number).saturating_duration_since(Instant::now()));
            if !switch.on.load(Ordering::Acquire) {
                break;
            }
            change(store, &mut issued);
            written.changes += 1;
        }
        written.time += start.elapsed();
    }
    written
}

/// Issues a key, and revokes it on the next call.
fn change(store: &MemoryStore, issued: &mut Option<KeyId>) {
    let who = store.as_actor("bench");
    match issued.take() {
        None => {
            let new = block_on(who.issue(NewKey::new("bench", Grant::default()))).unwrap();
            *issued = Some(new.record.id().clone());
        }
        Some(id) => {
            let revoked = block_on(who.revoke(&id, "")).unwrap();
            assert!(revoked.changed, "the key lived until now");
        }
    }
}

fn print(keys: usize, pairs: &[Pair], written: &Written) {
    let requests: usize = pairs.iter().map(|pair| pair.without.requests + pair.with.requests).sum();
    println!(
        "{} keys, {} requests in {} windows without and {} with changes: {} changes, {} a second.\n",
        count(keys),
        count(requests),
        pairs.len(),
        pairs.len(),
        count(written.changes as usize),
        thousands(f64::from(written.changes) / written.time.as_secs_f64())
    );
    table::head(&["ns a request", "without changes", "with changes", "ratio", "mark"]);
    row("median", Mark::AtMost(1.1), pairs, |window| window.median);
    row("99 of 100 are faster than", Mark::AtMost(1.3), pairs, |window| window.p99);
}

fn row(name: &str, mark: Mark, pairs: &[Pair], figure: fn(&Latency) -> f64) {
    let more = median(pairs.iter().map(|pair| figure(&pair.with) / figure(&pair.without)));
    table::row(&[
        name.to_owned(),
        thousands(median(pairs.iter().map(|pair| figure(&pair.without)))),
        thousands(median(pairs.iter().map(|pair| figure(&pair.with)))),
        ratio(more),
        mark.judge(more),
    ]);
}
