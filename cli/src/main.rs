//! `authz` manages API keys from the command line.

#![forbid(unsafe_code)]

mod args;
mod check;
mod commands;
mod context;
mod follow;
mod grant;
mod import;
mod leaked;
mod output;
mod roles;
mod scanners;
mod settings;
mod store;
mod time;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use tower_authz::{
    ConfigError,
    store::{StoreError, StoreErrorKind},
};

/// The reason for which a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments are wrong or do not fit together.
    Usage(String),
    /// The store refuses the command, or cannot be read or written.
    Store(StoreError),
    /// A file or a standard stream could not be read or written, or a part of the command failed.
    Other(String),
    /// `check` has found that the request would be refused.
    Denied,
    /// `leaked` has found keys that can be used, and has not revoked them.
    Leaked,
    /// The reader of the output has closed the pipe.
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
    /// The exit codes that `authz --help` lists.
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
            Self::Leaked => 6,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::Usage(message) | Self::Other(message) => Some(message.clone()),
            Self::Store(error) => Some(error.to_string()),
            Self::Denied | Self::Leaked | Self::Pipe => None,
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
        // Help and the version are errors to clap, which prints them and exits with 0.
        Err(error) => error.exit(),
    };
    match futures::executor::block_on(commands::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                // If standard error is closed, the exit code still reports the failure.
                let _ = writeln!(std::io::stderr(), "error: {}", output::without_keys(&output::plain(&message)));
            }
            ExitCode::from(failure.code())
        }
    }
}
