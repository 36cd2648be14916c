use std::fmt;

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
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Permission {
    resource: Name,
    access: Access,
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

    pub(crate) const fn from_parts(resource: Name, access: Access) -> Self {
        Self { resource, access }
    }

    /// The resource's name.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.resource.as_str()
    }

    /// The access level.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.resource, self.access)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permission({self})")
    }
}
