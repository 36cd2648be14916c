use http::Method;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::dimensions::Known;
use crate::{
    check::{ONE_OF_THREE, parse_method},
    error::ConfigError,
    json::Fields,
    policy::{RouteAction, RouteEntry, Rule},
};

/// A route and its action, for serialization. A fallback has no path.
pub(super) struct RuleFile<'p> {
    pub(super) path: Option<&'p str>,
    pub(super) method: Option<&'p Method>,
    pub(super) action: &'p RouteAction,
}

impl<'p> RuleFile<'p> {
    pub(super) fn from_entry(entry: &'p RouteEntry) -> impl Iterator<Item = Self> {
        let path = Some(entry.pattern.as_str());
        entry.actions().map(move |(method, action)| Self { path, method, action })
    }
}

impl Serialize for RuleFile<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        if let Some(path) = self.path {
            fields.serialize_entry("path", path)?;
        }
        if let Some(method) = self.method {
            fields.serialize_entry("method", method.as_str())?;
        }
        match self.action {
            RouteAction::Public => fields.serialize_entry("public", &true)?,
            RouteAction::Rule(rule) => rule.write(&mut fields)?,
        }
        fields.end()
    }
}

/// Reads the rule of a route.
pub(super) fn read_route(text: &str, known: &Known<'_>) -> Result<(String, Option<Method>, RouteAction), ConfigError> {
    let mut fields = parse(text)?;
    let path = fields.take("path")?.ok_or_else(|| ConfigError::new("missing field `path`"))?;
    let method = fields.take::<String>("method")?.map(|name| parse_method(&name).map_err(|error| error.at("method")));
    let method = method.transpose()?;
    Ok((path, method, read_action(fields, known)?))
}

/// Reads the rule of the fallback.
pub(super) fn read_fallback(text: &str, known: &Known<'_>) -> Result<RouteAction, ConfigError> {
    let mut fields = parse(text)?;
    match (fields.take::<String>("path")?, fields.take::<String>("method")?) {
        (None, None) => read_action(fields, known),
        (Some(_), _) => Err(ConfigError::new("it is for requests without a route").at("path")),
        (None, Some(_)) => Err(ConfigError::new("it is for all methods").at("method")),
    }
}

fn parse(text: &str) -> Result<Fields<'_>, ConfigError> {
    let known: Vec<&str> = ["path", "method", "public"].into_iter().chain(Rule::FIELDS.concat()).collect();
    Fields::parse(text, &known)
}

fn read_action(mut fields: Fields<'_>, known: &Known<'_>) -> Result<RouteAction, ConfigError> {
    if !fields.take_or_default::<bool>("public")? {
        let rule = Rule::read(&mut fields, &|name| known.find(name))?;
        // A demand that forgets one of its fields must not look as if it had read it.
        fields.finish("no demand reads this field")?;
        return Ok(RouteAction::Rule(rule));
    }
    if fields.take::<String>("resource")?.is_some() || fields.take_or_default::<bool>("authenticated")? {
        return Err(ConfigError::new(ONE_OF_THREE));
    }
    // A public route enforces nothing, so reject fields that suggest otherwise. False says as much as an absent field.
    const PUBLIC: &str = "the route is public: no key is looked at, and nothing demanded";
    for field in ["unscoped", "require_networks", "concealed", "optional"] {
        if fields.take_or_default(field)? {
            return Err(ConfigError::new(PUBLIC).at(field));
        }
    }
    fields.finish(PUBLIC)?;
    Ok(RouteAction::Public)
}
