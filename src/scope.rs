//! Which entities a key may see, for handlers that list or filter.

use crate::{Denial, Dimension, Principal, Restriction, check::reach, denial::Cause};

/// The part of one dimension that a key may see.
///
/// Of shops, it is what shop lists and, through the directory, company lists leave. As an axum
/// extractor it is the scope of the one dimension that the route's rule calls `filtered`; in any
/// handler, [`Principal::scope`] gives it for a dimension.
///
/// # Example
/// ```
/// # use std::sync::Arc;
/// # use tower_authz::*;
/// # let grant = Grant::builder().read("shops").only("shop", ["de", "ch"]).build()?;
/// # let record = KeyRecord::builder("k".parse()?, Digest::of(b"k")).grant(grant).build();
/// # let principal = Principal::new(Arc::new(record), Directory::default(), ClientAddress::UNKNOWN);
/// use tower_authz::{Dimension, Filter};
///
/// let scope = principal.scope(Dimension::SHOP);
/// assert!(scope.allows("de") && !scope.allows("us"));
/// assert_eq!(scope.filter(), Filter::Only(vec!["ch".into(), "de".into()]));
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scope {
    principal: Principal,
    dimension: Dimension,
}

impl Scope {
    pub(crate) const fn new(principal: Principal, dimension: Dimension) -> Self {
        Self { principal, dimension }
    }

    /// The scope of the one dimension that the rule of the request's route calls `filtered`.
    ///
    /// # Errors
    /// A 500 with a message for the developer, if the rule filters none, or more than one.
    pub fn of_route(principal: &Principal) -> Result<Self, Denial> {
        match principal.duty().and_then(|duty| duty.filtered()) {
            Some(dimension) => Ok(principal.scope(dimension.clone())),
            None => Err(Cause::Misconfigured(
                "Scope was extracted on a route whose rule does not say `filtered` for exactly one dimension; \
                 add `.filtered(..)` to the rule, or take `Principal` and call `scope` for each dimension",
            )
            .into()),
        }
    }

    /// The dimension that this is the scope of.
    #[must_use]
    pub const fn dimension(&self) -> &Dimension {
        &self.dimension
    }

    /// Whether the key may see the entity with this id. An id that is not canonical is nobody's.
    #[must_use]
    pub fn allows(&self, id: &str) -> bool {
        let principal = &self.principal;
        reach(principal, &self.dimension, id, principal.company_declared()).is_ok()
    }

    /// The key's own list over this dimension, if it has one. For shops it is not the whole story
    /// where companies are restricted as well: use [`allows`](Self::allows) or
    /// [`filter`](Self::filter) to decide.
    #[must_use]
    pub fn list(&self) -> Option<&Restriction> {
        self.principal.record().grant().restriction(&self.dimension)
    }

    /// The same as one list, to build a query from: what follows from companies and the directory is
    /// worked in. Ids come sorted.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let grant = self.principal.record().grant();
        let directory = self.principal.directory();
        let by_company = grant.restriction(&Dimension::COMPANY).is_some();
        let by_shop = grant.restriction(&Dimension::SHOP).is_some();
        let seen = |ids: &mut dyn Iterator<Item = &str>, allowed: bool| -> Vec<String> {
            let mut ids: Vec<String> = ids.filter(|id| self.allows(id) == allowed).map(str::to_owned).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        if self.dimension == Dimension::SHOP_COUNTRY {
            return match by_company || by_shop {
                true => Filter::Only(seen(&mut directory.countries(), true)),
                false => Filter::All,
            };
        }
        let companies_count = self.dimension == Dimension::SHOP && by_company;
        match self.list() {
            Some(Restriction::Include(ids)) => Filter::Only(seen(&mut ids.iter(), true)),
            // A shop that the directory does not know could be any company's.
            _ if companies_count && !self.principal.company_declared() => {
                Filter::Only(seen(&mut directory.shops(), true))
            }
            Some(Restriction::Exclude(ids)) if companies_count => {
                Filter::AllBut(seen(&mut ids.iter().chain(directory.shops()), false))
            }
            Some(Restriction::Exclude(ids)) => Filter::AllBut(seen(&mut ids.iter(), false)),
            None if companies_count => Filter::AllBut(seen(&mut directory.shops(), false)),
            None => Filter::All,
        }
    }
}

/// A scope as one list of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a query is built by matching on all three")]
pub enum Filter {
    /// Everything.
    All,
    /// These only; nothing if there is none.
    Only(Vec<String>),
    /// Everything but these.
    AllBut(Vec<String>),
}

impl Filter {
    /// The filter as a condition in SQL, with a placeholder for each id of [`ids`](Self::ids).
    /// `column` goes into the text as it is: never take it from a request.
    ///
    /// # Example
    /// ```
    /// use tower_authz::Filter;
    ///
    /// let filter = Filter::AllBut(vec!["de".into(), "ch".into()]);
    /// assert_eq!(filter.sql("shop", |n| format!("${n}")), "shop NOT IN ($1, $2)");
    /// assert_eq!(Filter::Only(vec![]).sql("shop", |_| "?".into()), "FALSE");
    /// ```
    pub fn sql(&self, column: &str, placeholder: impl Fn(usize) -> String) -> String {
        let list = |ids: &[String]| (1..=ids.len()).map(&placeholder).collect::<Vec<_>>().join(", ");
        match self {
            Self::All => "TRUE".to_owned(),
            Self::Only(ids) if ids.is_empty() => "FALSE".to_owned(),
            Self::Only(ids) => format!("{column} IN ({})", list(ids)),
            Self::AllBut(ids) if ids.is_empty() => "TRUE".to_owned(),
            Self::AllBut(ids) => format!("{column} NOT IN ({})", list(ids)),
        }
    }

    /// The ids of the list.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Only(ids) | Self::AllBut(ids) => ids,
        }
    }
}
