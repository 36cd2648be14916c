//! Whether a change of a directory takes entities away from a key.

use crate::{
    dimension::Dimension,
    directory::{Difference, Directory},
    entity::{allows_orphans, is_allowed},
    key::Grant,
};

/// Whether a change of the directory, and possibly of the grant, takes an entity away from a key. Errs on the side of
/// ending requests.
pub(crate) fn directory_revokes_access(
    (old_grant, old): (&Grant, &Directory),
    (new_grant, new): (&Grant, &Directory),
    difference: &Difference,
) -> bool {
    let is_restricted = |dimension: &Dimension| new_grant.restriction(dimension).is_some();
    if difference.is_none() || new_grant.restrictions().is_empty() {
        return false;
    }
    // Without a declared hierarchy, rules decide by the dimensions that they name; with one, unknown entities are
    // denied.
    if difference.is_first && new.is_declared() && [Dimension::COMPANY, Dimension::SHOP].iter().any(is_restricted) {
        return true;
    }
    // The same of one dimension. And where the hierarchy was what a rule covers a dimension by, the rule refuses now.
    if difference.moved.iter().any(|dimensions| dimensions.iter().any(is_restricted)) {
        return true;
    }
    // A rule that names no parent of the entity decides: if such a rule still allows it, every other rule does too.
    const NO_PARENT_NAMED: u8 = 0;
    let loses = |dimension: &Dimension, id: &String| {
        is_allowed(old_grant, old, dimension, id, NO_PARENT_NAMED)
            && !is_allowed(new_grant, new, dimension, id, NO_PARENT_NAMED)
    };
    let matters =
        |dimension: &Dimension| is_restricted(dimension) || !allows_orphans(new_grant, dimension, new, NO_PARENT_NAMED);
    let mut entities = difference.entities.iter().filter(|(dimension, _)| matters(dimension));
    entities.any(|(dimension, ids)| ids.iter().any(|id| loses(dimension, id)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{dimension::IdGrammar, key::GrantBuilder};

    const NOTHING: u8 = 0;
    const BOTH: u8 = 3;

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

    const OWN: [Dimension; 4] = [
        Dimension::new("workspace", IdGrammar::Slug),
        Dimension::new("project", IdGrammar::Slug),
        Dimension::new("environment", IdGrammar::Slug),
        Dimension::new("bundle", IdGrammar::Slug),
    ];
    const IDS: [&str; 4] = ["a", "b", "c", "d"];

    /// For each dimension but the first, the one that it belongs to, and for some of the ids what the entity belongs to
    /// and whether the last id is an alias of it.
    type Shape = Vec<Option<(usize, Vec<Option<(Option<&'static str>, bool)>>)>>;

    fn shape() -> impl Strategy<Value = Shape> {
        let entity = prop::option::of((prop::option::of(prop::sample::select(&IDS[..])), any::<bool>()));
        let level = prop::option::weighted(0.9, (0..3_usize, prop::collection::vec(entity, 3)));
        prop::collection::vec(level, 3)
    }

    fn directory(shape: &Shape) -> Directory {
        let mut builder = Directory::builder();
        for (level, (above, entities)) in
            shape.iter().enumerate().filter_map(|(level, own)| Some((level, own.as_ref()?)))
        {
            let (child, parent) = (&OWN[level + 1], &OWN[(*above).min(level)]);
            builder = builder.hierarchy(child.clone(), parent.clone());
            let mut has_alias = false;
            for (id, (of, alias)) in IDS.iter().zip(entities).filter_map(|(id, entity)| Some((id, (*entity)?))) {
                builder = builder.entity(child, id, of);
                if alias && !has_alias {
                    builder = builder.alias(child, IDS[3], id);
                    has_alias = true;
                }
            }
        }
        builder.build().unwrap()
    }

    fn grant() -> impl Strategy<Value = Grant> {
        let list = (any::<bool>(), prop::sample::subsequence(&IDS[..], 0..=3));
        prop::collection::vec(prop::option::of(list), 4).prop_map(|lists| {
            let restrict = |grant: GrantBuilder, (over, list): (&Dimension, &Option<(bool, Vec<&str>)>)| match list {
                None => grant,
                Some((true, ids)) => grant.only(over.clone(), ids),
                Some((false, ids)) => grant.except(over.clone(), ids),
            };
            OWN.iter().zip(&lists).fold(Grant::builder(), restrict).build().unwrap()
        })
    }

    /// Whether a rule that is scoped by one dimension admits keys that are restricted over the other.
    fn covers(directory: &Directory, scoped: &Dimension, over: &Dimension) -> bool {
        scoped == over || directory.level(scoped).is_some_and(|level| level.is_below(over))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

        /// Whatever a change of hierarchies takes from a key is noticed, and a key without lists loses nothing.
        #[test]
        fn no_change_of_a_hierarchy_takes_an_entity_away_unnoticed(
            (old, new) in (shape(), shape()), is_similar in any::<bool>(), changed in 0..3_usize, grant in grant(),
        ) {
            let new = match is_similar {
                true => old.iter().zip(new).enumerate().map(|(at, (old, new))| if at == changed { new } else { old.clone() }).collect(),
                false => new,
            };
            let (old, new) = (directory(&old), directory(&new));
            let noticed = directory_revokes_access((&grant, &old), (&grant, &new), &old.difference(&new));
            let loses_entity = OWN.iter().any(|dimension| {
                IDS.iter().chain(&["unknown"]).any(|id| {
                    is_allowed(&grant, &old, dimension, id, NOTHING) && !is_allowed(&grant, &new, dimension, id, NOTHING)
                })
            });
            let loses_rule = grant.restrictions().iter().any(|(over, _)| {
                OWN.iter().any(|scoped| covers(&old, scoped, over) && !covers(&new, scoped, over))
            });
            prop_assert!(noticed || !(loses_entity || loses_rule), "{grant:?} {old:?} {new:?}");
            prop_assert!(!noticed || !grant.restrictions().is_empty());
            prop_assert!(!directory_revokes_access((&grant, &old), (&grant, &old), &old.difference(&directory_again(&old))));
        }
    }

    /// An equal directory that was read once more.
    fn directory_again(directory: &Directory) -> Directory {
        directory.to_file().unwrap().read(&OWN).unwrap()
    }
}
