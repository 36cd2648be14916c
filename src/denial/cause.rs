use std::{borrow::Cow, fmt, sync::Arc};

use http::StatusCode;

use crate::{
    dimension::Dimension,
    key::{EndReason, Permission, Status},
};

/// One reason for which a request is refused.
///
/// The order of the variants is the order in which they are shown when several apply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The path can be read in more than one way.
    AmbiguousPath(&'static str),
    /// The request did not use HTTPS. The key that it carried has been exposed.
    PlainHttp,
    /// The host is missing, malformed, or given twice.
    BadHost(&'static str),
    /// The host belongs to no tenant.
    UnknownHost,
    /// No source has a credential.
    MissingCredential,
    /// The credential does not match the format of a key.
    MalformedCredential,
    /// A credential header is in the request twice.
    DuplicateCredential,
    /// No such key was issued, or it was deleted.
    UnknownKey,
    /// The key belongs to another tenant than the host.
    TenantNotAllowed,
    /// The key is not valid yet.
    NotYetValid,
    /// The key is suspended.
    Suspended,
    /// The key is expired.
    Expired,
    /// The key is revoked.
    Revoked,
    /// The store cannot answer, so the request is denied.
    StoreUnavailable {
        /// The error of the store, which is for the log and not for the client.
        why: Arc<str>,
    },
    /// The record of the key cannot be read. Only this key is refused; other keys are not affected.
    UnreadableRecord {
        /// The error of the store, which is for the log and not for the client.
        why: Arc<str>,
    },
    /// The server is misconfigured; the text explains to its developer how to correct it.
    Misconfigured(&'static str),
    /// The rule of the route leaves a decision to the handler, which answered without making it.
    ObligationUnmet(Dimension),
    /// An id in the request is not the canonical spelling of any entity.
    MalformedId(Dimension),
    /// The request does not name the entity that it is about.
    MissingEntity(Dimension),
    /// No rule covers the route.
    NoRule,
    /// The method is neither a read nor a write, and the rule does not map it.
    MethodNotAllowed {
        /// The value of the `Allow` header.
        allow: Arc<str>,
    },
    /// The rule requires a key of another kind.
    WrongKind {
        /// The kind that the rule requires.
        expected: Arc<str>,
    },
    /// The key lacks a permission.
    MissingPermission(Permission),
    /// The key lacks each of these permissions, one of which would do.
    MissingAnyPermission(Arc<[Permission]>),
    /// The rule requires a key that is bound to networks, and this one is not.
    NetworksRequired,
    /// The key is bound to networks, and the address of the client is not known.
    UnknownAddress,
    /// The address is not in the key's networks.
    AddressNotAllowed,
    /// The rule requires an `Origin`, and there is none, or more than one.
    MissingOrigin,
    /// The `Origin` is not one that the key allows.
    OriginNotAllowed,
    /// The key may not access this entity, which may or may not exist.
    EntityNotAllowed(Dimension),
    /// The key is restricted in a dimension that the rule does not declare.
    DimensionNotDeclared(Dimension),
    /// A custom check refused the request.
    Refused(Cow<'static, str>),
    /// The grant of the key was narrowed while the request was in flight.
    GrantNarrowed,
    /// The handler did not find the resource: see [`Denial::not_found`](crate::Denial::not_found).
    NotFound,
}

impl Cause {
    /// The position in the fixed order, the status of the response, and the stable name.
    const fn facts(&self) -> (u8, StatusCode, &'static str) {
        const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;
        const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
        const INTERNAL: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
        match self {
            Self::AmbiguousPath(_) => (0, BAD_REQUEST, "ambiguous_path"),
            Self::PlainHttp => (1, FORBIDDEN, "plain_http"),
            Self::BadHost(_) => (2, BAD_REQUEST, "bad_host"),
            Self::UnknownHost => (3, StatusCode::NOT_FOUND, "unknown_host"),
            Self::MissingCredential => (4, UNAUTHORIZED, "missing_credential"),
            Self::MalformedCredential => (5, UNAUTHORIZED, "malformed_credential"),
            Self::DuplicateCredential => (6, UNAUTHORIZED, "duplicate_credential"),
            Self::UnknownKey => (7, UNAUTHORIZED, "unknown_key"),
            Self::TenantNotAllowed => (8, UNAUTHORIZED, "tenant_not_allowed"),
            Self::NotYetValid => (9, UNAUTHORIZED, "not_yet_valid"),
            Self::Suspended => (10, UNAUTHORIZED, "suspended"),
            Self::Expired => (10, UNAUTHORIZED, "expired"),
            Self::Revoked => (11, UNAUTHORIZED, "revoked"),
            Self::StoreUnavailable { .. } => (12, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
            Self::UnreadableRecord { .. } => (13, INTERNAL, "unreadable_record"),
            Self::Misconfigured(_) => (14, INTERNAL, "misconfigured"),
            Self::ObligationUnmet(_) => (15, INTERNAL, "obligation_unmet"),
            Self::MalformedId(_) => (16, BAD_REQUEST, "malformed_id"),
            Self::MissingEntity(_) => (17, BAD_REQUEST, "missing_entity"),
            Self::NoRule => (18, StatusCode::NOT_FOUND, "no_rule"),
            Self::MethodNotAllowed { .. } => (19, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::WrongKind { .. } => (20, FORBIDDEN, "wrong_kind"),
            Self::MissingPermission(_) | Self::MissingAnyPermission(_) => (21, FORBIDDEN, "missing_permission"),
            Self::NetworksRequired => (22, FORBIDDEN, "networks_required"),
            Self::UnknownAddress => (23, FORBIDDEN, "unknown_address"),
            Self::AddressNotAllowed => (24, FORBIDDEN, "address_not_allowed"),
            Self::MissingOrigin => (25, FORBIDDEN, "missing_origin"),
            Self::OriginNotAllowed => (26, FORBIDDEN, "origin_not_allowed"),
            Self::EntityNotAllowed(_) => (27, FORBIDDEN, "entity_not_allowed"),
            Self::DimensionNotDeclared(_) => (28, FORBIDDEN, "dimension_not_declared"),
            Self::Refused(_) => (29, FORBIDDEN, "refused"),
            Self::GrantNarrowed => (30, FORBIDDEN, "grant_narrowed"),
            Self::NotFound => (31, StatusCode::NOT_FOUND, "not_found"),
        }
    }

    pub(super) const fn rank(&self) -> u8 {
        self.facts().0
    }

    /// The status of a response for this cause.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.facts().1
    }

    /// A stable name for logs, metrics and machine-readable responses. It distinguishes the causes of a 401, so the
    /// client must not see it in a 401.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.facts().2
    }
}

/// Formats the cause for logs and developers.
///
/// INVARIANT: no cause contains any part of a key.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmbiguousPath(what) => write!(f, "the path is ambiguous: {what}"),
            Self::PlainHttp => f.write_str("HTTPS is required"),
            Self::BadHost(what) => write!(f, "the host is invalid: {what}"),
            Self::UnknownHost => f.write_str("the host does not belong to a tenant"),
            Self::TenantNotAllowed => f.write_str("the key belongs to another tenant"),
            Self::MissingCredential => f.write_str("an API key is required"),
            Self::MalformedCredential => f.write_str("the credential does not match the format of an API key"),
            Self::DuplicateCredential => f.write_str("duplicate credential header"),
            Self::UnknownKey => f.write_str("the key is unknown"),
            Self::NotYetValid => f.write_str("the key is not valid yet"),
            Self::Suspended => f.write_str("the key is suspended"),
            Self::Expired => f.write_str("the key is expired"),
            Self::Revoked => f.write_str("the key is revoked"),
            Self::StoreUnavailable { why } => write!(f, "the key store is unavailable: {why}"),
            Self::UnreadableRecord { why } => write!(f, "the record of the key cannot be read: {why}"),
            Self::Misconfigured(how) => f.write_str(how),
            Self::ObligationUnmet(over) => {
                write!(f, "the handler answered without checking access to a {over}, or although it was denied")
            }
            Self::MalformedId(dimension) => write!(f, "the {dimension} id is malformed"),
            Self::MissingEntity(dimension) => write!(f, "the {dimension} is missing in the request"),
            Self::NoRule => f.write_str("no rule covers this route"),
            Self::MethodNotAllowed { .. } => f.write_str("the method is not allowed here"),
            Self::WrongKind { expected } => write!(f, "a key of kind {expected} is required"),
            Self::GrantNarrowed => f.write_str("the grant of the key was narrowed during the request; try again"),
            Self::MissingPermission(permission) => write!(f, "the key lacks the permission {permission}"),
            Self::MissingAnyPermission(permissions) => {
                f.write_str("the key lacks every permission that would do: ")?;
                for (index, permission) in permissions.iter().enumerate() {
                    write!(f, "{}{permission}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::NetworksRequired => f.write_str("a key that is bound to networks is required"),
            Self::UnknownAddress => f.write_str(
                "the client address is unknown: the server does not provide the peer address, or the proxy does not forward that of the client",
            ),
            Self::AddressNotAllowed => f.write_str("the key may not be used from this address"),
            Self::MissingOrigin => f.write_str("exactly one Origin header is required"),
            Self::OriginNotAllowed => f.write_str("the key may not be used from this origin"),
            Self::EntityNotAllowed(dimension) => write!(f, "the key has no access to this {dimension}"),
            Self::DimensionNotDeclared(over) => {
                write!(f, "the key is restricted by {over}, and this route does not accept such keys")
            }
            Self::Refused(why) => f.write_str(why),
            Self::NotFound => f.write_str("the handler found nothing"),
        }
    }
}

/// Maps the status of a key to the cause that denies a request with it.
pub(crate) const fn status(status: Status) -> Result<(), Cause> {
    match status {
        Status::Active => Ok(()),
        Status::NotYetValid => Err(Cause::NotYetValid),
        Status::Suspended => Err(Cause::Suspended),
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
            EndReason::Suspended => Self::Suspended,
        }
    }
}
