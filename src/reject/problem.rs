use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;

use crate::{Denial, Reject};

/// `application/problem+json` as in RFC 9457, the default dialect:
///
/// ```json
/// {"type":"about:blank","title":"Forbidden","status":403,
///  "code":"missing_permission","detail":"the key lacks the permission products:write"}
/// ```
///
/// `code` is a name that programs can rely on. Every 401 has one and the same body.
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

/// The one 401. What a thief learns from it is that the key does not work.
const UNAUTHORIZED: &str = r#"{"type":"about:blank","title":"Unauthorized","status":401,"code":"invalid_api_key","detail":"a valid API key is needed"}"#;

impl<B: From<Bytes>> Reject<B> for Problem {
    fn reject(&self, denial: &Denial) -> Response<B> {
        let mut response = Response::new(body(denial).into());
        *response.status_mut() = denial.status();
        super::headers(denial, response.headers_mut());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

fn body(denial: &Denial) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        title: &'a str,
        status: u16,
        code: &'a str,
        detail: Cow<'a, str>,
    }
    let status = denial.status();
    if status == StatusCode::UNAUTHORIZED {
        return Bytes::from_static(UNAUTHORIZED.as_bytes());
    }
    let (code, detail) = match status {
        // Neither whether the route exists nor why it is hidden.
        StatusCode::NOT_FOUND => ("not_found", Cow::Borrowed("there is nothing here")),
        StatusCode::SERVICE_UNAVAILABLE => ("unavailable", Cow::Borrowed("keys cannot be checked now; try again")),
        // How the server is built is for its developer: in the log always, here in debug builds only.
        StatusCode::INTERNAL_SERVER_ERROR if !cfg!(debug_assertions) => {
            ("internal", Cow::Borrowed("the server cannot decide about this request"))
        }
        _ => (denial.cause().code(), Cow::Owned(denial.cause().to_string())),
    };
    let title = status.canonical_reason().unwrap_or_default();
    let body = Body { r#type: "about:blank", title, status: status.as_u16(), code, detail };
    // Strings and a number always serialize; were it not so, the status alone still refuses.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Cause;

    fn text(cause: Cause) -> String {
        String::from_utf8(body(&cause.into()).to_vec()).unwrap()
    }

    #[test]
    fn every_401_is_the_same() {
        let all = [
            Cause::MissingCredential,
            Cause::MalformedCredential,
            Cause::DuplicateCredential,
            Cause::UnknownKey,
            Cause::NotYetValid,
            Cause::Expired,
            Cause::Revoked,
        ];
        for cause in all {
            assert_eq!(text(cause), UNAUTHORIZED);
        }
        let parsed: serde_json::Value = serde_json::from_str(UNAUTHORIZED).unwrap();
        assert_eq!(parsed["status"], 401);
    }

    #[test]
    fn reasons_are_escaped() {
        let told = text(Cause::Refused("a \"quoted\"\nreason".into()));
        let parsed: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(parsed["detail"], "a \"quoted\"\nreason");
    }

    #[test]
    fn a_hidden_refusal_and_a_missing_rule_look_alike() {
        let hidden = Denial::from(Cause::Refused("secret reason".into())).concealed();
        assert_eq!(body(&hidden), body(&Cause::NoRule.into()));
    }
}
