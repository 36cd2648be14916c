//! What happened, and whether it may have.

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

/// From when on nobody was to be admitted by a key: until it was about to be given back what it may do, or for good.
pub struct Forbidden {
    pub key: usize,
    pub from: Instant,
    pub until: Option<Instant>,
    /// How long it took to make it so.
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
    /// Requests of which it is known that they had to be refused.
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

    /// How long each change took that took something away, the shortest first.
    pub fn waits(&self) -> Vec<Duration> {
        let mut waits: Vec<_> = lock(&self.forbidden).iter().map(|forbidden| forbidden.took).collect();
        waits.sort_unstable();
        waits
    }

    /// A request is a violation if it was admitted though it began after its key was forbidden, and was answered
    /// before that was taken back.
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
            let judged = list.iter().any(is_within);
            findings.admitted += usize::from(request.admitted);
            findings.judged += usize::from(judged);
            findings.violations += usize::from(judged && request.admitted);
        }
        findings
    }

    /// All of it as text, in microseconds since `start`.
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
