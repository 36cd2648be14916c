//! The code that the examples share: it reads settings from the environment, and prints messages for the user.

#![allow(dead_code, reason = "each example uses a part of it")]
#![allow(unreachable_pub, missing_docs, reason = "it is a part of each example, not of a library")]

use std::{env, fmt::Write as _, io::Write as _, net::SocketAddr, process::ExitCode};

use tokio::net::TcpListener;
use tower_authz::{ConfigError, Denial, Dimension, IdGrammar, KeyFile, KeyFormat, TrustedProxies, store::MemoryStore};

/// Keys of the Logic64 example can be restricted to workspaces.
pub const WORKSPACE: Dimension = Dimension::new("workspace", IdGrammar::Slug);

/// They can also be restricted to projects, which belong to workspaces if the key file says so.
pub const PROJECT: Dimension = Dimension::new("project", IdGrammar::Slug);

/// One of the key files under `examples/data`, with the plain demo keys whose digests it contains.
pub struct Demo {
    pub file: &'static str,
    pub keys: &'static str,
}

/// Reads the key file that `KEYS` names. Without it the demo keys are used, and shown.
pub fn keys(demo: &Demo) -> Result<(KeyFile, String), ConfigError> {
    match env::var_os("KEYS").filter(|path| !path.is_empty()) {
        Some(path) => Ok((KeyFile::read_with(path, &[WORKSPACE, PROJECT])?, String::new())),
        None => {
            let shown = demo.keys.lines().fold(String::new(), |mut shown, line| {
                let _ = writeln!(shown, "KEY {line}");
                shown
            });
            Ok((KeyFile::parse_with(demo.file, "the demo keys", &[WORKSPACE, PROJECT])?, shown))
        }
    }
}

/// Creates a store with these keys. The format of keys of other systems is opaque here, unless the system defines one.
pub fn store(file: KeyFile, format: KeyFormat) -> Result<MemoryStore, ConfigError> {
    MemoryStore::from_file(file, format)
}

/// Reads a setting from the environment. A value that is not UTF-8 is an error, and not the same as no value.
fn setting(name: &str) -> Result<Option<String>, ConfigError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(ConfigError::new(format!("{name}: it is not UTF-8"))),
    }
}

/// Reads `TRUSTED_PROXIES`, networks separated by commas. There are none by default.
pub fn proxies() -> Result<Option<TrustedProxies>, ConfigError> {
    let Some(list) = setting("TRUSTED_PROXIES")? else { return Ok(None) };
    let proxies = TrustedProxies::new(list.split(',').map(str::trim));
    proxies.map(Some).map_err(|error| ConfigError::new(format!("TRUSTED_PROXIES: {error}")))
}

/// Reads a switch, which is `1` or `0`.
pub fn switch(name: &str) -> Result<bool, ConfigError> {
    match setting(name)?.as_deref() {
        Some("1") => Ok(true),
        Some("0") | None => Ok(false),
        Some(other) => Err(ConfigError::new(format!("{name}={other}: write 1 or 0"))),
    }
}

/// Listens on `LISTEN`, by default `127.0.0.1:3000`. Port 0 selects a free one.
pub async fn listen() -> Result<TcpListener, ConfigError> {
    let address = setting("LISTEN")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    TcpListener::bind(&address).await.map_err(|error| ConfigError::new(format!("LISTEN={address}: {error}")))
}

/// Prints that connections are accepted, and which keys exist.
pub fn announce(listener: &TcpListener, keys: &str) -> Result<(), ConfigError> {
    let address: SocketAddr = listener.local_addr().map_err(|error| ConfigError::new(error.to_string()))?;
    // If the pipe is closed, the server goes on.
    let _ = std::io::stdout().write_all(format!("READY http://{address}\n{keys}").as_bytes());
    Ok(())
}

/// Logs all causes of a denial, and the key id: the response shows only the first cause.
pub fn log<B>(response: http::Response<B>) -> http::Response<B> {
    if let Some(denial) = response.extensions().get::<Denial>() {
        let route = denial.route().unwrap_or("-");
        let _ = writeln!(std::io::stderr(), "{} {route}: {denial}", denial.status().as_u16());
    }
    response
}

/// Prints a message for whoever runs the program.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Prints one line if the program has failed.
pub fn finish(outcome: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
