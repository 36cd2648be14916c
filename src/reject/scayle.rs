use std::sync::LazyLock;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::{
    denial::{Cause, Denial},
    reject::{Reject, constant, json, serialize},
};

/// Renders a denial in the style of the SCAYLE Admin API: `{"errors":[{"errorKey","message","context"}]}`.
///
/// The public pages of that API document the envelope, but not the keys of 401 and 403; those here are defined by this
/// crate.
///
/// # Example
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_authz::{Denial, Reject, reject::Scayle};
///
/// let response: Response<Bytes> = Scayle.reject(&Denial::refused("not on Sundays"));
/// assert_eq!(
///     response.body(),
///     br#"{"errors":[{"errorKey":"FORBIDDEN","message":"not on Sundays","context":{"cause":"refused"}}]}"#.as_slice(),
/// );
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Scayle;

impl<B: From<Bytes>> Reject<B> for Scayle {
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
        errors: [Error<'a>; 1],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Error<'a> {
        error_key: &'a str,
        message: &'a str,
        context: Context<'a>,
    }
    #[derive(Serialize)]
    struct Context<'a> {
        cause: &'a str,
    }
    let error_key = match denial.status() {
        StatusCode::BAD_REQUEST => "BAD_REQUEST",
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "FORBIDDEN",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
        StatusCode::SERVICE_UNAVAILABLE => "SERVICE_UNAVAILABLE",
        _ => "INTERNAL_SERVER_ERROR",
    };
    let message = denial.public_message();
    serialize(&Body {
        errors: [Error { error_key, message: &message, context: Context { cause: denial.public_code() } }],
    })
}
