//! The command `oracle`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tower_authz_oracle::faults;
use tower_authz_oracle::run::{Options, find_fault, run};

const HELP: &str = "\
Compares the decisions of tower-authz with an interpreter of its specification, and with Cedar.

Usage: oracle [--requests N] [--seed N] [--faults]

  --requests N  how many requests are compared (default: 100000); each is sent in three settings
  --seed N      where the random worlds begin (default: 1); the same seed gives the same worlds
  --faults      look for faulty readings of the specification instead, and say how many requests it took to find each
  --help        print this

Exit codes: 0 if nothing differs (with --faults: if every fault is found), 1 if not, 2 for a wrong command line.
";

/// How long one fault may take to be found.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let (options, faults) = match arguments(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("oracle: {message}; see oracle --help");
            return ExitCode::from(2);
        }
    };
    let passed = if faults { find_all(options) } else { compare(options) };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The options, and whether to look for faults. `None` asks for help.
fn arguments(mut given: impl Iterator<Item = String>) -> Result<Option<(Options, bool)>, String> {
    let (mut options, mut faults) = (Options { requests: 100_000, seed: 1 }, false);
    while let Some(argument) = given.next() {
        let mut number = || {
            let text = given.next().ok_or(format!("{argument} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{text:?} is no number"))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--faults" => faults = true,
            "--requests" => options.requests = number()?,
            "--seed" => options.seed = number()?,
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    Ok(Some((options, faults)))
}

fn compare(options: Options) -> bool {
    match run(options) {
        Ok(figures) => {
            println!("{figures}");
            true
        }
        Err(difference) => {
            println!("{difference}");
            false
        }
    }
}

fn find_all(options: Options) -> bool {
    let options = Options { requests: u64::MAX, ..options };
    let mut all_found = true;
    for fault in faults::all() {
        let start = Instant::now();
        match find_fault(options, fault.reading, PATIENCE) {
            Err(found) => {
                let seconds = start.elapsed().as_secs_f64();
                println!("{:>8} requests  {seconds:>6.2} s  {}", found.requests, fault.name);
            }
            Ok(figures) => {
                all_found = false;
                println!("not found in {} requests: {}", figures.requests, fault.name);
            }
        }
    }
    all_found
}
