//! The client side: a small command line program for the Logic64 example.
//!
//! `auth` stores a key in `~/.logic64/config.json`, and `get` sends a request with it. `LOGIC64_TOKEN` takes
//! precedence over the file.

mod common;

use std::{error::Error, ffi::OsString, io::Write as _, process::ExitCode, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_authz::client::{ApiUrl, AttachLayer, ConfigFile, Credentials, KeyFinder, read_key};
use tower_http::follow_redirect::FollowRedirectLayer;

const VARIABLE: &str = "LOGIC64_TOKEN";

const HELP: &str = "\
client auth --api-key-stdin --api-url URL   store a key, read from standard input, in ~/.logic64/config.json
client get [--api-url URL] PATH             send a GET with the key of LOGIC64_TOKEN, or else of the file

The status goes to standard error, the body to standard output; the exit code is 0 for 2xx. This example is built
without TLS: it stores keys for https URLs, and sends to http://127.0.0.1:PORT only.
";

/// The command that the arguments name.
enum Command {
    Help,
    Auth { api_url: String },
    Get { api_url: Option<String>, path: String },
}

impl Command {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let name = arguments.next().unwrap_or_default();
        let (mut stdin, mut api_url, mut path) = (false, None, None);
        while let Some(argument) = arguments.next() {
            match &*argument {
                "--help" | "-h" => return Ok(Self::Help),
                "--api-key-stdin" => stdin = true,
                // An argument is visible in the list of processes, and the shell stores it.
                "--api-key" => return Err("write the key to standard input, and --api-key-stdin".to_owned()),
                "--api-url" => api_url = Some(arguments.next().ok_or("--api-url needs a URL")?),
                flag if flag.starts_with('-') => return Err("unknown option; see client --help".to_owned()),
                _ if path.is_some() => return Err("more than one PATH; see client --help".to_owned()),
                _ => path = Some(argument),
            }
        }
        match (&*name, stdin, api_url, path) {
            ("help" | "--help" | "-h", ..) => Ok(Self::Help),
            ("auth", true, Some(api_url), None) => Ok(Self::Auth { api_url }),
            ("auth", ..) => Err("write: client auth --api-key-stdin --api-url URL".to_owned()),
            ("get", false, api_url, Some(path)) => Ok(Self::Get { api_url, path }),
            ("get", ..) => Err("write: client get PATH".to_owned()),
            _ => Err("write: client auth, or client get; see client --help".to_owned()),
        }
    }
}

/// Allows plain HTTP, because the server of the example uses it on this machine.
fn config_file() -> Result<ConfigFile, Box<dyn Error>> {
    Ok(ConfigFile::new("logic64")?.allow_loopback_http())
}

fn auth(api_url: &str) -> Result<String, Box<dyn Error>> {
    let api_url = ApiUrl::https_or_loopback(api_url)?;
    let key = read_key(std::io::stdin().lock())?;
    let file = config_file()?;
    file.save(&key, &api_url)?;
    // The key is not verified here: the first request shows whether it is valid.
    Ok(format!("✓ Authenticated. Key stored in {}\n", file.path().display()))
}

fn find(api_url: Option<String>) -> Result<Credentials, Box<dyn Error>> {
    let mut finder = KeyFinder::new(config_file()?).variable(VARIABLE);
    if let Some(api_url) = api_url {
        finder = finder.api_url(ApiUrl::https_or_loopback(&api_url)?);
    }
    let found = finder.find()?;
    found.ok_or_else(|| format!("no API key: set {VARIABLE}, or run: client auth --api-key-stdin --api-url URL").into())
}

async fn get(found: &Credentials, path: &str) -> Result<(StatusCode, Bytes), Box<dyn Error>> {
    let uri = found.api_url().join(path)?;
    if found.api_url().is_https() {
        return Err(format!("{}: this example is built without TLS", found.api_url()).into());
    }
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        // The layer is inside of the redirects, so that the destination of each hop decides whether it gets the key.
        .layer(AttachLayer::new(found.api_key(), found.api_url())?)
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
    let exchange = async {
        let response = client.oneshot(Request::get(uri).body(Full::default())?).await?;
        let (head, body) = response.into_parts();
        Ok::<_, Box<dyn Error>>((head.status, body.collect().await?.to_bytes()))
    };
    let answered = tokio::time::timeout(Duration::from_secs(30), exchange).await;
    let answered = answered.map_err(|_| format!("{}: no answer in 30 seconds", found.api_url()))?;
    answered.map_err(|error| format!("{}: {}", found.api_url(), innermost(&*error)).into())
}

/// hyper reports only that it could not connect; the innermost source says why.
fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Result<Vec<_>, _> = std::env::args_os().skip(1).map(OsString::into_string).collect();
    let arguments = arguments.map_err(|_| "an argument is not UTF-8")?;
    match Command::parse(arguments.into_iter())? {
        Command::Help => std::io::stdout().write_all(HELP.as_bytes())?,
        Command::Auth { api_url } => std::io::stdout().write_all(auth(&api_url)?.as_bytes())?,
        Command::Get { api_url, path } => {
            let found = find(api_url)?;
            if let Some(warning) = found.warning() {
                writeln!(std::io::stderr(), "warning: {warning}")?;
            }
            let (status, body) = get(&found, &path).await?;
            match status {
                StatusCode::UNAUTHORIZED => writeln!(std::io::stderr(), "{status} (the key of {})", found.location())?,
                _ => writeln!(std::io::stderr(), "{status}")?,
            }
            std::io::stdout().write_all(&body)?;
            return Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => common::finish(Err(error)),
    }
}
