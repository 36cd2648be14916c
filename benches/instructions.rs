//! Counts the instructions of the gate, a figure that other load on the machine does not change: one allowed request,
//! and each kind of refused one. It is meant to run under callgrind, which `.ci/instructions` does.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that is surprised should stop, and tells")]
#![allow(missing_docs, reason = "nobody links to a bench")]

mod common;

use std::{env, hint::black_box};

use common::{FOREIGN, PATH, authz, boxed, carry_back, guarded, key, request, store};
use tower::Layer as _;
use tower_authz::{Digest, Policy};

fn main() {
    let mut arguments = env::args().skip(1);
    let case = arguments.next().unwrap_or_default();
    let rounds: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let known = key(500);
    let (key, path, status) = match &*case {
        "digest" => {
            for _ in 0..rounds {
                black_box(Digest::from_key(black_box(known.as_bytes())));
            }
            return;
        }
        "bare" | "allowed" | "unwatched" => (known, PATH, 200),
        "malformed" => ("garbage".to_owned(), PATH, 401),
        "unknown" => (key(5000), PATH, 401),
        "foreign" => (known, FOREIGN, 403),
        // `cargo bench` runs this program without a case.
        _ => return println!("bare, allowed, unwatched, malformed, unknown, foreign or digest; see .ci/instructions"),
    };
    let mut service = match &*case {
        "bare" => boxed(carry_back()),
        // The request runs to its end even if its key is revoked, so the gate does not watch the key.
        "unwatched" => boxed(guarded(Policy::builder().finish_in_flight(), store(1000)).layer(carry_back())),
        _ => boxed(authz().layer(carry_back())),
    };
    for _ in 0..rounds {
        let response = service(request(&key, path));
        assert_eq!(response.status(), status);
    }
}
