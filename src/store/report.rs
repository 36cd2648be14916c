//! Reports of faults in the background: a record that cannot be read, a file that is gone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Hears of faults.
pub(crate) type Report = Arc<dyn Fn(&str) + Send + Sync>;

/// To the log, or to standard error if there is none: it must not be lost.
pub(crate) fn standard() -> Report {
    Arc::new(crate::telemetry::fault)
}

/// To a function of the user's own, whose panic must not end the thread that watches over the keys.
pub(crate) fn to(report: impl Fn(&str) + Send + Sync + 'static) -> Report {
    Arc::new(move |message| {
        if catch_unwind(AssertUnwindSafe(|| report(message))).is_err() {
            crate::telemetry::fault(message);
        }
    })
}
