//! A new secret in place of an old one.

use std::time::SystemTime;

use crate::{
    key::{KeyId, KeyRecord, Status},
    store::{
        Action, NewKey, Overlap, Rotation, StoreError,
        change::NewEnd,
        lifecycle::Planner,
        source::{KeySource, Row},
        validate::invalid,
    },
    timestamp,
};

impl<T: KeySource> Planner<'_, T> {
    pub(super) fn rotate(&mut self, id: &KeyId, Rotation { overlap, end }: Rotation) -> Result<(), StoreError> {
        let old = self.record(id)?;
        match old.status(self.now) {
            Status::Suspended => {
                return Err(StoreError::conflict(format!("the key {id} is suspended; resume it first")));
            }
            _ if !self.is_alive(&old) => {
                return Err(StoreError::conflict(format!("the key {id} is not alive; issue a new one")));
            }
            _ => {}
        }
        let successor = match old.replaced_by().map(|successor| self.table.by_id(successor)).transpose()? {
            Some(Row::Found(successor)) => Some(successor),
            _ => None,
        };
        // At most two secrets of a key are valid at a time. With a second successor there would be three.
        if let Some(living) = successor.as_ref().filter(|record| self.is_alive(record)) {
            let message = format!("{} takes the place of {id} already; rotate that, or revoke it first", living.id());
            return Err(StoreError::conflict(message));
        }
        let mut new = NewKey::like(&old);
        new.expires_at = match end {
            NewEnd::At(time) => Some(time),
            NewEnd::Never => None,
            NewEnd::SameLength => self.same_length(&old)?,
        };
        // A beginning that has come says nothing of the new key.
        new.not_before = old.not_before().filter(|start| *start > self.now);
        self.issue(new, Some(id))?;
        let successor = self.plan.applied.records.first().map(|new| new.id().clone());
        let note = successor.as_ref().map(|new| format!("{new} takes its place"));
        let predecessor = old.replaces().cloned();
        let mut ending = old.revise().replaced_by(successor);
        if let Overlap::For(time) = overlap {
            let end = self.now.checked_add(time).ok_or_else(|| StoreError::invalid("the overlap is too long"))?;
            let end = timestamp::whole_micros(end).map_err(invalid)?;
            // An overlap never extends the validity of a key.
            ending = ending.expires_at(old.expires_at().map_or(end, |own| own.min(end)));
        }
        self.edit(Action::Rotated, Some(old), ending.build(), note)?;
        // The predecessor would be a third valid secret, so it expires now.
        if let Some(predecessor) = predecessor
            && let Row::Found(oldest) = self.table.by_id(&predecessor)?
            && oldest.replaced_by() == Some(id)
            && self.is_alive(&oldest)
        {
            let ended = oldest.revise().expires_at(self.now).build();
            let note = format!("{id}, which took its place, was rotated too");
            self.edit(Action::Rotated, Some(oldest), ended, Some(note))?;
        }
        Ok(())
    }

    /// When a key ends that begins now, or when the old one would have begun, and lives as long as that was issued for. Where
    /// this is not known, it ends when the old one does.
    fn same_length(&mut self, old: &KeyRecord) -> Result<Option<SystemTime>, StoreError> {
        let Some(end) = old.expires_at() else { return Ok(None) };
        let begin = old.created_at().into_iter().chain(old.not_before()).max();
        let length = begin.and_then(|begin| end.duration_since(begin).ok()).filter(|length| !length.is_zero());
        // The overlap of an earlier rotation may have cut the old key short.
        let Some(length) = length.filter(|_| old.replaced_by().is_none()) else {
            let message = "how long the old key was issued for is not known, so the new one ends when that does; say when it \
                           is to end";
            self.plan.applied.warnings.push(message.to_owned());
            return Ok(Some(end));
        };
        let start = old.not_before().map_or(self.now, |start| start.max(self.now));
        let too_late = || StoreError::invalid("the new key would end beyond the year 9999; say when it ends");
        start.checked_add(length).map(Some).ok_or_else(too_late)
    }
}
