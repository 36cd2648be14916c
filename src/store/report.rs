//! What a store has to tell while nobody asks: a record that cannot be read, a file that is gone.

use std::sync::Arc;

/// Hears of faults.
pub(crate) type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// To the log, or to standard error if there is none: it must not be lost.
pub(crate) fn standard() -> Report {
    Arc::new(crate::trace::fault)
}
