//! Obligations: the checks that a rule leaves to the handler.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    denial::{Cause, Denial},
    dimension::Dimension,
    directory::Directory,
    key::Grant,
    name::Name,
};

/// How a rule handles a dimension that its route is not scoped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    /// The route shows nothing that belongs to one entity.
    Unscoped,
    /// The handler filters by [`Scope`](crate::Scope).
    Filtered,
    /// The handler finds the entities, in the body for example, and checks each.
    Deferred,
}

/// The checks that a rule leaves to the handler: to filter by a [`Scope`](crate::Scope), or to ask for entities that it
/// finds. It may leave none.
///
/// A successful response of a handler that has not done so is turned into a 500, so that a forgotten
/// check cannot leak.
#[derive(Clone, Debug)]
pub struct Obligation {
    /// The bits of the standard dimensions that the rule names. They decide about the checks of the handler, too.
    pub(crate) named_bits: u8,
    left: Option<Arc<Left>>,
}

#[derive(Debug)]
struct Left {
    open: Arc<[(Dimension, Handling)]>,
    /// For each open dimension, whether the handler has met the obligation.
    is_met: Box<[AtomicBool]>,
    route: Option<Name>,
    concealed: bool,
}

impl Obligation {
    /// Empty if the handler has nothing to check and its denials are not concealed.
    pub(crate) fn new(
        named_bits: u8,
        open: &Arc<[(Dimension, Handling)]>,
        route: Option<&str>,
        concealed: bool,
    ) -> Self {
        if open.is_empty() && !concealed {
            return Self { named_bits, left: None };
        }
        let is_met = open.iter().map(|_| AtomicBool::new(false)).collect();
        let route = route.map(|route| route.to_owned().into());
        let left = Left { open: Arc::clone(open), is_met, route, concealed };
        Self { named_bits, left: Some(Arc::new(left)) }
    }

    /// Whether the handler has nothing to check and its denials are not concealed.
    pub(crate) const fn is_empty(&self) -> bool {
        self.left.is_none()
    }

    /// Adds the route to a denial, and conceals it if the rule says so.
    pub(crate) fn describe(&self, denial: Denial) -> Denial {
        let Some(left) = &self.left else { return denial };
        let denial = denial.on_route(left.route.clone());
        if left.concealed { denial.concealed() } else { denial }
    }

    /// Each open dimension, how it is to be handled, and whether that was done.
    fn open(&self) -> impl Iterator<Item = (&Dimension, Handling, &AtomicBool)> {
        let all = self.left.iter().flat_map(|left| left.open.iter().zip(&left.is_met));
        all.map(|((dimension, handling), is_met)| (dimension, *handling, is_met))
    }

    /// Marks the obligations as met that concern this dimension and this kind of check.
    pub(crate) fn mark_checked(&self, dimension: &Dimension, asked: Handling, directory: &Directory) {
        for (open, handling, is_met) in self.open() {
            // A check of a shop country is a check of its shop, too, and in the application's own dimensions a check of
            // an entity is one of all that it belongs to.
            let is_own_below =
                || directory.level(dimension).is_some_and(|level| level.is_own() && level.is_below(open));
            let is_country = *open == Dimension::SHOP && *dimension == Dimension::SHOP_COUNTRY;
            let is_about = open == dimension || is_country || is_own_below();
            if is_about && handling == asked {
                is_met.store(true, Ordering::Release);
            }
        }
    }

    /// An open dimension that the grant is restricted over, or over what it belongs to.
    pub(crate) fn binding(&self, grant: &Grant, directory: &Directory) -> Option<Dimension> {
        let is_restricted = |dimension: &Dimension| grant.restriction(dimension).is_some();
        let bound = |open: &Dimension| {
            let is_shop = *open == Dimension::SHOP || *open == Dimension::SHOP_COUNTRY;
            is_restricted(open)
                || (is_shop && [Dimension::SHOP, Dimension::COMPANY].iter().any(is_restricted))
                || directory
                    .level(open)
                    .is_some_and(|level| level.ancestors().any(|above| is_restricted(above.dimension())))
        };
        self.open().map(|(open, ..)| open).find(|open| bound(open)).cloned()
    }

    /// The denial for the first obligation that the handler has not met.
    pub(crate) fn unmet(&self) -> Option<Denial> {
        let (dimension, ..) = self.open().find(|(_, _, is_met)| !is_met.load(Ordering::Acquire))?;
        Some(self.describe(Cause::ObligationUnmet(dimension.clone()).into()))
    }

    /// The filtered dimension of the rule, if there is exactly one.
    pub(crate) fn filtered(&self) -> Option<&Dimension> {
        let mut filtered = self.open().filter(|(_, handling, _)| *handling == Handling::Filtered);
        match (filtered.next(), filtered.next()) {
            (Some((dimension, ..)), None) => Some(dimension),
            _ => None,
        }
    }
}
