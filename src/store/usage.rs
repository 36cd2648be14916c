//! The usage of keys: how often they were used, and from where.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    key::KeyId,
    store::counts::{ALLOWED, LastUse, SECONDS_OF_A_DAY, Tally},
};

/// Which usage to read: of one key or of all, on the days of a span.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use std::time::{Duration, SystemTime};
/// use tower_authz::store::{KeyAdmin, MemoryStore, UsageQuery};
///
/// let store = MemoryStore::new();
/// let last_week = SystemTime::now() - Duration::from_secs(7 * 86_400);
/// for usage in store.usage(&UsageQuery::new().since(last_week)).await? {
///     println!("{}: {} allowed, last from {:?}", usage.key, usage.allowed(), usage.last);
/// }
/// # Ok::<(), tower_authz::store::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a query is given to a store"]
pub struct UsageQuery {
    pub(crate) key: Option<KeyId>,
    /// Days since 1970.
    pub(crate) days: (u64, u64),
}

impl UsageQuery {
    /// Of all keys, today (in UTC) and on the 30 days before.
    pub fn new() -> Self {
        let today = day(SystemTime::now());
        Self { key: None, days: (today.saturating_sub(30), u64::MAX) }
    }

    /// Of this key only.
    pub fn key(mut self, key: KeyId) -> Self {
        self.key = Some(key);
        self
    }

    /// From the day of this time on, in UTC.
    pub fn since(mut self, time: SystemTime) -> Self {
        self.days.0 = day(time);
        self
    }

    /// Up to the day of this time, in UTC, and not beyond.
    pub fn until(mut self, time: SystemTime) -> Self {
        self.days.1 = day(time);
        self
    }

    pub(crate) fn asks_for(&self, key: &KeyId, day: u64) -> bool {
        (self.days.0..=self.days.1).contains(&day) && self.key.as_ref().is_none_or(|asked| asked == key)
    }
}

impl Default for UsageQuery {
    fn default() -> Self {
        Self::new()
    }
}

/// How often one key was used on the days of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUsage {
    /// The key, which may have been deleted since.
    pub key: KeyId,
    /// When it was last used, and from where; none if that was on none of these days.
    pub last: Option<LastUse>,
    /// The days with decisions, in order.
    pub days: Vec<DayUsage>,
}

/// The decisions about one key on one day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DayUsage {
    /// The day in UTC, as days since 1970-01-01.
    pub day: u64,
    /// How many requests were allowed.
    pub allowed: u64,
    /// How many requests were refused, by the [code](crate::Cause::code) of the first cause.
    pub refused: BTreeMap<String, u64>,
}

impl KeyUsage {
    /// How many requests were allowed on all of these days.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        self.days.iter().map(|day| day.allowed).sum()
    }

    /// How many requests were refused on all of these days.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.days.iter().flat_map(|day| day.refused.values()).sum()
    }
}

impl DayUsage {
    /// When the day begins.
    #[must_use]
    pub fn begin(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.day.saturating_mul(SECONDS_OF_A_DAY))).unwrap_or(UNIX_EPOCH)
    }
}

/// For so many days counts are kept.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) const KEPT_DAYS: u64 = 400;

/// The day of a time, in days since 1970.
pub(crate) fn day(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SECONDS_OF_A_DAY)
}

/// Adds counts up, by key and day.
#[derive(Debug, Default)]
pub(crate) struct Totals(BTreeMap<KeyId, (Option<LastUse>, BTreeMap<u64, DayUsage>)>);

impl Totals {
    pub(crate) fn add_tally(&mut self, key: &KeyId, tally: &Tally) {
        tally.outcomes().for_each(|(outcome, count)| self.add(key, tally.day, outcome, count));
        tally.last().into_iter().for_each(|last| self.add_last(key, last));
    }

    pub(crate) fn add(&mut self, key: &KeyId, day: u64, outcome: &str, count: u64) {
        let (_, days) = self.0.entry(key.clone()).or_default();
        let usage = days.entry(day).or_insert_with(|| DayUsage { day, ..DayUsage::default() });
        match outcome {
            ALLOWED => usage.allowed += count,
            cause => *usage.refused.entry(cause.to_owned()).or_default() += count,
        }
    }

    pub(crate) fn add_last(&mut self, key: &KeyId, last: LastUse) {
        let (known, _) = self.0.entry(key.clone()).or_default();
        if known.as_ref().is_none_or(|known| known.at < last.at) {
            *known = Some(last);
        }
    }

    pub(crate) fn asked_for(&self, query: &UsageQuery) -> Vec<KeyUsage> {
        let usage = |(key, (last, days)): (&KeyId, &(Option<LastUse>, BTreeMap<u64, DayUsage>))| {
            let asked = days.values().filter(|usage| query.asks_for(key, usage.day)).cloned().collect::<Vec<_>>();
            let last = last.clone().filter(|last| query.asks_for(key, day(last.at)));
            (!asked.is_empty()).then(|| KeyUsage { key: key.clone(), last, days: asked })
        };
        self.0.iter().filter_map(usage).collect()
    }
}
