//! Where credentials stand in a request.

mod deprecation;
mod source;
mod sources;

pub(crate) use self::{
    deprecation::{Notice, vary},
    sources::Credential,
};
pub use self::{
    source::{FindCredential, Source},
    sources::Sources,
};
