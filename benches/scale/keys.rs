//! Measures the whole chain with more and more keys, and a random key in each request.
//!
//! Building a request with another key takes longer than the gate needs to decide it, so 4,096 requests are built
//! while the clock is stopped and answered in one go; their responses are dropped after the clock has stopped again.
//! Together they occupy about 4 MB, which does not stay in the cache next to the core: the gate finds each request
//! further away than in a server that has just read it. That is the same for every number of keys. The bare service
//! is given such requests as well, and its time is subtracted. Another 4,096 requests are sent before them, untimed,
//! so that the caches are as warm as if no other contender had run.

use std::{
    fs,
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use http::{Request, Response};
use tower::Layer as _;
use tower_authz::{Digest, Policy};

use crate::{
    common::{Boxed, Carried, PATH, boxed, carry_back, guarded, key, request, store},
    measure::{Random, Scale, median, nanos},
    table::{self, Mark, count, ratio, thousands},
};

const BATCH: usize = 4096;

/// The largest memory use of a key while a store is built: its record is in the list and in the store at once. Half
/// of it is freed when the store is complete.
const BYTES_WHILE_MADE: usize = 800;

pub(crate) fn run(scale: Scale) {
    let sizes = match scale.smoke {
        true => vec![100, scale.keys],
        false => [1000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|size| *size <= scale.keys).collect(),
    };
    // All sizes are measured at once if memory suffices, otherwise each of them together with the smallest.
    let groups: Vec<Vec<usize>> = match fits(&sizes) {
        true => vec![sizes],
        false => sizes[1..].iter().map(|size| vec![sizes[0], *size]).collect(),
    };
    for group in groups {
        if !fits(&group) {
            let keys = count(group.iter().sum());
            println!("**LEFT OUT: there is not enough memory for {keys} keys.**\n");
            continue;
        }
        // The thread ends with the group, because a thread caches the last snapshot that it has read, and with it all
        // keys of a store.
        thread::scope(|threads| threads.spawn(|| measure(&group, scale.rounds)).join().unwrap());
    }
}

fn fits(sizes: &[usize]) -> bool {
    let wanted = sizes.iter().sum::<usize>() * BYTES_WHILE_MADE;
    free_memory().is_none_or(|free| wanted <= free)
}

/// Returns the available memory in bytes, if the system reports it.
fn free_memory() -> Option<usize> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib * 1024)
}

/// Nanoseconds per call, all measured within the same tenth of a second.
struct Round {
    digest: f64,
    bare: f64,
    /// One figure for each number of keys.
    chains: Vec<f64>,
}

impl Round {
    /// Returns the net cost of the gate.
    fn net(&self, index: usize) -> f64 {
        self.chains[index] - self.bare
    }
}

fn measure(sizes: &[usize], rounds: usize) {
    let chain = |keys: &usize| boxed(guarded(Policy::builder(), store(*keys)).layer(carry_back()));
    let mut chains: Vec<Boxed> = sizes.iter().map(chain).collect();
    let mut bare = boxed(carry_back());
    let mut batches = Batches { random: Random::new(1), answers: Vec::with_capacity(BATCH) };
    let mut taken = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let digest = digest();
        let bare = batches.time(&mut bare, sizes[0]);
        let chains = chains.iter_mut().zip(sizes).map(|(chain, keys)| batches.time(chain, *keys)).collect();
        taken.push(Round { digest, bare, chains });
    }
    print(sizes, &taken);
}

fn digest() -> f64 {
    let known = key(500);
    let start = Instant::now();
    for _ in 0..BATCH {
        black_box(Digest::from_key(black_box(known.as_bytes())));
    }
    nanos(start.elapsed(), BATCH)
}

/// Builds requests and has them answered.
struct Batches {
    random: Random,
    /// The buffer is kept from batch to batch, so that nothing is allocated for it while the clock runs.
    answers: Vec<Response<Carried>>,
}

impl Batches {
    /// Returns nanoseconds per request.
    fn time(&mut self, service: &mut Boxed, keys: usize) -> f64 {
        let mut timed = self.make(keys);
        let mut before = self.make(keys);
        self.answer(service, &mut before);
        nanos(self.answer(service, &mut timed), BATCH)
    }

    fn make(&mut self, keys: usize) -> Vec<Request<()>> {
        (0..BATCH).map(|_| request(&key(self.random.below(keys)), PATH)).collect()
    }

    fn answer(&mut self, service: &mut Boxed, requests: &mut Vec<Request<()>>) -> Duration {
        let start = Instant::now();
        for request in requests.drain(..) {
            self.answers.push(service(request));
        }
        let time = start.elapsed();
        assert!(self.answers.iter().all(|answer| answer.status() == 200), "what is timed was admitted");
        self.answers.clear();
        time
    }
}

fn print(sizes: &[usize], rounds: &[Round]) {
    let over = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
    println!(
        "SHA-256 of the key takes {} ns, the bare service {} ns a request; medians of {} interleaved rounds.\n",
        thousands(over(&|round| round.digest)),
        thousands(over(&|round| round.bare)),
        rounds.len()
    );
    let first = format!("net, as a multiple of that among {}", count(sizes[0]));
    table::head(&[
        "keys",
        "ns a request",
        "net of the bare service",
        "net in SHA-256 of the key",
        first.as_str(),
        "mark",
    ]);
    for (index, keys) in sizes.iter().enumerate() {
        let growth = over(&|round| round.net(index) / round.net(0));
        let mark = match keys {
            1_000_000 => Mark::AtMost(2.5),
            10_000_000 => Mark::AtMost(4.0),
            _ => Mark::None,
        };
        table::row(&[
            count(*keys),
            thousands(over(&|round| round.chains[index])),
            thousands(over(&|round| round.net(index))),
            ratio(over(&|round| round.net(index) / round.digest)),
            ratio(growth),
            mark.judge(growth),
        ]);
    }
}
