//! API keys: the record of a key, and the grant that says what it may do.

mod api_key;
mod builder;
mod cold;
mod coverage;
mod digest;
mod expiry;
mod file;
mod format;
pub(crate) mod generate;
mod grant;
mod grant_builder;
mod grant_file;
mod id;
mod last_used;
mod network;
mod origin;
mod packed_time;
mod permission;
mod record;
mod restriction;
mod revocation;
mod runs;
mod serialize;
mod status;
mod template;

pub use self::{
    api_key::ApiKey,
    builder::KeyRecordBuilder,
    digest::Digest,
    file::KeyFile,
    format::{Alphabet, KeyFormat, StructuredFormat},
    grant::Grant,
    grant_builder::GrantBuilder,
    id::KeyId,
    network::{Network, Networks},
    permission::{Access, Permission},
    record::KeyRecord,
    restriction::Restriction,
    status::Status,
};
pub(crate) use self::{
    coverage::Excess,
    file::{KeyColumns, KeyEntry},
    grant_file::{GrantFile, Grants},
    origin::as_browsers_write,
    revocation::{EndReason, RevocationWatch, SignalCell, revokes_access},
};
