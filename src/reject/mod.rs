//! How a denial is said: the response that a client gets.

mod empty;
mod grpc;
mod logic64;
mod logik;
mod problem;
mod scayle;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

pub use self::{empty::Empty, grpc::Grpc, logic64::Logic64, logik::Logik, problem::Problem, scayle::Scayle};
use crate::{
    denial::{Cause, Denial},
    key::KeyId,
    telemetry::Refusal,
};

/// Turns a [`Denial`] into a response, in the dialect that the API speaks.
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
/// Two rules for your own: a 401 says nothing of its cause, or it tells a thief which keys exist; and
/// a [concealed](Denial::is_concealed) denial looks like a route that is not there.
///
/// Whatever the dialect, a refusal carries `Cache-Control: no-store`, and with the feature `axum` two headers
/// that axum would otherwise add on the paths of routes only, and so tell which there are: `Content-Length`
/// (to a `HEAD`, that of the `GET`) and `Allow`, which says nothing of the route where it is not that of a
/// 405. A layer further out that replaces the body of a refusal replaces its `Content-Length` as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot render denials into responses with body `{B}`",
    note = "`Problem` needs a body that is `From<bytes::Bytes>`, `Empty` one that is `Default`, as does `Grpc::new().otherwise(Empty)`; a closure is `Fn(&Denial) -> Response<{B}>`"
)]
pub trait Reject<B>: Send + Sync + 'static {
    /// The response. What every refusal carries is added afterwards, and the denial to its extensions.
    fn reject(&self, denial: &Denial) -> Response<B>;
}

impl<B, F> Reject<B> for F
where
    F: Fn(&Denial) -> Response<B> + Send + Sync + 'static,
{
    fn reject(&self, denial: &Denial) -> Response<B> {
        self(denial)
    }
}

/// Sets the headers that belong to a denial whatever its dialect: `WWW-Authenticate` with a 401 and
/// with the 403 of a bearer token, `Retry-After` with a 503, `Allow` with a 405.
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
fn json<B: From<Bytes>>(denial: &Denial, body: &impl Serialize) -> Response<B> {
    // Strings and numbers always serialize; were it not so, the status alone still refuses.
    let body = serde_json::to_vec(body).unwrap_or_default();
    // A response to HEAD has no content (RFC 9110 section 9.3.2), and over HTTP/2 no server strips it.
    // Its length is that of the response to GET, and is said here: whoever adds it later sees an empty body.
    let length = body.len();
    let body = if denial.answers_head() { Bytes::new() } else { body.into() };
    let mut response = Response::new(body.into());
    *response.status_mut() = denial.status();
    headers(denial, response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[cfg(feature = "axum")]
const ALL_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");

/// Renders the denial and lets it ride in the response.
#[cold]
pub(crate) fn refuse<B: 'static>(reject: &impl Reject<B>, denial: Denial) -> Response<B> {
    Refusal {
        key_id: denial.key_id().map(KeyId::as_str),
        route: denial.route(),
        status: denial.status().as_u16(),
        cause: denial.cause().code(),
        causes: denial.causes().map(Cause::code),
        reason: &denial,
    }
    .record();
    let mut response = reject.reject(&denial);
    complete(&mut response, &denial);
    response.extensions_mut().insert(denial);
    response
}

/// What every refusal carries, whatever its dialect makes of it.
pub(crate) fn complete<B: 'static>(response: &mut Response<B>, denial: &Denial) {
    // Who asks next may have a key, or this key more rights.
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    as_without_route(response, denial);
}

/// axum adds headers to what comes from a route, our refusals included, and none or others to what comes from its
/// fallback: they would tell who may not know it that the route exists. It leaves a header alone that is there already.
#[cfg(feature = "axum")]
fn as_without_route<B: 'static>(response: &mut Response<B>, denial: &Denial) {
    use http_body::Body as _;
    let body: &mut dyn std::any::Any = response.body_mut();
    if let Some(body) = body.downcast_mut::<axum::body::Body>()
        && let Some(length) = body.size_hint().exact()
    {
        // Some dialects write a body for HEAD as well.
        if denial.answers_head() {
            *body = axum::body::Body::empty();
        }
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    // The methods of the route, to a request with another method.
    response.headers_mut().entry(ALLOW).or_insert(ALL_METHODS);
}

#[cfg(not(feature = "axum"))]
const fn as_without_route<B>(_: &mut Response<B>, _: &Denial) {}

/// Marks a response that a handler made of a denial: the layer around it renders the denial again,
/// in the dialect of the API.
#[derive(Clone, Copy)]
pub(crate) struct HandlerDenial;
