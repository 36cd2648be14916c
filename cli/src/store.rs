//! Opens the store that the command line names.

use std::path::{Path, PathBuf};

use serde_json::json;
#[cfg(feature = "postgres")]
use tower_authz::store::PostgresOptions;
use tower_authz::store::{KeyAdmin, KeyStore, SqliteOptions, SqliteStore, StoreSettings};

use crate::{Failure, args, output, settings};

/// A store whose keys can be looked up and changed.
pub(crate) trait Store: KeyStore + KeyAdmin {}

impl<T: KeyStore + KeyAdmin> Store for T {}

pub(crate) enum StoreUrl {
    File(PathBuf),
    /// The address of a database. It may contain a password, so it is never printed.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "without the feature it only differs from a file")
    )]
    Postgres(String),
}

impl StoreUrl {
    /// Parses the value of `--store`. An error never quotes an address, because it may contain a password.
    pub(crate) fn parse(path: PathBuf) -> Result<Self, Failure> {
        let Some(text) = path.to_str() else { return Ok(Self::File(path)) };
        let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        // The syntax of libpq is accepted too: `host=db user=authz dbname=keys`.
        let names = ["host=", "hostaddr=", "port=", "user=", "password=", "dbname=", "sslmode="];
        if is_url || text.split_whitespace().any(|word| names.iter().any(|name| word.starts_with(name))) {
            return Ok(Self::Postgres(text.to_owned()));
        }
        // A single letter is a drive, and a text with a slash or a dot before the colon is a path.
        let is_scheme = |text: &str| {
            text.len() > 1
                && text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '+' | '-'))
        };
        match text.split_once(':') {
            Some((scheme, _)) if is_scheme(scheme) => Err(Failure::Usage(format!(
                "there is no store of the kind {scheme:?}; write the path of a SQLite file (./{scheme}:.. for one of such a \
                 name), or postgres://user@host/database"
            ))),
            _ => Ok(Self::File(path)),
        }
    }

    pub(crate) async fn create(&self, init: &args::Init, json: bool) -> Result<(), Failure> {
        let formats = settings::formats(init)?;
        let settings = settings::with(StoreSettings::new().with_formats(formats.clone()), &init.settings)?;
        let name = match self {
            Self::File(path) => {
                is_for_sqlite(path)?;
                drop(SqliteStore::create(path, settings)?);
                path.display().to_string()
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                drop(options(url)?.create(url, settings).await?);
                "the tables".to_owned()
            }
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => return Err(without_postgres()),
        };
        match json {
            true => output::json(&json!({ "store": name })),
            false => {
                let of_kinds = formats.iter().filter_map(|(kind, format)| Some((kind?, format)));
                let of_kinds =
                    of_kinds.map(|(kind, format)| format!(", {format} for the kind {}", output::plain(kind)));
                output::line(format!("created {name} with key format {}{}", init.format, of_kinds.collect::<String>()))
            }
        }
    }

    pub(crate) async fn open(&self) -> Result<Box<dyn Store>, Failure> {
        match self {
            Self::File(path) => {
                is_for_sqlite(path)?;
                Ok(Box::new(SqliteOptions::new().uncached().open(path)?))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Ok(Box::new(options(url)?.connect(url).await?)),
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => Err(without_postgres()),
        }
    }

    /// Brings the store to the schema of this program.
    pub(crate) async fn migrate(&self, json: bool) -> Result<(), Failure> {
        let steps = match self {
            Self::File(_) => {
                drop(self.open().await?); // opening a SQLite file migrates it
                0
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => options(url)?.migrate(url).await?,
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => return Err(without_postgres()),
        };
        match (json, steps) {
            (true, _) => output::json(&json!({ "steps": steps })),
            (false, 0) => output::line("the schema is up to date"),
            (false, _) => output::line(format!("applied {steps} migrations; now upgrade the replicas one by one")),
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) async fn replicas(&self, as_json: bool) -> Result<(), Failure> {
        let Self::Postgres(url) = self else { return Err(no_replicas()) };
        let replicas = options(url)?.connect(url).await?.replicas().await?;
        if as_json {
            let replicas = replicas.iter().map(|replica| {
                let left = u64::try_from(replica.lease_left.as_millis()).unwrap_or(u64::MAX);
                json!({ "name": replica.name, "applied": replica.applied, "behind": replica.behind, "lease_left_ms": left })
            });
            return output::json(&replicas.collect());
        }
        let mut rows = output::Rows::new(&["REPLICA", "APPLIED", "BEHIND", "LEASE LEFT"])?;
        for replica in replicas {
            let left = format!("{} ms", replica.lease_left.as_millis());
            rows.push(vec![replica.name, replica.applied.to_string(), replica.behind.to_string(), left])?;
        }
        rows.finish()
    }

    #[cfg(not(feature = "postgres"))]
    pub(crate) async fn replicas(&self, _: bool) -> Result<(), Failure> {
        Err(no_replicas())
    }
}

/// A command is short-lived, so it keeps no keys in memory. `PGSSLROOTCERT` names the root certificates, as for the
/// programs of PostgreSQL.
#[cfg(feature = "postgres")]
fn options(url: &str) -> Result<PostgresOptions, Failure> {
    let options = PostgresOptions::new().uncached();
    #[cfg(feature = "postgres-tls")]
    if let Some(path) = std::env::var_os("PGSSLROOTCERT").filter(|path| !path.is_empty() && path != "system")
        && ["sslmode=require", "sslmode=verify-full"].iter().any(|mode| url.contains(mode))
    {
        let pem = std::fs::read(&path);
        let pem =
            pem.map_err(|error| Failure::Other(format!("PGSSLROOTCERT: {}: {error}", Path::new(&path).display())))?;
        return Ok(options.root_certificates(pem));
    }
    let _ = url;
    Ok(options)
}

fn no_replicas() -> Failure {
    Failure::Usage("only a store in PostgreSQL has replicas: --store postgres://..".to_owned())
}

#[cfg(not(feature = "postgres"))]
fn without_postgres() -> Failure {
    Failure::Usage("this program was built without the feature postgres".to_owned())
}

fn is_for_sqlite(path: &Path) -> Result<(), Failure> {
    if path.extension().is_some_and(|extension| extension == "json") {
        let path = path.display();
        let hint = format!("{path} is a key file, which is read-only; import it with `authz import {path}`");
        return Err(Failure::Usage(hint));
    }
    Ok(())
}
