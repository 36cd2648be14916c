use http::Response;

use crate::{denial::Denial, reject::Reject};

/// Lets a rejection see the request that it refuses: [`Denial::request`] then returns its method, URI and headers, without
/// credentials.
///
/// It wraps a closure or any other [`Reject`], for each layer that is to see requests: [`Authz`](crate::Authz),
/// [`AuthenticateLayer`](crate::AuthenticateLayer), [`RequireLayer`](crate::RequireLayer). As a request may also be refused
/// after its handler has consumed it, each request costs a copy of its headers then; and a flood of bad keys is
/// answered one by one, and not with copies.
///
/// A [`Denial`] that comes from elsewhere has no request, so a rejection must be able to do without.
///
/// # Example
/// A page for browsers, JSON for programs, and in both the id of the request, by which support finds it in the log:
/// ```
/// use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
/// use tower_authz::{Authz, Denial, Policy, reject::{self, WithRequest}, store::MemoryStore};
/// # use std::convert::Infallible;
/// # use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// fn reject(denial: &Denial) -> Response<String> {
///     let header = |name: &str| denial.request()?.headers().get(name)?.to_str().ok();
///     // Only ids that need no escaping, whatever the format, are repeated.
///     let is_id = |id: &&str| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
///     let id = header("x-request-id").filter(is_id).unwrap_or("none");
///     let (code, title) = (denial.public_code(), denial.status());
///     let (kind, body) = match header("accept").is_some_and(|accept| accept.contains("text/html")) {
///         true => ("text/html", format!("<h1>{title}</h1><p>Request {id}</p>")),
///         false => ("application/json", format!(r#"{{"code":"{code}","request_id":"{id}"}}"#)),
///     };
///     let mut response = Response::new(if denial.answers_head() { String::new() } else { body });
///     *response.status_mut() = denial.status();
///     response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
///     reject::headers(denial, response.headers_mut());
///     response
/// }
///
/// let authz = Authz::new(MemoryStore::new(), Policy::builder().build()?).with_rejection(WithRequest::new(reject));
/// # let service = authz.layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new()))));
/// # futures::executor::block_on(async {
/// let request = Request::get("/orders").header("x-request-id", "7f3a");
/// let response = service.clone().oneshot(request.body(()).unwrap()).await.unwrap();
/// assert_eq!(response.body(), r#"{"code":"invalid_api_key","request_id":"7f3a"}"#);
///
/// let request = Request::get("/orders").header("x-request-id", "7f3b").header("accept", "text/html,*/*;q=0.8");
/// let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
/// assert_eq!(response.body(), "<h1>401 Unauthorized</h1><p>Request 7f3b</p>");
/// # });
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WithRequest<R> {
    rejection: R,
}

impl<R> WithRequest<R> {
    /// Wraps this rejection.
    #[must_use]
    pub const fn new(rejection: R) -> Self {
        Self { rejection }
    }
}

impl<B, R: Reject<B>> Reject<B> for WithRequest<R> {
    fn reject(&self, denial: &Denial) -> Response<B> {
        self.rejection.reject(denial)
    }

    fn sees_request(&self) -> bool {
        true
    }
}
