//! One event and one count for each decision. The only file that names `tracing` and `metrics`; without
//! the features its functions are empty.

use std::fmt;

/// A key was let through to a handler. The route is a function, so that nobody looks for it where nothing is recorded.
#[allow(unused_variables, reason = "without the features there is nothing to record")]
pub(crate) fn allowed<'a>(key_id: &str, route: impl FnOnce() -> &'a str) {
    #[cfg(feature = "tracing")]
    {
        let route = route();
        // A span that declares the field `key_id` learns who calls.
        tracing::Span::current().record("key_id", key_id);
        tracing::debug!(target: "tower_authz", key_id, route, outcome = "allowed");
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_authz_decisions_total", "outcome" => "allowed", "cause" => "").increment(1);
}

/// A request that was refused.
#[cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    allow(dead_code, reason = "without the features there is nothing to record")
)]
pub(crate) struct Refusal<'a, C, R> {
    pub(crate) key_id: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) status: u16,
    /// The code of the cause that the response shows.
    pub(crate) cause: &'static str,
    /// The codes of all causes.
    pub(crate) causes: C,
    /// The whole denial, for people.
    pub(crate) reason: R,
}

impl<'a, C: Iterator<Item = &'a str> + Clone, R: fmt::Display> Refusal<'_, C, R> {
    /// Records it as one event and one count.
    #[allow(clippy::unused_self, reason = "without the features there is nothing to record")]
    pub(crate) fn record(self) {
        #[cfg(feature = "tracing")]
        {
            let Self { key_id, route, status, reason, .. } = &self;
            if let Some(key_id) = key_id {
                // Whose request was refused is what people look for first.
                tracing::Span::current().record("key_id", key_id);
            }
            let causes = tracing::field::display(Codes(self.causes.clone()));
            if *status >= 500 {
                tracing::error!(target: "tower_authz", key_id, route, status, outcome = "denied", %causes, %reason);
            } else {
                tracing::info!(target: "tower_authz", key_id, route, status, outcome = "denied", %causes, %reason);
            }
        }
        #[cfg(feature = "metrics")]
        metrics::counter!("tower_authz_decisions_total", "outcome" => "denied", "cause" => self.cause).increment(1);
    }
}

/// How a replica is, once a second.
#[cfg(feature = "postgres")]
#[allow(unused_variables, reason = "without the feature there is nothing to tell")]
pub(crate) fn replica(applied: i64, newest: i64, lease_left: std::time::Duration) {
    #[cfg(feature = "metrics")]
    {
        metrics::gauge!("tower_authz_replica_applied_version").set(applied as f64);
        metrics::gauge!("tower_authz_replica_lag_versions").set(newest.saturating_sub(applied) as f64);
        metrics::gauge!("tower_authz_replica_lease_left_seconds").set(lease_left.as_secs_f64());
    }
}

/// A change has returned: so long after it was asked for, every replica knew of it.
#[cfg(feature = "postgres")]
#[allow(unused_variables, reason = "without the feature there is nothing to tell")]
pub(crate) fn changed(took: std::time::Duration) {
    #[cfg(feature = "metrics")]
    metrics::histogram!("tower_authz_change_seconds").record(took.as_secs_f64());
}

/// Something is wrong that no request asked about. It must not be lost: without the feature, or where no subscriber
/// wants it, it goes to standard error.
pub(crate) fn fault(message: &str) {
    #[cfg(feature = "tracing")]
    {
        // Also where nothing listens: with the feature `log` of tracing, such events go to `log`.
        tracing::error!(target: "tower_authz", message);
        if tracing::enabled!(target: "tower_authz", tracing::Level::ERROR) {
            return;
        }
    }
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "tower-authz: {message}");
}

/// The codes of all causes, separated by commas.
#[cfg(feature = "tracing")]
struct Codes<C>(C);

#[cfg(feature = "tracing")]
impl<'a, C: Iterator<Item = &'a str> + Clone> fmt::Display for Codes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, code) in self.0.clone().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{code}")?;
        }
        Ok(())
    }
}
