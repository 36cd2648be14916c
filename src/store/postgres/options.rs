//! How a PostgreSQL store is opened.

use std::{fmt, time::Duration};

use crate::{
    dimension::Dimension,
    store::{
        PostgresStore, StoreError, StoreSettings,
        postgres::{connection::ConnectOptions, schema, thread},
        report::{self, Report},
    },
};

/// How a PostgreSQL store is opened, where the defaults are not enough.
///
/// # Example
/// ```no_run
/// # async fn open() -> Result<(), tower_authz::store::StoreError> {
/// use std::time::Duration;
/// use tower_authz::store::PostgresOptions;
///
/// let options = PostgresOptions::new().name("eu-1").lease(Duration::from_secs(1));
/// let store = options.connect("postgres://app@localhost/app").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until a store is opened"]
pub struct PostgresOptions {
    pub(super) own: Vec<Dimension>,
    pub(super) report: Report,
    pub(super) lease: Duration,
    pub(super) stale: bool,
    pub(super) uncached: bool,
    pub(super) name: String,
    roots: Option<Vec<u8>>,
}

impl PostgresOptions {
    /// The defaults.
    pub fn new() -> Self {
        let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "replica".to_owned());
        Self {
            own: Vec::new(),
            report: report::standard(),
            lease: Duration::from_secs(2),
            stale: false,
            uncached: false,
            name: format!("{name}/{}", std::process::id()),
            roots: None,
        }
    }

    /// A dimension whose grammar is a function of yours; no database can hold that.
    pub fn dimension(mut self, dimension: Dimension) -> Self {
        self.own.push(dimension);
        self
    }

    /// Sets the function that hears of records that cannot be read, and of a database out of reach. Default: the log, with
    /// the feature `tracing`; else standard error.
    pub fn on_fault(mut self, report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.report = report::to(report);
        self
    }

    /// How long a change waits at most for this replica, when it is paused, cut off or dead. Default: 2 seconds; at
    /// least 100 milliseconds. The replica itself admits for two thirds of it without hearing from the database: the
    /// rest is for clocks that differ.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// Goes on admitting by what was last known when the lease has run out, without end. **A key that is revoked
    /// meanwhile is admitted here**: `revoke()` on another replica returns all the same. Only for those to whom an
    /// outage of the database is worse than that.
    pub const fn dangerously_serve_stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// Keeps no keys in memory and holds no lease: every look-up asks the database. For command lines and jobs, which
    /// change keys and end; a server would make each of its requests wait, and those in flight would not hear that
    /// their key was revoked.
    pub const fn uncached(mut self) -> Self {
        self.uncached = true;
        self
    }

    /// Sets the name of this replica. Default: the host's name and the number of the process.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The certificates, as PEM, one of which has to vouch for the database. Default: those of the system. Only with
    /// `sslmode=require` in the address.
    #[cfg(feature = "postgres-tls")]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// As [`PostgresStore::create`].
    ///
    /// # Errors
    /// The same.
    pub async fn create(mut self, url: &str, settings: impl Into<StoreSettings>) -> Result<PostgresStore, StoreError> {
        let connect_options = self.connect_options(url)?;
        let settings = settings.into();
        self.own.extend(settings.dimensions.iter().cloned());
        let text = schema::settings_text(&settings, &self.own)?;
        let create = move || async move { schema::create(&mut connect_options.connect(None).await?, &text).await };
        thread::apart(create).await?;
        self.connect(url).await
    }

    /// As [`PostgresStore::connect`].
    ///
    /// # Errors
    /// The same.
    pub async fn connect(self, url: &str) -> Result<PostgresStore, StoreError> {
        let connect_options = self.connect_options(url)?;
        thread::open(self, connect_options).await
    }

    /// As [`PostgresStore::migrate`].
    ///
    /// # Errors
    /// The same.
    pub async fn migrate(self, url: &str) -> Result<u32, StoreError> {
        let connect_options = self.connect_options(url)?;
        thread::apart(move || async move { schema::migrate(&mut connect_options.connect(None).await?).await }).await
    }

    fn connect_options(&self, url: &str) -> Result<ConnectOptions, StoreError> {
        ConnectOptions::parse(url, self.roots.as_deref())
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("lease", &self.lease).field("name", &self.name).finish_non_exhaustive()
    }
}
