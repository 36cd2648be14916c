/// Where the parameters of a pattern stand in a path, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathParams {
    spans: [(u32, u32); MOST],
    count: usize,
}

/// Parameters whose places are kept. Of a longer pattern they are looked for when they are asked for.
pub(super) const MOST: usize = 6;

impl PathParams {
    /// Whether they are those of a pattern with so many parameters.
    pub(crate) const fn are_all(&self, count: usize) -> bool {
        self.count == count && count <= MOST
    }

    /// One of them in the path that they were found in.
    pub(crate) fn get<'p>(&self, path: &'p str, position: usize) -> Option<&'p str> {
        let &(start, end) = self.spans.get(position)?;
        path.get(start as usize..end as usize)
    }

    /// If a whole segment is empty, the path is not clean, and whoever asks for a value is to look twice.
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
