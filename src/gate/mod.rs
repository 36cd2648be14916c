//! The gate: extracts the credential, looks its digest up, checks its status, and enforces the policy. 401, or 503 if the
//! store cannot answer.
//!
//! `decide` holds the decisions, as functions that change nothing but the time of the last use; `apply` carries them out
//! on the request; `service` and `future` run both, for answers of the store that are there and for those that come later:
//!
//! 1. Extract the credential, hash it, and mark its headers as sensitive (`apply::extract_credential`). An error counts
//!    only if the route demands a key.
//! 2. Load the policy, once for the whole request. Run the pre-check, and match the route (`decide::find_target`). A
//!    request for a public route is admitted here, and one without a credential where the rule says that the key is
//!    optional.
//! 3. Look the digest up. Keys in memory are judged where they stand (`apply::decide`), so that only an admitted request
//!    counts references up; other stores hand out a record (`apply::admit_found`), and so does a store in memory if the
//!    request has to be changed before the policy is evaluated: the credential is removed then, and a principal inserted
//!    that code of the user's own may look for.
//! 4. Check the tenant and the status of the record, and evaluate the policy (`decide::judge`). Insert the principal.
//! 5. Call the inner service. Afterwards check that the key is still live and that the handler has met its obligations
//!    (`in_flight::finish_response`).
//!
//! Refusals that say nothing of the key are copies of one that was rendered before (`ready`), unless the rejection sees the
//! request.
//!
//! # What an allowed request costs
//! In instructions beside the bare service, for the request of `benches/instructions.rs` (callgrind; see
//! `.ci/instructions`), so that whoever wants it faster knows where to look:
//!
//! | part | instructions |
//! |---|--:|
//! | the rule: permission, networks, the shop of the path, shop and company lists with the directory | 790 |
//! | the route: six segments of a path, compared with the pieces of a pattern | 400 |
//! | the credential: found and marked in one pass over the headers, parsed | 430 |
//! | the look-up, with its snapshot, and the comparison of the digests | 220 |
//! | the counts of decisions by key and day | 150 |
//! | the clean path | 160 |
//! | all else: the principal, its place in the extensions, the watch, moves of request and response | 1,400 |
//! | SHA-256 of the key, where the processor has no instructions for it | 3,440 |
//!
//! Instructions are not time. Among the rest are ten atomic operations (the record twice, the configuration twice and the
//! directory once, up and down), for each of which a processor stops: a sixth of the time, together. (One count for directory
//! and store would be two fewer; but what it counted would keep a store open for as long as a thread remembers it, or let one be
//! closed that a principal still asks.) Moves of what was just written, in pieces that are smaller than those that it is read in,
//! are another: so the decision fills in by reference what its caller keeps, and what it was made of is borrowed. A neighbour on
//! the same core makes all of it slower by half, and SHA-256 by nothing: what is read and run does not fit beside the
//! neighbour's.
//!
//! Tried and dropped: a single loop for the clean path; where the slashes of a path are as bits, found in one look; segments of
//! a path cut out and compared in one go; the pieces of a pattern with their ends worked out before; polling not inlined; an
//! `ArcSwap` for each part of the keys; the decision inlined into `call`, or `call` into its caller (up to a tenth slower).
//! `benches/MARKS.md` has what each trick that was weighed gains.

mod apply;
mod config;
mod decide;
mod decision;
mod future;
mod in_flight;
mod layer;
mod pre_check;
mod ready;
mod service;
mod sharded;

pub(crate) use self::pre_check::PreCheck;
pub use self::{decision::Decision, future::ResponseFuture, layer::AuthenticateLayer, service::Authenticate};
