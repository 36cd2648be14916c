//! What a router in front of us has found out. Only axum leaves a trace that we can read; without
//! the `axum` feature there is none.

use http::{Extensions, Uri};

/// The pattern of the matched route, prefixes of nested routers included.
#[cfg(feature = "axum")]
pub(crate) fn pattern(extensions: &Extensions) -> Option<&str> {
    extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

/// The URI before nested routers stripped their prefixes. Its presence says that we stand inside a
/// router: then a request without a matched route matched none.
#[cfg(feature = "axum")]
pub(crate) fn uri(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<axum::extract::OriginalUri>().map(|uri| &uri.0)
}

/// The address of the connection's other end, as axum's `ConnectInfo` has it.
#[cfg(feature = "axum")]
pub(crate) fn peer(extensions: &Extensions) -> Option<std::net::SocketAddr> {
    extensions.get::<axum::extract::ConnectInfo<std::net::SocketAddr>>().map(|info| info.0)
}

#[cfg(not(feature = "axum"))]
pub(crate) fn pattern(_: &Extensions) -> Option<&str> {
    None
}

#[cfg(not(feature = "axum"))]
pub(crate) fn uri(_: &Extensions) -> Option<&Uri> {
    None
}

#[cfg(not(feature = "axum"))]
pub(crate) fn peer(_: &Extensions) -> Option<std::net::SocketAddr> {
    None
}
