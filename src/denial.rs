//! Why a request is refused.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};

use crate::{Dimension, KeyId, Permission, name::Name};

/// One thing that was wrong with a request.
///
/// The order of the variants is the order in which they are shown when several apply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The path can be read in more than one way.
    UncleanPath(&'static str),
    /// The request did not come by HTTPS. The key that it carried has been exposed.
    PlainHttp,
    /// The host is missing, malformed, or given twice.
    BadHost(&'static str),
    /// The host is no tenant's.
    UnknownHost,
    /// No source held a credential.
    MissingCredential,
    /// The credential has not the shape of a key.
    MalformedCredential,
    /// A credential header stands in the request twice.
    DuplicateCredential,
    /// No such key was issued, or it was deleted.
    UnknownKey,
    /// The key belongs to another tenant than the host.
    ForeignTenant,
    /// The key's first moment has not come.
    NotYetValid,
    /// The key is expired.
    Expired,
    /// The key is revoked.
    Revoked,
    /// The store cannot say, so nobody is let in.
    StoreUnavailable {
        /// What the store says; for the log, not for the client.
        why: Arc<str>,
    },
    /// The key's record cannot be read. It is refused alone; others go on.
    UnreadableRecord {
        /// What the store says; for the log, not for the client.
        why: Arc<str>,
    },
    /// The server is assembled wrongly; the text tells its developer how.
    Misconfigured(&'static str),
    /// The handler of a route that leaves a decision to it answered without taking it.
    Unsettled(Dimension),
    /// An id in the request is not the one spelling of any entity.
    MalformedId(Dimension),
    /// The request does not say which entity it is about.
    MissingEntity(Dimension),
    /// No rule covers the route.
    NoRule,
    /// The method is neither a reading nor a writing one, and the rule does not map it.
    MethodNotAllowed {
        /// What the `Allow` header says.
        allow: Arc<str>,
    },
    /// The rule demands a key of another kind.
    WrongKind {
        /// The kind that it demands.
        expected: Arc<str>,
    },
    /// The key lacks a permission.
    MissingPermission(Permission),
    /// The rule demands a key that is bound to networks, and this one is not.
    NetworksRequired,
    /// The address is not in the key's networks, or not known.
    ForeignAddress,
    /// The rule demands an `Origin`, and there is none, or more than one.
    MissingOrigin,
    /// The `Origin` is not one of the key's.
    ForeignOrigin,
    /// The key may not touch this entity, which may or may not exist.
    ForeignEntity(Dimension),
    /// The key is restricted over a dimension that the rule says nothing about.
    UndeclaredDimension(Dimension),
    /// A check of your own refused.
    Refused(Cow<'static, str>),
}

impl Cause {
    /// Its place in the fixed order, the status that it asks for, and its stable name.
    const fn facts(&self) -> (u8, StatusCode, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const WHO: StatusCode = StatusCode::UNAUTHORIZED;
        const OURS: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        const NO: StatusCode = StatusCode::FORBIDDEN;
        match self {
            Self::UncleanPath(_) => (0, BAD, "unclean_path"),
            Self::PlainHttp => (1, NO, "plain_http"),
            Self::BadHost(_) => (2, BAD, "bad_host"),
            Self::UnknownHost => (3, StatusCode::NOT_FOUND, "unknown_host"),
            Self::MissingCredential => (4, WHO, "missing_credential"),
            Self::MalformedCredential => (5, WHO, "malformed_credential"),
            Self::DuplicateCredential => (6, WHO, "duplicate_credential"),
            Self::UnknownKey => (7, WHO, "unknown_key"),
            Self::ForeignTenant => (8, WHO, "foreign_tenant"),
            Self::NotYetValid => (9, WHO, "not_yet_valid"),
            Self::Expired => (10, WHO, "expired"),
            Self::Revoked => (11, WHO, "revoked"),
            Self::StoreUnavailable { .. } => (12, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            Self::UnreadableRecord { .. } => (13, OURS, "unreadable_record"),
            Self::Misconfigured(_) => (14, OURS, "misconfigured"),
            Self::Unsettled(_) => (15, OURS, "unsettled"),
            Self::MalformedId(_) => (16, BAD, "malformed_id"),
            Self::MissingEntity(_) => (17, BAD, "missing_entity"),
            Self::NoRule => (18, StatusCode::NOT_FOUND, "no_rule"),
            Self::MethodNotAllowed { .. } => (19, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::WrongKind { .. } => (20, NO, "wrong_kind"),
            Self::MissingPermission(_) => (21, NO, "missing_permission"),
            Self::NetworksRequired => (22, NO, "networks_required"),
            Self::ForeignAddress => (23, NO, "foreign_address"),
            Self::MissingOrigin => (24, NO, "missing_origin"),
            Self::ForeignOrigin => (25, NO, "foreign_origin"),
            Self::ForeignEntity(_) => (26, NO, "foreign_entity"),
            Self::UndeclaredDimension(_) => (27, NO, "undeclared_dimension"),
            Self::Refused(_) => (28, NO, "refused"),
        }
    }

    const fn rank(&self) -> u8 {
        self.facts().0
    }

    /// The status that the cause asks for.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.facts().1
    }

    /// A stable name for logs, metrics and machine-readable responses. It tells one 401 from
    /// another, so what a client sees of a 401 must not hold it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.facts().2
    }
}

/// As a log or a developer reads it. No cause holds any part of a key.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UncleanPath(what) => write!(f, "the path is not clean: {what}"),
            Self::PlainHttp => f.write_str("HTTPS is needed"),
            Self::BadHost(what) => write!(f, "the host is not clean: {what}"),
            Self::UnknownHost => f.write_str("no tenant has this host"),
            Self::ForeignTenant => f.write_str("the key belongs to another tenant"),
            Self::MissingCredential => f.write_str("the request carries no API key"),
            Self::MalformedCredential => f.write_str("the credential has not the form of an API key"),
            Self::DuplicateCredential => f.write_str("the credential header is given twice"),
            Self::UnknownKey => f.write_str("the key is unknown"),
            Self::NotYetValid => f.write_str("the key is not valid yet"),
            Self::Expired => f.write_str("the key is expired"),
            Self::Revoked => f.write_str("the key is revoked"),
            Self::StoreUnavailable { why } => write!(f, "the key store cannot answer: {why}"),
            Self::UnreadableRecord { why } => write!(f, "the record of the key cannot be read: {why}"),
            Self::Misconfigured(how) => f.write_str(how),
            Self::Unsettled(over) => write!(f, "the handler answered without asking which {over} the key may touch"),
            Self::MalformedId(of) => write!(f, "the {of} id is malformed"),
            Self::MissingEntity(of) => write!(f, "the request names no {of}"),
            Self::NoRule => f.write_str("no rule covers this route"),
            Self::MethodNotAllowed { .. } => f.write_str("the method is not allowed here"),
            Self::WrongKind { expected } => write!(f, "a key of kind {expected} is needed"),
            Self::MissingPermission(permission) => write!(f, "the key lacks the permission {permission}"),
            Self::NetworksRequired => f.write_str("only a key that is bound to networks is accepted here"),
            Self::ForeignAddress => f.write_str("the key may not be used from this address"),
            Self::MissingOrigin => f.write_str("exactly one Origin header is needed"),
            Self::ForeignOrigin => f.write_str("the key may not be used from this origin"),
            Self::ForeignEntity(of) => write!(f, "the key may not touch this {of}"),
            Self::UndeclaredDimension(over) => {
                write!(f, "the key is restricted to some of each {over}, and this route is not open to such keys")
            }
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Why a request is refused: every check that failed, the first of them shown.
///
/// It is rendered by a [`Reject`](crate::Reject), and rides in the extensions of the response, where
/// a logging layer finds it:
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
/// A check of your own makes one with [`refused`](Self::refused).
#[derive(Clone, Debug)]
pub struct Denial(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    first: Cause,
    rest: Vec<Cause>,
    context: Context,
    concealed: bool,
    retry_after: Duration,
}

/// What is known of a request when it is refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) key: Option<KeyId>,
    pub(crate) route: Option<Name>,
    /// For `WWW-Authenticate`.
    pub(crate) challenge: Option<HeaderValue>,
    /// The key came as a bearer token.
    pub(crate) bearer: bool,
}

impl Denial {
    /// A denial by a check of your own: 403, with this reason in the log and the response. A handler better
    /// uses [`Principal::refuse`](crate::Principal::refuse), which knows the key and the rule.
    pub fn refused(why: impl Into<Cow<'static, str>>) -> Self {
        Cause::Refused(why.into()).into()
    }

    /// Every cause, in the fixed order.
    pub fn causes(&self) -> impl Iterator<Item = &Cause> {
        std::iter::once(&self.0.first).chain(&self.0.rest)
    }

    /// The cause that is shown.
    #[must_use]
    pub const fn cause(&self) -> &Cause {
        &self.0.first
    }

    /// The status of the response: that of the first cause, or 404 where a rule hides a 403.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        if self.is_concealed() { StatusCode::NOT_FOUND } else { self.0.first.status() }
    }

    /// Whether a rule hides the refusal behind a 404: then the response must say no more than that.
    #[must_use]
    pub fn is_concealed(&self) -> bool {
        // To a key that is not let in, a malformed id or a strange method must look no other.
        let about_the_request = matches!(
            self.0.first.status(),
            StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED
        );
        self.0.concealed && about_the_request && self.causes().any(|cause| cause.status() == StatusCode::FORBIDDEN)
    }

    /// The key that was used, once it has been found.
    #[must_use]
    pub const fn key_id(&self) -> Option<&KeyId> {
        self.0.context.key.as_ref()
    }

    /// The pattern of the route, once it is known.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.0.context.route.as_ref().map(Name::as_str)
    }

    /// What a client may be told, in a sentence: nothing about why a key is not valid, what a concealed
    /// rule hides, or how the server is built. In debug builds a 500 tells its developer.
    #[must_use]
    pub fn public_message(&self) -> Cow<'_, str> {
        match self.status() {
            StatusCode::UNAUTHORIZED => "a valid API key is needed".into(),
            StatusCode::NOT_FOUND => "there is nothing here".into(),
            StatusCode::SERVICE_UNAVAILABLE => "API keys cannot be checked now; try again".into(),
            StatusCode::INTERNAL_SERVER_ERROR if !self.is_for_the_developer() => "the server cannot decide".into(),
            _ => self.0.first.to_string().into(),
        }
    }

    /// Whether the server is built wrongly, and this is a build in which its developer looks for why.
    fn is_for_the_developer(&self) -> bool {
        cfg!(debug_assertions) && matches!(self.0.first, Cause::Misconfigured(_) | Cause::Unsettled(_))
    }

    /// What a client may be told, as a [code](Cause::code) that programs can rely on.
    #[must_use]
    pub fn public_code(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "invalid_api_key",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            StatusCode::INTERNAL_SERVER_ERROR if !self.is_for_the_developer() => "internal",
            _ => self.0.first.code(),
        }
    }

    /// The value for `WWW-Authenticate`: a challenge with a 401, and with a 403 to a bearer token
    /// the scope that is missing (RFC 6750 section 3.1). `None` for all else.
    #[must_use]
    pub fn challenge(&self) -> Option<HeaderValue> {
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                let default = || HeaderValue::from_static(r#"Bearer realm="api""#);
                Some(self.0.context.challenge.clone().unwrap_or_else(default))
            }
            StatusCode::FORBIDDEN if self.0.context.bearer => Some(insufficient_scope(&self.0.first)),
            _ => None,
        }
    }

    /// How long a client should wait before it tries again: for `Retry-After` with a 503.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(self.0.retry_after)
    }

    /// Adds a cause in its place.
    #[must_use]
    pub fn and(mut self, cause: Cause) -> Self {
        let inner = &mut *self.0;
        let later = if cause.rank() < inner.first.rank() { std::mem::replace(&mut inner.first, cause) } else { cause };
        let place = inner.rest.partition_point(|known| known.rank() <= later.rank());
        inner.rest.insert(place, later);
        self
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        let Inner { first, rest, concealed, .. } = *other.0;
        self.0.concealed |= concealed;
        rest.into_iter().fold(self.and(first), Self::and)
    }

    pub(crate) fn concealed(mut self) -> Self {
        self.0.concealed = true;
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = wait;
        self
    }

    /// Fills in what is known of the request and not yet in the denial.
    pub(crate) fn in_context(mut self, context: Context) -> Self {
        let known = &mut self.0.context;
        known.key = known.key.take().or(context.key);
        known.route = known.route.take().or(context.route);
        known.challenge = known.challenge.take().or(context.challenge);
        known.bearer |= context.bearer;
        self
    }
}

/// RFC 6750 has one error for every 403; the scope is told where a permission is what is missing.
fn insufficient_scope(cause: &Cause) -> HeaderValue {
    let plain = HeaderValue::from_static(r#"Bearer realm="api", error="insufficient_scope""#);
    match cause {
        // A scope token has no quote and no backslash in it (RFC 6749 section 3.3).
        Cause::MissingPermission(permission) if !permission.resource().contains(['"', '\\']) => {
            let text = format!(r#"Bearer realm="api", error="insufficient_scope", scope="{permission}""#);
            HeaderValue::try_from(text).unwrap_or(plain)
        }
        _ => plain,
    }
}

impl From<Cause> for Denial {
    fn from(first: Cause) -> Self {
        Self(Box::new(Inner {
            first,
            rest: Vec::new(),
            context: Context::default(),
            concealed: false,
            retry_after: Duration::from_secs(1),
        }))
    }
}

/// All causes, for logs: `key l64_abc12345: the key lacks the permission products:write; …`.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = self.key_id() {
            write!(f, "key {key}: ")?;
        }
        write!(f, "{}", self.0.first)?;
        self.0.rest.iter().try_for_each(|cause| write!(f, "; {cause}"))
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_the_fixed_order_is_shown() {
        let denial = Denial::from(Cause::ForeignEntity(Dimension::SHOP))
            .and(Cause::MissingPermission(Permission::write("orders")))
            .and(Cause::ForeignAddress);
        let codes: Vec<_> = denial.causes().map(Cause::code).collect();
        assert_eq!(codes, ["missing_permission", "foreign_address", "foreign_entity"]);
        let merged = denial.merge(Cause::MalformedId(Dimension::SHOP).into());
        assert_eq!(merged.status(), StatusCode::BAD_REQUEST);
        assert_eq!(merged.causes().count(), 4);
    }

    #[test]
    fn concealment_turns_only_a_403_into_a_404() {
        let hidden = |cause: Cause| Denial::from(cause).concealed().status();
        assert_eq!(hidden(Cause::ForeignEntity(Dimension::SHOP)), StatusCode::NOT_FOUND);
        assert_eq!(hidden(Cause::Revoked), StatusCode::UNAUTHORIZED);
        assert_eq!(hidden(Cause::StoreUnavailable { why: "down".into() }), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn names_cannot_break_out_of_the_challenge() {
        let odd = Cause::MissingPermission(Permission::read("a\", error=\"\r\n"));
        assert_eq!(insufficient_scope(&odd), r#"Bearer realm="api", error="insufficient_scope""#);
    }
}
