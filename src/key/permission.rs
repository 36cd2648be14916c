use std::{fmt, hash, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{error::ConfigError, name::Name};

/// How far a permission reaches. `Write` implies `Read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "there are two levels, by design; a third would be another crate")]
pub enum Access {
    /// To look.
    Read,
    /// To look and to change.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

impl FromStr for Access {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            _ => Err(ConfigError::new("an access level is read or write")),
        }
    }
}

/// A resource (a named group of endpoints) and an access level: `products:write`.
///
/// As a [`Check`](crate::Check) it demands that the key holds at least this. Resource names compare
/// exactly: `product` is not `products`, and `*` is a name like any other.
///
/// # Example
/// ```
/// use tower_authz::{Permission, RequireLayer};
///
/// let layer = RequireLayer::new(Permission::read("products"));
/// assert_eq!(Permission::write("products").to_string(), "products:write");
/// assert_eq!("products:write".parse::<Permission>()?, Permission::write("products"));
/// # let _: RequireLayer<Permission> = layer;
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Permission(Parts);

/// The access stands beside the name in both forms, where it takes no room of its own; a grant holds many permissions.
#[derive(Clone)]
enum Parts {
    Static(&'static str, Access),
    Shared(Arc<str>, Access),
}

impl Permission {
    /// To read the resource.
    pub fn read(resource: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::new(resource, Access::Read)
    }

    /// To write the resource, and so to read it.
    pub fn write(resource: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::new(resource, Access::Write)
    }

    /// The permission for one access level.
    pub fn new(resource: impl Into<std::borrow::Cow<'static, str>>, access: Access) -> Self {
        Self::from_parts(Name::from(resource.into()), access)
    }

    pub(crate) fn from_parts(resource: Name, access: Access) -> Self {
        Self(match resource {
            Name::Static(resource) => Parts::Static(resource, access),
            Name::Shared(resource) => Parts::Shared(resource, access),
        })
    }

    /// The resource's name, to be shared.
    pub(crate) fn name(&self) -> Name {
        match &self.0 {
            Parts::Static(resource, _) => Name::Static(resource),
            Parts::Shared(resource, _) => Name::Shared(Arc::clone(resource)),
        }
    }

    /// Refuses a name that no text could hold: names stand in lists, and before the colon of a permission.
    pub(super) fn check_resource(resource: &str) -> Result<(), ConfigError> {
        if resource.is_empty() || !resource.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::new(format!("{resource:?} is not a resource name: visible ASCII, no spaces")));
        }
        Ok(())
    }

    /// The resource's name.
    #[must_use]
    pub fn resource(&self) -> &str {
        match &self.0 {
            Parts::Static(resource, _) => resource,
            Parts::Shared(resource, _) => resource,
        }
    }

    /// The access level.
    #[must_use]
    pub const fn access(&self) -> Access {
        match self.0 {
            Parts::Static(_, access) | Parts::Shared(_, access) => access,
        }
    }
}

impl PartialEq for Permission {
    fn eq(&self, other: &Self) -> bool {
        self.access() == other.access() && self.resource() == other.resource()
    }
}

impl Eq for Permission {}

impl hash::Hash for Permission {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        (self.resource(), self.access()).hash(state);
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource(), self.access())
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permission({self})")
    }
}

/// Parses the text that [`Display`](fmt::Display) writes: `products:write`.
impl FromStr for Permission {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The last colon, because a resource may have one in its name.
        let parts = text.rsplit_once(':').and_then(|(resource, access)| Some((resource, access.parse().ok()?)));
        let (resource, access) = parts.ok_or_else(|| {
            ConfigError::new("a permission is a resource and an access level, read or write, like products:write")
        })?;
        Self::check_resource(resource)?;
        Ok(Self::new(resource.to_owned(), access))
    }
}

/// As text, `products:write`. Within a grant it is written as an entry of `permissions`, as a key file has it.
impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for permission in [Permission::read("products"), Permission::write("a:b"), Permission::write("*")] {
            assert_eq!(permission.to_string().parse::<Permission>().unwrap(), permission);
            let json = serde_json::to_string(&permission).unwrap();
            assert_eq!(json, format!("\"{permission}\""));
            assert_eq!(serde_json::from_str::<Permission>(&json).unwrap(), permission);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", ":", "products", "products:", ":write", "products:admin", "products:Write", "two words:read"] {
            assert!(text.parse::<Permission>().is_err(), "{text}");
        }
        for text in ["", "Read", "READ", "read ", "admin"] {
            assert!(text.parse::<Access>().is_err(), "{text}");
        }
    }
}
