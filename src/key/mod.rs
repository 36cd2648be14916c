//! API keys: the record of a key, and the grant that says what it may do.

mod api_key;
mod builder;
mod cold;
mod conflict;
mod coverage;
mod digest;
mod expiry;
mod file;
mod format;
mod formats;
pub(crate) mod generate;
mod grant;
mod grant_builder;
mod grant_file;
mod id;
mod last_used;
mod metadata;
mod network;
mod origin;
mod packed_time;
mod permission;
mod record;
mod regex;
mod restriction;
mod revocation;
mod role;
mod runs;
mod scan;
mod serialize;
mod status;
mod template;

pub use self::{
    api_key::ApiKey,
    builder::KeyRecordBuilder,
    digest::Digest,
    file::KeyFile,
    format::{Alphabet, KeyFormat, StructuredFormat},
    formats::KeyFormats,
    grant::Grant,
    grant_builder::GrantBuilder,
    id::KeyId,
    metadata::Metadata,
    network::{Network, Networks},
    permission::{Access, Permission},
    record::KeyRecord,
    restriction::Restriction,
    scan::{KeyCandidate, KeyScanner},
    status::Status,
};
pub(crate) use self::{
    coverage::Excess,
    file::{KeyColumns, KeyEntry},
    formats::FormatIndex,
    grant_file::{GrantFile, Grants},
    origin::as_browsers_write,
    revocation::{EndReason, RevocationWatch, SignalCell, revokes_access},
    role::{Expander, Roles, check_role_name, check_roles},
};
