use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::key::{KeyId, Metadata, Status, role::RoleRefs};

/// The fields of a record that most keys lack and that no request with an ordinary key reads. A field that only people
/// and programs read belongs here: a record that has none of them keeps one pointer for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cold {
    /// Only if the record says that it is elsewhere.
    pub(super) created_at: Option<SystemTime>,
    pub(super) not_before: Option<SystemTime>,
    /// Only if the record says that its end is elsewhere.
    pub(super) expires_at: Option<SystemTime>,
    pub(super) suspended_at: Option<SystemTime>,
    pub(super) revoked_at: Option<SystemTime>,
    pub(super) revocation_reason: Option<Box<str>>,
    pub(super) replaces: Option<KeyId>,
    pub(super) replaced_by: Option<KeyId>,
    /// Keys of one owner often have the same, and share it when a store has loaded them.
    pub(super) metadata: Option<Arc<Metadata>>,
    pub(super) roles: Option<Arc<RoleRefs>>,
}

impl Cold {
    /// The texts among its fields, with their names.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        // INVARIANT: every field is named here, so that a new text cannot be forgotten.
        let Self {
            created_at: _,
            not_before: _,
            expires_at: _,
            suspended_at: _,
            revoked_at: _,
            revocation_reason,
            replaces,
            replaced_by,
            metadata,
            roles,
        } = self;
        let texts = [
            ("revocation_reason", revocation_reason.as_deref()),
            ("replaces", replaces.as_ref().map(KeyId::as_str)),
            ("replaced_by", replaced_by.as_ref().map(KeyId::as_str)),
        ];
        let roles = roles.iter().flat_map(|roles| &roles.names).map(|role| ("roles", role.as_str()));
        let others = metadata.iter().flat_map(|metadata| metadata.texts()).chain(roles);
        texts.into_iter().filter_map(|(field, text)| Some((field, text?))).chain(others)
    }

    /// The status of a key that has a beginning, is suspended or was revoked.
    pub(super) fn status(&self, now: SystemTime) -> Status {
        if self.revoked_at.is_some() {
            Status::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Status::Expired
        } else if self.suspended_at.is_some() {
            Status::Suspended
        } else if self.not_before.is_some_and(|start| now < start) {
            Status::NotYetValid
        } else {
            Status::Active
        }
    }

    /// Whether the status may be another one within a few seconds of this moment.
    pub(super) fn is_turning(&self, now: SystemTime) -> bool {
        [self.expires_at, self.not_before].into_iter().flatten().any(|date| is_near(date, now))
    }
}

/// Whether a date is at most a few seconds away from this moment.
#[inline]
pub(super) fn is_near(date: SystemTime, now: SystemTime) -> bool {
    date.duration_since(now).unwrap_or_else(|ago| ago.duration()) <= Duration::from_secs(3)
}
