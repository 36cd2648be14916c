//! Runs replicas in processes of their own, and injects faults into them.

use std::{
    env,
    error::Error,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_postgres::Config;

use crate::{
    Shared,
    log::lock,
    proxy::{Network, Proxy},
    roll,
};

/// The faults that are injected while keys are used and revoked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Chaos {
    All,
    None,
}

pub struct Replica {
    child: Child,
    proxy: Proxy,
    config: Config,
}

impl Replica {
    /// Starts a replica that reaches the database through a proxy.
    pub async fn start(config: &Config, database: &str) -> Result<(Self, String), Box<dyn Error>> {
        let proxy = Proxy::to(database.to_owned()).await?;
        let (child, address) = spawn(config, &proxy)?;
        Ok((Self { child, proxy, config: config.clone() }, address))
    }

    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
    }

    fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(config: &Config, proxy: &Proxy) -> Result<(Child, String), Box<dyn Error>> {
    let url = format!(
        "host=127.0.0.1 port={} user={} dbname={} password='{}' connect_timeout=1",
        proxy.address.port(),
        config.get_user().unwrap_or("postgres"),
        config.get_dbname().unwrap_or("postgres"),
        String::from_utf8_lossy(config.get_password().unwrap_or_default()),
    );
    let mut command = Command::new(env::current_exe()?);
    let mut child = command.arg("replica").env("DATABASE_URL", url).stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    let mut address = String::new();
    if BufReader::new(out).read_line(&mut address)? == 0 {
        let _ = child.wait();
        return Err("a replica did not start".into());
    }
    Ok((child, address.trim().to_owned()))
}

/// Injects one fault after the other, each into a random replica, until `done` is set.
pub fn rage(shared: &Shared, replicas: &mut [Replica], config: &Config, done: &Arc<AtomicBool>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let restart = env::var("RESTART").ok();
    let for_a_while = || std::thread::sleep(Duration::from_millis(roll(1500)));
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50 + roll(300)));
        let index = usize::try_from(roll(replicas.len() as u64)).unwrap_or(0);
        let Some(replica) = replicas.get_mut(index) else { continue };
        let what = match roll(20) {
            0 => {
                replica.kill();
                // The database may have been restarted just before, so try several times.
                for _ in 0..20 {
                    if let Ok((new, address)) = spawn(&replica.config, &replica.proxy) {
                        replica.child = new;
                        lock(&shared.addresses).get_mut(index).into_iter().for_each(|old| *old = address.clone());
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                "killed and started anew"
            }
            1 => match &restart {
                Some(command) => {
                    let _ = Command::new("sh").args(["-c", command]).stdout(Stdio::null()).status();
                    "the database started anew"
                }
                None => continue,
            },
            2..=4 => {
                let _ = runtime.block_on(terminate(config));
                "connections ended by the database"
            }
            5..=7 => {
                replica.proxy.set(Network::Stalled);
                for_a_while();
                replica.proxy.set(Network::Good);
                "network stalled"
            }
            8..=9 => {
                replica.proxy.set(Network::Cut);
                for_a_while();
                replica.proxy.set(Network::Good);
                "network cut"
            }
            10..=12 => {
                replica.proxy.set(Network::Slow(Duration::from_millis(roll(300))));
                for_a_while();
                replica.proxy.set(Network::Good);
                "network slow"
            }
            _ => {
                replica.signal("STOP");
                for_a_while();
                replica.signal("CONT");
                "stopped and continued"
            }
        };
        *lock(&shared.faults).entry(what).or_default() += 1;
    }
}

async fn terminate(config: &Config) -> Result<u64, tokio_postgres::Error> {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    let driven = tokio::spawn(connection);
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
               AND query LIKE '%authz_%' AND random() < 0.5";
    let outcome = client.execute(sql, &[]).await;
    driven.abort();
    outcome
}
