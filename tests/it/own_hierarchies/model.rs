//! Compares decisions and scopes with a naive model, for random hierarchies of six dimensions, of which companies and
//! shops are two. The model expands everything by hand: for each dimension, it goes through all ids there are, and keeps
//! those that the key may access. It shares no code with the crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::Request;
use proptest::prelude::*;
use tower_authz::{
    Check as _, ClientAddress, Digest, Dimension, Directory, Filter, Grant, Head, IdGrammar, KeyRecord, Policy,
    Principal, Rule, check::EntityRef,
};

use super::{ENVIRONMENT, PROJECT, WORKSPACE};

const TEAM: Dimension = Dimension::new("team", IdGrammar::Slug);
const DIMENSIONS: [Dimension; COUNT] = [TEAM, Dimension::COMPANY, Dimension::SHOP, WORKSPACE, PROJECT, ENVIRONMENT];
const SHOP: usize = 2;
const COUNT: usize = 6;
/// The ids of every dimension. The last one is never that of an entity, but may be an alias.
const IDS: [&str; 4] = ["1", "2", "3", "9"];

#[derive(Clone, Debug)]
enum List {
    Include(BTreeSet<&'static str>),
    Exclude(BTreeSet<&'static str>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Handling {
    Silent,
    Scoped,
    Unscoped,
    Filtered,
    Deferred,
}

#[derive(Clone, Debug)]
struct Level {
    /// Always another dimension before this one.
    above: usize,
    /// The entities that are known, with their parents.
    parent_of: BTreeMap<&'static str, Option<&'static str>>,
    /// The entity that the last id is an alias of.
    alias_of: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct World {
    levels: [Option<Level>; COUNT],
    lists: [Option<List>; COUNT],
    handlings: [Handling; COUNT],
    rest_unscoped: bool,
}

fn on_list(list: &Option<List>, id: &str) -> bool {
    match list {
        None => true,
        Some(List::Include(ids)) => ids.contains(id),
        Some(List::Exclude(ids)) => !ids.contains(id),
    }
}

impl World {
    /// S8: an empty exclude list is no restriction at all.
    fn restricted(&self, dimension: usize) -> bool {
        match &self.lists[dimension] {
            None => false,
            Some(List::Include(_)) => true,
            Some(List::Exclude(ids)) => !ids.is_empty(),
        }
    }

    fn is_above(&self, above: usize, below: usize) -> bool {
        self.levels[below].as_ref().is_some_and(|level| level.above == above || self.is_above(above, level.above))
    }

    /// All ids of a dimension that the key may access.
    fn allowed(&self, dimension: usize) -> BTreeSet<&'static str> {
        // What belongs to nothing is decided by its list.
        let Some(level) = &self.levels[dimension] else {
            return IDS.into_iter().filter(|id| on_list(&self.lists[dimension], id)).collect();
        };
        let restricted_above = (0..COUNT).any(|above| self.is_above(above, dimension) && self.restricted(above));
        let allowed_above = self.allowed(level.above);
        let mut allowed = BTreeSet::new();
        for named in IDS {
            let entity = level.alias_of.filter(|_| named == IDS[3]).unwrap_or(named);
            let is_known = level.parent_of.contains_key(entity);
            let parent = level.parent_of.get(entity).copied().flatten();
            // S8: a gap never opens. What is not known is foreign to a key with a list above it. In an application's own
            // dimension it may also be an alias of what is on the list of this dimension.
            let may_be_unknown = match dimension {
                SHOP => !restricted_above,
                _ => !restricted_above && !self.restricted(dimension),
            };
            let parent_is_allowed = !restricted_above || parent.is_some_and(|parent| allowed_above.contains(parent));
            if (is_known || may_be_unknown) && on_list(&self.lists[dimension], entity) && parent_is_allowed {
                allowed.insert(named);
            }
        }
        allowed
    }

    fn decision(&self, ask: &[&'static str; COUNT]) -> bool {
        (0..COUNT).all(|dimension| {
            let handling = self.handlings[dimension];
            let checked_below = (0..COUNT).any(|below| {
                let checks =
                    matches!(self.handlings[below], Handling::Scoped | Handling::Filtered | Handling::Deferred);
                checks && self.is_above(dimension, below)
            });
            // S9: a rule that says nothing refuses keys that are restricted over the dimension.
            let is_handled = handling != Handling::Silent || self.rest_unscoped || checked_below;
            (is_handled || !self.restricted(dimension))
                && (handling != Handling::Scoped || self.allowed(dimension).contains(ask[dimension]))
        })
    }

    fn directory(&self) -> Directory {
        let mut builder = Directory::builder();
        for (dimension, level) in DIMENSIONS.iter().zip(&self.levels) {
            let Some(Level { above, parent_of, alias_of }) = level else { continue };
            if *dimension == Dimension::SHOP {
                builder = parent_of.iter().fold(builder, |builder, (id, parent)| builder.shop(id, *parent));
                continue;
            }
            builder = builder.hierarchy(dimension.clone(), DIMENSIONS[*above].clone());
            builder = parent_of.iter().fold(builder, |builder, (id, parent)| builder.entity(dimension, id, *parent));
            builder = alias_of.iter().fold(builder, |builder, id| builder.alias(dimension, IDS[3], id));
        }
        builder.build().unwrap()
    }

    fn principal(&self) -> Principal {
        let mut grant = Grant::builder();
        for (dimension, list) in DIMENSIONS.iter().zip(&self.lists) {
            grant = match list {
                None => grant,
                Some(List::Include(ids)) => grant.only(dimension.clone(), ids),
                Some(List::Exclude(ids)) => grant.except(dimension.clone(), ids),
            };
        }
        let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant.build().unwrap());
        Principal::new(Arc::new(record.build()), self.directory(), ClientAddress::UNKNOWN)
    }

    fn decided(&self, ask: &[&'static str; COUNT]) -> bool {
        let mut rule = Rule::authenticated();
        for (dimension, handling) in DIMENSIONS.iter().zip(self.handlings) {
            let dimension = dimension.clone();
            rule = match handling {
                Handling::Silent => rule,
                Handling::Scoped => {
                    let name = dimension.name().to_owned();
                    rule.scoped(EntityRef::from_path(dimension, name))
                }
                Handling::Unscoped => rule.unscoped_for(dimension),
                Handling::Filtered => rule.filtered(dimension),
                Handling::Deferred => rule.deferred(dimension),
            };
        }
        if self.rest_unscoped {
            rule = rule.unscoped();
        }
        let pattern: String = DIMENSIONS.iter().map(|dimension| format!("/{{{dimension}}}")).collect();
        let policy = Policy::builder().route(&pattern, rule).build().unwrap();
        let path: String = ask.iter().map(|id| format!("/{id}")).collect();
        let mut request = Request::get(path).body(()).unwrap();
        request.extensions_mut().insert(self.principal());
        policy.evaluate(&Head::new(&request)).is_ok()
    }

    /// Every world in which the key may do something less, or the directory knows something less.
    fn narrower(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for dimension in 0..COUNT {
            for id in &IDS[..3] {
                let mut less = self.clone();
                match &mut less.lists[dimension] {
                    none @ None => *none = Some(List::Exclude([*id].into())),
                    Some(List::Include(ids)) => drop(ids.remove(id)),
                    Some(List::Exclude(ids)) => drop(ids.insert(id)),
                }
                all.push(less);
            }
            let Some(level) = &self.levels[dimension] else { continue };
            let mut with = |level: Level| {
                let mut less = self.clone();
                less.levels[dimension] = Some(level);
                all.push(less);
            };
            with(Level { alias_of: None, ..level.clone() });
            for id in level.parent_of.keys() {
                let mut orphan = level.clone();
                orphan.parent_of.insert(id, None);
                with(orphan);
                let mut gone = level.clone();
                gone.parent_of.remove(id);
                gone.alias_of = gone.alias_of.filter(|of| of != id);
                with(gone);
            }
        }
        all
    }
}

fn levels() -> impl Strategy<Value = [Option<Level>; COUNT]> {
    let id = || prop::sample::select(&IDS[..3]);
    let parent = prop_oneof![1 => Just(None), 6 => id().prop_map(Some), 1 => Just(Some(IDS[3]))];
    let level = (0..COUNT, prop::collection::btree_map(id(), parent, 0..=3), prop::option::of(id()));
    prop::array::uniform6(prop::option::weighted(0.8, level)).prop_map(|levels| {
        let mut before: Vec<Option<Level>> = Vec::new();
        for (dimension, level) in levels.into_iter().enumerate() {
            let level = match (dimension, level) {
                // Shops belong to companies, whatever is known of them.
                (SHOP, level) => {
                    let parent_of = level.map(|(_, parent_of, _)| parent_of).unwrap_or_default();
                    Some(Level { above: 1, parent_of, alias_of: None })
                }
                (0, _) | (_, None) => None,
                (_, Some((above, parent_of, alias_of))) => {
                    let alias_of = alias_of.filter(|id| parent_of.contains_key(id));
                    Some(Level { above: above % dimension, parent_of, alias_of })
                }
            };
            before.push(level);
        }
        // What a parent's alias names is the parent itself. If there is none, it is an id that nobody knows.
        let resolved = before.clone();
        for level in before.iter_mut().flatten() {
            let alias_of = resolved[level.above].as_ref().and_then(|above| above.alias_of);
            for parent in level.parent_of.values_mut() {
                *parent = if *parent == Some(IDS[3]) { alias_of.or(*parent) } else { *parent };
            }
        }
        before.try_into().unwrap()
    })
}

fn world() -> impl Strategy<Value = World> {
    let ids = || prop::sample::subsequence(&IDS[..3], 0..=3).prop_map(BTreeSet::from_iter);
    let list = prop_oneof![
        3 => Just(None),
        2 => ids().prop_map(|ids| Some(List::Include(ids))),
        2 => ids().prop_map(|ids| Some(List::Exclude(ids))),
    ];
    let handling = prop_oneof![
        4 => Just(Handling::Silent), 3 => Just(Handling::Scoped), 1 => Just(Handling::Unscoped),
        1 => Just(Handling::Filtered), 1 => Just(Handling::Deferred),
    ];
    (levels(), prop::array::uniform6(list), prop::array::uniform6(handling), any::<bool>())
        .prop_map(|(levels, lists, handlings, rest_unscoped)| World { levels, lists, handlings, rest_unscoped })
}

fn ask() -> impl Strategy<Value = [&'static str; COUNT]> {
    prop::array::uniform6(prop::sample::select(&IDS[..]))
}

fn shows(filter: &Filter, id: &str) -> bool {
    match filter {
        Filter::All => true,
        Filter::Only(ids) => ids.iter().any(|known| known == id),
        Filter::Except(ids) => ids.iter().all(|known| known != id),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_decision_is_that_of_everything_expanded_by_hand(world in world(), ask in ask()) {
        prop_assert_eq!(world.decided(&ask), world.decision(&ask));
    }

    /// The three answers of a scope are those of the model, and a filter names no entity that the model does not allow.
    #[test]
    fn a_scope_is_what_was_expanded_by_hand(world in world()) {
        let principal = world.principal();
        for (dimension, over) in DIMENSIONS.iter().enumerate() {
            let (scope, allowed) = (principal.scope(over.clone()), world.allowed(dimension));
            let filter = scope.filter();
            for id in IDS {
                let required = principal.require(over.clone(), id).is_ok();
                let expected = allowed.contains(id);
                prop_assert_eq!((shows(&filter, id), scope.allows(id), required), (expected, expected, expected), "{} {}", over, id);
            }
            if let Filter::Only(ids) = &filter {
                prop_assert!(ids.iter().all(|id| allowed.contains(&**id)), "{}: {:?}", over, ids);
            }
            let restricted = (0..COUNT).any(|above| world.is_above(above, dimension) && world.restricted(above));
            prop_assert!(!restricted || matches!(filter, Filter::Only(_)), "{}: {:?}", over, filter);
        }
    }

    /// Less in a list or in the directory never turns a denial into an allow, in a decision or in a scope.
    #[test]
    fn narrowing_never_opens(world in world(), ask in ask()) {
        let scopes = |principal: &Principal| DIMENSIONS.map(|over| IDS.map(|id| principal.scope(over.clone()).allows(id)));
        let (decided, allowed) = (world.decided(&ask), scopes(&world.principal()));
        for less in world.narrower() {
            prop_assert!(decided || !less.decided(&ask), "{:?}", less);
            let now = scopes(&less.principal());
            prop_assert!(allowed.iter().flatten().zip(now.iter().flatten()).all(|(before, now)| *before || !now), "{:?}", less);
        }
    }

    /// What is written is read: the directory that comes back decides alike.
    #[test]
    fn a_directory_that_was_written_is_the_same(world in world()) {
        use tower_authz::KeyFile;
        let directory = world.directory();
        let text = KeyFile::new([], directory.clone()).to_json().unwrap();
        let own: Vec<Dimension> = DIMENSIONS.to_vec();
        let again = KeyFile::parse_with(&text, "f", &own).unwrap();
        prop_assert_eq!(again.to_json().unwrap(), text);
        for over in &DIMENSIONS {
            prop_assert_eq!(again.directory().parent_dimension(over), directory.parent_dimension(over));
            for id in IDS {
                prop_assert_eq!(again.directory().parent_of(over, id), directory.parent_of(over, id));
                prop_assert_eq!(again.directory().id_of(over, id), directory.id_of(over, id));
            }
        }
    }
}

#[test]
fn the_generators_reach_both_answers() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut admitted, mut by_hierarchy) = (0, 0);
    for _ in 0..2_000 {
        let (world, ask) = (world(), ask()).new_tree(&mut runner).unwrap().current();
        let allowed = world.decided(&ask);
        let flat = World { levels: Default::default(), ..world.clone() };
        admitted += usize::from(allowed);
        by_hierarchy += usize::from(allowed != flat.decision(&ask));
    }
    assert!((50..1_950).contains(&admitted), "{admitted} of 2,000 were admitted");
    assert!(by_hierarchy > 50, "{by_hierarchy} decisions depend on a hierarchy");
}
