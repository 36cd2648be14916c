use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;

use crate::{
    denial::{Cause, Denial},
    reject::{Reject, serialize},
};

/// Renders a denial as `application/problem+json` (RFC 9457). This is the default dialect:
///
/// ```json
/// {"type":"about:blank","title":"Forbidden","status":403,
///  "code":"missing_permission","detail":"the key lacks the permission products:write"}
/// ```
///
/// `code` is a stable name that programs can rely on. Every 401 has the same body.
///
/// # Example
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_authz::{Denial, Reject, reject::Problem};
///
/// let response: Response<Bytes> = Problem.reject(&Denial::refused("not on Sundays"));
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// assert!(response.body().ends_with(br#""detail":"not on Sundays"}"#));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Problem;

impl<B: From<Bytes>> Reject<B> for Problem {
    fn reject(&self, denial: &Denial) -> Response<B> {
        let mut response = super::json(denial, body(denial));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }

    fn constant_body(&self, denial: &Denial) -> Option<B> {
        static UNAUTHORIZED: LazyLock<Vec<u8>> = LazyLock::new(|| body(&Cause::UnknownKey.into()));
        super::constant(denial, &UNAUTHORIZED)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
}

fn body(denial: &Denial) -> Vec<u8> {
    problem_body(denial.status(), denial.public_code(), &denial.public_message())
}

/// A problem of no type but its status and a code.
pub(crate) fn problem_body(status: StatusCode, code: &str, detail: &str) -> Vec<u8> {
    serialize(&Body {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        code,
        detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(denial: Denial) -> String {
        let response: Response<Bytes> = Problem.reject(&denial);
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }

    #[test]
    fn every_401_is_the_same() {
        let all = [
            Cause::MissingCredential,
            Cause::MalformedCredential,
            Cause::DuplicateCredential,
            Cause::UnknownKey,
            Cause::NotYetValid,
            Cause::Suspended,
            Cause::Expired,
            Cause::Revoked,
            Cause::TenantNotAllowed,
        ];
        for cause in all {
            let expected = r#"{"type":"about:blank","title":"Unauthorized","status":401,"code":"invalid_api_key","detail":"a valid API key is required"}"#;
            assert_eq!(text(cause.into()), expected);
        }
    }

    #[test]
    fn reasons_are_escaped() {
        let body = text(Denial::refused("a \"quoted\"\nreason"));
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parsed["detail"], "a \"quoted\"\nreason");
    }

    #[test]
    fn a_hidden_refusal_and_a_missing_rule_look_alike() {
        let hidden = Denial::from(Cause::Refused("secret reason".into())).concealed();
        assert_eq!(text(hidden), text(Cause::NoRule.into()));
    }
}
