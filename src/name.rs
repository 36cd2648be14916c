//! Short names out of configuration: resources, dimensions, kinds, tenants.

use std::{borrow::Cow, fmt, hash, sync::Arc};

use crate::error::ConfigError;

/// A string that is cheap to clone: denials carry names, and a flood of refused requests must not
/// become a flood of allocations.
#[derive(Clone)]
pub(crate) enum Name {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Static(name) => name,
            Self::Shared(name) => name,
        }
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self::Static(name)
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self::Shared(name.into())
    }
}

impl From<Cow<'static, str>> for Name {
    fn from(name: Cow<'static, str>) -> Self {
        match name {
            Cow::Borrowed(name) => name.into(),
            Cow::Owned(name) => name.into(),
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        let (own, other) = (self.as_str(), other.as_str());
        // Most are the same constant.
        std::ptr::eq(own, other) || own == other
    }
}

impl Eq for Name {}

impl hash::Hash for Name {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Refuses the name of a tenant that no host would ever name: hosts are compared in lower case.
pub(crate) fn check_tenant(name: &str) -> Result<(), ConfigError> {
    let lower = name.to_lowercase();
    match lower == name {
        true => Ok(()),
        false => Err(ConfigError::new(format!(
            "tenant: a host names its tenant in lower case, so {name:?} would never match; write {lower:?}"
        ))),
    }
}
