use std::{borrow::Cow, fmt, sync::Arc};

use http::StatusCode;

use crate::{
    dimension::Dimension,
    key::{EndReason, Permission, Status},
};

/// One thing that was wrong with a request.
///
/// The order of the variants is the order in which they are shown when several apply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The path can be read in more than one way.
    AmbiguousPath(&'static str),
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
    TenantNotAllowed,
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
    ObligationUnmet(Dimension),
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
    /// The key is bound to networks, and the address of the client is not known.
    UnknownAddress,
    /// The address is not in the key's networks.
    AddressNotAllowed,
    /// The rule demands an `Origin`, and there is none, or more than one.
    MissingOrigin,
    /// The `Origin` is not one of the key's.
    OriginNotAllowed,
    /// The key may not touch this entity, which may or may not exist.
    EntityNotAllowed(Dimension),
    /// The key is restricted over a dimension that the rule says nothing about.
    DimensionNotDeclared(Dimension),
    /// A check of your own refused.
    Refused(Cow<'static, str>),
    /// While the request was in flight something was taken away from what its key may do.
    GrantNarrowed,
    /// The handler found nothing: see [`Denial::not_found`](crate::Denial::not_found).
    NotFound,
}

impl Cause {
    /// Its place in the fixed order, the status that it asks for, and its stable name.
    const fn facts(&self) -> (u8, StatusCode, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const WHO: StatusCode = StatusCode::UNAUTHORIZED;
        const OURS: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        const NO: StatusCode = StatusCode::FORBIDDEN;
        match self {
            Self::AmbiguousPath(_) => (0, BAD, "ambiguous_path"),
            Self::PlainHttp => (1, NO, "plain_http"),
            Self::BadHost(_) => (2, BAD, "bad_host"),
            Self::UnknownHost => (3, StatusCode::NOT_FOUND, "unknown_host"),
            Self::MissingCredential => (4, WHO, "missing_credential"),
            Self::MalformedCredential => (5, WHO, "malformed_credential"),
            Self::DuplicateCredential => (6, WHO, "duplicate_credential"),
            Self::UnknownKey => (7, WHO, "unknown_key"),
            Self::TenantNotAllowed => (8, WHO, "tenant_not_allowed"),
            Self::NotYetValid => (9, WHO, "not_yet_valid"),
            Self::Expired => (10, WHO, "expired"),
            Self::Revoked => (11, WHO, "revoked"),
            Self::StoreUnavailable { .. } => (12, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            Self::UnreadableRecord { .. } => (13, OURS, "unreadable_record"),
            Self::Misconfigured(_) => (14, OURS, "misconfigured"),
            Self::ObligationUnmet(_) => (15, OURS, "obligation_unmet"),
            Self::MalformedId(_) => (16, BAD, "malformed_id"),
            Self::MissingEntity(_) => (17, BAD, "missing_entity"),
            Self::NoRule => (18, StatusCode::NOT_FOUND, "no_rule"),
            Self::MethodNotAllowed { .. } => (19, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::WrongKind { .. } => (20, NO, "wrong_kind"),
            Self::MissingPermission(_) => (21, NO, "missing_permission"),
            Self::NetworksRequired => (22, NO, "networks_required"),
            Self::UnknownAddress => (23, NO, "unknown_address"),
            Self::AddressNotAllowed => (24, NO, "address_not_allowed"),
            Self::MissingOrigin => (25, NO, "missing_origin"),
            Self::OriginNotAllowed => (26, NO, "origin_not_allowed"),
            Self::EntityNotAllowed(_) => (27, NO, "entity_not_allowed"),
            Self::DimensionNotDeclared(_) => (28, NO, "dimension_not_declared"),
            Self::Refused(_) => (29, NO, "refused"),
            Self::GrantNarrowed => (30, NO, "grant_narrowed"),
            Self::NotFound => (31, StatusCode::NOT_FOUND, "not_found"),
        }
    }

    pub(super) const fn rank(&self) -> u8 {
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
            Self::AmbiguousPath(what) => write!(f, "the path is not clean: {what}"),
            Self::PlainHttp => f.write_str("HTTPS is required"),
            Self::BadHost(what) => write!(f, "the host is not clean: {what}"),
            Self::UnknownHost => f.write_str("no tenant has this host"),
            Self::TenantNotAllowed => f.write_str("the key belongs to another tenant"),
            Self::MissingCredential => f.write_str("the request carries no API key"),
            Self::MalformedCredential => f.write_str("the credential does not match the format of an API key"),
            Self::DuplicateCredential => f.write_str("the credential header is given twice"),
            Self::UnknownKey => f.write_str("the key is unknown"),
            Self::NotYetValid => f.write_str("the key is not valid yet"),
            Self::Expired => f.write_str("the key is expired"),
            Self::Revoked => f.write_str("the key is revoked"),
            Self::StoreUnavailable { why } => write!(f, "the key store cannot answer: {why}"),
            Self::UnreadableRecord { why } => write!(f, "the record of the key cannot be read: {why}"),
            Self::Misconfigured(how) => f.write_str(how),
            Self::ObligationUnmet(over) => {
                write!(f, "the handler answered without asking which {over} the key may touch, or though it was denied")
            }
            Self::MalformedId(of) => write!(f, "the {of} id is malformed"),
            Self::MissingEntity(of) => write!(f, "the request names no {of}"),
            Self::NoRule => f.write_str("no rule covers this route"),
            Self::MethodNotAllowed { .. } => f.write_str("the method is not allowed here"),
            Self::WrongKind { expected } => write!(f, "a key of kind {expected} is required"),
            Self::GrantNarrowed => {
                f.write_str("while the request ran something was taken away from what its key may do; send it again")
            }
            Self::MissingPermission(permission) => write!(f, "the key lacks the permission {permission}"),
            Self::NetworksRequired => f.write_str("only a key that is bound to networks is accepted here"),
            Self::UnknownAddress => f.write_str(
                "the address of the client is not known: the server was told of no peer, or the proxy in front of it sends none",
            ),
            Self::AddressNotAllowed => f.write_str("the key may not be used from this address"),
            Self::MissingOrigin => f.write_str("exactly one Origin header is required"),
            Self::OriginNotAllowed => f.write_str("the key may not be used from this origin"),
            Self::EntityNotAllowed(of) => write!(f, "the key may not touch this {of}"),
            Self::DimensionNotDeclared(over) => {
                write!(f, "the key is restricted to some of each {over}, and this route is not open to such keys")
            }
            Self::Refused(why) => f.write_str(why),
            Self::NotFound => f.write_str("the handler found nothing"),
        }
    }
}

/// What a key's status means for a request.
pub(crate) const fn status(status: Status) -> Result<(), Cause> {
    match status {
        Status::Active => Ok(()),
        Status::NotYetValid => Err(Cause::NotYetValid),
        Status::Expired => Err(Cause::Expired),
        Status::Revoked => Err(Cause::Revoked),
    }
}

impl From<EndReason> for Cause {
    fn from(end: EndReason) -> Self {
        match end {
            EndReason::Revoked => Self::Revoked,
            EndReason::Gone => Self::UnknownKey,
            EndReason::Narrowed => Self::GrantNarrowed,
            EndReason::Expired => Self::Expired,
        }
    }
}
