use std::{fmt, sync::Arc};

use crate::{check::Check as _, denial::Denial, head::Head, policy::Policy};

/// A candidate policy that is evaluated beside the enforced one.
#[derive(Clone)]
pub(super) struct Shadow {
    candidate: Arc<Policy>,
    report: Arc<Report>,
}

type Report = dyn Fn(&Difference<'_>) + Send + Sync;

/// A request on which a candidate policy decides otherwise than the enforced one.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Difference<'a> {
    /// The request.
    pub head: &'a Head<'a>,
    /// Why the enforced policy refuses; `None` if it admits.
    pub enforced: Option<&'a Denial>,
    /// Why the candidate would refuse; `None` if it would admit.
    pub candidate: Option<&'a Denial>,
}

impl Policy {
    /// Judges a candidate beside this policy and reports where it decides otherwise. Nothing of the
    /// candidate is enforced. Judging costs about as much again, and `report` runs before the handler:
    /// it must not block.
    ///
    /// Two refusals count as the same if their status is. The candidate sees requests as this policy does:
    /// one that was refused for want of a key never gets here, and on a route that is public today nobody
    /// is authenticated, so that a candidate which demands a key shows there as a denial with 500.
    ///
    /// # Example
    /// ```
    /// # use tower_authz::{Policy, Rule};
    /// # let (today, tomorrow) = (Policy::builder().build()?, Policy::builder().build()?);
    /// let policy = today.with_shadow(tomorrow, |difference| {
    ///     eprintln!("{:?}: {:?}, but tomorrow {:?}", difference.head, difference.enforced, difference.candidate);
    /// });
    /// # drop(policy);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    #[must_use]
    pub fn with_shadow(mut self, candidate: Self, report: impl Fn(&Difference<'_>) + Send + Sync + 'static) -> Self {
        self.shadow = Some(Shadow { candidate: Arc::new(candidate), report: Arc::new(report) });
        self
    }
}

impl Shadow {
    pub(super) fn compare(&self, head: &Head<'_>, enforced: Option<&Denial>) {
        let candidate = self.candidate.evaluate(head).err();
        if enforced.map(Denial::status) != candidate.as_ref().map(Denial::status) {
            (self.report)(&Difference { head, enforced, candidate: candidate.as_ref() });
        }
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}
