//! Whether a grant reaches one entity.

use crate::{
    denial::Cause,
    dimension::Dimension,
    directory::{Difference, Directory},
    ids::Ids,
    key::{Grant, Restriction},
};

/// Whether the grant allows this entity. This is the only place that combines restrictions with the hierarchy of
/// companies, shops and shop countries. `named_bits` holds the bits of the dimensions that the rule itself names.
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
    if *dimension == Dimension::SHOP_COUNTRY {
        match directory.shop_of_country(id) {
            // The directory may use a grammar of its own for shops.
            Some(shop) => {
                allows_known(grant, &Dimension::SHOP, None, shop) && company_allows(grant, directory, shop, named_bits)
            }
            None => allows_orphans(grant, dimension, directory, named_bits),
        }
    } else if *dimension == Dimension::SHOP {
        // Looked up only if a company list exists: the directory is large, and a look-up in it costs more than one in a
        // list.
        list_allows(grant, dimension, id)
            && (grant.restriction(&Dimension::COMPANY).is_none() || company_allows(grant, directory, id, named_bits))
    } else {
        list_allows(grant, dimension, id)
    }
}

/// Whether a change of the directory, and possibly of the grant, takes an entity away from a key. Errs on the side of
/// ending requests.
pub(crate) fn directory_revokes_access(
    (old_grant, old): (&Grant, &Directory),
    (new_grant, new): (&Grant, &Directory),
    difference: &Difference,
) -> bool {
    let parents = [Dimension::COMPANY, Dimension::SHOP];
    if difference.is_none() || parents.iter().all(|parent| new_grant.restriction(parent).is_none()) {
        return false;
    }
    // Without a declared hierarchy, rules decide by the dimensions that they name; with one, unknown entities are
    // denied.
    if difference.is_first && new.is_declared() {
        return true;
    }
    // A rule that names no parent of the entity decides: if such a rule still allows it, every other rule does too.
    const NO_PARENT_NAMED: u8 = 0;
    let loses = |dimension: &Dimension, id: &String| {
        is_allowed(old_grant, old, dimension, id, NO_PARENT_NAMED)
            && !is_allowed(new_grant, new, dimension, id, NO_PARENT_NAMED)
    };
    difference.shops.iter().any(|shop| loses(&Dimension::SHOP, shop))
        || difference.countries.iter().any(|country| loses(&Dimension::SHOP_COUNTRY, country))
}

/// Whether the list of the grant allows an id that was read by the grammar of `dimension`.
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

/// Whether the list of the grant allows an id from the directory, which is in the grammar of `read` if that is known.
fn allows_known(grant: &Grant, dimension: &Dimension, read: Option<&Dimension>, id: &str) -> bool {
    let fits = |over: &Dimension| read.is_some_and(|read| read.is_within(over) == Some(true)) || over.accepts(id);
    grant.listed(dimension).is_none_or(|(over, restriction)| restriction.allows(id) && fits(over))
}

/// Whether the list of companies allows the company of the shop.
fn company_allows(grant: &Grant, directory: &Directory, shop: &str, named_bits: u8) -> bool {
    match directory.company_of(shop) {
        Some(company) => allows_known(grant, &Dimension::COMPANY, Some(&Dimension::COMPANY), company),
        None => allows_orphans(grant, &Dimension::SHOP, directory, named_bits),
    }
}

/// Whether entities whose parents the directory does not know are allowed: where the grant is not restricted over the
/// parents, or nobody has declared a hierarchy and the rule itself says what the parents are to the route. A directory
/// with a gap in it declares one.
pub(crate) fn allows_orphans(grant: &Grant, dimension: &Dimension, directory: &Directory, named_bits: u8) -> bool {
    let free_of = |parent: &Dimension| {
        grant.restriction(parent).is_none() || (!directory.is_declared() && named_bits & parent.bit() != 0)
    };
    free_of(&Dimension::COMPANY) && (*dimension != Dimension::SHOP_COUNTRY || free_of(&Dimension::SHOP))
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

    /// All directories of two shops, two companies and a country, in pairs: whatever a change takes from a key, however
    /// a rule asks for it, is noticed.
    #[test]
    fn no_change_of_a_directory_takes_an_entity_away_unnoticed() {
        let mut directories = vec![Directory::default()];
        let companies = [None, Some(None), Some(Some("1")), Some(Some("2"))];
        for (a, b) in companies.iter().flat_map(|a| companies.iter().map(move |b| (a, b))) {
            for of in [None, Some("a"), Some("b")] {
                let shops = [("a", a), ("b", b)];
                let mut builder = Directory::builder();
                for (shop, company) in shops {
                    let Some(company) = company else { continue };
                    builder = builder.shop(shop, *company);
                    if of == Some(shop) {
                        builder = builder.country(shop, "at", Some("at-1"));
                    }
                }
                directories.push(builder.build().unwrap());
            }
        }
        let grants = [
            Grant::default(),
            Grant::builder().only("company", [1]).build().unwrap(),
            Grant::builder().except("company", [1]).build().unwrap(),
            Grant::builder().only("shop", ["a"]).build().unwrap(),
            Grant::builder().except("shop", ["a"]).build().unwrap(),
            Grant::builder().only("shop", ["a"]).except("company", [2]).build().unwrap(),
        ];
        let entities = [("shop", "a"), ("shop", "b"), ("shop", "zz"), ("country", "at-1"), ("country", "zz")]
            .map(|(kind, id)| (if kind == "shop" { Dimension::SHOP } else { Dimension::SHOP_COUNTRY }, id));
        let (mut lost, mut quiet) = (0, 0);
        for (grant, old) in grants.iter().flat_map(|grant| directories.iter().map(move |old| (grant, old))) {
            for new in &directories {
                let loses = entities.iter().any(|(dimension, id)| {
                    (NOTHING..=BOTH).any(|named_bits| {
                        is_allowed(grant, old, dimension, id, named_bits)
                            && !is_allowed(grant, new, dimension, id, named_bits)
                    })
                });
                let noticed = directory_revokes_access((grant, old), (grant, new), &old.difference(new));
                assert!(noticed || !loses, "{grant:?} {old:?} {new:?}");
                assert!(!noticed || *grant != Grant::default(), "a key without lists has nothing to lose");
                lost += usize::from(loses);
                quiet += usize::from(!noticed);
            }
            let same = directory_revokes_access((grant, old), (grant, old), &old.difference(old));
            assert!(!same, "{grant:?} {old:?}: nothing has changed");
        }
        assert!(lost > 1000 && quiet > 4000, "{lost} {quiet}");
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
