//! The thread that owns the connection: it applies changes, answers administrative reads, and follows the changes of
//! other processes.

use std::{
    fs::File,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use futures::channel::oneshot;
use rusqlite::{Connection, TransactionBehavior, config::DbConfig, ffi};

use crate::{
    clock,
    directory::Directory,
    key::{Digest, KeyId},
    store::{
        Found, StoreError,
        change::{ActorInfo, Applied, Change},
        counts::{Counts, Tally},
        index::{Index, MarkStaleOnDrop},
        lifecycle::{self, Plan, plan},
        row::{InvalidRow, Rows},
        source::Row,
        sqlite::{
            SqliteOptions, counted,
            identity::{Identity, IsLocked, Stamp},
            rows::{self, SqliteKeySource},
            schema::{self, is_busy, to_store_error},
            view::{View, read_all},
        },
        usage,
    },
};

/// How often the file is polled for changes of other processes.
const TICK: Duration = Duration::from_millis(200);
/// How often uses are stored.
const FLUSH: Duration = Duration::from_secs(20);
/// The fault of a file that is no longer served.
const WENT_BACK: &str = "the file lacks a change that it had, or has one that never was in its journal: it was restored, \
                         written over, or changed by another name, and keys that were revoked since may be live in it; \
                         restart every program that has it open to serve it as it is";
/// How long a change waits for the write lock.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it tries to get it.
const RETRY: Duration = Duration::from_millis(2);

/// A task for the thread.
pub(super) type Job = Box<dyn FnOnce(&mut Worker) + Send>;

pub(super) struct Worker {
    pub(super) connection: Connection,
    pub(super) view: View,
    file: Identity,
    stamp: Stamp,
    stale_after: Duration,
    failing_since: Option<Instant>,
    /// Whether the file was missing or another one at the last check.
    was_away: bool,
    next_tick: Instant,
    next_flush: Instant,
    used_since: SystemTime,
    /// The followers that wait for an audit record after this number.
    followers: Vec<(i64, oneshot::Sender<()>)>,
}

/// The result of polling for changes.
enum Looked {
    /// The index is up to date.
    Current,
    /// Another process holds an exclusive lock.
    Locked,
}

impl Worker {
    /// Reads the whole file, and checks its integrity.
    pub(super) fn new(
        connection: Connection,
        file: Identity,
        SqliteOptions { own, report, stale_after, is_cached }: SqliteOptions,
    ) -> Result<Self, StoreError> {
        let asked = clock::now();
        // Both read the whole file, in parallel.
        let (settings, (known, version), Rows { entries, invalid }) = thread::scope(|scope| {
            if !is_cached {
                return read_all(&connection, &own, is_cached);
            }
            let check = thread::Builder::new().spawn_scoped(scope, || schema::check(&file.path));
            let check = check.map_err(|error| StoreError::unavailable(error.to_string()))?;
            let read = read_all(&connection, &own, is_cached);
            check.join().map_err(|_| StoreError::unavailable("the check of the file has failed"))??;
            read
        })?;
        // Look-ups do not need the cached pages.
        let _ = connection.execute_batch("PRAGMA shrink_memory");
        let index = Arc::new(Index::new(entries, settings.directory.clone()));
        let view = View { index, settings, own, known, version, is_cached, report };
        InvalidRow::report(&invalid, &view.report);
        let unsure = |why: String| StoreError::unavailable(format!("{}: {why}", file.path.display()));
        file.check_opened(connection.path()).map_err(unsure)?;
        let file = file.clone().with_companions().map_err(unsure)?;
        // The file must still be the one that was opened.
        let stamp = file.check().and_then(|()| file.stamp()).map_err(unsure)?;
        let now = Instant::now();
        let worker = Self {
            connection,
            view,
            stamp,
            file,
            stale_after,
            failing_since: None,
            was_away: false,
            next_tick: now + TICK,
            next_flush: now + FLUSH,
            used_since: a_second_before(SystemTime::now()),
            followers: Vec::new(),
        };
        worker.renew(asked);
        Ok(worker)
    }

    /// Runs until the last handle of the store is dropped.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let _guard = MarkStaleOnDrop(Arc::clone(&self.view.index));
        let patient = self.connection.busy_timeout(Duration::from_millis(50));
        if let Err(error) = patient {
            (self.view.report)(&format!("the key store cannot be set up: {error}"));
            return;
        }
        // To read the file may have taken longer than look-ups are answered by what was read.
        self.tick();
        loop {
            match jobs.recv_timeout(self.next_tick.saturating_duration_since(Instant::now())) {
                Ok(job) => job(&mut self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= self.next_tick {
                self.tick();
            }
        }
        self.end();
    }

    /// Stores the last uses, unless the file is in doubt. Then the connection must not checkpoint when it closes: that
    /// would overwrite what others have changed since, or remove their journal.
    fn end(&mut self) {
        let _ = self.connection.busy_timeout(PATIENCE);
        let written = match self.look() {
            Ok(_) => self.flush(PATIENCE),
            Err(why) => {
                let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                Err(StoreError::unavailable(why))
            }
        };
        if let Err(error) = written {
            (self.view.report)(&format!("when keys were last used could not be written down: {error}"));
        }
    }

    /// Polls for changes, and checks that the file is still the one that was opened.
    fn look(&mut self) -> Result<Looked, String> {
        if let Err(why) = self.file.check() {
            self.was_away = true;
            return Err(why);
        }
        if self.was_away {
            // A change that was made meanwhile was made under another name, even if `data_version` has moved for
            // another reason.
            self.view.version =
                rows::data_version(&self.connection).map_err(|error| to_store_error(error).to_string())?;
            self.was_away = false;
        }
        match self.catch_up() {
            Err(error) if is_busy(&error) => Ok(Looked::Locked),
            Err(error) => Err(to_store_error(error).to_string()),
            Ok(true) => self.look_at_disk().map(|()| Looked::Current),
            Ok(false) => Err(WENT_BACK.to_owned()),
        }
    }

    /// Polls for changes of other processes. A locked file keeps the index as it is; a file that cannot be read for a
    /// while makes it stale.
    fn tick(&mut self) {
        let asked = clock::now();
        let looked = self.look();
        let now = Instant::now();
        // Nothing is written to a file that is in doubt: it would overwrite what others have changed.
        let may_write = looked.is_ok();
        if looked.is_ok() {
            self.renew(asked);
        }
        match looked {
            Ok(Looked::Locked) => {}
            Ok(Looked::Current) => {
                self.failing_since = None;
                if self.view.index.is_stale() {
                    (self.view.report)("the key store can be read again");
                    self.view.index.set_stale(false);
                }
            }
            Err(why) => {
                let since = *self.failing_since.get_or_insert(now);
                if now.duration_since(since) >= self.stale_after && !self.view.index.is_stale() {
                    self.view.index.set_stale(true);
                    (self.view.report)(&format!("the key store cannot be read, requests are refused: {why}"));
                }
            }
        }
        self.tell_followers(!may_write);
        // Checkpoint again what a reader or a full disk has kept in the journal.
        if may_write && self.file.journal() > 0 {
            self.checkpoint();
        }
        if may_write && now >= self.next_flush {
            self.next_flush = now + FLUSH;
            // Uses that were not stored are retried at the next flush.
            if let Err(error) = self.flush(TICK / 4) {
                (self.view.report)(&format!("when keys were last used could not be written down: {error}"));
            }
        }
        self.next_tick = Instant::now() + TICK;
    }

    /// Has somebody told when there is an audit record after this number.
    pub(super) fn follow(&mut self, number: u64, follower: oneshot::Sender<()>) {
        self.followers.push((i64::try_from(number).unwrap_or(i64::MAX), follower));
        self.tell_followers(false);
    }

    /// Tells those for whom there is something new; all of them if the file is in doubt, so that they ask and hear of it.
    fn tell_followers(&mut self, all: bool) {
        let known = self.view.known.number;
        let is_waiting = |after: i64, follower: &oneshot::Sender<()>| !all && after >= known && !follower.is_canceled();
        let followers = std::mem::take(&mut self.followers);
        let (waiting, told): (Vec<_>, Vec<_>) =
            followers.into_iter().partition(|(after, follower)| is_waiting(*after, follower));
        self.followers = waiting;
        told.into_iter().for_each(|(_, follower)| {
            let _ = follower.send(()); // who waited may be gone
        });
    }

    /// Extends the time for which look-ups are answered without another poll, so that a process that was paused polls
    /// first. It exceeds `stale_after`, so that a fault is reported before requests are refused.
    ///
    /// It counts from before the poll: a process that was paused in the middle of one knows what was true then.
    fn renew(&self, asked: u64) {
        self.view.index.set_deadline(deadline(asked, self.stale_after));
    }

    /// Applies the changes of others, read in one transaction.
    fn catch_up(&mut self) -> rusqlite::Result<bool> {
        // A read transaction needs no commit: dropping it ends it.
        let moment = self.connection.unchecked_transaction()?;
        self.view.catch_up(&moment)
    }

    /// Checks that the file on disk is what this process knows. A connection caches pages, and cannot notice a file
    /// that is overwritten without SQLite.
    fn look_at_disk(&mut self) -> Result<(), String> {
        let stamp = self.file.stamp()?;
        if !stamp.follows(&self.stamp) {
            match self.is_as_known() {
                Ok(true) => {}
                Ok(false) => return Err(WENT_BACK.to_owned()),
                Err(error) if is_busy(&error) => return Ok(()),
                Err(error) => return Err(to_store_error(error).to_string()),
            }
        }
        self.stamp = stamp;
        Ok(())
    }

    /// Whether a fresh connection, which caches nothing, finds the known change, and no other that was not committed
    /// through the journal of this process. The order matters: a commit in between moves `data_version`.
    fn is_as_known(&self) -> rusqlite::Result<bool> {
        let fresh = schema::connect(&self.file.path)?;
        Ok(rows::is_still(&fresh, &self.view.known)?
            && (rows::newest(&fresh)? == self.view.known || rows::data_version(&self.connection)? != self.view.version))
    }

    /// Checkpoints the journal into the file and truncates it, so that removing the journal, or opening the file under
    /// another name, loses no change. If it fails, because of a reader or a full disk, the change stays in the journal,
    /// as durable as before, and a later checkpoint moves it.
    fn checkpoint(&self) {
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Returns an error if the file is not the one that was opened.
    pub(super) fn is_there(&self) -> Result<(), StoreError> {
        self.file.check().map_err(StoreError::unavailable)
    }

    /// Stores when keys were last used, and how often.
    pub(super) fn flush(&mut self, patience: Duration) -> Result<(), StoreError> {
        let counted = self.view.index.counts().map(Counts::take).unwrap_or_default();
        let written = self.write_uses(&counted, patience);
        if let (Err(_), Some(counts)) = (&written, self.view.index.counts()) {
            counts.give_back(counted);
        }
        written
    }

    fn write_uses(&mut self, counted: &[(KeyId, Tally)], patience: Duration) -> Result<(), StoreError> {
        let until = SystemTime::now();
        let used = self.view.index.used_since(self.used_since);
        if !used.is_empty() || !counted.is_empty() {
            let _turn = self.lock_folder(patience).map_err(to_store_error)?;
            let behavior = TransactionBehavior::Immediate;
            let transaction = self.connection.transaction_with_behavior(behavior).map_err(to_store_error)?;
            rows::put_uses(&transaction, &used)?;
            counted::put_counts(&transaction, counted)?;
            counted::forget_counts(&transaction, usage::day(until).saturating_sub(usage::KEPT_DAYS))?;
            transaction.commit().map_err(to_store_error)?;
            self.checkpoint();
        }
        self.used_since = a_second_before(until);
        Ok(())
    }

    /// Applies a change. It is durable, and visible to every look-up, when this returns.
    pub(super) fn apply(&mut self, who: &ActorInfo, change: Change) -> Result<Applied, StoreError> {
        self.is_as_it_was()?;
        let deadline = Instant::now() + PATIENCE;
        let _turn = loop {
            match self.take_turn() {
                Ok(turn) => break turn,
                Err(error) if !is_busy(&error) || Instant::now() >= deadline => return Err(to_store_error(error)),
                // Another process writes: follow its changes meanwhile.
                Err(_) if Instant::now() >= self.next_tick => self.tick(),
                Err(_) => thread::sleep(RETRY),
            }
        };
        let applied = self.apply_in_turn(who, change);
        if applied.is_err() {
            // Roll back. A failed commit may have done so already.
            let _ = self.connection.execute_batch("ROLLBACK");
            return applied;
        }
        self.checkpoint();
        self.tell_followers(false);
        self.is_there().map_err(|error| {
            let message = format!("the change is made, and may be lost ({error}); look whether it is there");
            StoreError::unavailable(message)
        })?;
        applied
    }

    fn is_as_it_was(&mut self) -> Result<(), StoreError> {
        self.file.check().and_then(|()| self.look_at_disk()).map_err(StoreError::unavailable)
    }

    /// The result of a look-up that reads the file.
    pub(super) fn by_digest(&mut self, digest: &Digest) -> Result<(Found, Directory), StoreError> {
        self.is_there()?;
        let moment = self.connection.unchecked_transaction().map_err(to_store_error)?;
        let settings = schema::settings(&moment, &self.view.own)?;
        let found = match rows::by_digest(&moment, &settings, digest).map_err(to_store_error)? {
            Row::Found(record) => Ok(Some(record)),
            Row::Absent => Ok(None),
            Row::Unreadable(_, why) => Err(StoreError::unreadable(why)),
        };
        Ok((found, settings.directory))
    }

    /// Begins to write, with the lock of the directory and that of SQLite.
    fn take_turn(&self) -> rusqlite::Result<Option<File>> {
        let folder = self.lock_folder(Duration::ZERO)?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(folder)
    }

    fn lock_folder(&self, patience: Duration) -> rusqlite::Result<Option<File>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.file.try_lock() {
                Ok(folder) => return Ok(folder),
                Err(IsLocked) if Instant::now() < deadline => thread::sleep(RETRY),
                Err(IsLocked) => return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
            }
        }
    }

    fn apply_in_turn(&mut self, who: &ActorInfo, change: Change) -> Result<Applied, StoreError> {
        // While this process waited, the file may have been moved, and changed under another name.
        self.is_as_it_was()?;
        if !self.view.catch_up(&self.connection).map_err(to_store_error)? {
            return Err(StoreError::unavailable(WENT_BACK));
        }
        // The index is up to date, and no other process can change anything while this one holds the write lock, however
        // long the change takes.
        self.view.index.set_deadline(u64::MAX);
        let applied = self.write(who, change);
        if applied.is_err() {
            // Nothing was committed, so this process still holds the lock.
            self.renew(clock::now());
        }
        applied
    }

    /// Writes a change, commits it, and publishes it.
    fn write(&mut self, who: &ActorInfo, change: Change) -> Result<Applied, StoreError> {
        let Self { connection, view, stale_after, .. } = self;
        // Tell the triggers that these changes are not made by hand.
        connection.execute_batch("UPDATE writer SET busy = 1").map_err(to_store_error)?;
        let now = SystemTime::now();
        let tables = SqliteKeySource { connection, settings: &view.settings };
        let Plan { edits, settings, prune, applied } = plan(who, change, &tables, &view.settings, now)?;
        prune.map_or(Ok(()), |before| rows::prune(connection, before))?;
        for edit in &edits {
            rows::write(connection, edit, now, who)?;
        }
        if let Some(settings) = &settings {
            let text = settings.to_json().map_err(|error| StoreError::invalid(error.to_string()))?;
            connection
                .execute("UPDATE settings SET value = ?1 WHERE name = 'settings'", [text])
                .map_err(to_store_error)?;
        }
        let newest = rows::newest(connection).map_err(to_store_error)?;
        let asked = clock::now();
        connection.execute_batch("UPDATE writer SET busy = 0; COMMIT").map_err(to_store_error)?;
        // From here on others may write: a process that is paused now looks at the file before it admits anybody.
        view.index.set_deadline(deadline(asked, *stale_after));
        let as_known = !view.is_cached || edits.iter().all(|edit| view.index.holds_state_before(edit));
        let directory = settings.as_ref().map(|settings| settings.directory.clone());
        let expanded = match &settings {
            Some(settings) if settings.roles != view.settings.roles => view.index.expanded(&settings.roles),
            _ => Vec::new(),
        };
        view.index.publish(lifecycle::entries(&edits).filter(|_| view.is_cached).chain(expanded), directory);
        if let Some(settings) = settings {
            view.settings = settings;
        }
        if as_known {
            view.known = newest;
        } else {
            // The index differs from the file, so reload all of it. The change is committed; if the reload fails, deny
            // everything.
            let moment = connection.unchecked_transaction();
            if let Err(error) = moment.and_then(|moment| view.reload(&moment, newest)) {
                view.index.set_stale(true);
                (view.report)(&format!("the key store cannot be read, requests are refused: {error}"));
            }
        }
        Ok(applied)
    }
}

/// Until when look-ups are answered by what was true at `asked`.
fn deadline(asked: u64, stale_after: Duration) -> u64 {
    let nanos = u64::try_from((stale_after + 3 * TICK).as_nanos()).unwrap_or(u64::MAX);
    asked.saturating_add(nanos)
}

/// Uses are recorded in whole seconds: a use within this second has the time of its beginning.
fn a_second_before(time: SystemTime) -> SystemTime {
    time.checked_sub(Duration::from_secs(1)).unwrap_or(time)
}
