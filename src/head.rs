//! A borrowed view of a request: everything that a decision may look at, and nothing of the body.

use std::{borrow::Cow, fmt, time::SystemTime};

use http::{Extensions, HeaderMap, HeaderName, Method, Request, Uri};
use percent_encoding::percent_decode_str;

use crate::{
    bytes::is_plain_path,
    client_address::ClientAddress,
    name::Name,
    principal::Principal,
    route::{
        PathParams, Pattern,
        matched::{self, Rewriting},
    },
};

/// The part of a request that a [`Check`](crate::Check) sees.
///
/// # Example
/// ```
/// use http::Request;
/// use tower_authz::Head;
///
/// let request = Request::get("/products").body(())?;
/// let head = Head::new(&request);
/// assert_eq!(head.path(), "/products");
/// assert!(head.principal().is_none());
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Head<'a> {
    method: &'a Method,
    /// The URI as the innermost service sees it: nested routers strip prefixes.
    inner_uri: &'a Uri,
    uri: &'a Uri,
    /// The path of `uri`.
    path: &'a str,
    /// Whether the path has nothing to decode, and can be read in one way only.
    is_plain: bool,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    /// The pattern of the route, if a policy has matched one.
    pattern: Option<&'a Pattern>,
    /// The positions of its parameters in the path, if they are known.
    params: Option<&'a PathParams>,
    /// The pattern that a router has matched.
    matched: Option<&'a str>,
    in_router: bool,
    /// Whether the router of the policy itself comes next, as in a [`GuardedRouter`](crate::GuardedRouter).
    owns_router: bool,
    /// The URI that arrived at the routers outside of that one, if there are any.
    outer_uri: Option<&'a Uri>,
    principal: Option<&'a Principal>,
    /// The time that the gate decides by, if it is known.
    now: Option<SystemTime>,
}

impl<'a> Head<'a> {
    /// Creates the head of a request. Inside an axum router it knows the matched route.
    #[inline(always)] // it is large, and read right after it was written
    pub fn new<B>(request: &'a Request<B>) -> Self {
        let original = matched::uri(request.extensions());
        let uri = original.unwrap_or(request.uri());
        Self {
            inner_uri: request.uri(),
            matched: matched::pattern(request.extensions()),
            in_router: original.is_some(),
            ..Self::of_parts(request.method(), uri, request.headers(), request.extensions())
        }
    }

    /// Creates the head of a request that the router of the policy gets next. Routers further outside, and the prefixes that
    /// they have stripped, do not matter to it.
    #[inline(always)]
    pub(crate) fn for_own_router<B>(request: &'a Request<B>) -> Self {
        Self {
            owns_router: true,
            outer_uri: matched::uri(request.extensions()),
            ..Self::of_parts(request.method(), request.uri(), request.headers(), request.extensions())
        }
    }

    /// Creates a head that knows nothing of routers, routes and callers.
    #[inline(always)]
    fn of_parts(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap, extensions: &'a Extensions) -> Self {
        let path = uri.path();
        Self {
            method,
            inner_uri: uri,
            uri,
            path,
            is_plain: is_plain_path(path.as_bytes()),
            headers,
            extensions,
            pattern: None,
            params: None,
            matched: None,
            in_router: false,
            owns_router: false,
            outer_uri: None,
            principal: None,
            now: None,
        }
    }

    /// The method as it was sent: no override header changes it.
    #[must_use]
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The URI as it arrived, also inside nested routers that strip a prefix. In a [`GuardedRouter`](crate::GuardedRouter)
    /// it is the one that this router gets: what a router around it has stripped is gone.
    #[must_use]
    pub const fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The path as it arrived: it is raw and not decoded.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// Whether the path begins with a slash, has no empty segment but the last, and consists of `[A-Za-z0-9_-]` otherwise: then
    /// nothing in it can be decoded, or be read in two ways. Nearly all paths are like that.
    pub(crate) const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The headers.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions.
    #[must_use]
    pub const fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// The caller, once the request has been authenticated.
    #[must_use]
    pub fn principal(&self) -> Option<&'a Principal> {
        self.principal.or_else(|| self.extensions.get())
    }

    /// The address of the client: that of the principal, else the peer of the connection.
    #[must_use]
    pub fn client_address(&self) -> ClientAddress {
        match self.principal() {
            Some(principal) => principal.client_address(),
            None => self.extensions.get().copied().unwrap_or_else(|| ClientAddress::from_peer(self.extensions)),
        }
    }

    /// The time that the gate decides by, for checks of your own such as office hours: in a rule of [`Authz`](crate::Authz)
    /// the time by which the key was found to be active; in [`Policy::explain`](crate::Policy::explain) the time that was
    /// asked about. A [clock](crate::AuthenticateLayer::with_clock) of a test holds for pre-checks and for layers further
    /// inside, too. Everywhere else it is the time of the system. That of the gate may be late by a second and a tick of the
    /// kernel.
    ///
    /// # Example
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use tower_authz::{Denial, Head, Rule};
    ///
    /// let opening = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    /// let rule = Rule::resource("orders").check(move |head: &Head<'_>| match head.now() >= opening {
    ///     true => Ok(()),
    ///     false => Err(Denial::refused("orders open in 2026")),
    /// });
    /// # drop(rule);
    /// ```
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.now.or_else(|| self.principal()?.gate_time()).unwrap_or_else(SystemTime::now)
    }

    /// The pattern of the matched route, such as `/shops/{shop}`.
    #[must_use]
    pub fn route(&self) -> Option<&'a str> {
        self.pattern.map(Pattern::as_str).or_else(|| self.matched())
    }

    /// The pattern that a router has matched, whichever pattern a policy has matched.
    pub(crate) const fn matched(&self) -> Option<&'a str> {
        self.matched
    }

    /// The same, for denials.
    pub(crate) fn matched_name(&self) -> Option<Name> {
        self.matched.map(|route| Name::from(route.to_owned()))
    }

    /// Creates the head of an operation in the body of a request.
    pub(crate) fn for_operation(
        method: &'a Method,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        extensions: &'a Extensions,
        principal: &'a Principal,
    ) -> Self {
        Self::of_parts(method, uri, headers, extensions).with_principal(principal)
    }

    pub(crate) const fn with_method<'b>(self, method: &'b Method) -> Head<'b>
    where
        'a: 'b,
    {
        Head { method, ..self }
    }

    /// The same head with this principal, which takes precedence over the one in the extensions.
    pub(crate) const fn with_principal(mut self, principal: &'a Principal) -> Self {
        self.principal = Some(principal);
        self
    }

    /// The same head for a decision by this time.
    pub(crate) const fn at(mut self, now: Option<SystemTime>) -> Self {
        self.now = now;
        self
    }

    /// The same head with the route that a policy has matched.
    pub(crate) const fn on(mut self, pattern: Option<&'a Pattern>, params: &'a PathParams) -> Self {
        self.set_route(pattern, params);
        self
    }

    /// Adds the route that a policy has matched, in place: a head that is copied right after it was written stalls the
    /// processor.
    #[inline]
    pub(crate) const fn set_route(&mut self, pattern: Option<&'a Pattern>, params: &'a PathParams) {
        (self.pattern, self.params) = (pattern, Some(params));
    }

    /// Changes the time that the gate decides by, in place.
    #[inline]
    pub(crate) const fn set_now(&mut self, now: SystemTime) {
        self.now = Some(now);
    }

    /// Whether the request has passed through a router before this crate sees it.
    pub(crate) const fn in_router(&self) -> bool {
        self.in_router
    }

    /// The path that arrived at the routers outside of the one that the policy was made with: they may have stripped more of
    /// it than their prefix, a doubled slash for example.
    pub(crate) fn outer_path(&self) -> Option<&'a str> {
        self.outer_uri.map(Uri::path)
    }

    /// Whether a request that no route of the policy matches reaches the fallback of its router.
    pub(crate) const fn owns_router(&self) -> bool {
        self.owns_router
    }

    /// Determines how the path was rewritten between its arrival and the handler, as far as this is known here.
    #[inline]
    pub(crate) fn rewriting(&self) -> Rewriting {
        match std::ptr::eq(self.inner_uri, self.uri) {
            true => Rewriting::Nesting,
            false => matched::rewriting(self.extensions, self.path(), self.inner_uri.path()),
        }
    }

    /// Whether a nested router has stripped the beginning of this part of the path.
    #[inline]
    fn is_cut(&self, part: &str) -> bool {
        let (arrived, left) = (self.path(), self.inner_uri.path());
        if arrived.len() == left.len() {
            return false;
        }
        // If the path consists of the prefix only, axum leaves a slash that is not a part of the path.
        let stripped = if arrived.ends_with(left) { arrived.len() - left.len() } else { arrived.len() };
        let start = part.as_ptr().addr().wrapping_sub(arrived.as_ptr().addr());
        start < stripped && stripped < start.saturating_add(part.len())
    }

    /// A parameter of the matched route, percent-decoded once, as the handler sees it.
    ///
    /// Returns `None` if no route is known, if the route has no such parameter, if its value is not UTF-8, or if it is
    /// not certain that the handler sees the same value. The latter holds if the path was rewritten by something other
    /// than nested routers of axum; if a nested router has stripped the beginning of a `{*rest}`; or if a `{*rest}` is
    /// below a prefix with a parameter within a segment (`/v{version}`), which axum matches but does not strip. The
    /// `OriginalUri` of axum is trusted: middleware that replaces it determines the path that has arrived.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        self.parameter_at(None, name)
    }

    /// The same, for a rule that knows the position of the parameter in the pattern of its route.
    #[inline]
    pub(crate) fn parameter_at(&self, position: Option<usize>, name: &str) -> Option<Cow<'a, str>> {
        let plain = position.and_then(|position| self.plain_parameter(position));
        plain.map(Cow::Borrowed).or_else(|| self.find_parameter(position, name))
    }

    /// The parameter at this position, if nobody has rewritten the path and nothing in it is to be decoded, as is so of most.
    #[inline]
    pub(crate) fn plain_parameter(&self, position: usize) -> Option<&'a str> {
        let (pattern, params) = (self.pattern?, self.params?);
        let is_plain = self.is_plain && std::ptr::eq(self.inner_uri, self.uri) && params.are_all(pattern.parameters());
        if is_plain { params.get(self.path, position) } else { None }
    }

    fn find_parameter(&self, position: Option<usize>, name: &str) -> Option<Cow<'a, str>> {
        match self.rewriting() {
            Rewriting::Nesting => {}
            // Without a `{*rest}`, pattern and path have the same number of segments, so each parameter has its own
            // segment, however many were stripped.
            Rewriting::Uncertain if self.route().is_some_and(|route| !route.contains("/{*")) => {}
            Rewriting::Uncertain | Rewriting::Foreign => return None,
        }
        let raw = match (self.pattern, self.params) {
            (Some(pattern), Some(params)) if params.are_all(pattern.parameters()) => {
                params.get(self.path(), position.or_else(|| pattern.position(name))?)
            }
            (Some(pattern), _) => pattern.find(self.path(), name),
            (None, _) => Pattern::find_in(self.matched()?, self.path(), name),
        }?;
        if self.is_cut(raw) {
            return None;
        }
        percent_decode_str(raw).decode_utf8().ok()
    }
}

/// Prints the names of the headers but not their values: a check may run before keys are marked sensitive.
impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", self.method)
            .field("path", &self.path())
            .field("route", &self.route())
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
