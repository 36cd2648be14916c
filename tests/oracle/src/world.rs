//! A small world: rules, keys, a directory, and the settings of the gate, as plain data.
//!
//! The interpreter reads this data, and [`build`] translates it into the types of the crate. Nothing here knows how a
//! decision is made.

pub mod build;
pub mod generate;
mod store;

use std::collections::BTreeMap;

/// The dimensions of every world. `Project` stands for a dimension that an application declares itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Dim {
    Company,
    Shop,
    Country,
    Project,
}

impl Dim {
    /// All dimensions.
    pub const ALL: [Self; 4] = [Self::Company, Self::Shop, Self::Country, Self::Project];
    /// The dimensions that a key can be restricted over.
    pub const RESTRICTED: [Self; 3] = [Self::Company, Self::Shop, Self::Project];

    /// The name, which is that of the path parameter as well.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Company => "company",
            Self::Shop => "shop",
            Self::Country => "shop_country",
            Self::Project => "project",
        }
    }

    /// The header that names entities of the dimension.
    #[must_use]
    pub fn header(self) -> &'static str {
        match self {
            Self::Company => "x-company",
            Self::Shop => "x-shop",
            Self::Country => "x-country",
            Self::Project => "x-project",
        }
    }
}

/// How the ids of projects are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the crate's grammars")]
pub enum Grammar {
    Number,
    Slug,
    Opaque,
}

/// A restriction of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum List {
    Include(Vec<String>),
    Exclude(Vec<String>),
}

/// A key. Dates are nanoseconds relative to the clock of the world.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are those of a key record")]
pub struct Key {
    pub id: String,
    pub secret: String,
    /// Resources, and whether they may be written.
    pub permissions: BTreeMap<String, bool>,
    pub lists: BTreeMap<Dim, List>,
    pub networks: Option<Vec<String>>,
    pub origins: Option<Vec<String>>,
    pub kind: Option<String>,
    pub tenant: Option<String>,
    pub not_before: Option<i64>,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

/// Where a request names the entity that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The path parameter with this name.
    Path(String),
    /// Each line of this header.
    Header(String),
    /// Each parameter with this name in the query, which a function of the head finds.
    Function(String),
}

/// How a route relates to a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the methods of `Rule`")]
pub enum Handling {
    Scoped(Vec<Place>),
    Unscoped,
    Filtered,
    Deferred,
}

/// A rule with the route that it is for.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the fields are named after the methods of `Rule`")]
pub struct Rule {
    pub pattern: String,
    /// The single method that the rule is for.
    pub method: Option<String>,
    pub public: bool,
    pub resource: Option<String>,
    /// Other resources that will do, and whether they must be written; `None` if the method says so.
    pub or: Vec<(String, Option<bool>)>,
    /// Methods with another access than the usual one, and whether they write.
    pub methods: Vec<(String, bool)>,
    pub kind: Option<String>,
    pub require_networks: bool,
    pub require_origin: bool,
    pub handlings: BTreeMap<Dim, Handling>,
    pub unscoped: bool,
    pub concealed: bool,
}

/// Which entity belongs to which.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Shops, with their companies if they are known.
    pub shops: BTreeMap<String, Option<String>>,
    /// The own ids of shop countries, with their shops.
    pub countries: BTreeMap<String, String>,
}

/// Where keys may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSet {
    /// `Authorization: Bearer`, `X-API-Key`, `X-Access-Token`.
    Usual,
    /// `Authorization: Bearer` spelt exactly so, then `X-API-Key`.
    Exact,
    /// A header of the application alone.
    Own,
}

/// How the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum StoreMood {
    AtOnce,
    Later,
    Down,
}

/// Which header trusted proxies write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the headers")]
pub enum ProxyHeader {
    XForwardedFor,
    Forwarded,
}

/// Everything that a decision depends on, but for the request.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct World {
    pub rules: Vec<Rule>,
    /// How many rules were left out because they conflict with one of these.
    pub refused_rules: u64,
    pub keys: Vec<Key>,
    /// `None` if the application declares no hierarchy.
    pub directory: Option<Directory>,
    pub project: Grammar,
    pub sources: SourceSet,
    /// Whether keys look like `l64_abc12345_<32 hex>`; otherwise they are opaque tokens.
    pub structured: bool,
    pub mood: StoreMood,
    /// The networks of trusted proxies, if there are any.
    pub proxies: Option<(Vec<String>, ProxyHeader)>,
    pub https_only: bool,
    /// Patterns of public routes that plain HTTP may come to.
    pub https_exempt: Vec<String>,
    /// Whether hosts name tenants, and the list of all tenants if there is one.
    pub tenants: Option<Option<Vec<String>>>,
    /// Whether trusted proxies may forward the host.
    pub host_forwarded: bool,
    pub allow_preflight: bool,
    /// The rule for requests that an axum router has matched to no route. Its pattern is empty.
    pub fallback: Option<Rule>,
    /// Patterns that the axum router lacks, although the policy has a rule for them.
    pub unrouted: Vec<String>,
}

/// A route of the axum router for which no rule is ever made.
pub const ROUTE_WITHOUT_RULE: &str = "/unruled/{id}";
