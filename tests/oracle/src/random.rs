//! A small deterministic generator of random numbers.

/// SplitMix64. The same seed gives the same worlds on every machine, and no dependency can change them.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts the sequence with this number among those of a seed. Neighbours have nothing in common.
    #[must_use]
    pub fn nth(seed: u64, number: u64) -> Self {
        let mut random = Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        random.number();
        random
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below the limit, or 0 if the limit is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        // The remainder prefers small numbers by less than one part in a billion, which is no concern here.
        usize::try_from(self.number() % (limit.max(1) as u64)).unwrap_or(0)
    }

    /// Returns true in so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the elements.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let index = self.below(all.len());
        must(all.get(index).ok_or("nothing to pick from"), "pick")
    }

    /// Returns some of the elements in their order: none of them, all of them, or any number between.
    pub fn subset<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        let percent = *self.pick(&[0, 30, 60, 100]);
        all.iter().filter(|_| self.chance(percent)).cloned().collect()
    }
}

/// Returns the value. What the oracle itself has built must be valid; if it is not, the oracle is at fault and has to
/// stop.
///
/// # Panics
/// Panics with the message if there is no value.
pub fn must<T, E: std::fmt::Display>(result: Result<T, E>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}
