//! A store error as a response, for handlers that manage keys.

use axum::{
    body::Body,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};

use crate::{
    reject::problem_body,
    store::{StoreError, StoreErrorKind},
};

/// `application/problem+json` with a status by the [kind](StoreError::kind), so that a handler that manages keys can
/// return the error as it is:
///
/// | kind | status | `code` |
/// |---|---|---|
/// | `Invalid` | 400 | `invalid` |
/// | `Forbidden` | 403 | `forbidden` |
/// | `NotFound` | 404 | `not_found` |
/// | `Conflict` | 409 | `conflict` |
/// | `Unreadable` | 500 | `unreadable_record` |
/// | `Unavailable` | 503 with `Retry-After` | `store_unavailable` |
///
/// `detail` is the message of the first four, which is about the request. That of the others is about the server, a path
/// or the address of a database, and is kept from the client; so is a message with a word that looks like a key. The error
/// itself is in the extensions of the response, for logs. Nothing of it is cached.
///
/// # Example
/// ```
/// use axum::{extract::{Path, State}, http::StatusCode};
/// use tower_authz::store::{KeyAdmin, MemoryStore, StoreError};
///
/// async fn revoke(State(store): State<MemoryStore>, Path(id): Path<String>) -> Result<StatusCode, StoreError> {
///     let id = id.parse().map_err(|_| StoreError::not_found("there is no key with this id"))?;
///     store.as_actor("the admin page").revoke(&id, "").await?;
///     Ok(StatusCode::NO_CONTENT)
/// }
/// # let _: axum::Router<()> = axum::Router::new().route("/keys/{id}", axum::routing::delete(revoke)).with_state(MemoryStore::new());
/// ```
impl IntoResponse for StoreError {
    fn into_response(self) -> Response {
        let (status, code, general) = match self.kind() {
            StoreErrorKind::Invalid => (StatusCode::BAD_REQUEST, "invalid", "the request is not valid"),
            StoreErrorKind::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "the change goes beyond what you may do"),
            StoreErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found", "there is no key with this id"),
            StoreErrorKind::Conflict => {
                (StatusCode::CONFLICT, "conflict", "the change is not possible as things stand")
            }
            StoreErrorKind::Unreadable => {
                (StatusCode::INTERNAL_SERVER_ERROR, "unreadable_record", "the record of this key cannot be read")
            }
            StoreErrorKind::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "the key store is temporarily unavailable")
            }
        };
        let message = self.to_string();
        let is_withheld = status.is_server_error() || message.split_whitespace().any(looks_like_a_key);
        let detail = if is_withheld { general } else { &message };
        let mut response = Response::new(Body::from(problem_body(status, code, detail)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, self.retry_after().as_secs().max(1).into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// An error about a text may quote it, and somebody may have put a whole key there. The ids of keys are shorter.
fn looks_like_a_key(word: &str) -> bool {
    word.len() >= 32
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::executor::block_on;

    use super::*;

    fn rendered(error: StoreError) -> (StatusCode, Response, serde_json::Value) {
        let (parts, body) = error.into_response().into_parts();
        let body = block_on(axum::body::to_bytes(body, 10_000)).unwrap();
        let value = serde_json::from_slice(&body).unwrap();
        (parts.status, Response::from_parts(parts, Body::empty()), value)
    }

    #[test]
    fn the_kind_decides_the_status() {
        for (error, status, code) in [
            (StoreError::invalid("name: is required"), 400, "invalid"),
            (StoreError::forbidden("the permission a:write is beyond"), 403, "forbidden"),
            (StoreError::not_found("there is no key k"), 404, "not_found"),
            (StoreError::conflict("the key k is revoked"), 409, "conflict"),
            (StoreError::unreadable("secret"), 500, "unreadable_record"),
            (StoreError::unavailable("secret"), 503, "store_unavailable"),
        ] {
            let message = error.to_string();
            let (is, response, body) = rendered(error);
            assert_eq!((is.as_u16(), &body["status"], &body["code"]), (status, &status.into(), &code.into()));
            assert_eq!(body["type"], "about:blank");
            assert_eq!(body["title"], is.canonical_reason().unwrap());
            assert_eq!(body["detail"] == message, status < 500, "{body}");
            assert!(!body.to_string().contains("secret"));
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503);
            assert_eq!(response.extensions().get::<StoreError>().unwrap().to_string(), message);
        }
    }

    #[test]
    fn a_client_waits_as_long_as_the_store_says() {
        for (wait, header) in [(Duration::ZERO, "1"), (Duration::from_secs(1), "1"), (Duration::from_secs(90), "90")] {
            let (_, response, _) = rendered(StoreError::unavailable("down").with_retry_after(wait));
            assert_eq!(response.headers()["retry-after"], header);
        }
    }

    #[test]
    fn what_looks_like_a_key_is_not_repeated() {
        let key = "key_3jWz9Qb2Lx_0123456789abcdefABCDEF0123456";
        for message in [format!("{key:?} is not an id"), format!("name: ({key})")] {
            let (_, _, body) = rendered(StoreError::invalid(message));
            assert_eq!(body["detail"], "the request is not valid");
        }
    }
}
