//! One event and one count for each decision. The only file that names `tracing` and `metrics`; without
//! the features its functions are empty.

use crate::{denial::Denial, head::Head, principal::Principal};

/// A key was let through to a handler.
#[allow(unused_variables, reason = "without the features there is nothing to tell")]
pub(crate) fn allowed(head: &Head<'_>, principal: &Principal) {
    #[cfg(feature = "tracing")]
    {
        let key_id = principal.key_id().as_str();
        // A span that declares the field `key_id` learns who calls.
        tracing::Span::current().record("key_id", key_id);
        let route = head.route().unwrap_or_else(|| head.path());
        tracing::debug!(target: "tower_authz", key_id, route, outcome = "allowed");
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_authz_decisions_total", "outcome" => "allowed", "cause" => "").increment(1);
}

/// A request was refused.
#[allow(unused_variables, reason = "without the features there is nothing to tell")]
pub(crate) fn denied(denial: &Denial) {
    #[cfg(feature = "tracing")]
    {
        if let Some(key_id) = denial.key_id() {
            // Whose request was refused is what people look for first.
            tracing::Span::current().record("key_id", key_id.as_str());
        }
        let key_id = denial.key_id().map(tracing::field::display);
        let route = denial.route();
        let causes = tracing::field::display(Causes(denial));
        let status = denial.status().as_u16();
        if status >= 500 {
            tracing::error!(target: "tower_authz", key_id, route, status, outcome = "denied", %causes, reason = %denial);
        } else {
            tracing::info!(target: "tower_authz", key_id, route, status, outcome = "denied", %causes, reason = %denial);
        }
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("tower_authz_decisions_total", "outcome" => "denied", "cause" => denial.cause().code())
        .increment(1);
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

/// Something is wrong that no request asked about. It must not be lost: without the feature it goes to
/// standard error.
#[cfg(any(feature = "file", feature = "sqlite", feature = "postgres"))]
pub(crate) fn fault(message: &str) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: "tower_authz", message);
    #[cfg(not(feature = "tracing"))]
    {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "tower-authz: {message}");
    }
}

/// The codes of all causes, with commas.
#[cfg(feature = "tracing")]
struct Causes<'a>(&'a Denial);

#[cfg(feature = "tracing")]
impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, cause) in self.0.causes().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", cause.code())?;
        }
        Ok(())
    }
}
