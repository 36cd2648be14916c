//! PostgreSQL servers for the tests: the programs are found on the machine, and started in a directory of their own,
//! with a socket there; both are removed with the tests. Without them the tests report that they are skipped, unless
//! `REQUIRE_PG=1`.

use std::{
    io::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

pub struct Cluster {
    pub folder: PathBuf,
    binaries: PathBuf,
}

/// Returns the directory of the PostgreSQL programs, or reports that there is none.
fn binaries() -> Option<PathBuf> {
    let asked = std::env::var_os("PG_BIN").map(PathBuf::from);
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let debian =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|it| it.path().join("bin"));
    let found = asked.into_iter().chain(configured).chain(debian).find(|folder| folder.join("initdb").is_file());
    if found.is_none() {
        skipped("no PostgreSQL was found; set PG_BIN to its folder");
    }
    found
}

/// Reports that something was not tested, directly to standard error, which the harness would capture otherwise.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("REQUIRE_PG").is_none(), "REQUIRE_PG is set, and {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Returns a command that runs as an unprivileged user, because PostgreSQL refuses root. It ends with the tests,
/// however those end.
fn unprivileged() -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command.args(["--pdeathsig", "TERM"]).current_dir("/").stdin(Stdio::null());
    command
}

fn is_root() -> bool {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0"
}

/// Gives a file to the user of PostgreSQL.
pub fn hand_over(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres").arg(path).status().unwrap().success());
    }
}

/// The system sends the signal when the thread that has started the program ends, so this thread runs until the
/// process ends.
fn keep(mut command: Command) {
    std::thread::spawn(move || command.status());
}

/// Returns a port on which no process listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn in_a_folder() -> Option<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let binaries = binaries()?;
        let name = format!("tower-authz-pg-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        hand_over(&folder);
        Some(Self { folder, binaries })
    }

    pub fn new() -> Option<Self> {
        let cluster = Self::in_a_folder()?;
        cluster.run("initdb", &["-U", "postgres", "--auth", "trust", "--no-sync", "-D", &cluster.data()]);
        Some(cluster)
    }

    /// Creates a standby of another server.
    pub fn standby(primary: &Self) -> Option<Self> {
        let cluster = Self::in_a_folder()?;
        let from = primary.folder.display().to_string();
        let checkpoint = ["-c", "fast", "--no-sync", "-R", "-U", "postgres"];
        cluster.run("pg_basebackup", &[&checkpoint[..], &["-h", &from, "-D", &cluster.data()]].concat());
        Some(cluster)
    }

    pub fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    /// Runs a PostgreSQL program to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) {
        let output = unprivileged().arg(self.binaries.join(program)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the server, and waits until it answers on its socket.
    pub fn start(&self, settings: &[&str]) {
        self.start_listening(5432, settings);
    }

    /// Starts the server with this port, which is in the name of the socket.
    pub fn start_listening(&self, port: u16, settings: &[&str]) {
        let script = r#"
            bin=$1 folder=$2; shift 2
            trap 'kill -QUIT $!; wait; rm -rf "$folder"' TERM
            "$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c fsync=off -c max_connections=400 "$@" \
              >>"$folder/log" 2>&1 &
            wait $!"#;
        let mut command = unprivileged();
        command.args(["sh", "-c", script, "sh"]).arg(&self.binaries).arg(&self.folder).args(settings);
        command.stdout(Stdio::null());
        keep(command);
        let begin = Instant::now();
        let is_ready = || {
            let mut asked = Command::new(self.binaries.join("pg_isready"));
            asked.args(["-q", "-p", &port.to_string(), "-h"]).arg(&self.folder).status().unwrap().success()
        };
        while !is_ready() {
            assert!(begin.elapsed() < Duration::from_secs(30), "it does not start: {}/log", self.folder.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server as a crash would.
    pub fn kill(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Returns the address of one of its databases.
    pub fn address(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.folder.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = unprivileged()
            .arg(self.binaries.join("pg_ctl"))
            .args(["-D", &self.data(), "-m", "immediate", "stop"])
            .output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts a pooler before a server, and returns the port that it listens on. It uses the idle session that was used
/// last, or with `round_robin` the one that was used first.
pub fn pooler(server: &Path, mode: &str, pool_size: usize, round_robin: u8) -> Option<u16> {
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).is_file());
    let Some(program) = program else {
        skipped("no PgBouncer was found");
        return None;
    };
    let port = free_port();
    let file = server.join(format!("pgbouncer-{port}.ini"));
    let text = format!(
        "[databases]\n* = host={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {pool_size}\n\
         server_round_robin = {round_robin}\nlogfile = {}\n",
        server.display(),
        server.join("pgbouncer.log").display(),
    );
    std::fs::write(&file, text).unwrap();
    let mut command = unprivileged();
    command.arg(program).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    keep(command);
    let begin = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the pooler does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(port)
}
