//! Pure decisions: a request head goes in, nothing or a denial comes out.

mod custom;
mod demand;
mod dimensions;
mod entity;
mod kind;
mod networks;
mod origin;
pub(crate) mod permission;

use std::sync::Arc;

pub(crate) use self::{
    custom::CustomChecks,
    demand::{Demand, Findings},
    dimensions::DimensionRules,
    networks::NetworksDemand,
    permission::{
        ONE_OF_THREE, PermissionDemand, access, allowed_methods, has_wrong_case, parse_method, wrong_case_error,
    },
};
pub use self::{
    entity::EntityRef,
    kind::Kind,
    networks::{RestrictedNetworks, WithinNetworks},
    origin::Origin,
};
pub use crate::principal::Obligation;
use crate::{
    denial::{Cause, Denial},
    head::Head,
    principal::Caller,
};

/// A pure check of a request head: it admits or denies, and touches nothing.
///
/// [`Permission`](crate::Permission), [`Kind`], [`Origin`], [`Rule`](crate::Rule) and
/// [`Policy`](crate::Policy) are checks. So is a closure:
///
/// ```
/// use tower_authz::{Denial, Head, RequireLayer};
///
/// let layer = RequireLayer::new(|head: &Head<'_>| match head.headers().contains_key("x-trace-id") {
///     true => Ok(()),
///     false => Err(Denial::refused("send an x-trace-id")),
/// });
/// # drop(layer);
/// ```
///
/// A check is called once for each request, before the body is read. It must not block.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a check",
    note = "a check is a `Permission`, a `Rule`, a `Policy`, an `Arc` of a check, or a closure `Fn(&Head<'_>) -> Result<(), Denial>` (write the type of its argument)"
)]
pub trait Check: Send + Sync + 'static {
    /// Admits or denies.
    ///
    /// # Errors
    /// The denial, with every cause that the check found.
    fn check(&self, head: &Head<'_>) -> Result<(), Denial>;

    /// Admits or denies, and says what a handler still has to settle. Rules and policies leave such obligations, which may be
    /// empty; a check of your own leaves none, and has no need of this. But **a wrapper around another check forwards
    /// this method as well as [`check`](Self::check)**: what a rule leaves to the handler would else be lost, and the
    /// rule refuses everybody with 500.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Check, Denial, Head, check::Obligation};
    ///
    /// struct Timed<C>(C);
    ///
    /// impl<C: Check> Check for Timed<C> {
    ///     fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
    ///         self.0.check(head)
    ///     }
    ///
    ///     fn evaluate(&self, head: &Head<'_>) -> Result<Option<Obligation>, Denial> {
    ///         let begin = std::time::Instant::now();
    ///         let admitted = self.0.evaluate(head);
    ///         println!("judged in {:?}", begin.elapsed());
    ///         admitted
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn evaluate(&self, head: &Head<'_>) -> Result<Option<Obligation>, Denial> {
        self.check(head).map(|()| None)
    }
}

impl<F> Check for F
where
    F: Fn(&Head<'_>) -> Result<(), Denial> + Send + Sync + 'static,
{
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        self(head)
    }
}

impl<C: Check> Check for Arc<C> {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        (**self).check(head)
    }

    fn evaluate(&self, head: &Head<'_>) -> Result<Option<Obligation>, Denial> {
        (**self).evaluate(head)
    }
}

/// For callers that cannot see to it that an obligation is met: then there must be none.
pub(crate) fn without_obligation(obligation: Option<Obligation>) -> Result<(), Denial> {
    const UNSEEN: Cause = Cause::Misconfigured(
        "a rule that says `filtered` or `deferred` stands where only a verdict is asked for, in another rule or a \
         closure: nobody would see whether the handler asks; put it into a RequireLayer or a Policy",
    );
    match obligation {
        Some(obligation) if obligation.unmet().is_some() => Err(UNSEEN.into()),
        _ => Ok(()),
    }
}

/// The caller, or a denial that tells the developer which layer is missing. Every check enforces the networks of the
/// key.
fn caller<'a>(head: &Head<'a>) -> Result<Caller<'a>, Denial> {
    let caller = head.principal().ok_or(NO_PRINCIPAL)?.caller();
    networks::verdict(caller, false)?;
    Ok(caller)
}

/// The error for layers in the wrong order.
pub(crate) const NO_PRINCIPAL: Cause = Cause::Misconfigured(
    "RequireLayer saw no principal: put AuthenticateLayer outside of it (with Router::layer that means after it, \
     in a ServiceBuilder before it), or use Authz, which stacks both in order",
);
