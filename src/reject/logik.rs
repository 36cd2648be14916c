use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::{
    denial::Denial,
    reject::{Empty, Reject, json, serialize},
};

/// Renders a denial in the style of the Logik.io API: 401 and 403 are empty, and all other responses are
/// `{"errorCode","errorMessage","timestamp"}`.
///
/// # Example
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_authz::{Denial, Reject, reject::Logik};
///
/// let response: Response<Bytes> = Logik.reject(&Denial::refused("not on Sundays"));
/// assert_eq!((response.status().as_u16(), response.body().len()), (403, 0));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Logik;

impl<B: From<Bytes> + Default> Reject<B> for Logik {
    fn reject(&self, denial: &Denial) -> Response<B> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            error_code: &'a str,
            error_message: &'a str,
            timestamp: String,
        }
        if matches!(denial.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Empty.reject(denial);
        }
        let error_code = denial.public_code();
        let error_message = &denial.public_message();
        // Truncate to seconds: the length of the response would vary with the digits of a fraction.
        let timestamp = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        json(denial, serialize(&Body { error_code, error_message, timestamp }))
    }

    fn constant_body(&self, denial: &Denial) -> Option<B> {
        (denial.status() == StatusCode::UNAUTHORIZED).then(B::default)
    }
}
