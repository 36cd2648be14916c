use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{Denial, Reject};

/// gRPC: a trailers-only response, HTTP 200 with `grpc-status` and `grpc-message` among the headers, as
/// the gRPC protocol over HTTP/2 has it.
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
/// ```
/// use http::Response;
/// use tower_authz::{Denial, Reject, reject::Grpc};
///
/// let response: Response<String> = Grpc.reject(&Denial::refused("50% off only"));
/// assert_eq!(response.headers()["grpc-status"], "7");
/// assert_eq!(response.headers()["grpc-message"], "50%25 off only");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Grpc;

impl<B: Default> Reject<B> for Grpc {
    fn reject(&self, denial: &Denial) -> Response<B> {
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
}

/// `grpc-message` is percent-encoded but for visible ASCII and spaces, and `%` itself always.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
