//! `authz`: the life of API keys from the command line.

#![forbid(unsafe_code)]

mod args;
mod check;
mod commands;
mod grant;
mod import;
mod output;
mod store;
mod time;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use tower_authz::{
    ConfigError,
    store::{StoreError, StoreErrorKind},
};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments do not fit together.
    Usage(String),
    /// The store refuses, or cannot be read or written.
    Store(StoreError),
    /// A file or standard input.
    Other(String),
    /// `check` has found that the request would be refused.
    Denied,
    /// Nobody reads what is printed.
    Pipe,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl Failure {
    /// The exit codes that `authz --help` tells.
    fn code(&self) -> u8 {
        match self {
            Self::Pipe => 0,
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Store(error) => match error.kind() {
                StoreErrorKind::NotFound => 3,
                StoreErrorKind::Conflict | StoreErrorKind::Invalid => 4,
                _ => 1,
            },
            Self::Denied => 5,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::Usage(message) | Self::Other(message) => Some(message.clone()),
            Self::Store(error) => Some(error.to_string()),
            Self::Denied | Self::Pipe => None,
        }
    }
}

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            let _ = write!(std::io::stderr(), "{}", output::without_keys(&error.render().to_string()));
            return ExitCode::from(2);
        }
        // Help, or the version.
        Err(error) => error.exit(),
    };
    match futures::executor::block_on(commands::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                // Should nobody listen, the exit code still says it.
                let _ = writeln!(std::io::stderr(), "error: {}", output::without_keys(&output::plain(&message)));
            }
            ExitCode::from(failure.code())
        }
    }
}
