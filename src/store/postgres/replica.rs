//! What keeps one replica true: the whole table in memory, and a lease without which it admits nobody.

use std::{cell::RefCell, collections::BTreeSet, future::poll_fn, rc::Rc, sync::Arc, time::Duration};

use futures::channel::oneshot;
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, Config, IsolationLevel, NoTls, Statement};

use crate::{
    Digest, Dimension,
    store::{
        StoreError, StoreSettings,
        index::{Index, Slot},
        postgres::{
            clock, failure,
            rows::{self, Broken, COLUMNS, Reader, digest_of},
        },
        report::Report,
    },
};

pub(super) struct Replica {
    pub(super) config: Config,
    pub(super) index: Arc<Index>,
    pub(super) own: Rc<RefCell<Vec<Dimension>>>,
    pub(super) report: Report,
    pub(super) lease: Duration,
    pub(super) serves_stale: bool,
    /// Of this process, drawn when it started: a process that takes its place must not vouch for it.
    pub(super) id: String,
    /// For people.
    pub(super) name: String,
    /// Rung when something has changed, as far as is known.
    pub(super) wake: Rc<Notify>,
    pub(super) state: RefCell<State>,
}

/// What is in memory.
pub(super) struct State {
    pub(super) settings: StoreSettings,
    /// The newest change that the index has in it, and what tells it from another of the same number.
    pub(super) version: i64,
    pub(super) change: String,
}

/// The lease, given together with the newest version. It is one statement, so that nobody who is paused holds the lock
/// against writers; the lease comes after the lock, whose row is then the newest.
const RENEWAL: &str = "
    WITH counter AS (SELECT version, change FROM authz_counter FOR SHARE),
    lease AS (
      INSERT INTO authz_replicas (id, name, applied, lease_until)
      SELECT $1, $2, $3, clock_timestamp() + $4 * interval '1 microsecond' FROM counter
      ON CONFLICT (id) DO UPDATE SET applied = greatest(authz_replicas.applied, excluded.applied),
        lease_until = excluded.lease_until
    )
    SELECT version, change,
      $3 = 0 OR EXISTS (SELECT 1 FROM authz_audit WHERE number = $3 AND authz_audit.change = $5)
    FROM counter";

/// Whatever the default of the database is: a statement that has waited for a lock sees what came before it.
pub(super) const ISOLATION: &str = "SET default_transaction_isolation = 'read committed'";

/// Why a replica stops for good.
const WENT_BACK: &str = "the database lacks a change that it had: it was restored or failed over to a standby that \
                         was behind; requests are refused until the program is restarted";

impl Replica {
    /// Reads everything, as it was at one moment.
    pub(super) async fn load(
        client: &mut Client,
        own: &[Dimension],
    ) -> Result<(State, Vec<(Digest, Slot)>, Vec<Broken>), StoreError> {
        let told = |error: tokio_postgres::Error| failure(&error);
        let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let moment = builder.start().await.map_err(told)?;
        let row = moment.query_one("SELECT version, change, settings FROM authz_counter", &[]).await.map_err(told)?;
        let settings = parse(row.get(2), own)?;
        let state = State { version: row.get(0), change: row.get(1), settings };
        let rows = moment.query(&format!("SELECT {COLUMNS} FROM authz_keys"), &[]).await.map_err(told)?;
        let (slots, broken) = rows::slots(&rows, &mut Reader::new(&state.settings.dimensions));
        Ok((state, slots, broken))
    }

    /// Holds the lease for as long as the process lives. `held` hears of the first.
    pub(super) async fn run(self: Rc<Self>, held: oneshot::Sender<Result<(), StoreError>>) {
        let mut held = Some(held);
        let mut told = false;
        loop {
            let error = match self.serve(&mut held, &mut told).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if let Some(held) = held.take() {
                let _ = held.send(Err(error));
                return;
            }
            if !told {
                (self.report)(&format!(
                    "the key store is out of reach, requests are refused when the lease ends: {error}"
                ));
                told = true;
            }
            tokio::time::sleep((self.lease / 8).min(Duration::from_secs(1))).await;
        }
    }

    /// One connection, until it fails; done only if the replica may never serve again.
    async fn serve(
        &self,
        held: &mut Option<oneshot::Sender<Result<(), StoreError>>>,
        told: &mut bool,
    ) -> Result<(), StoreError> {
        let client = connect(&self.config, Some(Rc::clone(&self.wake))).await?;
        let prepared = async {
            client.batch_execute(&format!("{ISOLATION}; LISTEN authz")).await?;
            client.prepare(RENEWAL).await
        };
        let prepared = tokio::time::timeout(self.lease, prepared).await;
        let renewal = prepared.map_err(|_| silence())?.map_err(|error| failure(&error))?;
        loop {
            let renewed = tokio::time::timeout(self.lease, self.renew(&client, &renewal)).await;
            // An answer that comes later is for a question that nobody asks any more: the connection goes with it.
            let going_on = renewed.map_err(|_| silence())??;
            if !going_on {
                self.index.set_stale(true);
                (self.report)(WENT_BACK);
                return Ok(());
            }
            if let Some(held) = held.take() {
                let _ = held.send(Ok(()));
            }
            if std::mem::take(told) {
                (self.report)("the key store is in reach again");
            }
            let _ = tokio::time::timeout(self.lease / 4, self.wake.notified()).await;
        }
    }

    /// Asks for the lease. Whoever changes something comes either before, and is heard of here, or after, and finds
    /// the lease. False if the database has lost something.
    async fn renew(&self, client: &Client, renewal: &Statement) -> Result<bool, StoreError> {
        let told = |error: tokio_postgres::Error| failure(&error);
        let (known, known_change) = {
            let state = self.state.borrow();
            (state.version, state.change.clone())
        };
        let micros = i64::try_from(self.lease.as_micros()).unwrap_or(i64::MAX) as f64;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&self.id, &self.name, &known, &micros, &known_change];
        let asked = clock::now();
        let row = client.query_one(renewal, &values).await.map_err(told)?;
        let (version, change, is_there): (i64, String, bool) = (row.get(0), row.get(1), row.get(2));
        if !is_there || version < known {
            return Ok(false);
        }
        // First what has changed, then the lease: a request that finds the lease finds the changes. What is read here
        // may be newer than the lease, which does no harm.
        if version != known {
            let changed = self.changes(client, known).await?;
            self.index.publish(changed);
            let mut state = self.state.borrow_mut();
            (state.version, state.change) = (version, change);
        }
        let deadline = if self.serves_stale { u64::MAX } else { clock::deadline(asked, self.lease) };
        self.index.set_deadline(deadline);
        if version != known {
            let applied = "UPDATE authz_replicas SET applied = greatest(applied, $2) WHERE id = $1";
            client.execute(applied, &[&self.id, &version]).await.map_err(told)?;
        }
        Ok(true)
    }

    /// What look-ups have to find from now on.
    async fn changes(&self, client: &Client, since: i64) -> Result<Vec<(Digest, Option<Slot>)>, StoreError> {
        let told = |error: tokio_postgres::Error| failure(&error);
        let sql = "SELECT DISTINCT key_id, digest FROM authz_audit WHERE number > $1";
        let changed = client.query(sql, &[&since]).await.map_err(told)?;
        let ids: BTreeSet<String> = changed.iter().filter_map(|row| row.get::<_, Option<String>>(0)).collect();
        if changed.iter().any(|row| row.get::<_, Option<String>>(0).is_none()) {
            let row = client.query_one("SELECT settings FROM authz_counter", &[]).await.map_err(told)?;
            let settings = parse(row.get(0), &self.own.borrow())?;
            self.index.set_directory(settings.directory.clone());
            self.state.borrow_mut().settings = settings;
        }
        let dimensions = self.state.borrow().settings.dimensions.clone();
        let ids: Vec<String> = ids.into_iter().collect();
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = ANY($1)");
        let rows = client.query(&sql, &[&ids]).await.map_err(told)?;
        let (there, broken) = rows::slots(&rows, &mut Reader::new(&dimensions));
        self.tell_broken(&broken);
        // What is gone comes first, so that what is there has the last word.
        let gone = changed.iter().filter_map(|row| Some((digest_of(row, 1)?, None)));
        let stays: BTreeSet<[u8; 32]> = there.iter().map(|(digest, _)| *digest.as_bytes()).collect();
        let gone = gone.filter(|(digest, _)| !stays.contains(digest.as_bytes()));
        Ok(gone.chain(there.into_iter().map(|(digest, slot)| (digest, Some(slot)))).collect())
    }

    pub(super) fn tell_broken(&self, broken: &[Broken]) {
        for Broken { id, why, .. } in broken {
            (self.report)(&format!("the record of key {id} cannot be read, and admits nobody: {why}"));
        }
    }

    /// Gives the lease back: nobody has to wait for a replica that is gone.
    pub(super) async fn release(&self) {
        self.index.set_stale(true);
        let goodbye = async {
            let client = connect(&self.config, None).await?;
            let sql = "DELETE FROM authz_replicas WHERE id = $1";
            client.execute(sql, &[&self.id]).await.map_err(|error| failure(&error))
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await; // else the lease runs out
    }
}

pub(super) fn parse(text: &str, own: &[Dimension]) -> Result<StoreSettings, StoreError> {
    StoreSettings::parse(text, own)
        .map_err(|error| StoreError::unavailable(format!("the settings of the store cannot be read: {error}")))
}

fn silence() -> StoreError {
    StoreError::unavailable("the database does not answer")
}

/// Has the database end a transaction in whose midst nothing more is heard: it has locked others out, and whoever is
/// paused or cut off there would do so for ever.
pub(super) fn impatience(patience: Duration) -> String {
    format!("SET idle_in_transaction_session_timeout = {}", patience.as_millis().max(1))
}

/// A connection, driven by a task of its own. Notifications ring the bell.
pub(super) async fn connect(config: &Config, wake: Option<Rc<Notify>>) -> Result<Client, StoreError> {
    // The configured time is for the network alone, and for each host: a database may accept and then say nothing.
    let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(1).max(1);
    let patience = config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(5)).saturating_mul(hosts);
    let connected = tokio::time::timeout(patience, config.connect(NoTls)).await.map_err(|_| silence())?;
    let (client, mut connection) = connected.map_err(|error| failure(&error))?;
    tokio::task::spawn_local(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let (AsyncMessage::Notification(_), Some(wake)) = (message, &wake) {
                wake.notify_one();
            }
        }
        if let Some(wake) = wake {
            // Whoever waits learns that the connection is gone.
            wake.notify_one();
        }
    });
    Ok(client)
}
