//! Enforces a check on authenticated requests, and refuses with 403 or the status of the denial.

mod future;
mod layer;
mod service;

pub(crate) use self::future::raised_or_unmet;
pub use self::{future::ResponseFuture, layer::RequireLayer, service::Require};
