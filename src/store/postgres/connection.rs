//! How the database is reached.

use std::{future::poll_fn, pin::pin, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage,
    config::{Host, SslMode},
    error::SqlState,
};

use crate::store::StoreError;

/// Where the database is, and how it proves that it is the one.
#[derive(Clone)]
pub(super) struct ConnectOptions {
    config: Config,
    #[cfg(feature = "postgres-tls")]
    tls: Option<tokio_postgres_rustls::MakeRustlsConnect>,
}

/// Set whatever the default of the database is: a statement that has waited for a lock sees what came before it.
pub(super) const ISOLATION: &str = "SET default_transaction_isolation = 'read committed'";

impl ConnectOptions {
    /// Reads an address. `roots` are the certificates, as PEM, that vouch for the database, if not those of the system.
    pub(super) fn parse(url: &str, roots: Option<&[u8]>) -> Result<Self, StoreError> {
        // To us both are the same: a certificate that is not looked at proves nothing.
        let url = url.replace("sslmode=verify-full", "sslmode=require");
        // The text may hold a password: it is not repeated.
        let mut config: Config = url.parse().map_err(|_| {
            StoreError::invalid(
                "the address of the database is malformed; write postgres://user@host/database?sslmode=require",
            )
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        // A server that lost its power says nothing any more, and by itself TCP waits for a quarter of an hour.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(10));
        }
        if config.get_keepalives_idle() >= Duration::from_secs(7200) {
            config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(3));
            config.keepalives_retries(3);
        }
        let encrypted = match config.get_ssl_mode() {
            SslMode::Disable => false,
            // "If the other side likes to": anybody in between could say that it does not.
            SslMode::Prefer if is_on_this_machine(&config) => {
                config.ssl_mode(SslMode::Disable);
                false
            }
            SslMode::Prefer => {
                return Err(StoreError::invalid(
                    "the database is on another machine: say sslmode=require in its address, or sslmode=disable if the \
                     network in between is yours alone",
                ));
            }
            _ => true,
        };
        if roots.is_some() && !encrypted {
            return Err(StoreError::invalid("certificates are given, but the address does not say sslmode=require"));
        }
        #[cfg(feature = "postgres-tls")]
        return Ok(Self { config, tls: if encrypted { Some(super::tls::connector(roots)?) } else { None } });
        #[cfg(not(feature = "postgres-tls"))]
        match encrypted {
            true => Err(StoreError::invalid("sslmode: this program was built without the feature postgres-tls")),
            false => Ok(Self { config }),
        }
    }

    /// A connection, driven by a task of its own. Notifications ring the bell.
    pub(super) async fn connect(&self, wake: Option<Rc<Notify>>) -> Result<Client, StoreError> {
        #[cfg(feature = "postgres-tls")]
        if let Some(tls) = &self.tls {
            let (client, connection) = self.patiently(self.config.connect(tls.clone())).await?;
            tokio::task::spawn_local(drive(connection, wake));
            return Ok(client);
        }
        let (client, connection) = self.patiently(self.config.connect(NoTls)).await?;
        tokio::task::spawn_local(drive(connection, wake));
        Ok(client)
    }

    async fn patiently<T>(
        &self,
        connecting: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        // The configured time is for the network alone, and for each host: a database may accept and then say nothing.
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(1).max(1);
        let patience = self.config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(5));
        let connected = tokio::time::timeout(patience.saturating_mul(hosts), connecting).await;
        connected.map_err(|_| silence())?.map_err(to_store_error)
    }
}

fn is_on_this_machine(config: &Config) -> bool {
    let is_local = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_local) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

async fn drive<S, T>(mut connection: Connection<S, T>, wake: Option<Rc<Notify>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(_), Some(wake)) = (message, &wake) {
            wake.notify_one();
        }
    }
    if let Some(wake) = wake {
        // The task that waits learns that the connection is gone.
        wake.notify_one();
    }
}

/// A pooler that gives every transaction another session forgets what a session has said of itself: how its
/// transactions are isolated, and what it listens to.
///
/// Of the sessions that nobody uses, some poolers give out the one that was used last, others the one that has waited
/// longest: so `client` asks for its own while `other` has one too, after both have given theirs back in either order, and
/// twice on end. All of it happens twice, for those that give out any.
pub(super) async fn assert_own_session(client: &Client, other: &Client) -> Result<(), StoreError> {
    let own = answered(session(client, "SELECT pg_backend_pid()")).await?;
    for (first, last) in [(client, other), (other, client), (client, other), (other, client)] {
        let mut seen = vec![answered(session(client, "BEGIN; SELECT pg_backend_pid()")).await?];
        let mut begun = pin!(other.batch_execute("BEGIN; SELECT 1"));
        match tokio::time::timeout(PATIENCE, begun.as_mut()).await {
            Ok(begun) => begun.map_err(to_store_error)?,
            Err(_) => {
                // One that has a single session waits for this.
                answered(client.batch_execute("ROLLBACK")).await?;
                answered(begun).await?;
                return Err(pooler());
            }
        }
        answered(first.batch_execute("ROLLBACK")).await?;
        answered(last.batch_execute("ROLLBACK")).await?;
        for _ in 0..2 {
            seen.push(answered(session(client, "SELECT pg_backend_pid()")).await?);
        }
        if own.is_none() || seen.iter().any(|seen| *seen != own) {
            return Err(pooler());
        }
    }
    Ok(())
}

/// How long each answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

async fn answered<T>(answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| silence())?;
    answer.map_err(to_store_error)
}

fn pooler() -> StoreError {
    StoreError::invalid(
        "there is a pooler in between that gives each transaction another session; connect to PostgreSQL itself, or to a \
         pooler in session mode",
    )
}

/// The number of the process that serves a session: never that of another session which lives at the same time.
async fn session(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Has the database end a transaction in whose midst nothing more is heard: it has locked others out, and whoever is
/// paused or cut off there would do so for ever.
pub(super) fn statement_timeouts(patience: Duration) -> String {
    format!("SET idle_in_transaction_session_timeout = {}", patience.as_millis().max(1))
}

pub(super) fn silence() -> StoreError {
    StoreError::unavailable("the database does not answer")
}

/// A standby says so too, but that is asked before anything is written.
fn read_only() -> StoreError {
    StoreError::unavailable(
        "the database takes no changes: it is a standby, or its setting default_transaction_read_only is on for this user \
         or database",
    )
}

pub(super) fn no_counter() -> StoreError {
    StoreError::unavailable("the row of authz_counter is missing; restore the database")
}

pub(super) fn standby() -> StoreError {
    StoreError::unavailable("the database is a standby, which may be behind; connect to the primary")
}

/// An error in one line for the person in front of it.
pub(super) fn to_store_error(error: tokio_postgres::Error) -> StoreError {
    let Some(database_error) = error.as_db_error() else {
        if error.to_string().contains("unexpected number of rows") {
            return no_counter();
        }
        // The cause stands in the sources of the error: an untrusted certificate, for example.
        let source = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        return StoreError::unavailable(format!("{error}{source}"));
    };
    match *database_error.code() {
        SqlState::UNDEFINED_TABLE if database_error.message().contains("authz_counter") => {
            StoreError::not_found("the database has no key store; `authz init` makes one")
        }
        SqlState::UNIQUE_VIOLATION if database_error.constraint() == Some("authz_audit_pkey") => {
            StoreError::unavailable(
                "the audit log is newer than the counter: restore the whole database, not single tables",
            )
        }
        SqlState::UNIQUE_VIOLATION => StoreError::conflict("another key has the same id or digest; try again"),
        SqlState::LOCK_NOT_AVAILABLE | SqlState::T_R_DEADLOCK_DETECTED => StoreError::unavailable(
            "another transaction of the database holds a row that is to be changed; nothing was changed, try again",
        ),
        SqlState::READ_ONLY_SQL_TRANSACTION => read_only(),
        _ if database_error.message().contains("statement pooling") => pooler(),
        _ => StoreError::unavailable(database_error.message().to_owned()),
    }
}

/// In microseconds, to be multiplied with an interval in SQL.
pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;

    #[test]
    fn an_address_on_another_machine_says_whether_it_is_encrypted() {
        for local in ["postgres://a@localhost/b", "postgres://a@127.0.0.1", "host=/run user=a", "host=::1 user=a"] {
            assert!(ConnectOptions::parse(local, None).is_ok(), "{local}");
        }
        for remote in [
            "postgres://a@db/b",
            "postgres://a@10.0.0.1/b?sslmode=prefer",
            "host=/run,db",
            "host=localhost hostaddr=10.0.0.1",
        ] {
            let error = ConnectOptions::parse(remote, None).err().unwrap();
            assert_eq!(error.kind(), StoreErrorKind::Invalid);
            assert!(error.to_string().contains("sslmode=require"), "{remote}: {error}");
        }
        assert!(ConnectOptions::parse("postgres://a@db/b?sslmode=disable", None).is_ok());
        for encrypted in ["postgres://a@db/b?sslmode=require", "postgres://a@localhost/b?sslmode=verify-full"] {
            let connect_options = ConnectOptions::parse(encrypted, None);
            assert_eq!(connect_options.is_ok(), cfg!(feature = "postgres-tls"), "{encrypted}");
            assert!(
                !connect_options.is_ok_and(|connect_options| connect_options.config.get_ssl_mode() != SslMode::Require)
            );
        }
        let error = ConnectOptions::parse("postgres://a:secret@db/b?what=ever", None).err().unwrap();
        assert!(!error.to_string().contains("secret"));
    }
}
