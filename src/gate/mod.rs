//! Who calls: extract the credential, look its digest up, judge its status. 401, or 503 if the store
//! cannot answer.

mod decision;
mod future;
mod layer;
mod service;
mod sharded;

pub use self::{future::ResponseFuture, layer::AuthenticateLayer, service::Authenticate};
