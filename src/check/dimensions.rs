//! The demands of a rule on entities: which ones a route is about, and how the other dimensions are handled.

use std::{fmt, sync::Arc};

use http::HeaderName;

use crate::{
    check::{CheckLabel, Findings},
    denial::Cause,
    dimension::Dimension,
    entity::entity_allowed,
    head::Head,
    name::Name,
    principal::{Handling, Principal},
};

/// Which entity of a dimension a request is about, and where the request says so.
///
/// Every value that is found must be allowed: a request that names a foreign shop beside its own is
/// refused as a whole. A value that is not canonical is refused for every key with 400.
///
/// # Example
/// ```
/// use tower_authz::{Dimension, Rule, check::EntityRef};
///
/// // GET /shops/{shop}/orders
/// let rule = Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop"));
/// # drop(rule);
/// ```
#[derive(Clone)]
pub struct EntityRef {
    dimension: Dimension,
    source: IdSource,
}

#[derive(Clone)]
enum IdSource {
    Path(Name),
    Header(HeaderName),
    Function(Arc<Finder>),
}

type Finder = dyn Fn(&Head<'_>) -> Vec<String> + Send + Sync;

impl EntityRef {
    /// The entity stands in a parameter of the matched route.
    pub fn from_path(dimension: impl Into<Dimension>, parameter: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { dimension: dimension.into(), source: IdSource::Path(parameter.into().into()) }
    }

    /// The entity stands in a header, which is required. Each line of it is one entity.
    pub fn from_header(dimension: impl Into<Dimension>, name: HeaderName) -> Self {
        Self { dimension: dimension.into(), source: IdSource::Header(name) }
    }

    /// The entities are what the function finds in the head; if it finds none the request is refused.
    pub fn from_fn(
        dimension: impl Into<Dimension>,
        find: impl Fn(&Head<'_>) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { dimension: dimension.into(), source: IdSource::Function(Arc::new(find)) }
    }

    /// The path parameter that holds the entity, if one does.
    pub(crate) fn parameter(&self) -> Option<&str> {
        match &self.source {
            IdSource::Path(name) => Some(name.as_str()),
            _ => None,
        }
    }

    /// Whether user code reads the request.
    pub(crate) const fn shows_heads(&self) -> bool {
        matches!(self.source, IdSource::Function(_))
    }

    pub(crate) const fn dimension(&self) -> &Dimension {
        &self.dimension
    }

    /// The header that holds the entity, if one does.
    pub(crate) const fn header_name(&self) -> Option<&HeaderName> {
        match &self.source {
            IdSource::Header(name) => Some(name),
            _ => None,
        }
    }

    /// Calls `judge` for every id of the entity in the request; each must be allowed.
    fn for_each_id(&self, head: &Head<'_>, judge: &mut impl FnMut(Result<&str, Cause>)) {
        let missing = || Err(Cause::MissingEntity(self.dimension.clone()));
        let malformed = || Cause::MalformedId(self.dimension.clone());
        match &self.source {
            // There is no value if an escape is invalid, or the path does not fit its route.
            IdSource::Path(name) => judge(head.parameter(name.as_str()).as_deref().ok_or_else(malformed)),
            IdSource::Header(name) => {
                let mut lines = head.headers().get_all(name).iter().peekable();
                if lines.peek().is_none() {
                    judge(missing());
                }
                lines.for_each(|line| judge(line.to_str().map_err(|_| malformed())));
            }
            IdSource::Function(find) => {
                let values = find(head);
                if values.is_empty() {
                    judge(missing());
                }
                values.iter().for_each(|value| judge(Ok(value)));
            }
        }
    }
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            IdSource::Path(name) => write!(f, "EntityRef({} from {{{name}}})", self.dimension),
            IdSource::Header(name) => write!(f, "EntityRef({} from header {name})", self.dimension),
            IdSource::Function(_) => write!(f, "EntityRef({} from a function)", self.dimension),
        }
    }
}

/// Everything that a rule declares about dimensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct DimensionRules {
    pub(crate) entities: Vec<EntityRef>,
    pub(crate) handlings: Vec<(Dimension, Handling)>,
    /// Whether dimensions that are not named are `Unscoped`.
    pub(crate) rest_unscoped: bool,
    /// The [bits](Dimension::bit) of the standard dimensions that are covered, computed once by
    /// [`update`](Self::update). Missing bits deny.
    pub(crate) covered: u8,
    /// The bits of the standard dimensions that the rule itself names. Missing bits deny.
    pub(crate) said: u8,
    /// The dimensions that the handler has to check, and how.
    pub(crate) open: Arc<[(Dimension, Handling)]>,
}

impl DimensionRules {
    /// Changes the declarations, and recomputes what depends on them.
    pub(crate) fn update(&mut self, say: impl FnOnce(&mut Self)) {
        say(self);
        self.open = self.handlings.iter().filter(|(_, handling)| *handling != Handling::Unscoped).cloned().collect();
        self.covered =
            Dimension::STANDARD.iter().filter(|over| self.names(over)).fold(0, |bits, over| bits | over.bit());
        self.said = self.named().fold(0, |bits, over| bits | over.bit());
    }

    pub(crate) fn handling(&self, dimension: &Dimension) -> Option<Handling> {
        let named = self.handlings.iter().find(|(over, _)| over == dimension).map(|&(_, handling)| handling);
        named.or(self.rest_unscoped.then_some(Handling::Unscoped))
    }

    pub(crate) fn scoped(&self, dimension: &Dimension) -> bool {
        self.entities.iter().any(|entity| entity.dimension == *dimension)
    }

    /// The dimensions that the handler has to check.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&Dimension, Handling)> {
        self.open.iter().map(|(over, handling)| (over, *handling))
    }

    /// The dimensions whose ids are read here or by a [`Scope`](crate::Scope), so that their grammars matter.
    pub(crate) fn read(&self) -> impl Iterator<Item = &Dimension> {
        let filtered = self.open().filter(|(_, handling)| *handling == Handling::Filtered).map(|(over, _)| over);
        self.entities.iter().map(EntityRef::dimension).chain(filtered)
    }

    /// Every dimension that the rule names; some occur twice.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Dimension> {
        self.entities.iter().map(EntityRef::dimension).chain(self.handlings.iter().map(|(over, _)| over))
    }

    /// Whether entities of the dimension are checked one by one, here or in the handler.
    fn meets(&self, dimension: &Dimension) -> bool {
        self.scoped(dimension) || self.open().any(|(open, _)| open == dimension)
    }

    /// Whether a key that is restricted over the dimension may use this route at all.
    fn covers(&self, dimension: &Dimension) -> bool {
        match dimension.bit() {
            0 => self.names(dimension),
            bit => self.covered & bit != 0,
        }
    }

    /// Whether the rule handles the dimension, by its own name or through shops.
    fn names(&self, dimension: &Dimension) -> bool {
        let by_shop = || self.meets(&Dimension::SHOP) || self.meets(&Dimension::SHOP_COUNTRY);
        self.scoped(dimension)
            || self.handling(dimension).is_some()
            || ((*dimension == Dimension::SHOP || *dimension == Dimension::COMPANY) && by_shop())
    }

    /// Evaluates the demands for a request.
    pub(crate) fn evaluate_all(&self, head: &Head<'_>, principal: &Principal, findings: &mut impl Findings) {
        let (grant, directory) = (principal.record().grant(), principal.directory());
        for entity in &self.entities {
            entity.for_each_id(head, &mut |id| {
                let verdict = id.and_then(|id| entity_allowed(grant, directory, &entity.dimension, id, self.said));
                findings.record(|| CheckLabel::Entity(&entity.dimension), verdict);
            });
        }
        for (dimension, _) in grant.restrictions() {
            let verdict = match self.covers(dimension) {
                true => Ok(()),
                false => Err(Cause::DimensionNotDeclared(dimension.clone())),
            };
            findings.record(|| CheckLabel::Restriction(dimension), verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{
        check::Check as _,
        client_address::ClientAddress,
        directory::Directory,
        key::{Digest, Grant, KeyRecord},
        policy::Rule,
    };

    /// What a rule leaves open of one dimension says nothing of another.
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
