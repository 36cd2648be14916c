//! Keys that exist already.

use crate::{
    key::{Grant, KeyRecord},
    store::{
        Action, StoreError,
        lifecycle::Planner,
        source::{KeySource, Row},
        validate::{invalid, validate_record, validate_text},
    },
};

impl<T: KeySource> Planner<'_, T> {
    pub(super) fn import(&mut self, records: Vec<KeyRecord>) -> Result<(), StoreError> {
        let mut ids = std::collections::HashSet::new();
        let mut digests = std::collections::HashSet::new();
        for record in records {
            if self.table.by_digest(record.digest())? {
                self.plan.applied.skipped += 1;
                continue;
            }
            // A revocation is permanent, even if only the digest is remembered.
            if record.revoked_at().is_none() && self.table.was_revoked(record.digest())? {
                self.plan.applied.refused += 1;
                continue;
            }
            let id = record.id().clone();
            // First, as other errors name the id.
            validate_text("id", id.as_str(), &record, self.table, self.settings)?;
            let is_known = !matches!(self.table.by_id(&id)?, Row::Absent);
            if is_known || !ids.insert(id.clone()) || !digests.insert(*record.digest()) {
                return Err(StoreError::conflict(format!("another key has the id or the digest of {id}")));
            }
            let in_key = |error: StoreError| StoreError::invalid(format!("key {id}: {error}"));
            self.assert_same_roles(&record).map_err(in_key)?;
            let record = validate_record(&record, self.table, self.settings).map_err(in_key)?;
            self.settings.formats.check_id(&record).map_err(|error| in_key(invalid(error)))?;
            self.edit(Action::Imported, None, record, None).map_err(in_key)?;
        }
        self.plan.applied.count = self.plan.edits.len();
        self.plan.applied.records.clear();
        Ok(())
    }

    /// A key that was expanded elsewhere, by a role of the same name, must not be able to do more by the role of this store.
    fn assert_same_roles(&self, record: &KeyRecord) -> Result<(), StoreError> {
        let here = self.settings.roles.expanded(record).map_err(invalid)?;
        let is_expanded = *record.grant() != Grant::default();
        match here.filter(|here| is_expanded && !record.grant().covers(here.grant())) {
            None => Ok(()),
            Some(_) => {
                let roles = record.roles().collect::<Vec<_>>().join(", ");
                let message = format!(
                    "with the roles of this store ({roles}) it may do more than where it comes from; bring its roles along, \
                     or import it expanded"
                );
                Err(StoreError::conflict(message))
            }
        }
    }
}
