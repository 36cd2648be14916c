//! Which entities a key may see, for handlers that list or filter.

use crate::{
    denial::{Cause, Denial},
    dimension::Dimension,
    entity::{allows_orphans, entity_allowed, excludes_reliably},
    key::Restriction,
    principal::{Handling, Principal},
};

/// The part of one dimension that a key may see.
///
/// Of shops, it is what shop lists and, through the directory, company lists leave; of every dimension that the
/// [directory](crate::Directory#your-own-dimensions) places below another, what the lists over both leave. As an axum
/// extractor it is the scope of the one dimension that the route's rule calls `filtered`; in any
/// handler, [`Principal::scope`] gives it for a dimension.
///
/// # Example
/// ```
/// # use std::sync::Arc;
/// # use tower_authz::*;
/// # let grant = Grant::builder().read("shops").only("shop", ["de", "ch"]).build()?;
/// # let record = KeyRecord::builder("k".parse()?, Digest::from_key(b"k")).grant(grant).build();
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
    pub fn from_route(principal: &Principal) -> Result<Self, Denial> {
        match principal.obligation().and_then(|obligation| obligation.filtered()) {
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
    ///
    /// It is the question that [`Principal::require`] asks: where the rule calls the dimension
    /// [`deferred`](crate::Rule::deferred), a yes is what the handler has to get.
    #[must_use]
    pub fn allows(&self, id: &str) -> bool {
        let allowed = self.shows(id);
        if allowed {
            self.principal.mark_checked(&self.dimension, Handling::Deferred);
        }
        allowed
    }

    fn shows(&self, id: &str) -> bool {
        let (grant, directory) = (self.principal.record().grant(), self.principal.directory());
        entity_allowed(grant, directory, &self.dimension, id, self.principal.named_bits()).is_ok()
    }

    /// The key's own list over this dimension, if it has one. It is not the whole story where the dimension belongs to
    /// another that is restricted as well, as shops belong to companies: use [`allows`](Self::allows) or
    /// [`filter`](Self::filter) to decide.
    #[must_use]
    pub fn list(&self) -> Option<&Restriction> {
        self.principal.record().grant().restriction(&self.dimension)
    }

    /// The same as one list, to build a query from: what follows from other dimensions and the directory is
    /// worked in. Of the ids of the dimension, those that the list lets through are those that [`allows`](Self::allows)
    /// says yes to; entities that have an [alias](crate::DirectoryBuilder::alias) are listed by all their ids. Ids come
    /// sorted.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let (principal, dimension) = (&self.principal, &self.dimension);
        let (grant, directory) = (principal.record().grant(), principal.directory());
        let only = |ids: &mut dyn Iterator<Item = &str>| {
            let mut ids: Vec<String> = ids.filter(|id| self.shows(id)).map(str::to_owned).collect();
            ids.sort_unstable();
            ids.dedup();
            Filter::Only(ids)
        };
        let only_known = !allows_orphans(grant, dimension, directory, principal.named_bits());
        match grant.listed(dimension) {
            Some((_, Restriction::Include(ids))) => {
                only(&mut ids.iter().flat_map(|id| directory.names_of(dimension, id)))
            }
            _ if only_known => only(&mut directory.names(dimension)),
            Some((over, Restriction::Exclude(ids))) if excludes_reliably(dimension, over, ids) => {
                Filter::Except(ids.iter().map(str::to_owned).collect())
            }
            Some((_, Restriction::Exclude(_))) => Filter::Only(Vec::new()),
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
    Except(Vec<String>),
}

impl Filter {
    /// The filter as a condition in SQL, with a placeholder for each id of [`ids`](Self::ids).
    /// `column` goes into the text as it is: never take it from a request.
    ///
    /// # Example
    /// ```
    /// use tower_authz::Filter;
    ///
    /// let filter = Filter::Except(vec!["de".into(), "ch".into()]);
    /// assert_eq!(filter.sql("shop", |n| format!("${n}")), "shop NOT IN ($1, $2)");
    /// assert_eq!(Filter::Only(vec![]).sql("shop", |_| "?".into()), "FALSE");
    /// ```
    pub fn sql(&self, column: &str, placeholder: impl Fn(usize) -> String) -> String {
        let list = |ids: &[String]| (1..=ids.len()).map(&placeholder).collect::<Vec<_>>().join(", ");
        match self {
            Self::All => "TRUE".to_owned(),
            Self::Only(ids) if ids.is_empty() => "FALSE".to_owned(),
            Self::Only(ids) => format!("{column} IN ({})", list(ids)),
            Self::Except(ids) if ids.is_empty() => "TRUE".to_owned(),
            Self::Except(ids) => format!("{column} NOT IN ({})", list(ids)),
        }
    }

    /// The ids of the list.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Only(ids) | Self::Except(ids) => ids,
        }
    }
}
