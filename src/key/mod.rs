//! What a key is: its record, and the grant that says what it may do.

mod expiry;
mod file;
mod grant;
mod grant_file;
mod life;
mod network;
mod origin;
mod permission;
mod record;
mod restriction;
mod runs;

pub(crate) use self::{
    file::KeyEntry,
    grant_file::GrantFile,
    life::{End, LifeCell, Watch, narrows},
    origin::as_browsers_write,
};
pub use self::{
    file::KeyFile,
    grant::{Grant, GrantBuilder},
    network::{Network, Networks},
    permission::{Access, Permission},
    record::{KeyId, KeyRecord, KeyRecordBuilder, Status},
    restriction::{Ids, Restriction},
};
