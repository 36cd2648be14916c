use std::ops::Not;

use http::{HeaderName, Method};
use serde::{Deserialize, Serialize};

use super::dimensions::Known;
use crate::{
    check::{DimensionRules, EntityRef, Origin},
    dimension::Dimension,
    error::ConfigError,
    json::{self, Object, given},
    key::Access,
    policy::{RouteAction, Rule},
    principal::Handling,
};

/// A rule as the file has it, in the order in which it is written: what it is for, what it demands, what it
/// says of dimensions, what is particular about it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleFile {
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Not::not")]
    public: bool,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Not::not")]
    authenticated: bool,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    methods: Option<Object<Methods>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scoped: Vec<Object<EntityRefFile>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filtered: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unscoped_for: Vec<String>,
    #[serde(skip_serializing_if = "Not::not")]
    unscoped: bool,
    #[serde(skip_serializing_if = "Not::not")]
    require_networks: bool,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    origin: Option<OriginFile>,
    #[serde(skip_serializing_if = "Not::not")]
    concealed: bool,
    /// How many checks there are that are Rust code.
    #[serde(skip_serializing_if = "is_zero")]
    checks: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Methods(#[serde(with = "json::unique")] Vec<(String, Access)>);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OriginFile {
    Exact,
    Normalized,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntityRefFile {
    dimension: String,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    function: bool,
}

const fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn wrong(what: &'static str) -> ConfigError {
    ConfigError::new(what)
}

const NOT_IN_A_FILE: &str =
    "this is Rust code, which a file cannot hold, and without it the policy would let in more than the code does";

fn method(name: &str) -> Result<Method, ConfigError> {
    Method::from_bytes(name.as_bytes()).map_err(|_| ConfigError::new(format!("{name:?} is not a method")))
}

impl RuleFile {
    pub(super) fn from_action(path: Option<&str>, method: Option<&Method>, action: &RouteAction) -> Self {
        let base = Self {
            path: path.map(str::to_owned),
            method: method.map(|method| method.as_str().to_owned()),
            ..Self::default()
        };
        let RouteAction::Rule(rule) = action else { return Self { public: true, ..base } };
        // Whole, so that a demand which is added to rules cannot be forgotten here.
        let Rule { resource, kind, networks_required, origin, relations, methods: mapped, checks, concealed } = rule;
        let DimensionRules { entities, handlings, rest_unscoped, covered: _, said: _, open: _ } = &**relations;
        let over = |wanted: Handling| {
            let named = handlings.iter().filter(|(_, handling)| *handling == wanted);
            named.map(|(dimension, _)| dimension.name().to_owned()).collect()
        };
        let mut methods: Vec<(String, Access)> = Vec::new();
        for (method, access) in mapped {
            // The last word on a method is the one that counts.
            match methods.iter_mut().find(|(known, _)| known == method.as_str()) {
                Some((_, known)) => *known = *access,
                None => methods.push((method.as_str().to_owned(), *access)),
            }
        }
        let mode = |origin| if origin == Origin::exact() { OriginFile::Exact } else { OriginFile::Normalized };
        Self {
            resource: resource.as_ref().map(|name| name.as_str().to_owned()),
            authenticated: resource.is_none(),
            methods: (!methods.is_empty()).then_some(Object(Methods(methods))),
            kind: kind.as_ref().map(|kind| kind.name().to_owned()),
            scoped: entities.iter().map(|entity| Object(EntityRefFile::from_entity(entity))).collect(),
            filtered: over(Handling::Filtered),
            deferred: over(Handling::Deferred),
            unscoped_for: over(Handling::Unscoped),
            unscoped: *rest_unscoped,
            require_networks: *networks_required,
            origin: origin.map(mode),
            concealed: *concealed,
            checks: checks.len(),
            ..base
        }
    }

    pub(super) fn route(mut self, known: &Known<'_>) -> Result<(String, Option<Method>, RouteAction), ConfigError> {
        let path = self.path.take().ok_or_else(|| wrong("missing field `path`"))?;
        let method = self.method.take().map(|name| method(&name).map_err(|error| error.at("method"))).transpose()?;
        Ok((path, method, self.action(known)?))
    }

    pub(super) fn fallback(self, known: &Known<'_>) -> Result<RouteAction, ConfigError> {
        match (&self.path, &self.method) {
            (None, None) => self.action(known),
            (Some(_), _) => Err(wrong("it is for requests without a route").at("path")),
            (None, Some(_)) => Err(wrong("it is for all methods").at("method")),
        }
    }

    fn action(self, known: &Known<'_>) -> Result<RouteAction, ConfigError> {
        let rule = match (self.public, self.resource.clone(), self.authenticated) {
            (true, None, false) => return self.public_target(),
            (false, Some(resource), false) => Rule::resource(resource),
            (false, None, true) => Rule::authenticated(),
            _ => {
                return Err(wrong(
                    "give exactly one of `\"public\": true` (anyone), `\"resource\": \"..\"` (a key with the \
                     permission) and `\"authenticated\": true` (any key)",
                ));
            }
        };
        self.demands(rule, known).map(RouteAction::Rule)
    }

    /// Nobody must believe that a public route keeps what is said beside.
    fn public_target(&self) -> Result<RouteAction, ConfigError> {
        let Self { scoped, filtered, deferred, unscoped_for, .. } = self;
        let beside = [
            ("methods", self.methods.is_some()),
            ("kind", self.kind.is_some()),
            ("scoped", !scoped.is_empty()),
            ("filtered", !filtered.is_empty()),
            ("deferred", !deferred.is_empty()),
            ("unscoped_for", !unscoped_for.is_empty()),
            ("unscoped", self.unscoped),
            ("require_networks", self.require_networks),
            ("origin", self.origin.is_some()),
            ("concealed", self.concealed),
            ("checks", self.checks > 0),
        ];
        match beside.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(wrong("the route is public: no key is looked at, and nothing demanded").at(field)),
            None => Ok(RouteAction::Public),
        }
    }

    fn demands(self, mut rule: Rule, known: &Known<'_>) -> Result<Rule, ConfigError> {
        if self.checks > 0 {
            return Err(wrong(NOT_IN_A_FILE).at("checks"));
        }
        for (name, access) in self.methods.map(|Object(Methods(methods))| methods).unwrap_or_default() {
            rule = rule.method(method(&name).map_err(|error| error.at("methods"))?, access);
        }
        if let Some(kind) = self.kind {
            rule = rule.kind(kind);
        }
        for (index, Object(entity)) in self.scoped.into_iter().enumerate() {
            rule = rule.scoped(entity.read(known, &format!("scoped[{index}]"))?);
        }
        type Say = fn(Rule, Dimension) -> Rule;
        let handlings: [(_, _, Say); 3] = [
            ("filtered", self.filtered, Rule::filtered),
            ("deferred", self.deferred, Rule::deferred),
            ("unscoped_for", self.unscoped_for, Rule::unscoped_for),
        ];
        for (field, names, say) in handlings {
            for (index, name) in names.iter().enumerate() {
                rule = say(rule, known.find(name).map_err(|error| error.at(format_args!("{field}[{index}]")))?);
            }
        }
        if self.unscoped {
            rule = rule.unscoped();
        }
        if self.require_networks {
            rule = rule.require_networks();
        }
        rule = match self.origin {
            Some(OriginFile::Exact) => rule.origin(Origin::exact()),
            Some(OriginFile::Normalized) => rule.origin(Origin::normalized()),
            None => rule,
        };
        Ok(if self.concealed { rule.concealed() } else { rule })
    }
}

impl EntityRefFile {
    fn from_entity(entity: &EntityRef) -> Self {
        let path = entity.parameter().map(str::to_owned);
        let header = entity.header_name().map(|name| name.as_str().to_owned());
        let function = path.is_none() && header.is_none();
        Self { dimension: entity.dimension().name().to_owned(), path, header, function }
    }

    fn read(self, known: &Known<'_>, location: &str) -> Result<EntityRef, ConfigError> {
        let at = |field: &str| format!("{location}.{field}");
        let dimension = known.find(&self.dimension).map_err(|error| error.at(at("dimension")))?;
        match (self.path, self.header, self.function) {
            (Some(parameter), None, false) => Ok(EntityRef::from_path(dimension, parameter)),
            (None, Some(name), false) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(EntityRef::from_header(dimension, name)),
                Err(_) => Err(ConfigError::new(format!("{name:?} is not the name of a header")).at(at("header"))),
            },
            (None, None, true) => Err(wrong(NOT_IN_A_FILE).at(at("function"))),
            _ => Err(wrong("give exactly one of `path`, the name of a parameter, and `header`").at(location)),
        }
    }
}
