/// The positions of the parameters of a pattern in a path, in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathParams {
    spans: [(u32, u32); MOST],
    count: usize,
}

/// The number of parameters whose positions are kept. Parameters of a longer pattern are searched for on demand.
pub(super) const MOST: usize = 6;

impl PathParams {
    /// Whether these are all parameters of a pattern that has this many.
    pub(crate) const fn are_all(&self, count: usize) -> bool {
        self.count == count && count <= MOST
    }

    /// The value of one of them in the path in which they were found.
    pub(crate) fn get<'p>(&self, path: &'p str, position: usize) -> Option<&'p str> {
        let &(start, end) = self.spans.get(position)?;
        path.get(start as usize..end as usize)
    }

    /// An empty segment means that the path is not clean; the positions are then marked incomplete, so that values are
    /// searched for again.
    pub(super) fn push(&mut self, start: usize, end: usize, is_segment: bool) {
        if is_segment && start == end {
            self.count = MOST;
        }
        if let Some(span) = self.spans.get_mut(self.count) {
            *span = (start as u32, end as u32);
        }
        self.count += 1;
    }
}
