//! Finding keys among many.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::key::{KeyId, KeyRecord, Status};

/// Which keys to list. All conditions must hold; none means all keys.
///
/// Keys come in the order of their ids, which never change: a key is neither shown twice nor left
/// out if others come and go between two pages.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use std::time::Duration;
/// use tower_authz::{Status, store::{KeyAdmin, KeyQuery, MemoryStore}};
///
/// let store = MemoryStore::new();
/// let query = KeyQuery::new().status(Status::Active).unused_for(Duration::from_secs(90 * 86_400));
/// let mut page = store.list(&query).await?;
/// loop {
///     for record in &page.records {
///         println!("{} {}", record.id(), record.name());
///     }
///     let Some(last) = page.next else { break };
///     page = store.list(&query.clone().after(last)).await?;
/// }
/// # Ok::<(), tower_authz::store::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a query is given to a store"]
pub struct KeyQuery {
    name: Option<String>,
    kind: Option<String>,
    tenant: Option<String>,
    pub(crate) owner: Option<String>,
    label: Option<(String, Option<String>)>,
    role: Option<String>,
    status: Option<Status>,
    resource: Option<String>,
    expires_before: Option<SystemTime>,
    unused_for: Option<Duration>,
    pub(crate) after: Option<KeyId>,
    pub(crate) limit: usize,
}

impl KeyQuery {
    /// All keys, a thousand to a page.
    pub const fn new() -> Self {
        Self {
            name: None,
            kind: None,
            tenant: None,
            owner: None,
            label: None,
            role: None,
            status: None,
            resource: None,
            expires_before: None,
            unused_for: None,
            after: None,
            limit: 1000,
        }
    }

    /// Only keys whose name contains this text, in whatever case.
    pub fn name(mut self, part: &str) -> Self {
        self.name = Some(part.to_lowercase());
        self
    }

    /// Only keys of this kind.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Only keys of this tenant.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Only keys of this owner.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Only keys with this label, whatever its value.
    pub fn has_label(mut self, name: impl Into<String>) -> Self {
        self.label = Some((name.into(), None));
        self
    }

    /// Only keys whose label has this value.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.label = Some((name.into(), Some(value.into())));
        self
    }

    /// Only keys that refer to this role.
    pub fn role(mut self, name: impl Into<String>) -> Self {
        self.role = Some(name.into());
        self
    }

    /// Only keys with this status now.
    pub const fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Only keys with a permission for this resource, to read or to write.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only keys that expire before this time.
    pub const fn expires_before(mut self, time: SystemTime) -> Self {
        self.expires_before = Some(time);
        self
    }

    /// Only keys not used for so long, or never. Uses are written down at most a minute late.
    pub const fn unused_for(mut self, time: Duration) -> Self {
        self.unused_for = Some(time);
        self
    }

    /// Only keys that come after this id: for the next page.
    pub fn after(mut self, id: KeyId) -> Self {
        self.after = Some(id);
        self
    }

    /// At most so many to a page. Default: 1,000; at most 10,000.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, 10_000);
        self
    }

    pub(crate) fn matches(&self, record: &KeyRecord, now: SystemTime) -> bool {
        let fits = |wanted: &Option<String>, value: Option<&str>| wanted.as_deref().is_none_or(|it| value == Some(it));
        self.name.as_ref().is_none_or(|part| record.name().to_lowercase().contains(part.as_str()))
            && fits(&self.kind, record.kind())
            && fits(&self.tenant, record.tenant())
            && fits(&self.owner, record.metadata().owner())
            && self.label.as_ref().is_none_or(|(name, wanted)| {
                let value = record.metadata().label(name);
                value.is_some_and(|value| wanted.as_deref().is_none_or(|wanted| value == wanted))
            })
            && self.role.as_deref().is_none_or(|wanted| record.roles().any(|role| role == wanted))
            && self.status.is_none_or(|status| record.status(now) == status)
            && self
                .resource
                .as_ref()
                .is_none_or(|wanted| record.grant().permissions().iter().any(|held| held.resource() == wanted))
            && self.expires_before.is_none_or(|time| record.expires_at().is_some_and(|end| end < time))
            && self.unused_for.is_none_or(|time| {
                record.last_used().is_none_or(|used| now.duration_since(used).is_ok_and(|since| since >= time))
            })
    }
}

impl Default for KeyQuery {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of a list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Page {
    /// The records, in the order of their ids.
    pub records: Vec<Arc<KeyRecord>>,
    /// Keys of this part whose records cannot be read. They admit nobody.
    pub unreadable: Vec<UnreadableKey>,
    /// If there may be more: the id to go on [after](KeyQuery::after).
    pub next: Option<KeyId>,
}

/// A key whose record cannot be read: it is refused, and the others go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnreadableKey {
    /// Its id, as far as that can be read.
    pub id: String,
    /// The reason.
    pub why: String,
}
