//! Whether a grant reaches one entity.

mod change;

pub(crate) use self::change::directory_revokes_access;
use crate::{
    denial::Cause,
    dimension::Dimension,
    directory::{Directory, Level, Parent},
    ids::Ids,
    key::{Grant, Restriction},
};

/// Whether the grant allows this entity. This is the only place that combines restrictions with hierarchies.
/// `named_bits` holds the bits of the standard dimensions that the rule itself names.
pub(crate) fn entity_allowed(
    grant: &Grant,
    directory: &Directory,
    dimension: &Dimension,
    id: &str,
    named_bits: u8,
) -> Result<(), Cause> {
    if allows(grant, directory, dimension, id, named_bits) {
        Ok(())
    } else if dimension.accepts(id) {
        Err(Cause::EntityNotAllowed(dimension.clone()))
    } else {
        Err(Cause::MalformedId(dimension.clone()))
    }
}

/// The same, without the cause.
#[inline]
pub(crate) fn allows(grant: &Grant, directory: &Directory, dimension: &Dimension, id: &str, named_bits: u8) -> bool {
    dimension.accepts(id) && is_allowed(grant, directory, dimension, id, named_bits)
}

/// The same for an id that is known to be canonical.
fn is_allowed(grant: &Grant, directory: &Directory, dimension: &Dimension, id: &str, named_bits: u8) -> bool {
    let Some(level) = directory.level(dimension) else {
        return list_allows(grant, dimension, id) && allows_orphans(grant, dimension, directory, named_bits);
    };
    match level.is_own() {
        true => is_allowed_own(grant, level, dimension, id),
        false => list_allows(grant, dimension, id) && parents_allow(grant, level, || level.find(id)),
    }
}

/// The same of a dimension that the application has declared a hierarchy for, and which may have aliases.
#[inline(never)]
fn is_allowed_own(grant: &Grant, level: &Level, dimension: &Dimension, id: &str) -> bool {
    let Some(list) = grant.restriction(dimension) else { return parents_allow(grant, level, || level.find(id)) };
    level.find(id).is_some_and(|position| {
        !excludes_alias(list, level, position)
            && level.id(position).is_some_and(|id| list_allows(grant, dimension, id))
            && parents_allow(grant, level, || Some(position))
    })
}

/// Whether the grant allows what an entity belongs to. The entity is looked up only if that matters: the directory is
/// large, and a look-up in it costs more than one in a list.
#[inline]
fn parents_allow(grant: &Grant, level: &Level, find: impl Fn() -> Option<usize>) -> bool {
    let Some(above) = level.above() else { return true };
    if above.above().is_some() {
        return ancestors_allow(grant, level, &find);
    }
    let Some((over, list)) = grant.listed(above.dimension()) else { return true };
    let parent = find().and_then(|position| level.parent(position));
    parent.is_some_and(|parent| parent_allowed(over, list, above, parent))
}

/// The same over any number of levels. It costs a request for a shop, with only companies above it, a few dozen
/// instructions more.
#[inline(never)]
fn ancestors_allow(grant: &Grant, level: &Level, find: &dyn Fn() -> Option<usize>) -> bool {
    let mut found = None;
    level.ancestors().enumerate().all(|(between, above)| {
        let Some((over, list)) = grant.listed(above.dimension()) else { return true };
        found = found.or_else(find);
        let parent = found.and_then(|position| level.ancestor(position, between));
        parent.is_some_and(|parent| parent_allowed(over, list, above, parent))
    })
}

/// Whether a list over the dimension of a level, as the key spells it, allows an entity that another belongs to.
#[inline]
fn parent_allowed(over: &Dimension, list: &Restriction, level: &Level, parent: &Parent) -> bool {
    // The directory may use a grammar of its own.
    list.allows(parent.id())
        && (level.dimension().is_within(over) == Some(true) || over.accepts(parent.id()))
        && (!level.is_own() || parent.position().is_some_and(|position| !excludes_alias(list, level, position)))
}

/// Whether an exclude list names an entity by an alias. Stores refuse such lists: whether they exclude anything depends
/// on what the directory knows. Of a list that has come by another way, the alias counts, so that it cannot be dodged.
#[inline(never)]
fn excludes_alias(list: &Restriction, level: &Level, position: usize) -> bool {
    match list {
        Restriction::Include(_) => false,
        Restriction::Exclude(ids) => level.aliases_of(position).any(|alias| ids.contains(alias)),
    }
}

/// Whether the list of the grant allows an id that was read by the grammar of `dimension`.
#[inline]
fn list_allows(grant: &Grant, dimension: &Dimension, id: &str) -> bool {
    match grant.listed(dimension) {
        None => true,
        Some((_, Restriction::Include(ids))) => ids.contains(id),
        Some((over, Restriction::Exclude(ids))) => {
            !ids.contains(id)
                && excludes_reliably(dimension, over, ids)
                && (dimension.is_within(over) == Some(true) || over.accepts(id))
        }
    }
}

/// Whether an exclude list with ids in the grammar of `over` can be enforced where ids are read by the grammar of
/// `read`. If a spelling that only the rule accepts may name an excluded entity, the list allows nothing, so that a
/// filter, which cannot tell spellings apart, agrees with a check of one id.
pub(crate) fn excludes_reliably(read: &Dimension, over: &Dimension, excluded: &Ids) -> bool {
    // Functions cannot be compared, but they can be tried on other spellings of the listed ids.
    let dodges = |id: String| read.accepts(&id) && !over.accepts(&id);
    let may_dodge = |id: &str| dodges(id.to_ascii_lowercase()) || dodges(id.to_ascii_uppercase());
    read.is_within(over).unwrap_or_else(|| !excluded.iter().take(16).any(may_dodge))
}

/// Whether entities that the directory does not know, or whose parents it does not know, are allowed as far as their
/// own list does: where the grant is not restricted over the parents, or nobody has declared a hierarchy and the rule
/// itself says what the parents are to the route. A directory with a gap in it declares one. Of a dimension of the
/// application's own, an id that is not known may be the alias of one that is on the list.
pub(crate) fn allows_orphans(grant: &Grant, dimension: &Dimension, directory: &Directory, named_bits: u8) -> bool {
    let is_free = |dimension: &Dimension| grant.restriction(dimension).is_none();
    if let Some(level) = directory.level(dimension) {
        let own = Some(level).filter(|level| level.is_own());
        return level.ancestors().chain(own).all(|level| is_free(level.dimension()));
    }
    let free_of = |parent: &Dimension| is_free(parent) || (!directory.is_declared() && named_bits & parent.bit() != 0);
    match *dimension == Dimension::SHOP_COUNTRY {
        true => free_of(&Dimension::COMPANY) && free_of(&Dimension::SHOP),
        false => *dimension != Dimension::SHOP || free_of(&Dimension::COMPANY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimension::IdGrammar;

    fn directory() -> Directory {
        Directory::builder().shop("de", Some("1")).country("de", "at", Some("1001")).shop("xx", None).build().unwrap()
    }

    const NOTHING: u8 = 0;
    const COMPANIES: u8 = 1;
    const BOTH: u8 = 3;

    fn evaluate(grant: &Grant, dimension: &Dimension, id: &str, named_bits: u8) -> Result<(), Cause> {
        entity_allowed(grant, &directory(), dimension, id, named_bits)
    }

    #[test]
    fn shops_obey_both_lists() {
        assert_eq!((COMPANIES, BOTH), (Dimension::COMPANY.bit(), Dimension::COMPANY.bit() | Dimension::SHOP.bit()));
        let allowed = |grant: &Grant, dimension: Dimension, id: &str, named_bits: u8| {
            evaluate(grant, &dimension, id, named_bits).is_ok()
        };
        let company_1 = Grant::builder().only("company", [1]).build().unwrap();
        let not_company_1 = Grant::builder().except("company", [1]).build().unwrap();
        assert!(allowed(&company_1, Dimension::SHOP, "de", NOTHING));
        assert!(!allowed(&not_company_1, Dimension::SHOP, "de", COMPANIES), "named or not, what is known counts");
        assert!(allowed(&company_1, Dimension::SHOP_COUNTRY, "1001", NOTHING));
        assert!(!allowed(&not_company_1, Dimension::SHOP_COUNTRY, "1001", NOTHING));
    }

    /// A shop that is missing, one of no known company, a country that is missing, and one whose shop has no known
    /// company: whatever the rule says, they are foreign where the directory declares a hierarchy, and are judged by
    /// what the rule says where there is none.
    #[test]
    fn a_gap_in_a_directory_never_opens() {
        let not_company_1 = Grant::builder().except("company", [1]).build().unwrap();
        let not_ch = Grant::builder().except("shop", ["ch"]).build().unwrap();
        let both = Grant::builder().except("shop", ["ch"]).only("company", [1]).build().unwrap();
        let gaps = [
            (Dimension::SHOP, "xx"),
            (Dimension::SHOP, "yy"),
            (Dimension::SHOP_COUNTRY, "9999"),
            (Dimension::SHOP_COUNTRY, "1002"),
        ];
        let with_gaps = Directory::builder().shop("de", Some("1")).country("xx", "at", Some("1002")).build().unwrap();
        for declared in [with_gaps, Directory::builder().build().unwrap()] {
            for ((dimension, id), named_bits) in
                gaps.iter().flat_map(|gap| [NOTHING, COMPANIES, BOTH].map(|named_bits| (gap, named_bits)))
            {
                let refused = Err(Cause::EntityNotAllowed(dimension.clone()));
                for grant in [&not_company_1, &both] {
                    assert_eq!(
                        entity_allowed(grant, &declared, dimension, id, named_bits),
                        refused,
                        "{id} {named_bits}"
                    );
                }
                let free = entity_allowed(&Grant::default(), &declared, dimension, id, named_bits);
                assert_eq!(free, Ok(()), "{id}: no list, no parent that matters");
            }
        }
        for (grant, dimension, named_bits, allowed) in [
            (&not_company_1, Dimension::SHOP, NOTHING, false),
            (&not_company_1, Dimension::SHOP, COMPANIES, true),
            (&not_company_1, Dimension::SHOP_COUNTRY, NOTHING, false),
            (&not_company_1, Dimension::SHOP_COUNTRY, COMPANIES, true),
            (&not_ch, Dimension::SHOP_COUNTRY, NOTHING, false),
            (&not_ch, Dimension::SHOP_COUNTRY, COMPANIES, false),
            (&not_ch, Dimension::SHOP_COUNTRY, BOTH, true),
            (&both, Dimension::SHOP, NOTHING, false),
            (&both, Dimension::SHOP_COUNTRY, COMPANIES, false),
            (&both, Dimension::SHOP_COUNTRY, BOTH, true),
        ] {
            let judged = entity_allowed(grant, &Directory::default(), &dimension, "1001", named_bits);
            assert_eq!(judged.is_ok(), allowed, "{grant:?} {dimension} {named_bits}");
        }
    }

    /// A spelling that only one of the two accepts is nobody's: else it would get by an exclude list. And where there
    /// may be such spellings the list lets nothing through, as no filter could tell them apart.
    #[test]
    fn an_exclude_list_holds_only_where_rule_and_key_spell_alike() {
        let upper = |id: &str| id.bytes().all(|byte| byte.is_ascii_uppercase());
        let any = |_: &str| true;
        let project = |ids| Dimension::new("project", ids);
        for (rule, key, excluded, id) in [
            (IdGrammar::Opaque, IdGrammar::Slug, "apollo", "Apollo"),
            (IdGrammar::Opaque, IdGrammar::Slug, "apollo", "gemini"),
            (IdGrammar::Opaque, IdGrammar::Number, "3", "03"),
            (IdGrammar::Custom(any), IdGrammar::Custom(upper), "DE", "de"),
            (IdGrammar::Custom(any), IdGrammar::Custom(upper), "DE", "CH"),
            (IdGrammar::Opaque, IdGrammar::Custom(upper), "DE", "de"),
            (IdGrammar::Opaque, IdGrammar::Custom(upper), "DE", "CH"),
        ] {
            let grant = Grant::builder().except(project(key), [excluded]).build().unwrap();
            let refused = Err(Cause::EntityNotAllowed(project(rule)));
            assert_eq!(evaluate(&grant, &project(rule), id, BOTH), refused, "{id}");
            assert_eq!(evaluate(&grant, &project(rule), excluded, BOTH), refused, "{excluded}");
            // The entries of an include list are spelt as the key spells them.
            let grant = Grant::builder().only(project(key), [excluded]).build().unwrap();
            assert_eq!(evaluate(&grant, &project(rule), excluded, BOTH), Ok(()), "{excluded}");
            assert_eq!(evaluate(&grant, &project(rule), id, BOTH), refused, "{id}");
        }
        // Where the key knows all that the rule does, and functions that disagree about nothing that is listed.
        let same = |id: &str| id.bytes().all(|byte| byte.is_ascii_uppercase());
        for (rule, key, excluded, other) in [
            (IdGrammar::Slug, IdGrammar::Opaque, "apollo", "gemini"),
            (IdGrammar::Slug, IdGrammar::Slug, "apollo", "gemini"),
            (IdGrammar::Custom(upper), IdGrammar::Custom(upper), "DE", "CH"),
            (IdGrammar::Custom(upper), IdGrammar::Custom(same), "DE", "CH"),
            (IdGrammar::Custom(upper), IdGrammar::Custom(any), "DE", "CH"),
        ] {
            let grant = Grant::builder().except(project(key), [excluded]).build().unwrap();
            assert_eq!(evaluate(&grant, &project(rule), other, BOTH), Ok(()), "{other}");
            assert!(evaluate(&grant, &project(rule), excluded, BOTH).is_err(), "{excluded}");
        }
    }

    /// An id that only one of two functions accepts may be another spelling of an excluded one, although none of the listed
    /// ids in lower or upper case is.
    #[test]
    fn an_id_that_the_key_cannot_spell_is_not_let_past_an_exclude_list() {
        let few = |id: &str| ["DE", "De", "CH"].contains(&id);
        let upper = |id: &str| id.bytes().all(|byte| byte.is_ascii_uppercase());
        let project = |ids| Dimension::new("project", ids);
        let grant = Grant::builder().except(project(IdGrammar::Custom(upper)), ["DE"]).build().unwrap();
        let read = project(IdGrammar::Custom(few));
        assert_eq!(evaluate(&grant, &read, "De", BOTH), Err(Cause::EntityNotAllowed(read.clone())));
        assert_eq!(evaluate(&grant, &read, "CH", BOTH), Ok(()));
        // The same of a company that the directory names.
        let letters =
            Dimension::new("company", IdGrammar::Custom(|id| id.bytes().all(|byte| byte.is_ascii_lowercase())));
        let grant = Grant::builder().except(letters, ["a"]).build().unwrap();
        assert_eq!(evaluate(&grant, &Dimension::SHOP, "de", BOTH), Err(Cause::EntityNotAllowed(Dimension::SHOP)));
    }

    #[test]
    fn a_country_code_is_never_a_shop() {
        let only_at = Grant::builder().only("shop", ["at"]).build().unwrap();
        assert!(evaluate(&only_at, &Dimension::SHOP, "de", BOTH).is_err());
    }

    /// Of several lists over one company, shop and country, each counts.
    #[test]
    fn no_list_stands_in_for_another() {
        let only = |shop: &str, company: u64| Grant::builder().only("shop", [shop]).only("company", [company]).build();
        for (shop, company, allowed) in [("de", 1, true), ("de", 2, false), ("ch", 1, false), ("ch", 2, false)] {
            let grant = only(shop, company).unwrap();
            for (dimension, id) in [(Dimension::SHOP, "de"), (Dimension::SHOP_COUNTRY, "1001")] {
                assert_eq!(evaluate(&grant, &dimension, id, BOTH).is_ok(), allowed, "{shop} {company} {dimension}");
            }
        }
    }
}
