//! Whether the caller may do this: a pure check. 403, or what else the denial says.

mod future;
mod layer;
mod service;

pub(crate) use self::future::raised_or_unsettled;
pub use self::{future::ResponseFuture, layer::RequireLayer, service::Require};
