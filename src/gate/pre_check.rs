use crate::{check::Check, denial::Denial, head::Head, policy::Policy};

/// A check before all else, which sees the policy that the request is judged by. It must not look at any other: between two
/// looks the policy may have been replaced.
pub(crate) trait PreCheck: Send + Sync + 'static {
    fn pre_check(&self, head: &Head<'_>, policy: Option<&Policy>) -> Result<(), Denial>;
}

impl<C: Check> PreCheck for C {
    fn pre_check(&self, head: &Head<'_>, _: Option<&Policy>) -> Result<(), Denial> {
        self.check(head)
    }
}
