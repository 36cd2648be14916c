//! The helpers that the sections share: the amount of measurement, random numbers, medians, and requests that are
//! sent again and again.

use std::{env, time::Duration};

use http::Request;

use crate::common::{Boxed, PATH, key, request};

/// The amount of measurement.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// The largest number of keys. A section that needs a fixed number uses its own.
    pub(crate) keys: usize,
    pub(crate) rounds: usize,
    /// Whether the run only checks that everything runs.
    pub(crate) smoke: bool,
}

const SMOKE_KEYS: usize = 1000;

impl Scale {
    /// Reads the scale from the environment. Code that was compiled without optimization is not worth measuring.
    pub(crate) fn of_environment(test: bool) -> Self {
        let number = |name: &str, default: usize| {
            env::var(name).map_or(default, |text| text.parse().expect("KEYS and ROUNDS are numbers"))
        };
        let (keys, rounds) = (number("KEYS", 1_000_000), number("ROUNDS", 21));
        assert!(rounds > 0, "without a round there is no median");
        let smoke = test || keys <= SMOKE_KEYS || cfg!(debug_assertions);
        if smoke { Self { keys: SMOKE_KEYS, rounds: 3, smoke } } else { Self { keys, rounds, smoke } }
    }
}

/// A pseudo-random generator (xorshift) that gives the same numbers in each run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        // The seed must not be zero, which xorshift never leaves, and should have many bits set.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) const fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Returns nanoseconds per call.
pub(crate) fn nanos(time: Duration, calls: usize) -> f64 {
    time.as_nanos() as f64 / calls as f64
}

/// A service, and requests with random keys that come back in the response and are sent again, so that nothing has to
/// be prepared between two calls. The requests are few enough to stay in the cache of one core.
pub(crate) struct Circle {
    service: Boxed,
    requests: Vec<Option<Request<()>>>,
    place: usize,
}

const REQUESTS: usize = 1024;

impl Circle {
    pub(crate) fn new(service: Boxed, keys: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let requests = (0..REQUESTS).map(|_| Some(request(&key(random.below(keys)), PATH))).collect();
        Self { service, requests, place: 0 }
    }

    pub(crate) fn call(&mut self) {
        self.place = (self.place + 1) % REQUESTS;
        let slot = &mut self.requests[self.place];
        let response = (self.service)(slot.take().unwrap());
        assert_eq!(response.status(), 200, "what is timed was admitted");
        *slot = response.into_body().0.map(|request| *request);
    }
}
