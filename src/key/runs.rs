//! Runs of numbers, and whether a number is in one of them.

/// First and last number of each run, ascending, without overlaps.
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
        self.run_of(number).is_some()
    }

    /// The last number of the run that this number is in.
    fn run_of(&self, number: T) -> Option<T> {
        // The last run that begins at the number or before it.
        let after = self.0.partition_point(|&(first, _)| first <= number);
        let &(_, last) = self.0.get(after.checked_sub(1)?)?;
        (number <= last).then_some(last)
    }
}

impl<T: Copy + Ord + Into<u128> + TryFrom<u128>> Runs<T> {
    /// Whether every number of the other runs is in one of these. Numbers of the run `beside` do not matter.
    pub(super) fn covers(&self, other: &Self, beside: Option<(T, T)>) -> bool {
        let covered_to = |number: T| {
            let ignored = beside.filter(|&(first, last)| (first..=last).contains(&number));
            self.run_of(number).or(ignored.map(|(_, last)| last))
        };
        // Runs may lie beside each other, so that one run takes several to be covered.
        other.0.iter().all(|&(first, last)| {
            let mut next = Some(first);
            while let Some(number) = next {
                match covered_to(number) {
                    None => return false,
                    Some(end) if end >= last => return true,
                    Some(end) => next = end.into().checked_add(1).and_then(|after| T::try_from(after).ok()),
                }
            }
            false
        })
    }
}
