//! Runs another process on the same store: it starts this test binary again, which executes one command per line and
//! answers each when it is done.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use http::Method;
use tower_authz::{
    Grant, KeyId,
    store::{KeyAdmin, KeyStore, NewKey, Overlap, StoreError},
};

use crate::stores::{Dice, Durable, Gate, sqlite::Sqlite};

const KIND: &str = "TOWER_AUTHZ_TEST_CHILD";
const PLACE: &str = "TOWER_AUTHZ_TEST_PLACE";

/// The prefix distinguishes the answers from the output of the test harness.
const MARK: &str = "child: ";

pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Process {
    pub fn start<F: Durable>(place: &str) -> Self {
        Self::spawn::<F>(Command::new(std::env::current_exe().unwrap()), place)
    }

    /// Starts a process whose files may not grow beyond this many blocks of 512 bytes, so that its writes fail as on
    /// a full disk.
    pub fn start_limited<F: Durable>(place: &str, blocks: u64) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
        command.arg(std::env::current_exe().unwrap());
        Self::spawn::<F>(command, place)
    }

    fn spawn<F: Durable>(mut command: Command, place: &str) -> Self {
        let name = "stores::child::does_what_it_is_told";
        command.args(["--exact", name, "--nocapture", "--test-threads", "1"]).env(KIND, F::KIND).env(PLACE, place);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // A line that the end of the process has cut off has no line end, and is ignored.
        std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8(line).unwrap();
                let told = line.split_once(MARK).is_none_or(|(_, told)| sender.send(told.to_owned()).is_ok());
                if !told {
                    break;
                }
            }
        });
        let process = Self { child, stdin, lines };
        assert_eq!(process.next().as_deref(), Some("ready"));
        process
    }

    /// Returns the next answer, or `None` when the process has ended.
    pub fn next(&self) -> Option<String> {
        match self.lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the child process hangs"),
        }
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.next().unwrap()
    }

    /// Sends the signal `STOP` or `CONT`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }

    /// Kills the process without warning, and returns the answers that it had still sent.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Closes its input, and waits until the process has ended successfully.
    pub fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Runs the commands in the child process. Without the variables it is a test that does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn does_what_it_is_told() {
    let (Ok(kind), Ok(place)) = (std::env::var(KIND), std::env::var(PLACE)) else { return };
    match &*kind {
        Sqlite::KIND => obey::<Sqlite>(&place).await,
        other => panic!("which store is {other}?"),
    }
}

fn say(line: &str) {
    // The line is written in one piece, and directly to the output, which the harness would capture otherwise.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("\n{MARK}{line}\n").as_bytes()).and_then(|()| stdout.flush()).unwrap();
}

async fn obey<F: Durable>(place: &str) {
    let store = F::open(place).await.unwrap();
    let gate = Gate::of(&store);
    say("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["get", key] => Ok(gate.ask(Method::GET, "de", key).await.to_string()),
            ["churn", seed] => churn(&store, seed.parse().unwrap()).await,
            _ => change(&store, &words).await,
        };
        match answer {
            Ok(told) => say(told.trim_end()),
            Err(error) => say(&format!("error: {error}")),
        }
    }
}

async fn change(store: &impl KeyAdmin, words: &[&str]) -> Result<String, StoreError> {
    let child = store.as_actor("child");
    let id = |text: &str| text.parse::<KeyId>().unwrap();
    match *words {
        ["issue", name] => {
            let grant = Grant::builder().read("products").build().unwrap();
            let key = child.issue(NewKey::new(name, grant)).await?;
            return Ok(format!("issued {} {}", key.record.id(), key.api_key.expose()));
        }
        ["rename", key, name] => drop(child.rename(&id(key), name).await?),
        ["grant", key, resource] => {
            let grant = Grant::builder().read(resource.to_owned()).build().unwrap();
            child.set_grant(&id(key), grant).await?;
        }
        ["rotate", key] => {
            let new = child.rotate(&id(key), Overlap::UntilRevoked).await?;
            return Ok(format!("rotated {key} {}", new.record.id()));
        }
        ["revoke", key, reason] => drop(child.revoke(&id(key), reason).await?),
        ["delete", key] => drop(child.delete(&id(key)).await?),
        ["settings", company] => {
            let directory = tower_authz::Directory::builder().shop("de", Some(company)).build().unwrap();
            child.set_settings(store.settings().await?.with_directory(directory)).await?;
        }
        _ => panic!("what is {words:?}?"),
    }
    Ok("done".to_owned())
}

/// Makes changes endlessly, and reports each as soon as it is acknowledged. The first error ends it.
async fn churn(store: &(impl KeyAdmin + KeyStore), seed: u64) -> Result<String, StoreError> {
    let child = store.as_actor("child");
    let mut dice = Dice(seed);
    let mut alive: Vec<KeyId> = Vec::new();
    loop {
        let key = (alive.len() > 3).then(|| alive.swap_remove(dice.roll(alive.len() as u64) as usize));
        match (dice.roll(5), key) {
            (0..2, Some(key)) => {
                child.revoke(&key, format!("reason of {key}")).await?;
                say(&format!("revoked {key}"));
            }
            (2, Some(key)) => {
                child.delete(&key).await?;
                say(&format!("deleted {key}"));
            }
            (3, Some(key)) => {
                let new = child.rotate(&key, Overlap::UntilRevoked).await?;
                say(&format!("rotated {key} {}", new.record.id()));
                alive.push(new.record.id().clone());
            }
            (_, key) => {
                alive.extend(key);
                let new = child.issue(NewKey::new("churn", Grant::default())).await?;
                say(&format!("issued {}", new.record.id()));
                alive.push(new.record.id().clone());
            }
        }
    }
}
