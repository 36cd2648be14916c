use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header::AUTHORIZATION};
use tower::Service;
use tower_layer::Layer;

use crate::{
    client::{ApiUrl, credentials::check_key},
    error::ConfigError,
    key::ApiKey,
};

/// Attaches an API key to requests that go to its API, and to no others.
///
/// A request whose URI has the scheme, host and port of the [`ApiUrl`] gets the key, which replaces the values that
/// the request has in that header. Any other request is forwarded without the key: one to another host or port, over
/// plain HTTP instead of HTTPS, with a user name before the host, or with another spelling of the host (only the case
/// of letters is ignored). If such a request has the same header with the same value, copied by an outer layer, the
/// copy is removed; other values stay.
///
/// A request without scheme and host in its URI, which is the form that connections send, gets no key either: its
/// destination is not known here. Clients of tonic set scheme and host with `with_origin`.
///
/// The key is sent as `Authorization: Bearer <key>`, unless [`header`](Self::header) changes that, and is marked as
/// sensitive: `Debug` of the headers does not show it, and HTTP/2 does not index it.
///
/// # Layer order
/// The layer belongs inside of (nearer to the client than) every layer that sends a request again: first the layer
/// that follows redirects, then this one, then the client. The destination of each hop is then checked. **Outside of
/// such a layer, this one sees only the first request**, and does not control what is copied to the next hop: redirect
/// layers remove `Authorization`, but leave a header like `X-API-Key` in.
///
/// If a chain of redirects leads back to the API, the request to the API carries the key again.
///
/// # Example
/// ```
/// use http::{HeaderName, Request};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
/// use tower_authz::{ApiKey, client::{ApiUrl, AttachLayer}};
///
/// # futures::executor::block_on(async {
/// let url = ApiUrl::https("https://api.example.com")?;
/// let layer = AttachLayer::new(&ApiKey::new("key_0123456789"), &url)?;
/// let client = layer.layer(service_fn(|request: Request<()>| async move {
///     Ok::<_, std::convert::Infallible>(request.headers().contains_key("authorization"))
/// }));
/// assert!(client.clone().oneshot(Request::get("https://api.example.com/orders").body(())?).await?);
/// assert!(!client.clone().oneshot(Request::get("https://evil.test/orders").body(())?).await?);
/// assert!(!client.clone().oneshot(Request::get("http://api.example.com/orders").body(())?).await?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing until it is applied"]
pub struct AttachLayer {
    attached: Arc<Attached>,
    /// The key without an authentication scheme before it, for a custom header.
    bare: HeaderValue,
}

impl AttachLayer {
    /// Attaches this key to requests to this API, as a bearer token.
    ///
    /// # Errors
    /// Returns an error if the key is empty, or has characters other than visible ASCII. The error does not quote the
    /// key.
    pub fn new(key: &ApiKey, api_url: &ApiUrl) -> Result<Self, ConfigError> {
        check_key(key)?;
        let bearer = zeroize::Zeroizing::new(format!("Bearer {}", key.expose()));
        let attached = Attached { api_url: api_url.clone(), header: AUTHORIZATION, value: sensitive(&bearer)? };
        Ok(Self { attached: Arc::new(attached), bare: sensitive(key.expose())? })
    }

    /// Sends the bare key in a custom header instead, such as `X-API-Key` or `X-Access-Token`.
    ///
    /// # Example
    /// ```
    /// use http::HeaderName;
    /// use tower_authz::{ApiKey, client::{ApiUrl, AttachLayer}};
    ///
    /// let url = ApiUrl::https("https://acme-live.admin.api.example.com")?;
    /// let layer = AttachLayer::new(&ApiKey::new("key_0123456789"), &url)?
    ///     .header(HeaderName::from_static("x-access-token"));
    /// assert!(!format!("{layer:?}").contains("0123456789"));
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn header(self, name: HeaderName) -> Self {
        let attached = Attached { api_url: self.attached.api_url.clone(), header: name, value: self.bare.clone() };
        Self { attached: Arc::new(attached), bare: self.bare }
    }
}

fn sensitive(value: &str) -> Result<HeaderValue, ConfigError> {
    let value = HeaderValue::from_str(value);
    let mut value = value.map_err(|_| ConfigError::new("the API key is not a valid header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl<S> Layer<S> for AttachLayer {
    type Service = Attach<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Attach { inner, attached: Arc::clone(&self.attached) }
    }
}

impl fmt::Debug for AttachLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attached { api_url, header, .. } = &*self.attached;
        f.debug_struct("AttachLayer").field("api_url", api_url).field("header", header).finish_non_exhaustive()
    }
}

/// The state that all clones of a service share.
struct Attached {
    api_url: ApiUrl,
    header: HeaderName,
    value: HeaderValue,
}

impl Attached {
    fn attach(&self, headers: &mut HeaderMap) {
        // `insert` panics if the map is full (it has room for 32768 entries). Without the key, the API refuses the
        // request.
        let _ = headers.try_insert(&self.header, self.value.clone());
    }

    fn take_out(&self, headers: &mut HeaderMap) {
        let is_ours = |line: &HeaderValue| *line == self.value;
        if !headers.get_all(&self.header).iter().any(is_ours) {
            return;
        }
        let others: Vec<_> = headers.get_all(&self.header).iter().filter(|line| !is_ours(line)).cloned().collect();
        headers.remove(&self.header);
        for line in others {
            let _ = headers.try_append(&self.header, line);
        }
    }
}

/// The service of an [`AttachLayer`].
#[derive(Clone)]
pub struct Attach<S> {
    inner: S,
    attached: Arc<Attached>,
}

impl<S> Attach<S> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: fmt::Debug> fmt::Debug for Attach<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attach").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for Attach<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if self.attached.api_url.covers(request.uri()) {
            self.attached.attach(request.headers_mut());
        } else {
            self.attached.take_out(request.headers_mut());
        }
        self.inner.call(request)
    }
}
