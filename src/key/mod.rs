//! What a key is: its record, and the grant that says what it may do.

mod api_key;
mod coverage;
mod digest;
mod expiry;
mod file;
mod format;
pub(crate) mod generate;
mod grant;
mod grant_file;
mod network;
mod origin;
mod permission;
mod record;
mod restriction;
mod revocation;
mod runs;
mod template;

pub use self::{
    api_key::ApiKey,
    digest::Digest,
    file::KeyFile,
    format::{Alphabet, KeyFormat, StructuredFormat},
    grant::{Grant, GrantBuilder},
    network::{Network, Networks},
    permission::{Access, Permission},
    record::{KeyId, KeyRecord, KeyRecordBuilder, Status},
    restriction::{Ids, Restriction},
};
pub(crate) use self::{
    file::KeyEntry,
    grant_file::GrantFile,
    origin::as_browsers_write,
    revocation::{EndReason, RevocationWatch, SignalCell, revokes_access},
};
