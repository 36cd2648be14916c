//! Changes of the settings of a store, and of its roles.

use crate::{
    key::{Grant, check_role_name},
    store::{
        Action, StoreError, StoreSettings, audit,
        change::Modify,
        lifecycle::Planner,
        source::KeySource,
        validate::{
            invalid, validate_grant, validate_label, validate_no_secret_in_grant, validate_readable, warnings_of,
        },
    },
};

impl<T: KeySource> Planner<'_, T> {
    pub(super) fn change_settings(&mut self, change: Modify<StoreSettings>) -> Result<(), StoreError> {
        let new = change.make(self.settings).map_err(invalid)?;
        if new.formats != self.settings.formats {
            return Err(StoreError::conflict(
                "the formats of keys stay as they were when the store was made: its keys would be malformed",
            ));
        }
        validate_readable(&new, self.table)?;
        let names = new.dimensions.iter().map(|own| own.name());
        for name in names.chain(new.networks_required_for.iter().map(String::as_str)) {
            validate_label("settings", name, 256)?;
            self.validate_no_secret("settings", name)?;
        }
        for (name, grant) in new.roles() {
            self.validate_role(name, grant, &new)?;
        }
        let note = |is_repeated: bool| is_repeated.then(|| "they were the same; published again".to_owned());
        self.replace_settings(Action::SettingsChanged, new, note)
    }

    pub(super) fn set_role(&mut self, name: &str, grant: Option<Grant>) -> Result<(), StoreError> {
        // Before its errors quote it.
        self.validate_no_secret("role", name)?;
        check_role_name(name).map_err(invalid)?;
        let users = self.table.all()?.iter().filter(|record| record.roles().any(|role| role == name)).count();
        let keys = if users == 1 { "1 key refers".to_owned() } else { format!("{users} keys refer") };
        match &grant {
            Some(grant) => self.plan.applied.warnings = self.validate_role(name, grant, self.settings)?,
            None if self.settings.role(name).is_none() => {
                return Err(StoreError::not_found(format!("there is no role {name}")));
            }
            None if users > 0 => {
                return Err(StoreError::conflict(format!("the role {name} is in use: {keys} to it")));
            }
            None => {}
        }
        let did = match (self.settings.role(name), &grant) {
            (_, None) => "deleted",
            (None, _) => "made",
            (Some(old), Some(new)) if old == new => "set as it was",
            _ => "changed",
        };
        let roles = self.settings.roles.with(name, grant.map(Into::into));
        self.plan.applied.count = users;
        let note = format!("{name}: {did}; {keys} to it");
        self.replace_settings(Action::RoleChanged, self.settings.clone().with_roles(roles), |_| Some(note))
    }

    fn validate_role(&self, name: &str, grant: &Grant, settings: &StoreSettings) -> Result<Vec<String>, StoreError> {
        self.validate_no_secret("role", name)?;
        check_role_name(name).map_err(invalid)?;
        validate_no_secret_in_grant(grant, self.table, self.settings)?;
        let in_role = |error: StoreError| StoreError::invalid(format!("role {name}: {error}"));
        validate_grant(grant, settings).map_err(in_role)?;
        Ok(warnings_of(grant, settings))
    }

    fn replace_settings(
        &mut self,
        action: Action,
        new: StoreSettings,
        note: impl FnOnce(bool) -> Option<String>,
    ) -> Result<(), StoreError> {
        let (before, after) = (self.settings.to_json().map_err(invalid)?, new.to_json().map_err(invalid)?);
        // Unchanged settings are published again (S18), as the repeated revocation of a key is.
        self.is_repeated = before == after;
        let difference = audit::difference(&before, &after).map_err(invalid)?;
        self.plan.note(action, note(self.is_repeated), Some(difference));
        self.plan.settings = Some(new);
        Ok(())
    }
}
