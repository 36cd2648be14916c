//! A policy as a file, for review and for a look from outside.

mod dimensions;
mod layout;
mod rule;

use std::{collections::BTreeMap, ops::Not, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::{
    dimensions::{Grammars, Known},
    layout::Layout,
    rule::{RuleFile, read_fallback, read_route},
};
use crate::{
    dimension::Dimension,
    error::ConfigError,
    json::{self, Object, from_json, given},
    policy::{Policy, RouteAction, RouteEntry, rules},
};

/// # As a file
/// The same rules in the same words, for review and for readers without Rust: a JSON object of
///
/// | field | means |
/// |---|---|
/// | `dimensions` | how ids of your own dimensions are spelt: `number`, `slug`, `opaque`, or `custom` |
/// | `allow_preflight` | [`allow_preflight`](crate::PolicyBuilder::allow_preflight) |
/// | `finish_in_flight` | [`finish_in_flight`](crate::PolicyBuilder::finish_in_flight) |
/// | `routes` | the rules |
/// | `fallback` | the rule for what no route was found for: as a rule, without `path` and `method` |
///
/// A rule has a `path`, a `method` unless it is for all that have no rule of their own, and exactly one of
/// `"public": true`, `"resource": ".."` and `"authenticated": true`. The rest is what a [`Rule`](crate::Rule) says
/// by the same name: `or` (what will do in place of `resource`: a list of objects with a `resource` and, if it is not the one
/// that the method needs, an `access`), `methods`, `kind`, `scoped` (to a `dimension`, by `path` or `header`), `filtered`,
/// `deferred`, `unscoped_for`, `unscoped`, `require_networks`, `origin` (`exact` or `normalized`), `concealed`, `optional`.
/// A false says as much as nothing; null is an error.
///
/// Code cannot be written. It is shown, so that a review sees it come and go: `"function": true` in place of what a
/// [`EntityRef::from_fn`](crate::check::EntityRef::from_fn) looks at, `checks` for the number of
/// [checks of your own](crate::Rule::check), `custom` for an [`IdGrammar::Custom`](crate::IdGrammar::Custom). A file
/// with one of the first two is refused, for without them the policy would let in more than the code does; for the
/// third see [`parse_with`](Self::parse_with). A [shadow](Self::with_shadow) enforces nothing and is not written.
impl Policy {
    /// The policy as JSON: what the Rust code says, in a form that can be reviewed, committed and compared.
    ///
    /// Rules stand in the order of their paths, so that moving code about changes nothing, and rules of one path
    /// stay together. Those of one path stay in the order in which they were given, with the rule for all other
    /// methods at the end. Policies whose text is the same decide the same, except for what the file shows as code.
    ///
    /// # Errors
    /// If a value cannot be written, which no policy that was built can have.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, Policy, Rule, check::EntityRef};
    ///
    /// let policy = Policy::builder()
    ///     .route("/shops/{shop}/orders", Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop")))
    ///     .public("/health")
    ///     .build()?;
    /// let text = r#"{
    ///   "routes": [
    ///     {
    ///       "path": "/health",
    ///       "public": true
    ///     },
    ///     {
    ///       "path": "/shops/{shop}/orders",
    ///       "resource": "orders",
    ///       "scoped": [{ "dimension": "shop", "path": "shop" }]
    ///     }
    ///   ]
    /// }
    /// "#;
    /// assert_eq!(policy.export()?, text);
    /// assert_eq!(Policy::parse(text, "policy.json")?.export()?, text);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn export(&self) -> Result<String, ConfigError> {
        #[derive(Serialize)]
        struct File<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            dimensions: Option<Grammars>,
            #[serde(skip_serializing_if = "Not::not")]
            allow_preflight: bool,
            #[serde(skip_serializing_if = "Not::not")]
            finish_in_flight: bool,
            routes: Vec<RuleFile<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            fallback: Option<RuleFile<'a>>,
        }
        // INVARIANT: every field is named here, so that a new one cannot be forgotten.
        let Self {
            entries: _,
            by_pattern: _,
            tree: _,
            runs_user_code: _,
            shadow: _,
            fallback,
            preflight,
            finish_in_flight,
        } = self;
        let file = File {
            dimensions: Grammars::from_dimensions(&self.dimensions()),
            allow_preflight: *preflight,
            finish_in_flight: *finish_in_flight,
            routes: self.by_path_order().into_iter().flat_map(RuleFile::from_entry).collect(),
            fallback: fallback.as_ref().map(|action| RuleFile { path: None, method: None, action }),
        };
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Layout::default());
        file.serialize(&mut serializer).map_err(|error| ConfigError::new(error.to_string()))?;
        bytes.push(b'\n');
        String::from_utf8(bytes).map_err(|error| ConfigError::new(error.to_string()))
    }

    /// Reads and parses a policy file.
    ///
    /// # Errors
    /// If it cannot be read, or as [`parse`](Self::parse).
    ///
    /// # Example
    /// ```
    /// use tower_authz::Policy;
    ///
    /// let policy = Policy::read("examples/data/scayle.policy.json")?;
    /// assert!(policy.patterns().any(|path| path == "/health"));
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::read_with(path, &[])
    }

    /// The same with grammars of your own, as [`parse_with`](Self::parse_with).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with(path: impl AsRef<Path>, dimensions: &[Dimension]) -> Result<Self, ConfigError> {
        let (name, text) = json::read_file(path.as_ref())?;
        Self::parse_with(&text, &name, dimensions)
    }

    /// Parses the text of a policy file; `name` stands for the file in errors. What it says goes through a
    /// [`PolicyBuilder`](crate::PolicyBuilder), so that a file can say nothing that code cannot.
    ///
    /// # Errors
    /// At the first thing that is wrong, with the name, the route and the field; and as
    /// [`PolicyBuilder::build`](crate::PolicyBuilder::build).
    ///
    /// # Example
    /// ```
    /// use tower_authz::Policy;
    ///
    /// let text = r#"{ "routes": [ { "path": "/orders", "resorce": "orders" } ] }"#;
    /// let error = Policy::parse(text, "policy.json").unwrap_err().to_string();
    /// assert!(error.starts_with("policy.json: route /orders: resorce: unknown field"), "{error}");
    /// ```
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::parse_with(text, name, &[])
    }

    /// The same with the dimensions whose grammar the file calls `custom`: a file has no place for a function.
    /// A dimension that the file spells otherwise than these do is an error.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, IdGrammar, Policy};
    ///
    /// const SKU: Dimension = Dimension::new("sku", IdGrammar::Custom(|id| id.len() == 8));
    /// let text = r#"{
    ///     "dimensions": { "sku": "custom" },
    ///     "routes": [ { "path": "/skus", "resource": "products", "filtered": ["sku"] } ]
    /// }"#;
    /// assert!(Policy::parse(text, "policy.json").is_err());
    /// let policy = Policy::parse_with(text, "policy.json", &[SKU])?;
    /// # drop(policy);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn parse_with(text: &str, name: &str, dimensions: &[Dimension]) -> Result<Self, ConfigError> {
        Self::parse_unnamed(text, dimensions).map_err(|error| error.at(name))
    }

    fn parse_unnamed(text: &str, own: &[Dimension]) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File<'a> {
            #[serde(default, deserialize_with = "given")]
            dimensions: Option<Object<Grammars>>,
            #[serde(default)]
            allow_preflight: bool,
            #[serde(default)]
            finish_in_flight: bool,
            #[serde(borrow)]
            routes: Vec<&'a RawValue>,
            #[serde(default, borrow, deserialize_with = "given")]
            fallback: Option<&'a RawValue>,
        }
        let file: File<'_> = from_json(text, true)?;
        let known = Known::new(file.dimensions, own)?;
        let mut builder = Self::builder();
        for (index, raw) in file.routes.iter().enumerate() {
            let route = || read_route(raw.get(), &known);
            let (path, method, action) = route().map_err(|error| error.at(location(index, raw.get())))?;
            builder = builder.add(&path, method, action);
        }
        if let Some(raw) = file.fallback {
            let action = || read_fallback(raw.get(), &known);
            builder = match action().map_err(|error| error.at("fallback"))? {
                RouteAction::Public => builder.public_fallback(),
                RouteAction::Rule(rule) => builder.fallback(rule),
            };
        }
        let builder = if file.allow_preflight { builder.allow_preflight() } else { builder };
        let policy = if file.finish_in_flight { builder.finish_in_flight() } else { builder }.build()?;
        let named = policy.dimensions();
        match known.declared().iter().find(|declared| !named.contains(declared)) {
            Some(unused) => Err(ConfigError::new("no rule names it").at(format_args!("dimensions.{unused}"))),
            None => Ok(policy),
        }
    }

    /// The dimensions that the rules name, sorted: of the keys that this policy is for, a
    /// [key file](crate::KeyFile::read_with) must know them. Those that no rule names, because a
    /// [directory](crate::Directory#your-own-dimensions) says what belongs to them, have to be added.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{KeyFile, Policy};
    ///
    /// let policy = Policy::parse(
    ///     r#"{
    ///         "dimensions": { "project": "number" },
    ///         "routes": [ { "path": "/projects", "resource": "projects", "filtered": ["project"] } ]
    ///     }"#,
    ///     "policy.json",
    /// )?;
    /// let keys = KeyFile::parse_with(r#"{ "keys": [] }"#, "keys.json", &policy.dimensions())?;
    /// # drop(keys);
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    #[must_use]
    pub fn dimensions(&self) -> Vec<Dimension> {
        let mut found = BTreeMap::new();
        let all = || rules(self.by_path_order(), self.fallback.as_ref()).map(|(_, rule)| rule.dimensions());
        // Where ids are read the grammar counts; else it may be that of a mere name.
        let named = all().flat_map(|rules| rules.parsed()).chain(all().flat_map(|rules| rules.declared()));
        for dimension in named {
            found.entry(dimension.name()).or_insert(dimension);
        }
        found.into_values().cloned().collect()
    }

    fn by_path_order(&self) -> Vec<&RouteEntry> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|entry| entry.pattern.as_str());
        entries
    }
}

/// Names a rule in an error: by method and path if they can be read and shown, else by its place.
fn location(index: usize, raw: &str) -> String {
    #[derive(Deserialize)]
    struct Name {
        path: String,
        method: Option<String>,
    }
    let shown = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    match serde_json::from_str(raw) {
        Ok(Name { path, method: None }) if shown(&path) => format!("route {path}"),
        Ok(Name { path, method: Some(method) }) if shown(&path) && shown(&method) => format!("route {method} {path}"),
        _ => format!("routes[{index}]"),
    }
}
