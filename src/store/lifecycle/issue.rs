//! New keys.

use crate::{
    key::{KeyId, KeyRecord, check_roles},
    store::{
        Action, NewKey, StoreError,
        lifecycle::Planner,
        source::{KeySource, Row},
        validate::{
            date, invalid, validate_grant, validate_metadata, validate_name, validate_no_secret_in_grant, warnings_of,
        },
    },
};

impl<T: KeySource> Planner<'_, T> {
    pub(super) fn issue(&mut self, new: NewKey, replaces: Option<&KeyId>) -> Result<(), StoreError> {
        // A key that was imported may have no name, and is rotated all the same.
        if replaces.is_none() || !new.name.is_empty() {
            self.validate_key_name(&new.name)?;
        }
        for (what, text) in [("kind", &new.kind), ("tenant", &new.tenant)] {
            // Before `validate_name`, whose error may quote the text.
            self.validate_no_secret(what, text.as_deref().unwrap_or_default())?;
            validate_name(what, text.as_deref())?;
        }
        validate_metadata(&new.metadata, self.table, self.settings)?;
        validate_no_secret_in_grant(&new.grant, self.table, self.settings)?;
        self.validate_roles(&new.roles)?;
        validate_grant(&new.grant, self.settings)?;
        // Eight random hex digits collide after some ten thousand keys, so retry a limited number of times.
        for _ in 0..32 {
            let format = self.settings.formats.for_kind(new.kind.as_deref());
            let (id, api_key) = format.generate().map_err(|error| StoreError::unavailable(error.to_string()))?;
            let id: KeyId = id.parse().map_err(invalid)?;
            if !matches!(self.table.by_id(&id)?, Row::Absent) {
                continue;
            }
            let record = KeyRecord::builder(id, api_key.digest())
                .name(new.name)
                .kind(new.kind)
                .tenant(new.tenant)
                .created_at(self.now)
                .not_before(date(new.not_before)?)
                .expires_at(date(new.expires_at)?)
                .replaces(replaces.cloned())
                .metadata(new.metadata)
                .grant(new.grant)
                .roles(new.roles)
                .build();
            self.edit(Action::Issued, None, record, replaces.map(|old| format!("in place of {old}")))?;
            self.warn();
            self.plan.applied.api_key = Some(api_key);
            return Ok(());
        }
        Err(StoreError::conflict("no free key id was found; use a format with a longer public id"))
    }

    pub(super) fn validate_roles(&self, roles: &[String]) -> Result<(), StoreError> {
        // Before any error names them.
        roles.iter().try_for_each(|role| self.validate_no_secret("roles", role))?;
        check_roles(roles).map_err(invalid)
    }

    /// Warns of likely mistakes in what the key of the last edit may do.
    pub(super) fn warn(&mut self) {
        let Some(record) = self.plan.applied.records.last() else { return };
        let mut warnings = warnings_of(record.grant(), self.settings);
        if record.expires_at().is_some_and(|end| end <= self.now) {
            warnings.push("it is expired already".to_owned());
        }
        self.plan.applied.warnings.append(&mut warnings);
    }
}
