use http::{HeaderValue, Response, header::CONTENT_LENGTH};

use crate::{denial::Denial, reject::Reject};

/// Renders a denial as a status and headers, without a body.
///
/// # Example
/// ```
/// use http::Response;
/// use tower_authz::{Denial, Reject, reject::Empty};
///
/// let response: Response<String> = Empty.reject(&Denial::refused("not on Sundays"));
/// assert_eq!(response.status(), 403);
/// assert_eq!(response.body(), "");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Empty;

impl<B: Default> Reject<B> for Empty {
    fn reject(&self, denial: &Denial) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = denial.status();
        super::headers(denial, response.headers_mut());
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        response
    }

    fn constant_body(&self, _: &Denial) -> Option<B> {
        Some(B::default())
    }
}
