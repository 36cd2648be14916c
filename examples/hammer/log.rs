//! Records requests and changes, and finds violations among them.

use std::{
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A request that was answered.
pub struct Request {
    pub key: usize,
    pub begin: Instant,
    pub end: Instant,
    pub admitted: bool,
}

/// A period in which a key must not be admitted: it ends just before the grant is widened again, or never.
pub struct Forbidden {
    pub key: usize,
    pub from: Instant,
    pub until: Option<Instant>,
    /// The duration of the change that began the period.
    pub took: Duration,
}

#[derive(Default)]
pub struct Log {
    requests: Mutex<Vec<Request>>,
    forbidden: Mutex<Vec<Forbidden>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
pub struct Findings {
    pub requests: usize,
    pub admitted: usize,
    /// The number of requests that certainly had to be refused.
    pub judged: usize,
    pub violations: usize,
}

impl Log {
    pub fn request(&self, request: Request) {
        lock(&self.requests).push(request);
    }

    pub fn forbidden(&self, forbidden: Forbidden) {
        lock(&self.forbidden).push(forbidden);
    }

    /// The durations of the changes that narrowed or revoked a key, the shortest first.
    pub fn waits(&self) -> Vec<Duration> {
        let mut waits: Vec<_> = lock(&self.forbidden).iter().map(|forbidden| forbidden.took).collect();
        waits.sort_unstable();
        waits
    }

    /// A request is a violation if it was admitted although it began after its key was forbidden, and was answered
    /// before the period ended.
    pub fn check(&self) -> Findings {
        let (requests, forbidden) = (lock(&self.requests), lock(&self.forbidden));
        let keys =
            requests.iter().map(|it| it.key).chain(forbidden.iter().map(|it| it.key)).max().map_or(0, |it| it + 1);
        let mut of_key: Vec<Vec<&Forbidden>> = vec![Vec::new(); keys];
        for forbidden in forbidden.iter() {
            of_key.get_mut(forbidden.key).into_iter().for_each(|list| list.push(forbidden));
        }
        let mut findings = Findings { requests: requests.len(), ..Findings::default() };
        for request in requests.iter() {
            let list = of_key.get(request.key).map(Vec::as_slice).unwrap_or_default();
            let is_within =
                |it: &&Forbidden| it.from <= request.begin && it.until.is_none_or(|until| request.end < until);
            let must_refuse = list.iter().any(is_within);
            findings.admitted += usize::from(request.admitted);
            findings.judged += usize::from(must_refuse);
            findings.violations += usize::from(must_refuse && request.admitted);
        }
        findings
    }

    /// All records as text, in microseconds since `start`.
    pub fn text(&self, start: Instant) -> String {
        let micros = |time: Instant| time.saturating_duration_since(start).as_micros();
        let mut text = String::from("what\tkey\tfrom\tuntil\tadmitted\n");
        for it in lock(&self.requests).iter() {
            let _ = writeln!(text, "request\t{}\t{}\t{}\t{}", it.key, micros(it.begin), micros(it.end), it.admitted);
        }
        for it in lock(&self.forbidden).iter() {
            let until = it.until.map_or(String::new(), |until| micros(until).to_string());
            let _ = writeln!(text, "forbidden\t{}\t{}\t{until}\t", it.key, micros(it.from));
        }
        text
    }
}
