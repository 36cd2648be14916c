use std::sync::LazyLock;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::{
    denial::{Cause, Denial},
    reject::{Reject, constant, json, serialize},
};

/// Renders a denial in the style of the Logic64 API: `{"code","hint"}`. A 401 is always `INVALID_API_KEY`, with the
/// hint of the API's public page.
///
/// # Example
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_authz::{Denial, Reject, reject::Logic64};
///
/// let response: Response<Bytes> = Logic64.reject(&Denial::refused("not on Sundays"));
/// assert_eq!(response.body(), br#"{"code":"FORBIDDEN","hint":"not on Sundays"}"#.as_slice());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Logic64;

impl<B: From<Bytes>> Reject<B> for Logic64 {
    fn reject(&self, denial: &Denial) -> Response<B> {
        json(denial, body(denial))
    }

    fn constant_body(&self, denial: &Denial) -> Option<B> {
        static UNAUTHORIZED: LazyLock<Vec<u8>> = LazyLock::new(|| body(&Cause::UnknownKey.into()));
        constant(denial, &UNAUTHORIZED)
    }
}

fn body(denial: &Denial) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        code: &'a str,
        hint: &'a str,
    }
    let message = denial.public_message();
    let (code, hint) = match denial.status() {
        StatusCode::UNAUTHORIZED => ("INVALID_API_KEY", "Run: logic64 login"),
        StatusCode::BAD_REQUEST => ("BAD_REQUEST", &*message),
        StatusCode::FORBIDDEN => ("FORBIDDEN", &*message),
        StatusCode::NOT_FOUND => ("NOT_FOUND", &*message),
        StatusCode::METHOD_NOT_ALLOWED => ("METHOD_NOT_ALLOWED", &*message),
        StatusCode::SERVICE_UNAVAILABLE => ("SERVICE_UNAVAILABLE", &*message),
        _ => ("INTERNAL_ERROR", &*message),
    };
    serialize(&Body { code, hint })
}
