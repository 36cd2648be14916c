//! The code that the bench in process and the server under load share: the request, and the gates that decide about
//! it. Nothing here counts or times, so that the server does not pay for it.

pub mod gates;
pub mod request;
