//! S8, S9 and S14: which entities a key reaches.

use super::Reading;
use crate::world::{Dim, Grammar, Handling, Key, Rule, World};

/// S14: each entity has one spelling.
pub(super) fn is_canonical(dim: Dim, project: Grammar, id: &str) -> bool {
    let grammar = match dim {
        Dim::Company => Grammar::Number,
        Dim::Shop | Dim::Country => Grammar::Slug,
        Dim::Project => project,
    };
    match grammar {
        Grammar::Number => {
            let digits = !id.is_empty() && id.chars().all(|c| c.is_ascii_digit());
            digits && (id == "0" || !id.starts_with('0')) && id.parse::<u64>().is_ok()
        }
        Grammar::Slug => {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            (1..=64).contains(&id.len()) && id.chars().all(allowed)
        }
        // The documentation of `IdGrammar::Opaque`.
        Grammar::Opaque => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
            (1..=128).contains(&id.len()) && id.chars().all(allowed) && id != "." && id != ".."
        }
    }
}

/// S8: whether the key reaches an entity with this canonical id.
pub(super) fn allowed<R>(reading: &R, world: &World, key: &Key, rule: &Rule, dim: Dim, id: &str) -> bool
where
    R: Reading + ?Sized,
{
    match dim {
        Dim::Company | Dim::Project => reading.listed(key.lists.get(&dim), id),
        Dim::Shop => shop_allowed(reading, world, key, rule, id),
        Dim::Country => reading.reaches_shop_of(world, key, rule, id),
    }
}

fn shop_allowed<R: Reading + ?Sized>(reading: &R, world: &World, key: &Key, rule: &Rule, shop: &str) -> bool {
    reading.listed(key.lists.get(&Dim::Shop), shop) && reading.reaches_company_of(world, key, rule, shop)
}

/// S8: where the directory knows the company of a shop, the company list applies.
pub(super) fn reaches_company_of<R>(reading: &R, world: &World, key: &Key, rule: &Rule, shop: &str) -> bool
where
    R: Reading + ?Sized,
{
    let known = world.directory.as_ref().and_then(|directory| directory.shops.get(shop));
    match known.and_then(Option::as_ref) {
        Some(company) => reading.listed(key.lists.get(&Dim::Company), company),
        None => reading.opens_orphans(world, key, rule, Dim::Company),
    }
}

/// S8: a shop country inherits from its shop, and an unknown one is as foreign as one of a foreign shop.
pub(super) fn reaches_shop_of<R>(reading: &R, world: &World, key: &Key, rule: &Rule, country: &str) -> bool
where
    R: Reading + ?Sized,
{
    let known = world.directory.as_ref().and_then(|directory| directory.countries.get(country));
    match known {
        Some(shop) => shop_allowed(reading, world, key, rule, shop),
        None => [Dim::Shop, Dim::Company].iter().all(|parent| reading.opens_orphans(world, key, rule, *parent)),
    }
}

/// S9: whether the rule declares the dimension. By the documentation of `Rule`, one that looks at shops covers companies
/// through the directory; the same goes for shop countries and their shops.
pub(super) fn covers(rule: &Rule, dim: Dim) -> bool {
    let looks_at = |dim: Dim| rule.handlings.get(&dim).is_some_and(|handling| *handling != Handling::Unscoped);
    rule.unscoped
        || rule.handlings.contains_key(&dim)
        || match dim {
            Dim::Company => looks_at(Dim::Shop) || looks_at(Dim::Country),
            Dim::Shop => looks_at(Dim::Country),
            Dim::Country | Dim::Project => false,
        }
}
