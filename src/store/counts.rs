//! Counts of decisions in memory, until a store writes them down.

use std::{
    collections::{HashMap, hash_map},
    net::IpAddr,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ecow::EcoString;
use hashbrown::{HashTable, hash_table::Entry};

use crate::{
    key::{Digest, KeyId, KeyRecord},
    threads,
};

/// Counts decisions by key and day. Each thread has a shard of its own, whose lock only a flush competes for.
#[derive(Default)]
pub(crate) struct Counts([Shard; SHARDS]);

/// More threads than that share a shard with others.
const SHARDS: usize = 16;

#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<Tallies>);

#[derive(Default)]
struct Tallies {
    /// By the digests of the keys, which are uniformly distributed and so need no hash of their own.
    today: HashTable<Counted>,
    /// Of days that are over.
    finished: Vec<(KeyId, Tally)>,
}

/// A key, and what was decided about it today.
struct Counted {
    digest: Digest,
    id: KeyId,
    tally: Tally,
    /// From when and until when decisions belong to this day.
    day: Range<SystemTime>,
    /// From when on another use is noted.
    noted_until: SystemTime,
}

/// A store that writes nothing down keeps no more than this of days that are over, for each shard.
const FINISHED: usize = 65_536;

/// The decisions about one key on one day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Days since 1970, in UTC.
    pub(crate) day: u64,
    pub(crate) allowed: u64,
    /// By the code of the first cause.
    pub(crate) refused: Vec<(&'static str, u64)>,
    last: Option<(SystemTime, Option<IpAddr>, Option<EcoString>)>,
}

/// The name under which it is counted that a request was allowed, beside the codes of causes.
pub(crate) const ALLOWED: &str = "allowed";

/// When a key was last used, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastUse {
    /// When, to the second.
    pub at: SystemTime,
    /// The address of the client, if it was known.
    pub address: Option<IpAddr>,
    /// The header in which the key stood.
    pub source: Option<String>,
}

/// Where a request came from, and which header its key stood in.
pub(crate) struct Origin<'a> {
    pub(crate) address: Option<IpAddr>,
    pub(crate) source: Option<&'a str>,
}

impl Counts {
    /// Counts a decision: allowed, or refused for a cause. A key that is active was used, whatever the policy says of the
    /// request; where from is noted once in a second.
    #[inline]
    pub(crate) fn count<'a>(
        &self,
        record: &KeyRecord,
        now: SystemTime,
        refused: Option<&'static str>,
        used: Option<impl FnOnce() -> Origin<'a>>,
    ) {
        let mut tallies = self.local();
        let digest = record.digest();
        let counted = match tallies.today.find_mut(hash(digest), |counted| counted.digest == *digest) {
            Some(counted) if counted.day.contains(&now) => counted,
            _ => match tallies.begin(record, now) {
                Some(counted) => counted,
                None => return,
            },
        };
        match refused {
            None => counted.tally.allowed += 1,
            Some(cause) => counted.tally.refuse(cause),
        }
        if let Some(used) = used.filter(|_| counted.noted_until <= now) {
            counted.note(now, used());
        }
    }

    fn local(&self) -> MutexGuard<'_, Tallies> {
        let [first, ..] = &self.0;
        lock(self.0.get(threads::number() % SHARDS).unwrap_or(first))
    }

    /// Takes everything that was counted since the last call.
    pub(crate) fn take(&self) -> Vec<(KeyId, Tally)> {
        let mut all = Vec::new();
        for shard in &self.0 {
            let mut tallies = lock(shard);
            all.append(&mut tallies.finished);
            // A key that was used finds its entry again, without an allocation; one that was not since the last time makes room.
            tallies.today.retain(|counted| !counted.tally.is_empty());
            all.extend(tallies.today.iter_mut().map(|counted| (counted.id.clone(), counted.tally.take())));
        }
        all
    }

    /// Gives back what could not be written down. What belongs to one key and day is added up, so that an outage, however
    /// long, takes no more room than there are keys.
    pub(crate) fn give_back(&self, counted: Vec<(KeyId, Tally)>) {
        let mut tallies = self.local();
        let finished = std::mem::take(&mut tallies.finished);
        let mut sums: HashMap<(KeyId, u64), Tally> = HashMap::new();
        for (id, tally) in finished.into_iter().chain(counted) {
            match sums.entry((id, tally.day)) {
                hash_map::Entry::Occupied(mut sum) => sum.get_mut().add(tally),
                hash_map::Entry::Vacant(free) => drop(free.insert(tally)),
            }
        }
        tallies.finished = sums.into_iter().map(|((id, _), tally)| (id, tally)).take(FINISHED).collect();
    }
}

/// Ignores poisoning: no code panics between two changes of the counts, so they are always consistent.
fn lock(shard: &Shard) -> MutexGuard<'_, Tallies> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) const SECONDS_OF_A_DAY: u64 = 86_400;

impl Tallies {
    /// Begins to count a key, or another day of it.
    #[cold]
    fn begin(&mut self, record: &KeyRecord, now: SystemTime) -> Option<&mut Counted> {
        let number = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) / SECONDS_OF_A_DAY;
        let begin = UNIX_EPOCH.checked_add(Duration::from_secs(number * SECONDS_OF_A_DAY))?;
        let day = begin..begin.checked_add(Duration::from_secs(SECONDS_OF_A_DAY))?;
        let digest = record.digest();
        let is_key = |counted: &Counted| counted.digest == *digest;
        let hash_of = |counted: &Counted| hash(&counted.digest);
        let counted = match self.today.entry(hash(digest), is_key, hash_of) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let (digest, id, tally) = (*digest, record.id().clone(), Tally::default());
                free.insert(Counted { digest, id, tally, day: day.clone(), noted_until: UNIX_EPOCH }).into_mut()
            }
        };
        if !counted.tally.is_empty() {
            let over = counted.tally.take();
            if self.finished.len() < FINISHED {
                self.finished.push((counted.id.clone(), over));
            }
        }
        (counted.tally.day, counted.day, counted.noted_until) = (number, day, UNIX_EPOCH);
        Some(counted)
    }
}

impl Counted {
    /// Notes from where the key was used. The next use that is noted comes in another second.
    #[cold]
    fn note(&mut self, now: SystemTime, Origin { address, source }: Origin<'_>) {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(now);
        self.noted_until = at.checked_add(Duration::from_secs(1)).unwrap_or(now);
        // The names of the usual headers are short enough to be kept without an allocation.
        self.tally.last = Some((at, address, source.map(EcoString::from)));
    }
}

/// Of a digest, for a table of keys that were issued: nobody can choose what digests they have.
fn hash(digest: &Digest) -> u64 {
    digest.as_bytes().last_chunk().map_or(0, |last| u64::from_le_bytes(*last))
}

impl Tally {
    const fn is_empty(&self) -> bool {
        self.allowed == 0 && self.refused.is_empty()
    }

    #[cold]
    fn refuse(&mut self, cause: &'static str) {
        match self.refused.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, count)) => *count += 1,
            None => self.refused.push((cause, 1)),
        }
    }

    /// When the key was last used, and from where.
    pub(crate) fn last(&self) -> Option<LastUse> {
        let (at, address, source) = self.last.clone()?;
        Some(LastUse { at, address, source: source.map(Into::into) })
    }

    /// Adds what was counted of the same key on the same day.
    fn add(&mut self, other: Self) {
        self.allowed += other.allowed;
        for (cause, count) in other.refused {
            match self.refused.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, sum)) => *sum += count,
                None => self.refused.push((cause, count)),
            }
        }
        if self.last.as_ref().map(|(at, ..)| *at) < other.last.as_ref().map(|(at, ..)| *at) {
            self.last = other.last;
        }
    }

    /// How many decisions there were of each outcome.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let allowed = (self.allowed > 0).then_some((ALLOWED, self.allowed));
        allowed.into_iter().chain(self.refused.iter().copied())
    }

    /// Takes the counts out. The last use stays known.
    fn take(&mut self) -> Self {
        let taken = Self { refused: std::mem::take(&mut self.refused), last: self.last.clone(), ..*self };
        self.allowed = 0;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> KeyRecord {
        KeyRecord::builder(id.parse().unwrap(), Digest::from_key(id.as_bytes())).build()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const HERE: Option<fn() -> Origin<'static>> = Some(|| Origin { address: None, source: Some("x-api-key") });

    #[test]
    fn decisions_are_counted_by_key_day_and_cause() {
        let counts = Counts::default();
        let (one, other) = (record("one"), record("a-longer-id-than-fifteen-bytes"));
        for seconds in [0, 5, 86_399, 86_400] {
            counts.count(&one, at(seconds), None, HERE);
        }
        counts.count(&other, at(5), Some("expired"), None::<fn() -> Origin<'static>>);
        counts.count(&other, at(5), Some("missing_permission"), HERE);
        counts.count(&other, at(6), Some("missing_permission"), HERE);
        let mut taken = counts.take();
        taken.sort_by(|one, other| (&one.0, one.1.day).cmp(&(&other.0, other.1.day)));
        let counted: Vec<_> = taken.iter().map(|(id, tally)| (id.as_str(), tally.day, tally.allowed)).collect();
        assert_eq!(counted, [("a-longer-id-than-fifteen-bytes", 0, 0), ("one", 0, 3), ("one", 1, 1)]);
        assert_eq!(taken[0].1.refused, [("expired", 1), ("missing_permission", 2)]);
        assert_eq!(taken[0].1.last().unwrap().at, at(6));
        assert!(counts.take().is_empty(), "what is taken is gone");
        // Counts that could not be written down are kept, and added up.
        for round in 1..=3 {
            counts.give_back(taken.clone());
            counts.count(&one, at(86_400), None, HERE);
            taken = counts.take();
            let day = taken.iter().filter(|(id, tally)| id.as_str() == "one" && tally.day == 1);
            assert_eq!(day.map(|(_, tally)| tally.allowed).sum::<u64>(), 1 + round);
            assert!(taken.len() <= 4, "{taken:?}");
        }
        assert!(counts.take().is_empty() && counts.local().today.is_empty(), "what is not used makes room");
    }

    /// However many threads count, nothing is lost, also while the counts are taken.
    #[test]
    fn nothing_is_lost_between_threads() {
        let (counts, key) = (Counts::default(), record("one"));
        let mut total = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..25_000).for_each(|_| counts.count(&key, at(5), None, HERE))))
                .collect();
            let mut taken = 0;
            while !threads.iter().all(|thread| thread.is_finished()) {
                taken += counts.take().iter().map(|(_, tally)| tally.allowed).sum::<u64>();
            }
            taken
        });
        total += counts.take().iter().map(|(_, tally)| tally.allowed).sum::<u64>();
        assert_eq!(total, 100_000);
    }
}
