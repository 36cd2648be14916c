//! What a request carries to say who calls: where it stands, what it looks like, and the digest
//! that is the only form of it ever kept.

mod api_key;
mod digest;
mod format;
pub(crate) mod generate;
mod source;
mod template;

pub(crate) use self::source::{Credential, Notice};
pub use self::{
    api_key::ApiKey,
    digest::Digest,
    format::{Alphabet, KeyFormat, StructuredFormat},
    source::{Source, Sources},
};
