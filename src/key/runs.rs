//! Runs of numbers, and whether a number is in one of them.

/// A number that addresses are made of.
pub(super) trait Number: Copy + Ord {
    /// The most significant bits of what is left when `from` is taken away: `shift` are cut off.
    fn bucket(self, from: Self, shift: u32) -> usize;

    /// How many bits a number has to lose to fit into `bits`.
    fn surplus(self, bits: u32) -> u32;
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            fn bucket(self, from: Self, shift: u32) -> usize {
                usize::try_from((self - from).checked_shr(shift).unwrap_or(0)).unwrap_or(usize::MAX)
            }

            fn surplus(self, bits: u32) -> u32 {
                (Self::BITS - self.leading_zeros()).saturating_sub(bits)
            }
        }
    };
}

number!(u32);
number!(u128);

/// First and last number of each run, ascending, with gaps between them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Runs<T> {
    runs: Box<[(T, T)]>,
    /// For long lists: where in them the search for a number begins, by its first bits. A search through all of a
    /// hundred thousand runs waits for memory at nearly each of its steps; with this it takes one or two.
    index: Option<Index>,
}

#[derive(Clone, PartialEq, Eq)]
struct Index {
    shift: u32,
    /// How many runs begin before each bucket does.
    before: Box<[u32]>,
}

/// Shorter lists are searched as they are.
const LONG: usize = 64;
/// So many buckets for each run, as a power of two.
const SPREAD: u32 = 1;

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self { runs: Box::default(), index: None }
    }
}

impl<T: Number> Runs<T>
where
    T: std::ops::Sub<Output = T>,
{
    pub(super) fn new(mut runs: Vec<(T, T)>) -> Self {
        runs.sort_unstable();
        let index = Index::new(&runs);
        Self { runs: runs.into(), index }
    }

    pub(super) fn contains(&self, number: T) -> bool {
        let runs = match (&self.index, self.runs.first()) {
            (Some(index), Some(&(first, _))) if number >= first => index.part(&self.runs, number, first),
            (Some(_), _) => return false,
            (None, _) => &self.runs,
        };
        // The last run that begins at the number or before it.
        let after = runs.partition_point(|&(first, _)| first <= number);
        after.checked_sub(1).and_then(|position| runs.get(position)).is_some_and(|&(_, last)| number <= last)
    }
}

impl Index {
    fn new<T: Number + std::ops::Sub<Output = T>>(runs: &[(T, T)]) -> Option<Self> {
        let (&(first, _), &(last, _)) = (runs.first()?, runs.last()?);
        if runs.len() < LONG || u32::try_from(runs.len()).is_err() {
            return None;
        }
        let shift = (last - first).surplus(runs.len().ilog2() + SPREAD);
        let buckets = last.bucket(first, shift) + 1;
        let mut before = vec![0_u32; buckets + 1];
        for &(begin, _) in runs {
            // Counted behind its bucket; summed up, it stands before all later ones.
            *before.get_mut(begin.bucket(first, shift) + 1)? += 1;
        }
        let mut sum = 0;
        for count in &mut before {
            sum += *count;
            *count = sum;
        }
        Some(Self { shift, before: before.into() })
    }

    /// The runs among which the one is that begins last before this number.
    fn part<'r, T: Number>(&self, runs: &'r [(T, T)], number: T, first: T) -> &'r [(T, T)] {
        let bucket = number.bucket(first, self.shift).min(self.before.len().saturating_sub(2));
        let at = |position: usize| self.before.get(position).map_or(0, |&count| count as usize);
        // It may have begun in an earlier bucket.
        runs.get(at(bucket).saturating_sub(1)..at(bucket + 1)).unwrap_or_default()
    }
}
