//! Whether one grant is within another.

use crate::{
    dimension::Dimension,
    directory::Directory,
    key::{Grant, Permission, Restriction},
};

/// The first part of a grant that is beyond another one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Excess<'g> {
    Permission(&'g Permission),
    Dimension(&'g Dimension),
    Networks,
    Origins,
}

impl Grant {
    /// Whether this grant is at least as wide as the other: whatever a key with the other grant may do, a key with this
    /// one may do, whatever the rules and the [`Directory`] of the application are.
    ///
    /// It is how an interface that issues keys sees to it that nobody hands out more than he has; a store does so by
    /// itself where an [actor is bound](crate::store::Actor::within). When in doubt the answer is no:
    ///
    /// - **Permissions**: write covers read; resources compare exactly.
    /// - **Restrictions**: for each dimension that this grant is restricted over, the other must be restricted over it
    ///   too, within the list of this one. A list over a child is not enough: a key that is restricted to shop `de`, and
    ///   not over companies, reaches the routes of every company that have nothing to do with shops, so it is not
    ///   within a grant for company 1, whoever `de` belongs to. Restrict it over both.
    /// - **Spellings**: where a list excludes, the ids of the other grant must be spelt by the same grammar or a
    ///   narrower one. Two different functions are never known to be one. Rules are taken to read the ids of a
    ///   dimension by the grammar of the keys, as [`IdGrammar`](crate::IdGrammar) demands.
    /// - **Networks**: each network of the other lies within the union of the networks of this one. A grant without
    ///   networks covers every list. Only a rule that demands that a key has networks
    ///   ([`Rule::require_networks`](crate::Rule::require_networks)) tells the two apart: it asks a key to be confined,
    ///   and refuses the wider one.
    /// - **Origins**: each origin of the other is one of this one. A rule that demands an origin refuses keys without
    ///   a list, so a grant without origins covers no list that has some.
    ///
    /// Kind, tenant and dates are those of a key, not of its grant, and are not compared.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, Grant};
    ///
    /// let own = Grant::builder().write("products").only(Dimension::COMPANY, [1, 2]).build()?;
    /// let narrower = own.to_builder().read("products").only(Dimension::COMPANY, [1]).build()?;
    /// assert!(own.covers(&narrower) && !narrower.covers(&own));
    /// let elsewhere = own.to_builder().without_restriction(Dimension::COMPANY).build()?;
    /// assert!(!own.covers(&elsewhere));
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.excess(other, None).is_none()
    }

    /// The same for an application with this directory, as it is now: a list of shops is then also known to be within
    /// another one if the company list of the other grant leaves no other shops to it.
    ///
    /// A later change of the directory may undo the answer, so that what is decided by it is decided again when the
    /// directory changes. A store that [binds an actor](crate::store::Actor::within) uses [`covers`](Self::covers).
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, Directory, Grant};
    ///
    /// let directory = Directory::builder().shop("de", Some("1")).shop("us", Some("2")).build()?;
    /// let own = Grant::builder().only(Dimension::COMPANY, [1]).only(Dimension::SHOP, ["de"]).build()?;
    /// // Of company 1 there is no shop but de.
    /// let other = Grant::builder().only(Dimension::COMPANY, [1]).except(Dimension::SHOP, ["ch"]).build()?;
    /// assert!(own.covers_in(&directory, &other) && !own.covers(&other));
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    #[must_use]
    pub fn covers_in(&self, directory: &Directory, other: &Self) -> bool {
        self.excess(other, Some(directory)).is_none()
    }

    /// The part of the other grant that is beyond this one, or none if it is covered.
    pub(crate) fn excess<'g>(&'g self, other: &'g Self, directory: Option<&Directory>) -> Option<Excess<'g>> {
        let permission = other.permissions().iter().find(|held| !self.permits(held)).map(Excess::Permission);
        let exceeds = |wide: &&(Dimension, Restriction)| !restriction_covers(wide, other, directory);
        let dimension = || self.restrictions().iter().find(exceeds).map(|(over, _)| Excess::Dimension(over));
        permission
            .or_else(dimension)
            .or_else(|| (!covers_networks(self, other)).then_some(Excess::Networks))
            .or_else(|| (!covers_origins(self, other)).then_some(Excess::Origins))
    }
}

/// Whether everything that the grant lets through over the dimension of the wide list is let through by that list.
///
/// INVARIANT: the answer is yes only if the grant is restricted over the dimension as well. A rule that does not declare a
/// dimension refuses keys that are restricted over it, and an entity whose parent is not known is refused to them.
fn restriction_covers(wide: &(Dimension, Restriction), grant: &Grant, directory: Option<&Directory>) -> bool {
    let Some(narrow) = grant.listed(&wide.0) else { return false };
    list_covers(wide, narrow)
        || (wide.0 == Dimension::SHOP
            && directory.is_some_and(|directory| covers_known_shops(wide, narrow, grant, directory)))
}

/// Whether one list is within another, by the lists alone.
fn list_covers((over, wide): &(Dimension, Restriction), (spelt, narrow): &(Dimension, Restriction)) -> bool {
    match (wide, narrow) {
        // An include list lets through what it lists, by whatever grammar it was read.
        (Restriction::Include(wide), Restriction::Include(narrow)) => narrow.iter().all(|id| wide.contains(id)),
        (Restriction::Include(_), Restriction::Exclude(_)) => false,
        // An exclude list lets nothing through that its own grammar does not accept.
        (Restriction::Exclude(wide), Restriction::Include(narrow)) => {
            narrow.is_empty() || (spelt.is_within(over) == Some(true) && !narrow.iter().any(|id| wide.contains(id)))
        }
        (Restriction::Exclude(wide), Restriction::Exclude(narrow)) => {
            spelt.is_within(over) == Some(true) && wide.iter().all(|id| narrow.contains(id))
        }
    }
}

/// Whether the shops that company and shop list of the grant leave are all in the wide list. Without a company list, or
/// without a declared hierarchy, the grant may reach shops that the directory does not know.
fn covers_known_shops(
    (over, wide): &(Dimension, Restriction),
    (spelt, narrow): &(Dimension, Restriction),
    grant: &Grant,
    directory: &Directory,
) -> bool {
    let Some((by, companies)) = grant.listed(&Dimension::COMPANY) else { return false };
    if !directory.is_declared() || (matches!(wide, Restriction::Exclude(_)) && spelt.is_within(over) != Some(true)) {
        return false;
    }
    // A company that its list cannot spell is refused; to take it for one that is allowed errs on the side of no.
    let may_reach = |shop: &&str| {
        narrow.allows(shop)
            && directory.company_of(shop).is_some_and(|company| companies.allows(company) || !by.accepts(company))
    };
    directory.shops().filter(may_reach).all(|shop| wide.allows(shop) && over.accepts(shop))
}

fn covers_networks(wide: &Grant, narrow: &Grant) -> bool {
    match (wide.networks(), narrow.networks()) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.covers(narrow),
        // Without a list an unknown address is allowed as well, which no list allows.
        (Some(_), None) => false,
    }
}

fn covers_origins(wide: &Grant, narrow: &Grant) -> bool {
    let known = wide.origins().unwrap_or_default();
    narrow.origins().unwrap_or_default().iter().all(|origin| known.contains(origin))
}
