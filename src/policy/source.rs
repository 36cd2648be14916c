use std::sync::Arc;

use crate::{
    error::ConfigError,
    policy::{Policy, PolicyHandle, reload::LoadedPolicy, requirements::Requirements},
};

/// Where [`Authz`](crate::Authz) takes its rules from: a [`Policy`], which is then fixed, or a [`PolicyHandle`], whose policy
/// can be replaced while services run.
///
/// # Example
/// ```
/// use tower_authz::{Authz, Policy, PolicyHandle, store::MemoryStore};
///
/// let policy = Policy::builder().public("/health").build()?;
/// let fixed = Authz::new(MemoryStore::new(), policy.clone());
/// let reloadable = Authz::new(MemoryStore::new(), PolicyHandle::new(policy));
/// # drop((fixed, reloadable));
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PolicySource(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Fixed(Arc<Policy>),
    Reloadable {
        handle: PolicyHandle,
        /// Kept here, because the handle forgets what is required by services that are gone.
        requirements: Option<Arc<Requirements>>,
    },
}

impl From<Policy> for PolicySource {
    fn from(policy: Policy) -> Self {
        Arc::new(policy).into()
    }
}

impl From<Arc<Policy>> for PolicySource {
    fn from(policy: Arc<Policy>) -> Self {
        Self(Kind::Fixed(policy))
    }
}

impl From<PolicyHandle> for PolicySource {
    fn from(handle: PolicyHandle) -> Self {
        Self(Kind::Reloadable { handle, requirements: None })
    }
}

impl From<&PolicyHandle> for PolicySource {
    fn from(handle: &PolicyHandle) -> Self {
        handle.clone().into()
    }
}

impl PolicySource {
    /// Checks the policy against what a service requires, in place of what was required before, and returns the policy that
    /// was checked. No policy that does not meet the requirements replaces it later, for as long as this or a clone exists.
    pub(crate) fn require(&mut self, required: Requirements) -> (Arc<Policy>, Result<(), ConfigError>) {
        match &mut self.0 {
            Kind::Fixed(policy) => (Arc::clone(policy), required.check(policy)),
            Kind::Reloadable { handle, requirements } => handle.require(requirements.insert(Arc::new(required))),
        }
    }

    #[cfg(feature = "axum")]
    pub(crate) const fn is_reloadable(&self) -> bool {
        matches!(self.0, Kind::Reloadable { .. })
    }

    /// The policy for a request that begins now, if it can be replaced.
    #[inline]
    pub(crate) fn load(&self) -> Option<LoadedPolicy> {
        match &self.0 {
            Kind::Fixed(_) => None,
            Kind::Reloadable { handle, .. } => Some(handle.load()),
        }
    }

    /// The policy, if it cannot be replaced.
    #[inline]
    pub(crate) fn fixed(&self) -> Option<&Policy> {
        match &self.0 {
            Kind::Fixed(policy) => Some(policy),
            Kind::Reloadable { .. } => None,
        }
    }
}
