//! The demands of a rule on entities: the ones that it is scoped by, and how it handles other dimensions.

use std::sync::Arc;

use serde::ser::SerializeMap;

use crate::{
    check::{
        Demand, Findings,
        entity::{EntityRef, EntityRefFile},
    },
    denial::Cause,
    dimension::Dimension,
    directory::Directory,
    entity::{allows, entity_allowed},
    error::ConfigError,
    head::Head,
    json::{Fields, Object},
    principal::{Caller, Handling, Obligation},
    route::Pattern,
};

/// Everything that a rule declares about dimensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct DimensionRules {
    entities: Vec<EntityRef>,
    handlings: Vec<(Dimension, Handling)>,
    /// Whether dimensions that are not named are `Unscoped`.
    rest_unscoped: bool,
    /// The [bits](Dimension::bit) of the standard dimensions that this rule handles, by name or through the hierarchy
    /// of shops, computed once by [`update`](Self::update). A key that is restricted over another one is refused, unless
    /// the directory declares a hierarchy through which the rule handles it.
    covered: u8,
    /// The bits of the standard dimensions that the rule names itself. They only count if the application has no
    /// directory, see [`allows_orphans`](crate::entity::allows_orphans).
    named_bits: u8,
    /// The dimensions that the handler has to check, and how.
    open: Arc<[(Dimension, Handling)]>,
}

impl DimensionRules {
    pub(crate) fn scope(&mut self, entity: EntityRef) {
        self.update(|it| it.entities.push(entity));
    }

    pub(crate) fn handle(&mut self, dimension: Dimension, handling: Handling) {
        self.update(|it| it.handlings.push((dimension, handling)));
    }

    /// For every dimension that the rule does not name, the response contains no data of a single entity.
    pub(crate) fn unscope_rest(&mut self) {
        self.update(|it| it.rest_unscoped = true);
    }

    /// Prepares the rule for the route of this pattern, and returns whether all entities stand in the path.
    pub(crate) fn compile(&mut self, pattern: &Pattern) -> bool {
        let places: Vec<bool> = self.entities.iter_mut().map(|entity| entity.compile(pattern)).collect();
        !places.contains(&false)
    }

    /// Whether the caller may access all entities, and is restricted over no dimension that the rule does not handle.
    #[inline]
    pub(crate) fn admits(&self, head: &Head<'_>, caller: Caller<'_>) -> bool {
        let (grant, directory) = (caller.record.grant(), caller.directory);
        let allows = |entity: &EntityRef| {
            entity.plain_id(head).is_some_and(|id| allows(grant, directory, entity.dimension(), id, self.named_bits))
        };
        self.entities.iter().all(allows)
            && grant.restrictions().iter().all(|(over, _)| self.admits_restricted(over, directory))
    }

    /// The checks that the rule leaves to the handler.
    pub(crate) fn obligation(&self, head: &Head<'_>, concealed: bool) -> Obligation {
        Obligation::new(self.named_bits, &self.open, head.route(), concealed)
    }

    /// Changes the declarations, and recomputes what depends on them.
    fn update(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        self.open = self.handlings.iter().filter(|(_, handling)| *handling != Handling::Unscoped).cloned().collect();
        self.covered =
            Dimension::STANDARD.iter().filter(|over| self.handles(over)).fold(0, |bits, over| bits | over.bit());
        self.named_bits = self.declared().fold(0, |bits, over| bits | over.bit());
    }

    fn handling(&self, dimension: &Dimension) -> Option<Handling> {
        let named = self.handlings.iter().find(|(over, _)| over == dimension).map(|&(_, handling)| handling);
        named.or(self.rest_unscoped.then_some(Handling::Unscoped))
    }

    fn scoped(&self, dimension: &Dimension) -> bool {
        self.entities.iter().any(|entity| entity.dimension() == dimension)
    }

    /// The dimensions that the handler has to check.
    fn open(&self) -> impl Iterator<Item = (&Dimension, Handling)> {
        self.open.iter().map(|(over, handling)| (over, *handling))
    }

    /// The dimensions whose ids are parsed here or by a [`Scope`](crate::Scope). All rules must use one grammar for
    /// each.
    pub(crate) fn parsed(&self) -> impl Iterator<Item = &Dimension> {
        let filtered = self.open().filter(|(_, handling)| *handling == Handling::Filtered).map(|(over, _)| over);
        self.entities.iter().map(EntityRef::dimension).chain(filtered)
    }

    /// Every dimension that the rule declares; some occur twice.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &Dimension> {
        self.entities.iter().map(EntityRef::dimension).chain(self.handlings.iter().map(|(over, _)| over))
    }

    /// Whether entities of the dimension are checked one by one, here or in the handler.
    fn checks_entities(&self, dimension: &Dimension) -> bool {
        self.scoped(dimension) || self.open().any(|(open, _)| open == dimension)
    }

    /// Whether a key that is restricted over the dimension may use this route at all.
    fn admits_restricted(&self, dimension: &Dimension, directory: &Directory) -> bool {
        let handles = match dimension.bit() {
            0 => self.handles(dimension),
            bit => self.covered & bit != 0,
        };
        handles || self.checks_below(dimension, directory)
    }

    /// Whether entities are checked one by one that belong to those of the dimension: then its list applies to them.
    fn checks_below(&self, dimension: &Dimension, directory: &Directory) -> bool {
        let mut checked = self.entities.iter().map(EntityRef::dimension).chain(self.open.iter().map(|(over, _)| over));
        checked.any(|checked| directory.level(checked).is_some_and(|level| level.is_below(dimension)))
    }

    /// Whether the rule handles the dimension: it declares it, or all others as unscoped, or (companies and shops) it
    /// checks shops or shop countries. Shop countries need no such rule, because no key is restricted over them.
    fn handles(&self, dimension: &Dimension) -> bool {
        let by_shop = || self.checks_entities(&Dimension::SHOP) || self.checks_entities(&Dimension::SHOP_COUNTRY);
        self.scoped(dimension)
            || self.handling(dimension).is_some()
            || ((*dimension == Dimension::SHOP || *dimension == Dimension::COMPANY) && by_shop())
    }

    /// Returns a dimension that is declared twice. Several entities of one dimension are no contradiction: each must be
    /// allowed.
    fn contradiction(&self) -> Option<&Dimension> {
        let declared_before =
            |index: usize, over: &Dimension| self.handlings.iter().take(index).any(|(other, _)| other == over);
        let mut all = self.handlings.iter().enumerate().map(|(index, (over, _))| (index, over));
        all.find(|&(index, over)| declared_before(index, over) || self.scoped(over)).map(|(_, over)| over)
    }
}

/// The handlings as a policy file writes them.
const HANDLINGS: [(&str, Handling); 3] =
    [("filtered", Handling::Filtered), ("deferred", Handling::Deferred), ("unscoped_for", Handling::Unscoped)];

impl Demand for DimensionRules {
    const FIELDS: &'static [&'static str] = &["scoped", "filtered", "deferred", "unscoped_for", "unscoped"];

    #[inline]
    fn evaluate(&self, head: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings) {
        let (grant, directory) = (caller.record.grant(), caller.directory);
        for entity in &self.entities {
            let dimension = entity.dimension();
            entity.for_each_id(head, &mut |id| {
                let verdict = id.and_then(|id| entity_allowed(grant, directory, dimension, id, self.named_bits));
                findings.record(|| format!("this {dimension}"), verdict);
            });
        }
        for (dimension, _) in grant.restrictions() {
            let verdict = match self.admits_restricted(dimension, directory) {
                true => Ok(()),
                false => Err(Cause::DimensionNotDeclared(dimension.clone())),
            };
            findings.record(|| format!("{dimension} declared"), verdict);
        }
    }

    fn validate(&self, pattern: Option<&Pattern>) -> Result<(), ConfigError> {
        let has = |name: &&str| pattern.is_some_and(|pattern| pattern.has_parameter(name));
        if let Some(missing) = self.entities.iter().filter_map(EntityRef::parameter).find(|name| !has(name)) {
            let wrong = match pattern {
                Some(_) => "which it does not have",
                None => "and a fallback has no parameters",
            };
            return Err(ConfigError::new(format!("its rule is scoped by the parameter {missing:?}, {wrong}")));
        }
        match self.contradiction() {
            Some(dimension) => {
                Err(ConfigError::new(format!("its rule says two things about the dimension {dimension}")))
            }
            None => Ok(()),
        }
    }

    fn runs_user_code(&self) -> bool {
        self.entities.iter().any(EntityRef::runs_user_code)
    }

    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        let entities: Vec<_> = self.entities.iter().map(EntityRefFile::from_entity).collect();
        if !entities.is_empty() {
            fields.serialize_entry("scoped", &entities)?;
        }
        for (field, wanted) in HANDLINGS {
            let named = self.handlings.iter().filter(|(_, handling)| *handling == wanted);
            let named: Vec<_> = named.map(|(dimension, _)| dimension.name()).collect();
            if !named.is_empty() {
                fields.serialize_entry(field, &named)?;
            }
        }
        if self.rest_unscoped { fields.serialize_entry("unscoped", &true) } else { Ok(()) }
    }

    fn read(
        fields: &mut Fields<'_>,
        dimension: &dyn Fn(&str) -> Result<Dimension, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let mut rules = Self::default();
        for (index, Object(entity)) in
            fields.take_or_default::<Vec<Object<EntityRefFile>>>("scoped")?.into_iter().enumerate()
        {
            rules.scope(entity.read(dimension, &format!("scoped[{index}]"))?);
        }
        for (field, handling) in HANDLINGS {
            for (index, name) in fields.take_or_default::<Vec<String>>(field)?.iter().enumerate() {
                let dimension = dimension(name).map_err(|error| error.at(format_args!("{field}[{index}]")))?;
                rules.handle(dimension, handling);
            }
        }
        if fields.take_or_default("unscoped")? {
            rules.unscope_rest();
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Request};

    use super::*;
    use crate::{
        check::Check as _,
        client_address::ClientAddress,
        key::{Digest, Grant, KeyRecord},
        policy::Rule,
        principal::Principal,
    };

    /// `filtered` and `deferred` over one dimension do not cover another.
    #[test]
    fn an_open_dimension_covers_no_other() {
        let principal = |grant: Grant| {
            let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant).build();
            Principal::new(record.into(), Directory::default(), ClientAddress::UNKNOWN)
        };
        for over in ["shop", "company"] {
            let grant = Grant::builder().only(over, ["1"]).build().unwrap();
            for (rule, is_admitted) in [
                (Rule::authenticated().filtered("project"), false),
                (Rule::authenticated().deferred("project"), false),
                (Rule::authenticated().filtered("shop"), true),
                (Rule::authenticated().deferred(Dimension::SHOP_COUNTRY), true),
                (Rule::authenticated(), false),
            ] {
                let mut request = Request::get("/").body(()).unwrap();
                request.extensions_mut().insert(principal(grant.clone()));
                assert_eq!(rule.evaluate(&Head::new(&request)).is_ok(), is_admitted, "{over} {rule:?}");
            }
        }
    }

    /// A header may stand in a request more than once, and a function may find many: each of them is judged.
    #[test]
    fn every_entity_that_is_named_counts() {
        let grant = Grant::builder().only("shop", ["de", "ch"]).build().unwrap();
        let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).grant(grant).build();
        let record = Arc::new(record);
        let name = || HeaderName::from_static("x-shop");
        let by_header = Rule::authenticated().scoped(EntityRef::from_header(Dimension::SHOP, name()));
        let by_function = Rule::authenticated().scoped(EntityRef::from_fn(Dimension::SHOP, |head: &Head<'_>| {
            let lines = head.headers().get_all("x-shop").iter();
            lines.map(|line| line.to_str().unwrap_or_default().to_owned()).collect()
        }));
        for (lines, status) in [
            (&["de"][..], None),
            (&["de", "ch"], None),
            (&["de", "us"], Some(403)),
            (&["us", "de"], Some(403)),
            (&["de", "ch", "US"], Some(400)),
            (&["de", ""], Some(400)),
            (&[], Some(400)),
        ] {
            let mut request = Request::get("/").body(()).unwrap();
            request.headers_mut().extend(lines.iter().map(|line| (name(), line.parse().unwrap())));
            let principal = Principal::new(Arc::clone(&record), Directory::default(), ClientAddress::UNKNOWN);
            request.extensions_mut().insert(principal);
            for rule in [&by_header, &by_function] {
                let denied = rule.evaluate(&Head::new(&request)).err().map(|denial| denial.status().as_u16());
                assert_eq!(denied, status, "{lines:?} {rule:?}");
            }
        }
    }
}
