//! The reasons for which a request is refused.

mod cause;
mod form;
mod request;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};

pub use self::{cause::Cause, request::RejectedRequest};
pub(crate) use self::{cause::status, form::Form};
use crate::{key::KeyId, name::Name};

/// The reasons for which a request is refused: one cause for every check that failed. The first of them is shown.
///
/// A [`Reject`](crate::Reject) renders it. It is also in the extensions of the response, where a logging layer finds
/// it:
///
/// ```
/// # use http::Response;
/// use tower_authz::Denial;
///
/// fn log<B>(response: &Response<B>) {
///     if let Some(denial) = response.extensions().get::<Denial>() {
///         eprintln!("refused: {denial}");
///     }
/// }
/// # log(&Response::new(()));
/// ```
///
/// A custom check creates one with [`refused`](Self::refused).
#[derive(Clone, Debug)]
pub struct Denial {
    inner: Arc<Inner>,
    /// Beside what clones share: a refusal that is sent many times is about many routes.
    route: Option<Name>,
}

#[derive(Clone, Debug)]
struct Inner {
    first: Cause,
    rest: Vec<Cause>,
    context: Context,
    concealed: bool,
    retry_after: Duration,
}

/// The facts about a request that are known when it is refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) key: Option<KeyId>,
    /// The value of `WWW-Authenticate` in a 401.
    pub(crate) challenge: Option<HeaderValue>,
    /// Whether the key was sent as a bearer token.
    pub(crate) bearer: bool,
    pub(crate) form: Form,
    /// The request, if the rejection asks for it.
    pub(crate) request: Option<Arc<RejectedRequest>>,
    /// The pattern of a rule that would cover the route, were it not for what the route has in front of it.
    pub(crate) unprefixed: Option<Name>,
}

impl Context {
    /// The context of every denial to one key.
    pub(crate) fn of_key(id: &KeyId, bearer: bool) -> Self {
        Self { key: Some(id.clone()), bearer, ..Self::default() }
    }
}

impl Denial {
    /// The denial of a custom check: 403, with this reason in the log and the response. In a handler, prefer
    /// [`Principal::refuse`](crate::Principal::refuse), which knows the key and the rule.
    pub fn refused(why: impl Into<Cow<'static, str>>) -> Self {
        Cause::Refused(why.into()).into()
    }

    /// A 404 that has the same bytes as the response to a request for no route, or for a route that a
    /// [concealed](crate::Rule::concealed) rule hides: for a handler of a public route, and for the fallback of a
    /// router. If there is a key, use [`Principal::not_found`](crate::Principal::not_found).
    ///
    /// # Example
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::Router;
    /// use tower_authz::Denial;
    ///
    /// let app: Router = Router::new().fallback(|| async { Denial::not_found() });
    /// # drop(app);
    /// # }
    /// ```
    #[must_use]
    pub fn not_found() -> Self {
        Cause::NotFound.into()
    }

    /// All causes, in the fixed order.
    pub fn causes(&self) -> impl Iterator<Item = &Cause> + Clone {
        std::iter::once(&self.inner.first).chain(&self.inner.rest)
    }

    /// The first cause, which is the one that is shown.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.inner.first
    }

    /// The status of the response: that of the first cause, or 404 if a rule hides a 400, 403 or 405.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        if self.is_concealed() { StatusCode::NOT_FOUND } else { self.inner.first.status() }
    }

    /// Whether a rule hides the refusal behind a 404. The response must then disclose no more than that.
    #[must_use]
    pub fn is_concealed(&self) -> bool {
        // A 400 for a malformed id and a 405 for a method would disclose the route as a 403 would.
        let telling = matches!(
            self.inner.first.status(),
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED
        );
        self.inner.concealed && telling
    }

    /// The id of the key that was used, once it has been found.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        self.inner.context.key.as_ref()
    }

    /// The pattern of the route, once it is known: that of the rule, or else that which axum has matched. It is for logs: a
    /// response with it would disclose which routes exist.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.route.as_ref().map(Name::as_str)
    }

    /// The request that is refused, without its credentials, for rejections that ask for it: see
    /// [`WithRequest`](crate::reject::WithRequest). `None` for all others, and in the extensions of the response: a layer
    /// that logs a refusal has the request itself.
    #[must_use]
    pub fn request(&self) -> Option<&RejectedRequest> {
        self.inner.context.request.as_deref()
    }

    /// A message that a client may see. It does not disclose why a key is invalid, what a concealed rule hides, or how
    /// the server is built. In debug builds, the message of a 500 explains a misconfiguration to the developer.
    #[must_use]
    pub fn public_message(&self) -> Cow<'_, str> {
        match self.status() {
            StatusCode::UNAUTHORIZED => "a valid API key is required".into(),
            StatusCode::NOT_FOUND => "not found".into(),
            StatusCode::SERVICE_UNAVAILABLE => "API key verification is temporarily unavailable".into(),
            StatusCode::INTERNAL_SERVER_ERROR if !self.is_for_the_developer() => "the server cannot decide".into(),
            _ => self.inner.first.to_string().into(),
        }
    }

    /// Whether the request was a `HEAD`. The response must then have no body.
    #[must_use]
    pub fn answers_head(&self) -> bool {
        self.inner.context.form == Form::Head
    }

    /// Whether the request was a gRPC call (a `POST` whose content type begins with `application/grpc`). Its client
    /// then understands no other response than that of [`Grpc`](crate::reject::Grpc).
    #[must_use]
    pub fn answers_grpc(&self) -> bool {
        self.inner.context.form == Form::Grpc
    }

    /// Whether the server is misconfigured, and this is a debug build, in which the developer may see the cause.
    fn is_for_the_developer(&self) -> bool {
        cfg!(debug_assertions) && matches!(self.inner.first, Cause::Misconfigured(_) | Cause::ObligationUnmet(_))
    }

    /// A [code](Cause::code) that a client may see, and that programs can rely on.
    #[must_use]
    pub fn public_code(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "invalid_api_key",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            StatusCode::INTERNAL_SERVER_ERROR if !self.is_for_the_developer() => "internal",
            _ => self.inner.first.code(),
        }
    }

    /// The value of `WWW-Authenticate`: a challenge with a 401, and with a 403 to a bearer token the scope that is
    /// missing (RFC 6750 section 3.1). It is `None` for all other statuses.
    #[must_use]
    pub fn challenge(&self) -> Option<HeaderValue> {
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                let default = || HeaderValue::from_static(r#"Bearer realm="api""#);
                Some(self.inner.context.challenge.clone().unwrap_or_else(default))
            }
            StatusCode::FORBIDDEN if self.inner.context.bearer => Some(insufficient_scope(&self.inner.first)),
            _ => None,
        }
    }

    /// The time that a client should wait before it tries again: for `Retry-After` with a 503.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(self.inner.retry_after)
    }

    /// Adds a cause at its position in the fixed order.
    #[cold]
    #[must_use]
    pub fn and(mut self, cause: Cause) -> Self {
        let inner = self.inner_mut();
        let later = if cause.rank() < inner.first.rank() { std::mem::replace(&mut inner.first, cause) } else { cause };
        let position = inner.rest.partition_point(|known| known.rank() <= later.rank());
        inner.rest.insert(position, later);
        self
    }

    /// Clones are shared until one of them is changed: a ready refusal is sent many times.
    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.inner)
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        let Inner { first, rest, concealed, .. } = Arc::unwrap_or_clone(other.inner);
        self.route = self.route.take().or(other.route);
        self.inner_mut().concealed |= concealed;
        rest.into_iter().fold(self.and(first), Self::and)
    }

    pub(crate) fn concealed(mut self) -> Self {
        self.inner_mut().concealed = true;
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.inner_mut().retry_after = wait;
        self
    }

    /// Adds the pattern of the route, if the denial does not name one yet.
    pub(crate) fn on_route(mut self, route: Option<Name>) -> Self {
        self.set_route(route);
        self
    }

    /// The same in place.
    pub(crate) fn set_route(&mut self, route: Option<Name>) {
        if self.route.is_none() {
            self.route = route;
        }
    }

    /// The same denial for another route.
    pub(crate) fn about(&self, route: Option<Name>) -> Self {
        Self { inner: Arc::clone(&self.inner), route }
    }

    /// Adds the facts about the request that the denial does not have yet.
    #[cold]
    pub(crate) fn in_context(mut self, context: Context) -> Self {
        let known = &mut self.inner_mut().context;
        if known.key.is_none() {
            known.key = context.key;
        }
        known.challenge = known.challenge.take().or(context.challenge);
        known.bearer |= context.bearer;
        if known.form == Form::Usual {
            known.form = context.form;
        }
        known.request = known.request.take().or(context.request);
        known.unprefixed = known.unprefixed.take().or(context.unprefixed);
        self
    }

    /// The denial without the request, once it has been rendered.
    pub(crate) fn without_request(mut self) -> Self {
        if self.request().is_some() {
            self.inner_mut().context.request = None;
        }
        self
    }
}

/// RFC 6750 has one error code for every 403. The scope is added if a permission is missing.
fn insufficient_scope(cause: &Cause) -> HeaderValue {
    let plain = HeaderValue::from_static(r#"Bearer realm="api", error="insufficient_scope""#);
    match cause {
        // A scope token must not contain a quote or a backslash (RFC 6749 section 3.3).
        Cause::MissingPermission(permission) if !permission.resource().contains(['"', '\\']) => {
            let text = format!(r#"Bearer realm="api", error="insufficient_scope", scope="{permission}""#);
            HeaderValue::try_from(text).unwrap_or(plain)
        }
        _ => plain,
    }
}

/// Functions on the way to a refusal are marked `#[cold]`, so that the compiler optimizes for requests that are
/// admitted.
impl From<Cause> for Denial {
    #[cold]
    fn from(first: Cause) -> Self {
        let inner = Inner {
            first,
            rest: Vec::new(),
            context: Context::default(),
            concealed: false,
            retry_after: Duration::from_secs(1),
        };
        Self { inner: Arc::new(inner), route: None }
    }
}

/// Formats all causes, for logs: `key l64_abc12345: the key lacks the permission products:write; …`.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = self.key_id() {
            write!(f, "key {key}: ")?;
        }
        write!(f, "{}", self.inner.first)?;
        if let Some(pattern) = &self.inner.context.unprefixed {
            write!(f, "; there is one for {pattern}: does it lack the prefix of a nested router?")?;
        }
        self.inner.rest.iter().try_for_each(|cause| write!(f, "; {cause}"))
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dimension::Dimension, key::Permission};

    #[test]
    fn the_first_in_the_fixed_order_is_shown() {
        let denial = Denial::from(Cause::EntityNotAllowed(Dimension::SHOP))
            .and(Cause::MissingPermission(Permission::write("orders")))
            .and(Cause::AddressNotAllowed);
        let codes: Vec<_> = denial.causes().map(Cause::code).collect();
        assert_eq!(codes, ["missing_permission", "address_not_allowed", "entity_not_allowed"]);
        let merged = denial.merge(Cause::MalformedId(Dimension::SHOP).into());
        assert_eq!(merged.status(), StatusCode::BAD_REQUEST);
        assert_eq!(merged.causes().count(), 4);
    }

    #[test]
    fn concealment_leaves_401_and_503_as_they_are() {
        let hidden = |cause: Cause| Denial::from(cause).concealed().status();
        assert_eq!(hidden(Cause::EntityNotAllowed(Dimension::SHOP)), StatusCode::NOT_FOUND);
        assert_eq!(hidden(Cause::Revoked), StatusCode::UNAUTHORIZED);
        assert_eq!(hidden(Cause::StoreUnavailable { why: "down".into() }), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn names_cannot_break_out_of_the_challenge() {
        let odd = Cause::MissingPermission(Permission::read("a\", error=\"\r\n"));
        assert_eq!(insufficient_scope(&odd), r#"Bearer realm="api", error="insufficient_scope""#);
    }
}
