#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Stores share code that a build without one of them does not call. A build with all of them calls everything.
#![cfg_attr(
    not(all(feature = "file", feature = "sqlite", feature = "postgres", feature = "client")),
    allow(dead_code, reason = "it belongs to features that are off")
)]

mod authz;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod bytes;
pub mod check;
mod clean_path;
#[cfg(feature = "client")]
pub mod client;
mod client_address;
mod clock;
mod credential;
mod denial;
mod dimension;
mod directory;
mod entity;
mod error;
mod gate;
#[cfg(doc)]
pub mod guide;
mod head;
mod https;
mod ids;
mod json;
mod key;
#[cfg(any(feature = "file", feature = "sqlite"))]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux says where a mount comes from"))]
mod mount;
mod name;
mod policy;
mod principal;
#[cfg(any(feature = "client", feature = "file"))]
mod regular_file;
pub mod reject;
mod require;
mod route;
pub mod store;
mod telemetry;
mod tenant;
mod text;
mod threads;
mod timestamp;

#[cfg(feature = "axum")]
pub use crate::axum::{Guarded, GuardedRouter, RouteRules, testing};
pub use crate::{
    authz::Authz,
    body::{RevocableBody, RevocableBodyError, RevocableBodyLayer, RevocableBodyService},
    check::Check,
    clean_path::CleanPath,
    client_address::{ClientAddress, PeerAddress, TrustedProxies},
    credential::{FindCredential, Source, Sources},
    denial::{Cause, Denial},
    dimension::{Dimension, IdGrammar},
    directory::{Directory, DirectoryBuilder},
    error::ConfigError,
    gate::{Authenticate, AuthenticateLayer, Decision},
    head::Head,
    https::{HttpsOnly, SecureConnection},
    ids::Ids,
    key::{
        Access, Alphabet, ApiKey, Digest, Grant, GrantBuilder, KeyCandidate, KeyFile, KeyFormat, KeyFormats, KeyId,
        KeyRecord, KeyRecordBuilder, KeyScanner, Metadata, Network, Networks, Permission, Restriction, Status,
        StructuredFormat,
    },
    policy::{Audit, Difference, Explanation, Finding, Policy, PolicyBuilder, PolicyHandle, PolicySource, Rule},
    principal::{Filter, Principal, Scope},
    reject::Reject,
    require::{Require, RequireLayer},
    tenant::TenantHosts,
};

/// The futures of the services, for those who have to name them.
pub mod future {
    pub use crate::{
        body::RevocableBodyFuture, gate::ResponseFuture as AuthenticateFuture, require::ResponseFuture as RequireFuture,
    };
}
