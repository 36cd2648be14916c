//! A PostgreSQL of the tests' own: found on the machine, started in a temporary folder on a socket, and gone with
//! the tests. Without one the tests say that they are skipped, unless `REQUIRE_PG=1`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tower_authz::store::{PostgresOptions, PostgresStore, StoreSettings};

use super::Fixture;

/// Where its socket is.
static SERVER: OnceLock<Option<PathBuf>> = OnceLock::new();

pub fn server() -> Option<&'static Path> {
    SERVER.get_or_init(start).as_deref()
}

fn binaries() -> Option<PathBuf> {
    let asked = std::env::var_os("PG_BIN").map(PathBuf::from);
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let debian =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|it| it.path().join("bin"));
    asked.into_iter().chain(told).chain(debian).find(|folder| folder.join("initdb").is_file())
}

fn start() -> Option<PathBuf> {
    let Some(binaries) = binaries() else {
        assert!(std::env::var_os("REQUIRE_PG").is_none(), "REQUIRE_PG is set, and there is no PostgreSQL");
        use std::io::Write as _;
        // Past the harness, which would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no PostgreSQL was found; set PG_BIN to its folder");
        return None;
    };
    let folder = std::env::temp_dir().join(format!("tower-authz-pg-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    // It refuses to run as root.
    let is_root = String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0";
    let mut command = Command::new("setpriv");
    if is_root {
        assert!(Command::new("chown").arg("postgres").arg(&folder).status().unwrap().success());
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    // Ends with the tests, however those end.
    let script = r#"
        "$1/initdb" -D "$2/data" -U postgres --auth trust --no-sync >"$2/log" 2>&1 || exit 1
        "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=400 >>"$2/log" 2>&1 &
        trap 'kill -QUIT $!' TERM
        wait $!; wait; rm -rf "$2""#;
    command.args(["--pdeathsig", "TERM", "sh", "-c", script, "sh"]).arg(&binaries).arg(&folder);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    // The signal comes when the thread that started it ends: this one ends with the process.
    std::thread::spawn(move || command.status());
    let begin = Instant::now();
    while !folder.join(".s.PGSQL.5432").exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it does not start: {}", folder.join("log").display());
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(folder)
}

/// How a database of the server is reached.
pub fn address(database: &str) -> String {
    format!("host={} user=postgres dbname={database}", server().unwrap().display())
}

/// Has the database do something, past all stores.
pub async fn raw(database: &str, sql: &str) {
    let begin = Instant::now();
    let (client, connection) = loop {
        match tokio_postgres::connect(&address(database), tokio_postgres::NoTls).await {
            Ok(connected) => break connected,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let driven = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    let _ = driven.await;
}

/// A database that nobody else knows.
pub async fn database() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("store_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    raw("postgres", &format!("CREATE DATABASE {name}")).await;
    name
}

pub struct Postgres {
    store: PostgresStore,
    database: String,
}

impl Fixture for Postgres {
    type Store = PostgresStore;

    fn is_there() -> bool {
        server().is_some()
    }

    async fn fresh(settings: StoreSettings) -> Self {
        let database = database().await;
        Self { store: PostgresStore::create(&address(&database), settings).await.unwrap(), database }
    }

    fn store(&self) -> &PostgresStore {
        &self.store
    }

    async fn with_uses_written(self) -> Self {
        let Self { store, database } = self;
        drop(store);
        let store = PostgresOptions::new().connect(&address(&database)).await.unwrap();
        Self { store, database }
    }
}
