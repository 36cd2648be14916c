//! Measures how the gate scales: with ten million keys, beside a second thread, beside a writer that changes keys;
//! how much memory a key takes, and how long all of them take to load. The results are ratios, so the figures that
//! are compared are measured in turns, and the ratio is taken within a round: other load on the machine slows both
//! alike.
//!
//! `cargo bench -p tower-authz --features file,sqlite --bench scale`, or with the names of sections: `-- keys
//! threads`. `KEYS=10000000` measures more keys than a million, `ROUNDS=5` makes a short run, and `-- --test` only
//! checks that everything runs. With the feature `postgres` and an empty database in `DATABASE_URL`, PostgreSQL is
//! loaded as well.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that is surprised should stop")]
#![allow(clippy::indexing_slicing, reason = "a bench that is surprised should stop")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]
#![allow(missing_docs, reason = "nobody links to a bench")]

#[path = "../common/mod.rs"]
mod common;
mod keys;
mod load;
mod measure;
mod memory;
mod population;
#[cfg(feature = "postgres")]
mod postgres;
mod table;
mod threads;
mod writer;

use std::env;

use measure::Scale;

struct Section {
    name: &'static str,
    says: &'static str,
    run: fn(Scale),
}

const SECTIONS: [Section; 5] = [
    Section { name: "keys", says: "the whole chain among more and more keys", run: keys::run },
    Section { name: "threads", says: "two threads at once", run: threads::run },
    Section { name: "writer", says: "beside a thousand changes a second", run: writer::run },
    Section { name: "memory", says: "what a key takes of the memory", run: memory::run },
    Section { name: "load", says: "how long all keys take to load", run: load::run },
];

/// The arguments of the command line.
struct Asked {
    test: bool,
    names: Vec<String>,
}

fn main() {
    let asked = asked(env::args().skip(1));
    if let Some(unknown) = asked.names.iter().find(|name| SECTIONS.iter().all(|section| section.name != **name)) {
        return tell_usage(unknown);
    }
    let scale = Scale::of_environment(asked.test);
    if scale.smoke {
        println!("To see that everything runs: the figures mean nothing.\n");
    }
    for section in &SECTIONS {
        if asked.names.is_empty() || asked.names.iter().any(|name| name == section.name) {
            println!("## {}: {}\n", section.name, section.says);
            (section.run)(scale);
            println!();
        }
    }
}

fn asked(arguments: impl Iterator<Item = String>) -> Asked {
    let mut asked = Asked { test: false, names: Vec::new() };
    for argument in arguments {
        match &*argument {
            // Cargo passes this to each bench that it runs.
            "--bench" => {}
            "--test" => asked.test = true,
            _ => asked.names.push(argument),
        }
    }
    asked
}

fn tell_usage(unknown: &str) {
    println!("There is no section {unknown:?}. Name any of these, or none for all:");
    for section in &SECTIONS {
        println!("  {:8} {}", section.name, section.says);
    }
    println!("and --test to see only that everything runs.");
}
