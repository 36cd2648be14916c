//! The contenders that decide about the request. Each asserts that it admits the request and refuses its counterpart.

mod bare;
mod biscuit;
mod casbin;
mod cedar;
mod hand_rolled;
mod jwt;
mod ours;
mod tower_http;

use crate::measure::Contender;

pub use bare::DIGEST;

pub fn all() -> Vec<Contender> {
    [
        bare::digest(),
        bare::service(),
        ours::service(),
        ours::silent(),
        ours::checks(),
        tower_http::service(),
        bare::fresh_service(),
        ours::fresh_service(),
    ]
    .into_iter()
    .chain(ours::refusals())
    .chain([
        bare::router(),
        bare::from_fn(),
        ours::router(),
        ours::one_list(),
        tower_http::router(),
        hand_rolled::router(),
    ])
    .chain(casbin::enforcers())
    .chain([cedar::authorizer(), jwt::decoder(), biscuit::verifier()])
    .collect()
}
