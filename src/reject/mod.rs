//! How a denial is said: the response that a client gets.

mod empty;
mod grpc;
mod logic64;
mod logik;
mod problem;
mod scayle;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

pub use self::{empty::Empty, grpc::Grpc, logic64::Logic64, logik::Logik, problem::Problem, scayle::Scayle};
use crate::{Denial, denial::Cause};

/// Turns a [`Denial`] into a response, in the dialect that the API speaks.
///
/// [`Problem`] is the default. A closure works too:
///
/// ```
/// use http::Response;
/// use tower_authz::{AuthenticateLayer, Denial, store::MemoryStore};
///
/// let layer = AuthenticateLayer::new(MemoryStore::new())
///     .with_reject(|denial: &Denial| {
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot render denials into responses with body `{B}`",
    note = "`Problem` needs a body that is `From<bytes::Bytes>`, `Empty` one that is `Default`; a closure is `Fn(&Denial) -> Response<{B}>`"
)]
pub trait Reject<B>: Send + Sync + 'static {
    /// The response. The denial is put into its extensions afterwards.
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
    // A response to HEAD has no content (RFC 9110 section 9.3.2), and over HTTP/2 nobody else takes it away.
    let body = if denial.answers_head() { Bytes::new() } else { body.into() };
    let mut response = Response::new(body.into());
    *response.status_mut() = denial.status();
    headers(denial, response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

const ALL_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");

/// Renders the denial and lets it ride in the response.
#[cold]
pub(crate) fn refuse<B>(reject: &impl Reject<B>, denial: Denial) -> Response<B> {
    crate::trace::denied(&denial);
    let mut response = reject.reject(&denial);
    if cfg!(feature = "axum") && matches!(denial.status(), StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) {
        // axum adds the methods of a route to every response to another method, ours included: they would tell
        // who may not know it that the route exists. It leaves a header alone that is there already.
        response.headers_mut().entry(ALLOW).or_insert(ALL_METHODS);
    }
    response.extensions_mut().insert(denial);
    response
}

/// Marks a response that a handler made of a denial: the layer around it renders the denial again,
/// in the dialect of the API.
#[derive(Clone, Copy)]
pub(crate) struct Raised;
