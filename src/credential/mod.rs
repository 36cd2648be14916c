//! What a request carries to say who calls: where it stands, what it looks like, and the digest
//! that is the only form of it ever kept.

mod api_key;
mod digest;
mod format;
pub(crate) mod generate;
mod notice;
mod source;
mod template;

pub use self::{
    api_key::ApiKey,
    digest::Digest,
    format::{Alphabet, KeyFormat, StructuredFormat},
    source::{Source, Sources},
};
pub(crate) use self::{notice::Notice, source::Credential};
