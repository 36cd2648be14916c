//! Renders a denial as the response that a client gets.
//!
//! A rejection sees the denial alone, which costs nothing for requests that are admitted. One that is wrapped in
//! [`WithRequest`] also sees the request, without its credentials: for a request id in the body, a page for browsers, or a
//! message in the language of the client.

mod empty;
mod grpc;
mod logic64;
mod logik;
mod problem;
mod scayle;
mod with_request;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

#[cfg(feature = "axum")]
pub(crate) use self::problem::problem_body;
pub use self::{
    empty::Empty, grpc::Grpc, logic64::Logic64, logik::Logik, problem::Problem, scayle::Scayle,
    with_request::WithRequest,
};
pub use crate::denial::RejectedRequest;
use crate::{
    denial::{Cause, Denial},
    key::KeyId,
    telemetry::Refusal,
};

/// Renders a [`Denial`] as a response, in the dialect of the API.
///
/// [`Problem`] is the default. A closure works too:
///
/// ```
/// use http::Response;
/// use tower_authz::{AuthenticateLayer, Denial, store::MemoryStore};
///
/// let layer = AuthenticateLayer::new(MemoryStore::new())
///     .with_rejection(|denial: &Denial| {
///         let mut response = Response::new(String::from("no"));
///         *response.status_mut() = denial.status();
///         tower_authz::reject::headers(denial, response.headers_mut());
///         response
///     });
/// # drop(layer);
/// ```
///
/// An implementation of your own must follow two rules: a 401 does not disclose its cause, because that would show an
/// attacker which keys exist; and a [concealed](Denial::is_concealed) denial looks like a route that does not exist.
///
/// A rejection that looks at the request as well, its `Accept` or its `X-Request-Id`, is wrapped in [`WithRequest`].
///
/// In every dialect a refusal has `Cache-Control: no-store`. With the feature `axum` it also has two headers that axum
/// would otherwise add on the paths of routes only, which would disclose the routes that exist: `Content-Length` (for
/// a `HEAD`, that of the `GET`) and `Allow`, which is the same for all routes unless it is that of a 405. An outer
/// layer that replaces the body of a refusal must replace its `Content-Length` as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot render denials into responses with body `{B}`",
    note = "`Problem` needs a body that is `From<bytes::Bytes>`, `Empty` one that is `Default`, as does `Grpc::new().otherwise(Empty)`; a closure is `Fn(&Denial) -> Response<{B}>`, and in `WithRequest::new(closure)` it has `denial.request()`",
    note = "a layer that changes the body, as compression does, belongs outside of the gate; or put `MapResponseBodyLayer::new(axum::body::Body::new)` of tower-http between the two, which makes it the body of the server again"
)]
pub trait Reject<B>: Send + Sync + 'static {
    /// Renders the response. Afterwards the headers that every refusal has are added, and the denial is put into the
    /// extensions.
    fn reject(&self, denial: &Denial) -> Response<B>;

    /// Whether the rejection looks at [`Denial::request`]. The default is `false`: the request is then not kept. Overriding
    /// this is for types; a closure, and any other rejection, is wrapped in [`WithRequest`].
    ///
    /// It is asked for each request, before anything is decided, and has to return the same each time.
    fn sees_request(&self) -> bool {
        false
    }

    /// The body of that response, if the whole of it is the same each time for this denial: a flood of bad keys is then
    /// answered with copies. Only dialects of this crate know that; a response of your own is rendered each time.
    #[doc(hidden)]
    fn constant_body(&self, denial: &Denial) -> Option<B> {
        let _ = denial;
        None
    }
}

impl<B, F> Reject<B> for F
where
    F: Fn(&Denial) -> Response<B> + Send + Sync + 'static,
{
    fn reject(&self, denial: &Denial) -> Response<B> {
        self(denial)
    }
}

/// Sets the headers that belong to a denial in every dialect: `WWW-Authenticate` with a 401 and with the 403 of a
/// bearer token, `Retry-After` with a 503, `Allow` with a 405.
pub fn headers(denial: &Denial, headers: &mut HeaderMap) {
    if let Some(challenge) = denial.challenge() {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(wait) = denial.retry_after() {
        headers.insert(RETRY_AFTER, wait.as_secs().max(1).into());
    }
    if let Cause::MethodNotAllowed { allow } = denial.cause()
        && !denial.is_concealed()
        && let Ok(allow) = allow.parse()
    {
        headers.insert(ALLOW, allow);
    }
}

/// A JSON response with the status and the headers of the denial.
fn json<B: From<Bytes>>(denial: &Denial, body: Vec<u8>) -> Response<B> {
    // A response to HEAD has no content (RFC 9110 section 9.3.2), and over HTTP/2 no server strips it.
    // `Content-Length` is that of the response to GET, and is set here, because code that adds it later sees an empty
    // body.
    let length = body.len();
    let body = if denial.answers_head() { Bytes::new() } else { body.into() };
    let mut response = Response::new(body.into());
    *response.status_mut() = denial.status();
    headers(denial, response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// The bytes of a body. Serializing strings and numbers cannot fail; if it did, the status alone would still refuse the
/// request.
fn serialize(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// The body of a 401, which is the same for all.
fn constant<B: From<Bytes>>(denial: &Denial, unauthorized: &'static [u8]) -> Option<B> {
    let body = || if denial.answers_head() { Bytes::new() } else { Bytes::from_static(unauthorized) };
    (denial.status() == StatusCode::UNAUTHORIZED).then(|| body().into())
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[cfg(feature = "axum")]
const ALLOW_STANDARD_METHODS: HeaderValue = HeaderValue::from_static(crate::check::permission::STANDARD_METHODS);

/// Renders the denial, and puts it into the extensions of the response.
#[cold]
pub(crate) fn refuse<B: 'static>(reject: &impl Reject<B>, denial: Denial) -> Response<B> {
    record(&denial);
    let mut response = reject.reject(&denial);
    complete(&mut response, &denial);
    // A layer that logs refusals has the request, and the copy would live as long as the response.
    response.extensions_mut().insert(denial.without_request());
    response
}

/// Logs and counts a refusal.
pub(crate) fn record(denial: &Denial) {
    Refusal {
        key_id: denial.key_id().map(KeyId::as_str),
        route: denial.route(),
        status: denial.status().as_u16(),
        cause: denial.cause().code(),
        causes: denial.causes().map(Cause::code),
        reason: denial,
    }
    .record();
}

/// Adds the headers that every refusal has, in any dialect.
pub(crate) fn complete<B: 'static>(response: &mut Response<B>, denial: &Denial) {
    // Caches must not keep a refusal: the next request may have a key, or its key more permissions.
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    as_without_route(response, denial);
}

/// Sets the headers that axum adds to the responses of a route, our refusals included. To the responses of a fallback
/// axum does not add them, or adds other values, and the difference would disclose that the route exists. axum does
/// not replace a header that is set.
#[cfg(feature = "axum")]
fn as_without_route<B: 'static>(response: &mut Response<B>, denial: &Denial) {
    use http_body::Body as _;
    let body: &mut dyn std::any::Any = response.body_mut();
    if let Some(body) = body.downcast_mut::<axum::body::Body>()
        && let Some(length) = body.size_hint().exact()
    {
        // Some dialects write a body for HEAD as well, which must be removed.
        if denial.answers_head() {
            *body = axum::body::Body::empty();
        }
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    // Otherwise axum would list the methods of the route if the request has another method.
    response.headers_mut().entry(ALLOW).or_insert(ALLOW_STANDARD_METHODS);
}

#[cfg(not(feature = "axum"))]
const fn as_without_route<B>(_: &mut Response<B>, _: &Denial) {}

/// Marks a response that a handler made from a denial. The layer around the handler renders the denial again, in the
/// dialect of the API.
#[derive(Clone, Copy)]
pub(crate) struct HandlerDenial;
