//! Where credentials stand in a request.

mod deprecation;
mod source;
mod sources;

pub(crate) use self::{deprecation::Notice, sources::Credential};
pub use self::{
    source::{FindCredential, Source},
    sources::Sources,
};
