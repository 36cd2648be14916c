//! How a route relates to the entities that keys are restricted over.

use std::{fmt, sync::Arc};

use http::HeaderName;

use crate::{
    Dimension, Directory, Grant, Head, Principal, Restriction,
    denial::Cause,
    directory::Difference,
    name::Name,
    policy::{Demand, Verdicts},
};

/// Which entity of a dimension a request is about, and where the request says so.
///
/// Every value that is found must be allowed: a request that names a foreign shop beside its own is
/// refused as a whole. A value that is not canonical is refused for every key with 400.
///
/// # Example
/// ```
/// use tower_authz::{Dimension, Rule, check::Tie};
///
/// // GET /shops/{shop}/orders
/// let rule = Rule::resource("orders").tied(Tie::path(Dimension::SHOP, "shop"));
/// # drop(rule);
/// ```
#[derive(Clone)]
pub struct Tie {
    dimension: Dimension,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Path(Name),
    Header(HeaderName),
    Function(Arc<Finder>),
}

type Finder = dyn Fn(&Head<'_>) -> Vec<String> + Send + Sync;

impl Tie {
    /// The entity stands in a parameter of the matched route.
    pub fn path(dimension: impl Into<Dimension>, parameter: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { dimension: dimension.into(), place: Place::Path(parameter.into().into()) }
    }

    /// The entity stands in a header, which is required. Each line of it is one entity.
    pub fn header(dimension: impl Into<Dimension>, name: HeaderName) -> Self {
        Self { dimension: dimension.into(), place: Place::Header(name) }
    }

    /// The entities are what the function finds in the head; if it finds none the request is refused.
    pub fn with(
        dimension: impl Into<Dimension>,
        find: impl Fn(&Head<'_>) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { dimension: dimension.into(), place: Place::Function(Arc::new(find)) }
    }

    /// The path parameter that the tie needs, if it needs one.
    pub(crate) fn parameter(&self) -> Option<&str> {
        match &self.place {
            Place::Path(name) => Some(name.as_str()),
            _ => None,
        }
    }

    /// Whether a function of the user's own looks at requests.
    pub(crate) const fn shows_heads(&self) -> bool {
        matches!(self.place, Place::Function(_))
    }

    pub(crate) const fn dimension(&self) -> &Dimension {
        &self.dimension
    }

    /// The header that the tie reads, if it reads one.
    pub(crate) const fn header_name(&self) -> Option<&HeaderName> {
        match &self.place {
            Place::Header(name) => Some(name),
            _ => None,
        }
    }

    /// Gives every value of the entity in the request to `judge`; each must pass.
    fn judge_each(&self, head: &Head<'_>, judge: &mut impl FnMut(Result<&str, Cause>)) {
        let missing = || Err(Cause::MissingEntity(self.dimension.clone()));
        let malformed = || Cause::MalformedId(self.dimension.clone());
        match &self.place {
            // Without a value: an invalid escape, or a path that does not fit its route.
            Place::Path(name) => judge(head.parameter(name.as_str()).as_deref().ok_or_else(malformed)),
            Place::Header(name) => {
                let mut lines = head.headers().get_all(name).iter().peekable();
                if lines.peek().is_none() {
                    judge(missing());
                }
                lines.for_each(|line| judge(line.to_str().map_err(|_| malformed())));
            }
            Place::Function(find) => {
                let values = find(head);
                if values.is_empty() {
                    judge(missing());
                }
                values.iter().for_each(|value| judge(Ok(value)));
            }
        }
    }
}

impl fmt::Debug for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Path(name) => write!(f, "Tie({} from {{{name}}})", self.dimension),
            Place::Header(name) => write!(f, "Tie({} from header {name})", self.dimension),
            Place::Function(_) => write!(f, "Tie({} from a function)", self.dimension),
        }
    }
}

/// How a route stands to a dimension that it is not tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stance {
    /// It shows nothing that belongs to one entity.
    Unscoped,
    /// The handler filters by [`Scope`](crate::Scope).
    Filtered,
    /// The handler finds the entities, in the body say, and asks for each.
    Pending,
}

/// All that a rule says of dimensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relations {
    pub(crate) ties: Vec<Tie>,
    pub(crate) stances: Vec<(Dimension, Stance)>,
    /// Dimensions that are not named are `Unscoped`.
    pub(crate) rest_unscoped: bool,
    /// The [bits](Dimension::bit) of the standard dimensions that are covered, worked out by [`relate`](Self::relate) once
    /// for all requests. Fewer than there are would refuse.
    pub(crate) covered: u8,
}

impl Relations {
    /// Says something more of dimensions.
    pub(crate) fn relate(&mut self, say: impl FnOnce(&mut Self)) {
        say(self);
        self.covered =
            Dimension::STANDARD.iter().filter(|over| self.names(over)).fold(0, |bits, over| bits | over.bit());
    }

    pub(crate) fn stance(&self, dimension: &Dimension) -> Option<Stance> {
        let named = self.stances.iter().find(|(over, _)| over == dimension).map(|&(_, stance)| stance);
        named.or(self.rest_unscoped.then_some(Stance::Unscoped))
    }

    fn tied(&self, dimension: &Dimension) -> bool {
        self.ties.iter().any(|tie| tie.dimension == *dimension)
    }

    /// The dimensions that a handler has to settle.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&Dimension, Stance)> {
        self.stances.iter().filter(|(_, stance)| *stance != Stance::Unscoped).map(|(over, stance)| (over, *stance))
    }

    /// The dimensions whose ids are read here or by a [`Scope`](crate::Scope): how they are spelt matters.
    pub(crate) fn read(&self) -> impl Iterator<Item = &Dimension> {
        let filtered = self.open().filter(|(_, stance)| *stance == Stance::Filtered).map(|(over, _)| over);
        self.ties.iter().map(Tie::dimension).chain(filtered)
    }

    /// Every dimension that is named, some more than once.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Dimension> {
        self.ties.iter().map(Tie::dimension).chain(self.stances.iter().map(|(over, _)| over))
    }

    /// Whether entities of the dimension are looked at one by one, here or in the handler.
    fn meets(&self, dimension: &Dimension) -> bool {
        self.tied(dimension) || self.open().any(|(open, _)| open == dimension)
    }

    /// Whether the rule itself names companies. If it does not, a shop's company must be known before
    /// a key with a company list gets at the shop.
    pub(crate) fn declares_company(&self) -> bool {
        self.tied(&Dimension::COMPANY) || self.stances.iter().any(|(over, _)| *over == Dimension::COMPANY)
    }

    /// Whether a key with a restriction over the dimension may come to this route at all.
    fn covers(&self, dimension: &Dimension) -> bool {
        match dimension.bit() {
            0 => self.names(dimension),
            bit => self.covered & bit != 0,
        }
    }

    /// Whether the rule says what the dimension is to the route, by its name or by that of a shop.
    fn names(&self, dimension: &Dimension) -> bool {
        let by_shop = || self.meets(&Dimension::SHOP) || self.meets(&Dimension::SHOP_COUNTRY);
        self.tied(dimension)
            || self.stance(dimension).is_some()
            || ((*dimension == Dimension::SHOP || *dimension == Dimension::COMPANY) && by_shop())
    }

    /// Judges a request.
    pub(crate) fn judge(&self, head: &Head<'_>, principal: &Principal, verdicts: &mut impl Verdicts) {
        let company_declared = self.declares_company();
        for tie in &self.ties {
            tie.judge_each(head, &mut |id| {
                let verdict = id.and_then(|id| reach(principal, &tie.dimension, id, company_declared));
                verdicts.hear(|| Demand::Entity(&tie.dimension), verdict);
            });
        }
        for (dimension, _) in principal.record().grant().restrictions() {
            let verdict = match self.covers(dimension) {
                true => Ok(()),
                false => Err(Cause::UndeclaredDimension(dimension.clone())),
            };
            verdicts.hear(|| Demand::Restriction(dimension), verdict);
        }
    }
}

/// Whether a key may touch one entity. The one place where restrictions, shops, their countries and
/// their companies come together.
pub(crate) fn reach(
    principal: &Principal,
    dimension: &Dimension,
    id: &str,
    company_declared: bool,
) -> Result<(), Cause> {
    if !dimension.accepts(id) {
        return Err(Cause::MalformedId(dimension.clone()));
    }
    match entity_allowed(principal.record().grant(), principal.directory(), dimension, id, company_declared) {
        true => Ok(()),
        false => Err(Cause::ForeignEntity(dimension.clone())),
    }
}

/// The same of an id that is canonical, as a function of what it depends on.
fn entity_allowed(
    grant: &Grant,
    directory: &Directory,
    dimension: &Dimension,
    id: &str,
    company_declared: bool,
) -> bool {
    let companies = grant.restriction(&Dimension::COMPANY);
    if *dimension == Dimension::SHOP_COUNTRY {
        match directory.shop_of_country(id) {
            Some(shop) => {
                allows(grant, &Dimension::SHOP, shop, None) // read by the directory's grammar
                    && company_allows(companies, directory, shop, company_declared)
            }
            // Nobody knows whose it is.
            None => companies.is_none() && grant.restriction(&Dimension::SHOP).is_none(),
        }
    } else if *dimension == Dimension::SHOP {
        allows(grant, dimension, id, Some(dimension)) && company_allows(companies, directory, id, company_declared)
    } else {
        allows(grant, dimension, id, Some(dimension))
    }
}

/// Whether a change of the directory takes an entity away from a key whose grant may change with it. Where that is not
/// plain, it does.
pub(crate) fn directory_narrows(
    (old_grant, old): (&Grant, &Directory),
    (new_grant, new): (&Grant, &Directory),
    difference: &Difference,
) -> bool {
    let parents = [Dimension::COMPANY, Dimension::SHOP];
    let is_bound = |grant: &Grant| parents.iter().any(|parent| grant.restriction(parent).is_some());
    if difference.is_none() || !is_bound(new_grant) {
        return false;
    }
    // Without a directory rules decide by what they name; with one, whatever it does not know is foreign.
    if difference.is_first && !new.is_empty() {
        return true;
    }
    let loses = |dimension: &Dimension, id: &String| {
        [false, true].into_iter().any(|declared| {
            entity_allowed(old_grant, old, dimension, id, declared)
                && !entity_allowed(new_grant, new, dimension, id, declared)
        })
    };
    difference.shops.iter().any(|shop| loses(&Dimension::SHOP, shop))
        || difference.countries.iter().any(|country| loses(&Dimension::SHOP_COUNTRY, country))
}

/// The grant's own list, whose grammar the id must fit as well as that by which it was `read`: should a rule and a key
/// disagree on how ids of a dimension are spelt, no spelling that only one of them accepts gets by an exclude list.
fn allows(grant: &Grant, dimension: &Dimension, id: &str, read: Option<&Dimension>) -> bool {
    let fits = |over: &Dimension| read.is_some_and(|read| read.is_spelt_as(over)) || over.accepts(id);
    let mut lists = grant.restrictions().iter().filter(|(over, _)| over == dimension);
    lists.all(|(over, restriction)| fits(over) && restriction.allows(id))
}

/// A shop obeys the list of companies for its own.
fn company_allows(companies: Option<&Restriction>, directory: &Directory, shop: &str, company_declared: bool) -> bool {
    match (companies, directory.company_of(shop)) {
        (None, _) => true,
        (Some(restriction), Some(company)) => restriction.allows(company),
        (Some(_), None) => company_declared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientAddress, Digest, IdGrammar, KeyRecord};

    fn directory() -> Directory {
        Directory::builder().shop("de", Some("1")).country("de", "at", Some("1001")).shop("xx", None).build().unwrap()
    }

    fn judged(grant: &Grant, dimension: &Dimension, id: &str, declared: bool) -> Result<(), Cause> {
        let record = KeyRecord::builder("k".parse().unwrap(), Digest::of(b"k")).grant(grant.clone()).build();
        let principal = Principal::new(record.into(), directory(), ClientAddress::UNKNOWN);
        reach(&principal, dimension, id, declared)
    }

    #[test]
    fn shops_obey_both_lists() {
        let allowed = |grant: &Grant, dimension: Dimension, id: &str, declared: bool| {
            judged(grant, &dimension, id, declared).is_ok()
        };
        let company_1 = Grant::builder().only("company", [1]).build().unwrap();
        let not_company_1 = Grant::builder().all_but("company", [1]).build().unwrap();
        assert!(allowed(&company_1, Dimension::SHOP, "de", false));
        assert!(!allowed(&not_company_1, Dimension::SHOP, "de", true), "declared or not, what is known counts");
        assert!(!allowed(&not_company_1, Dimension::SHOP, "xx", false), "whose shop is it?");
        assert!(allowed(&not_company_1, Dimension::SHOP, "xx", true), "the rule says companies do not matter");
        assert!(allowed(&company_1, Dimension::SHOP_COUNTRY, "1001", false));
        assert!(!allowed(&not_company_1, Dimension::SHOP_COUNTRY, "1001", false));
    }

    /// A spelling that only one of the two accepts is nobody's: else it would get by an exclude list.
    #[test]
    fn an_id_fits_the_grammar_of_the_rule_and_of_the_key() {
        let upper = |id: &str| id.bytes().all(|byte| byte.is_ascii_uppercase());
        let any = |_: &str| true;
        let project = |ids| Dimension::new("project", ids);
        for (rule, key, excluded, id) in [
            (IdGrammar::Opaque, IdGrammar::Slug, "apollo", "Apollo"),
            (IdGrammar::Opaque, IdGrammar::Number, "3", "03"),
            (IdGrammar::Custom(any), IdGrammar::Custom(upper), "DE", "de"),
            (IdGrammar::Opaque, IdGrammar::Custom(upper), "DE", "de"),
        ] {
            let grant = Grant::builder().all_but(project(key), [excluded]).build().unwrap();
            let refused = Err(Cause::ForeignEntity(project(rule)));
            assert_eq!(judged(&grant, &project(rule), id, true), refused, "{id}");
            assert_eq!(judged(&grant, &project(rule), excluded, true), refused, "{excluded}");
        }
        let grant = Grant::builder().all_but(project(IdGrammar::Slug), ["apollo"]).build().unwrap();
        assert_eq!(judged(&grant, &project(IdGrammar::Opaque), "gemini", true), Ok(()));
    }

    #[test]
    fn unknown_countries_are_refused_to_bound_keys_only() {
        let not_ch = Grant::builder().all_but("shop", ["ch"]).build().unwrap();
        let refused = Err(Cause::ForeignEntity(Dimension::SHOP_COUNTRY));
        assert_eq!(judged(&not_ch, &Dimension::SHOP_COUNTRY, "9999", true), refused);
        assert_eq!(judged(&Grant::default(), &Dimension::SHOP_COUNTRY, "9999", true), Ok(()));
        assert_eq!(judged(&not_ch, &Dimension::SHOP_COUNTRY, "1001", true), Ok(()));
    }

    #[test]
    fn a_country_code_is_never_a_shop() {
        let only_at = Grant::builder().only("shop", ["at"]).build().unwrap();
        assert!(judged(&only_at, &Dimension::SHOP, "de", true).is_err());
    }
}
