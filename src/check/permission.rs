use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize, ser::SerializeMap};

use crate::{
    check::{Check, Demand, Findings, caller},
    denial::{Cause, Denial},
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::{self, Fields, Object},
    key::{Access, Permission},
    name::Name,
    principal::Caller,
    route::Pattern,
};

impl Check for Permission {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        match caller(head)?.record.grant().permits(self) {
            true => Ok(()),
            false => Err(Cause::MissingPermission(self.clone()).into()),
        }
    }
}

/// Requires read or write access to a resource, depending on the method, or one of several other permissions. Without a
/// resource, any valid key will do.
#[derive(Clone, Debug)]
pub(crate) struct PermissionDemand {
    resource: Option<Name>,
    alternatives: Vec<Alternative>,
    /// Methods whose access differs from the default.
    methods: Vec<(Method, Access)>,
}

/// A permission that will do as well.
#[derive(Clone, Debug)]
struct Alternative {
    resource: Name,
    /// None for the access that the method needs.
    access: Option<Access>,
}

impl PermissionDemand {
    pub(crate) fn new(resource: Option<Name>) -> Self {
        Self { resource, alternatives: Vec::new(), methods: Vec::new() }
    }

    /// Another permission will do as well; without an access, that which the method needs.
    pub(crate) fn or(&mut self, resource: Name, access: Option<Access>) {
        self.alternatives.push(Alternative { resource, access });
    }

    /// The permissions that will do where the method needs this access.
    fn permissions(&self, needed: Access) -> impl Iterator<Item = Permission> {
        let first = self.resource.iter().map(move |resource| Permission::from_parts(resource.clone(), needed));
        let others = self.alternatives.iter();
        first.chain(others.map(move |it| Permission::from_parts(it.resource.clone(), it.access.unwrap_or(needed))))
    }

    pub(crate) fn set_method(&mut self, method: Method, access: Access) {
        self.methods.push((method, access));
    }

    /// Whether the demand refuses the method, whatever the key.
    pub(crate) fn refuses(&self, method: &Method) -> bool {
        access(method, &self.methods).is_none()
    }

    /// Evaluates the method alone, for a request without a key.
    pub(crate) fn evaluate_method(&self, head: &Head<'_>, findings: &mut impl Findings) {
        let verdict = match self.refuses(head.method()) {
            true => Err(Cause::MethodNotAllowed { allow: allowed_methods(&self.methods) }),
            false => Ok(()),
        };
        findings.record(|| "method".to_owned(), verdict);
    }

    /// Whether the caller has a permission that will do for this method.
    #[inline]
    pub(crate) fn admits(&self, method: &Method, caller: Caller<'_>) -> bool {
        let Some(access) = access(method, &self.methods) else { return false };
        let grant = caller.record.grant();
        self.resource.as_ref().is_none_or(|resource| grant.allows(resource.as_str(), access))
            || self.alternatives.iter().any(|it| grant.allows(it.resource.as_str(), it.access.unwrap_or(access)))
    }

    fn verdict(&self, method: &Method, caller: Caller<'_>) -> Result<(), Cause> {
        match (access(method, &self.methods), &self.resource) {
            (None, _) => Err(Cause::MethodNotAllowed { allow: allowed_methods(&self.methods) }),
            (Some(access), Some(_)) if !self.admits(method, caller) => Err(self.missing(access)),
            (Some(_), _) => Ok(()),
        }
    }

    /// The cause for a key that has none of the permissions.
    #[cold]
    fn missing(&self, access: Access) -> Cause {
        let mut permissions = self.permissions(access);
        match (permissions.next(), self.alternatives.is_empty()) {
            (Some(permission), true) => Cause::MissingPermission(permission),
            (first, _) => Cause::MissingAnyPermission(first.into_iter().chain(permissions).collect()),
        }
    }
}

/// The error for a rule with none, or several, of `public`, `resource` and `authenticated`.
pub(crate) const ONE_OF_THREE: &str = "give exactly one of `\"public\": true` (anyone), `\"resource\": \"..\"` (a key with \
                                        the permission) and `\"authenticated\": true` (any key)";

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Methods(#[serde(with = "json::unique")] Vec<(String, Access)>);

/// Another permission as a policy file writes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlternativeFile {
    resource: String,
    #[serde(default, deserialize_with = "json::given", skip_serializing_if = "Option::is_none")]
    access: Option<Access>,
}

impl Demand for PermissionDemand {
    const FIELDS: &'static [&'static str] = &["resource", "authenticated", "or", "methods"];

    #[inline]
    fn evaluate(&self, head: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings) {
        let access = access(head.method(), &self.methods);
        let name = || match (&self.resource, access) {
            (Some(_), Some(access)) => {
                let permissions: Vec<_> = self.permissions(access).map(|permission| permission.to_string()).collect();
                format!("permission {}", permissions.join(" or "))
            }
            (Some(resource), None) => format!("permission {resource}"),
            (None, _) => "method".to_owned(),
        };
        findings.record(name, self.verdict(head.method(), caller));
    }

    fn validate(&self, _: Option<&Pattern>) -> Result<(), ConfigError> {
        if let Some((method, _)) = self.methods.iter().find(|(method, _)| has_wrong_case(method)) {
            return Err(wrong_case_error(method));
        }
        if self.resource.is_none() && !self.alternatives.is_empty() {
            return Err(ConfigError::new(
                "its rule demands no permission, so there is nothing that another would do instead of",
            ));
        }
        let is_odd = |name: &&str| name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic());
        let mut names = self.resource.iter().chain(self.alternatives.iter().map(|it| &it.resource)).map(Name::as_str);
        match names.find(is_odd) {
            Some(name) => Err(ConfigError::new(format!("no key has a resource named {name:?}"))),
            None => Ok(()),
        }
    }

    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        match &self.resource {
            Some(resource) => fields.serialize_entry("resource", resource.as_str())?,
            None => fields.serialize_entry("authenticated", &true)?,
        }
        if !self.alternatives.is_empty() {
            let files = self.alternatives.iter();
            let files: Vec<_> =
                files.map(|it| AlternativeFile { resource: it.resource.to_string(), access: it.access }).collect();
            fields.serialize_entry("or", &files)?;
        }
        let mut methods: Vec<(String, Access)> = Vec::new();
        for (method, access) in &self.methods {
            // The last mapping of a method applies.
            match methods.iter_mut().find(|(known, _)| known == method.as_str()) {
                Some((_, known)) => *known = *access,
                None => methods.push((method.as_str().to_owned(), *access)),
            }
        }
        if methods.is_empty() { Ok(()) } else { fields.serialize_entry("methods", &Methods(methods)) }
    }

    fn read(fields: &mut Fields<'_>, _: &dyn Fn(&str) -> Result<Dimension, ConfigError>) -> Result<Self, ConfigError> {
        let resource = fields.take::<String>("resource")?;
        if resource.is_some() == fields.take_or_default::<bool>("authenticated")? {
            return Err(ConfigError::new(ONE_OF_THREE));
        }
        let mut demand = Self::new(resource.map(Name::from));
        for Object(file) in fields.take_or_default::<Vec<Object<AlternativeFile>>>("or")? {
            demand.or(file.resource.into(), file.access);
        }
        let methods = fields.take::<Object<Methods>>("methods")?;
        for (name, access) in methods.map(|Object(Methods(methods))| methods).unwrap_or_default() {
            demand.set_method(parse_method(&name).map_err(|error| error.at("methods"))?, access);
        }
        Ok(demand)
    }
}

/// The methods whose meaning RFC 9110 (and RFC 5789 for `PATCH`) fixes well enough to authorize by.
const READING: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];
const WRITING: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Parses the name of a method in a policy file.
pub(crate) fn parse_method(name: &str) -> Result<Method, ConfigError> {
    Method::from_bytes(name.as_bytes()).map_err(|_| ConfigError::new(format!("{name:?} is not a method")))
}

/// Whether this is a standard method in other letters: methods are case-sensitive, so it is another method,
/// which nobody sends, and what was said of it does not hold for the one that was meant.
pub(crate) fn has_wrong_case(method: &Method) -> bool {
    let mut standard = READING.iter().chain(&WRITING);
    standard.any(|known| known != method && known.as_str().eq_ignore_ascii_case(method.as_str()))
}

/// The access that a method needs: as the rule maps it, else by its meaning in the standard, else unknown.
pub(crate) fn access(method: &Method, mapped: &[(Method, Access)]) -> Option<Access> {
    let of = |method: &Method| mapped.iter().rev().find(|(known, _)| known == method).map(|&(_, access)| access);
    if let Some(access) = of(method) {
        Some(access)
    } else if let (Some(access), &Method::HEAD) = (of(&Method::GET), method) {
        // Routers serve HEAD with the handler of GET.
        Some(access)
    } else if READING.contains(method) {
        Some(Access::Read)
    } else if WRITING.contains(method) {
        Some(Access::Write)
    } else {
        None
    }
}

/// The methods with a default access, as the value of `Allow`.
pub(crate) const STANDARD_METHODS: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

/// The value of `Allow` with a 405.
pub(crate) fn allowed_methods(mapped: &[(Method, Access)]) -> Arc<str> {
    let mut allowed = STANDARD_METHODS.to_owned();
    for (method, _) in mapped {
        if !allowed.split(", ").any(|known| known == method.as_str()) {
            allowed.push_str(", ");
            allowed.push_str(method.as_str());
        }
    }
    allowed.into()
}

/// The error for a standard method in the wrong case.
pub(crate) fn wrong_case_error(method: &Method) -> ConfigError {
    let upper = method.as_str().to_ascii_uppercase();
    ConfigError::new(format!("methods are case-sensitive, and nobody sends {method:?}: write {upper}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_methods_are_those_that_read_or_write() {
        let all: Vec<&str> = READING.iter().chain(&WRITING).map(Method::as_str).collect();
        assert_eq!(STANDARD_METHODS, all.join(", "));
    }
}
