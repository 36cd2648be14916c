#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod authenticate;
mod authz;
#[cfg(feature = "axum")]
mod axum;
pub mod check;
#[cfg(feature = "client")]
pub mod client;
mod client_address;
mod clock;
mod credential;
mod denial;
mod directory;
mod duty;
mod entity;
mod error;
mod head;
mod in_flight;
mod key;
#[cfg(any(feature = "file", feature = "sqlite"))]
#[cfg_attr(
    not(all(target_os = "linux", feature = "file")),
    allow(dead_code, reason = "only Linux says where a mount comes from, and only a key file asks")
)]
mod mount;
mod name;
mod policy;
mod principal;
#[cfg(any(feature = "client", feature = "file"))]
mod regular_file;
pub mod reject;
mod require;
mod routed;
mod scope;
pub mod store;
mod tenant;
#[cfg(feature = "axum")]
pub mod testing;
mod text;
mod trace;

pub use crate::{
    authenticate::{Authenticate, AuthenticateLayer},
    authz::Authz,
    check::Check,
    client_address::{ClientAddress, PeerAddress, Proxies},
    credential::{Alphabet, ApiKey, Digest, KeyFormat, Source, Sources, StructuredFormat},
    denial::{Cause, Denial},
    directory::{Directory, DirectoryBuilder},
    entity::{Dimension, IdGrammar},
    error::ConfigError,
    head::Head,
    in_flight::{LiveBodies, LiveBody, LiveBodyError, LiveBodyLayer},
    key::{
        Access, Grant, GrantBuilder, Ids, KeyFile, KeyId, KeyRecord, KeyRecordBuilder, Network, Networks, Permission,
        Restriction, Status,
    },
    policy::{Audit, Difference, Explanation, Finding, Policy, PolicyBuilder, Rule},
    principal::Principal,
    reject::Reject,
    require::{Require, RequireLayer},
    scope::{Filter, Scope},
    tenant::TenantHosts,
};

/// The futures of the services, for those who have to name them.
pub mod future {
    pub use crate::{
        authenticate::ResponseFuture as AuthenticateFuture, in_flight::LiveBodyFuture,
        require::ResponseFuture as RequireFuture,
    };
}
