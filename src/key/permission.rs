use std::{fmt, hash, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::name::Name;

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
/// # let _: RequireLayer<Permission> = layer;
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
