//! Where credentials stand in a request.

mod deprecation;
mod source;

pub use self::source::{Source, Sources};
pub(crate) use self::{deprecation::Notice, source::Credential};
