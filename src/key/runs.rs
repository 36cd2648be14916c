//! Runs of numbers, and whether a number is in one of them.

/// First and last number of each run, ascending, with gaps between them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Runs<T>(Box<[(T, T)]>);

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T: Copy + Ord> Runs<T> {
    pub(super) fn new(mut runs: Vec<(T, T)>) -> Self {
        runs.sort_unstable();
        Self(runs.into())
    }

    pub(super) fn contains(&self, number: T) -> bool {
        // The last run that begins at the number or before it.
        let after = self.0.partition_point(|&(first, _)| first <= number);
        after.checked_sub(1).and_then(|position| self.0.get(position)).is_some_and(|&(_, last)| number <= last)
    }
}
