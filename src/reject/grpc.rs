use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{
    denial::Denial,
    reject::{Problem, Reject},
};

/// Renders a denial for gRPC: a trailers-only response, HTTP 200 with `grpc-status` and `grpc-message` among the
/// headers, as the gRPC protocol over HTTP/2 requires. This applies to gRPC calls only ([`Denial::answers_grpc`]): any
/// other request is refused in another dialect, by default [`Problem`], with the status that its client expects.
///
/// | HTTP | gRPC |
/// |---|---|
/// | 400 | 3 `INVALID_ARGUMENT` |
/// | 401 | 16 `UNAUTHENTICATED` |
/// | 403 | 7 `PERMISSION_DENIED` |
/// | 404 | 5 `NOT_FOUND`, the same for a missing rule and for a refusal that a rule conceals |
/// | 405 | 12 `UNIMPLEMENTED` |
/// | 503 | 14 `UNAVAILABLE` |
/// | else | 13 `INTERNAL` |
///
/// # Example
/// A body of tonic cannot be made from text, so this server answers requests other than gRPC without a body:
/// ```
/// # use std::convert::Infallible;
/// use http::{Request, Response};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
/// use tower_authz::{
///     Denial, Head, RequireLayer,
///     reject::{Empty, Grpc},
/// };
/// # futures::executor::block_on(async {
/// let layer = RequireLayer::new(|_: &Head<'_>| Err::<(), _>(Denial::refused("50% off only")))
///     .with_rejection(Grpc::new().otherwise(Empty));
/// let service = layer.layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(()))));
///
/// let call = Request::post("/shop.Orders/Create").header("content-type", "application/grpc");
/// let response = service.clone().oneshot(call.body(()).unwrap()).await.unwrap();
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.headers()["grpc-status"], "7");
/// assert_eq!(response.headers()["grpc-message"], "50%25 off only");
///
/// let response = service.oneshot(Request::get("/orders").body(()).unwrap()).await.unwrap();
/// assert_eq!(response.status(), 403);
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc<D = Problem> {
    otherwise: D,
}

impl Grpc {
    /// Renders denials of gRPC calls for gRPC, and all others with [`Problem`].
    #[must_use]
    pub const fn new() -> Self {
        Self { otherwise: Problem }
    }
}

impl<D> Grpc<D> {
    /// Sets the dialect for requests that are not gRPC calls.
    #[must_use]
    pub fn otherwise<D2>(self, dialect: D2) -> Grpc<D2> {
        Grpc { otherwise: dialect }
    }
}

impl<B: Default, D: Reject<B>> Reject<B> for Grpc<D> {
    fn reject(&self, denial: &Denial) -> Response<B> {
        if !denial.answers_grpc() {
            return self.otherwise.reject(denial);
        }
        let status = match denial.status() {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::UNAUTHORIZED => 16,
            StatusCode::FORBIDDEN => 7,
            StatusCode::NOT_FOUND => 5,
            StatusCode::METHOD_NOT_ALLOWED => 12,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            _ => 13_u16,
        };
        let mut response = Response::new(B::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("grpc-status"), status.into());
        let message = utf8_percent_encode(&denial.public_message(), MESSAGE).to_string();
        if let Ok(message) = HeaderValue::try_from(message) {
            headers.insert(HeaderName::from_static("grpc-message"), message);
        }
        response
    }

    fn sees_request(&self) -> bool {
        self.otherwise.sees_request()
    }

    fn constant_body(&self, denial: &Denial) -> Option<B> {
        if denial.answers_grpc() { Some(B::default()) } else { self.otherwise.constant_body(denial) }
    }
}

/// The bytes that are percent-encoded in `grpc-message`: `%`, and all but visible ASCII and spaces.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
