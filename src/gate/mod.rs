//! The gate: extracts the credential, looks its digest up, checks its status, and enforces the policy. 401, or 503 if the
//! store cannot answer.
//!
//! `decide` holds the decisions, as pure functions; `apply` carries them out on the request; `service` and `future` run
//! both in one sequence, for answers of the store that are there and for those that come later:
//!
//! 1. Extract the credential, hash it, and mark its headers as sensitive (`apply::extract_credential`). An error counts
//!    only if the route is not public.
//! 2. Run the pre-check, and match the route (`decide::first_step`). A public route is admitted here.
//! 3. Look the digest up.
//! 4. Check the status of the record and its tenant, remove the credential if that is configured, evaluate the policy, and
//!    insert the principal (`apply::admit`).
//! 5. Call the inner service. Afterwards check that the key is still live and that the handler has met its obligations
//!    (`in_flight::finish_response`).
//!
//! # What an allowed request costs
//! In instructions beside the bare service, for the request of `benches/instructions.rs` (callgrind; see
//! `.ci/instructions`), so that whoever wants it faster knows where to look:
//!
//! | part | instructions |
//! |---|--:|
//! | the rule: permission, networks, the shop of the path (140), shop and company lists with the directory (540) | 980 |
//! | the route: six segments of a path, compared with the pieces of a pattern | 520 |
//! | the credential: found and marked in one pass over the headers, parsed | 400 |
//! | the look-up, with its snapshot, and the comparison of the digests | 180 |
//! | the clean path | 150 |
//! | all else: the principal, its place in the extensions, the watch, moves of request and response | 1,420 |
//! | SHA-256 of the key, where the processor has no instructions for it | 3,440 |
//!
//! The parts were counted when their sum was 3,650; now it is 3,921. Added since: the directory of the record's moment
//! goes with the principal, obligations that may be empty, parameters that are compared with what the handler sees, a
//! deadline for every look-up, and sources that are more than a header each.
//!
//! Instructions are not time. Among the rest are eight atomic operations (the record twice, the configuration and the
//! store once each, up and down), for each of which a processor stops: a tenth of the time, together. Moves of a request
//! or a response, each of which waits for what was written last, are another. A neighbour on the same core makes all of
//! it slower by half, and SHA-256 by nothing: what is read and run does not fit beside the neighbour's.
//!
//! Tried and dropped, as no faster: a single loop for the clean path; segments of a path cut out and compared in one go;
//! polling not inlined; an `ArcSwap` for each part of the keys (two atomic operations for each look, where a snapshot that
//! a thread keeps has none).
//!
//! Worth it: names and segments compared by their first and last eight bytes and not by `memcmp`; what is only said in
//! explanations not even named while requests are served; the hash beginning first, as the processor goes on to route
//! and path while it lasts.

mod apply;
mod config;
mod decide;
mod future;
mod in_flight;
mod layer;
mod ready;
mod service;
mod sharded;

pub use self::{future::ResponseFuture, layer::AuthenticateLayer, service::Authenticate};
