//! What a rule leaves to the handler.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    denial::{Cause, Context, Denial},
    dimension::Dimension,
    key::Grant,
    name::Name,
};

/// How a route stands to a dimension that it is not tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    /// It shows nothing that belongs to one entity.
    Unscoped,
    /// The handler filters by [`Scope`](crate::Scope).
    Filtered,
    /// The handler finds the entities, in the body say, and asks for each.
    Deferred,
}

/// What a rule leaves to the handler: to filter by a [`Scope`](crate::Scope), or to ask for entities that it finds. It
/// may be nothing.
///
/// A successful response of a handler that has not done so is turned into a 500, so that a forgotten
/// check cannot leak.
#[derive(Clone, Debug)]
pub struct Obligation {
    /// The bits of the standard dimensions that the rule names: what it says of them holds for what a handler asks,
    /// too.
    pub(crate) said: u8,
    left: Option<Arc<Left>>,
}

#[derive(Debug)]
struct Left {
    open: Arc<[(Dimension, Handling)]>,
    /// For each open dimension, whether the handler has asked.
    settled: Box<[AtomicBool]>,
    route: Option<Name>,
    concealed: bool,
}

impl Obligation {
    /// Nothing is left if the handler has nothing to do, and its denials have nothing to hide.
    pub(crate) fn new(said: u8, open: &Arc<[(Dimension, Handling)]>, route: Option<&str>, concealed: bool) -> Self {
        if open.is_empty() && !concealed {
            return Self { said, left: None };
        }
        let settled = open.iter().map(|_| AtomicBool::new(false)).collect();
        let route = route.map(|route| route.to_owned().into());
        let left = Left { open: Arc::clone(open), settled, route, concealed };
        Self { said, left: Some(Arc::new(left)) }
    }

    /// Whether there is nothing that the handler has to do, or that its denials have to hide.
    pub(crate) const fn is_empty(&self) -> bool {
        self.left.is_none()
    }

    /// Adds to a denial what the rule says about it.
    pub(crate) fn describe(&self, denial: Denial) -> Denial {
        let Some(left) = &self.left else { return denial };
        let denial = denial.in_context(Context { route: left.route.clone(), ..Context::default() });
        if left.concealed { denial.concealed() } else { denial }
    }

    /// Each dimension that is left open, how, and whether the handler has asked.
    fn open(&self) -> impl Iterator<Item = (&Dimension, Handling, &AtomicBool)> {
        let all = self.left.iter().flat_map(|left| left.open.iter().zip(&left.settled));
        all.map(|((dimension, handling), settled)| (dimension, *handling, settled))
    }

    /// A question settles what it is about, and what wants a question of its kind.
    pub(crate) fn settle(&self, dimension: &Dimension, asked: Handling) {
        for (open, handling, settled) in self.open() {
            // Who asks for a shop country has asked for its shop.
            let is_about = open == dimension || (*open == Dimension::SHOP && *dimension == Dimension::SHOP_COUNTRY);
            if is_about && handling == asked {
                settled.store(true, Ordering::Release);
            }
        }
    }

    /// A dimension that is left open and that the grant is restricted over.
    pub(crate) fn binding(&self, grant: &Grant) -> Option<Dimension> {
        let shops = [Dimension::SHOP, Dimension::SHOP_COUNTRY];
        let bound = |open: &Dimension| {
            let over: &[Dimension] = &[open.clone(), Dimension::SHOP, Dimension::COMPANY];
            let over = if shops.contains(open) { over } else { over.get(..1).unwrap_or(over) };
            over.iter().any(|dimension| grant.restriction(dimension).is_some())
        };
        self.open().map(|(open, ..)| open).find(|open| bound(open)).cloned()
    }

    /// A dimension that the handler never asked about, or not in the way that the rule demands.
    pub(crate) fn unmet(&self) -> Option<Denial> {
        let (dimension, ..) = self.open().find(|(_, _, settled)| !settled.load(Ordering::Acquire))?;
        Some(self.describe(Cause::ObligationUnmet(dimension.clone()).into()))
    }

    /// The dimension that the rule calls filtered, if there is exactly one.
    pub(crate) fn filtered(&self) -> Option<&Dimension> {
        let mut filtered = self.open().filter(|(_, handling, _)| *handling == Handling::Filtered);
        match (filtered.next(), filtered.next()) {
            (Some((dimension, ..)), None) => Some(dimension),
            _ => None,
        }
    }
}
