//! How a process follows the changes of others in the file.

use std::sync::Arc;

use rusqlite::Connection;

use crate::{
    dimension::Dimension,
    store::{
        StoreError, StoreSettings,
        index::Index,
        part::Entry,
        report::Report,
        row::{InvalidRow, Rows},
        source::Row,
        sqlite::{
            rows::{self, CommitMark},
            schema::{self, to_store_error},
        },
    },
};

/// The copy of the file that this process has in memory.
pub(super) struct View {
    pub(super) index: Arc<Index>,
    pub(super) settings: StoreSettings,
    pub(super) own: Vec<Dimension>,
    /// The newest change that the index contains.
    pub(super) known: CommitMark,
    /// `PRAGMA data_version` at that change. It counts the commits of others that go through the journal and the shared
    /// memory of this process. If the content changes and it does not, the change was made under another name, and this
    /// connection may see only half of it.
    pub(super) version: i64,
    /// Whether the index holds all keys, or none.
    pub(super) is_cached: bool,
    pub(super) report: Report,
}

/// Reads everything in one transaction.
pub(super) fn read_all(
    connection: &Connection,
    own: &[Dimension],
    is_cached: bool,
) -> Result<(StoreSettings, (CommitMark, i64), Rows), StoreError> {
    let moment = connection.unchecked_transaction().map_err(to_store_error)?;
    let settings = schema::settings(&moment, own)?;
    let read = || {
        let all = if is_cached { rows::all(&moment, &settings)? } else { Rows::default() };
        Ok(((rows::newest(&moment)?, rows::data_version(&moment)?), all))
    };
    let (known, found) = read().map_err(to_store_error)?;
    Ok((settings, known, found))
}

impl View {
    /// Applies what has changed in the file since. Returns false if the file went back or was changed under another
    /// name.
    pub(super) fn catch_up(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let version = rows::data_version(connection)?;
        let newest = rows::newest(connection)?;
        if newest != self.known {
            if version == self.version || !rows::is_still(connection, &self.known)? {
                return Ok(false);
            }
            self.take_over(connection, newest)?;
        }
        self.version = version;
        Ok(true)
    }

    fn take_over(&mut self, connection: &Connection, newest: CommitMark) -> rusqlite::Result<()> {
        if !self.is_cached {
            return self.reload(connection, newest);
        }
        // Ids and digests may have changed hands, so removals come first, and entries that exist have the last word.
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for (id, digest) in rows::changed_since(connection, self.known.number)? {
            let Some(id) = id else {
                return self.reload(connection, newest);
            };
            let row = match id.parse() {
                Ok(id) => rows::one(connection, &self.settings, &id)?,
                Err(_) => return self.reload(connection, newest),
            };
            match (row, digest) {
                (Row::Found(record), digest) => {
                    gone.extend(digest.filter(|old| old != record.digest()).map(|old| (old, None)));
                    there.push((*record.digest(), Some(Entry::Record(record))));
                }
                (Row::Absent, Some(digest)) => gone.push((digest, None)),
                (Row::Unreadable(found, why), digest) => {
                    InvalidRow::report(&[InvalidRow { id, digest, why: why.clone() }], &self.report);
                    let digests = found.into_iter().chain(digest);
                    gone.extend(digests.map(|digest| (digest, Some(Entry::unreadable(digest, &why)))));
                }
                (Row::Absent, None) => return self.reload(connection, newest),
            }
        }
        self.index.publish(gone.into_iter().chain(there), None);
        self.known = newest;
        Ok(())
    }

    /// Reloads everything. The caller holds a transaction, so that it is consistent.
    pub(super) fn reload(&mut self, connection: &Connection, newest: CommitMark) -> rusqlite::Result<()> {
        // By settings of before, a key could do what its role no longer allows; so without settings there are no keys.
        let settings = schema::settings(connection, &self.own);
        self.settings = settings.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let Rows { entries, invalid } =
            if self.is_cached { rows::all(connection, &self.settings)? } else { Rows::default() };
        self.index.replace(entries, self.settings.directory.clone());
        InvalidRow::report(&invalid, &self.report);
        self.known = newest;
        Ok(())
    }
}
