//! Checks that look at one thing each.

use std::sync::Arc;

use http::header::ORIGIN;

use crate::{
    Check, ClientAddress, Denial, Grant, Head, Networks, Permission, Principal, check::NO_PRINCIPAL, denial::Cause,
};

/// The principal, or a denial that tells the developer what is missing. The networks of the key are
/// kept whatever else a check looks at.
fn principal<'a>(head: &Head<'a>) -> Result<&'a Principal, Denial> {
    let principal = head.principal().ok_or(NO_PRINCIPAL)?;
    judge_networks(principal.record().grant(), principal.client_address(), false)?;
    Ok(principal)
}

impl Check for Permission {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        match principal(head)?.record().grant().permits(self) {
            true => Ok(()),
            false => Err(Cause::MissingPermission(self.clone()).into()),
        }
    }
}

/// Demands a key of one kind. Kinds are not interchangeable: no kind contains another.
///
/// # Example
/// ```
/// use tower_authz::{RequireLayer, check::Kind};
///
/// let admins_only = RequireLayer::new(Kind::new("admin"));
/// # drop(admins_only);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind(Arc<str>);

impl Kind {
    /// The kind that is demanded.
    pub fn new(kind: impl Into<Arc<str>>) -> Self {
        Self(kind.into())
    }

    pub(crate) fn judge(&self, principal: &Principal) -> Result<(), Cause> {
        match principal.record().kind() == Some(&*self.0) {
            true => Ok(()),
            false => Err(Cause::WrongKind { expected: Arc::clone(&self.0) }),
        }
    }
}

impl Check for Kind {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(self.judge(principal(head)?)?)
    }
}

/// Demands exactly one `Origin` header that equals one of the key's origins, byte for byte.
///
/// This keeps a key that lives in a web page from being used on another page. It does not keep a
/// program from sending any `Origin` it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin;

impl Origin {
    pub(crate) fn judge(head: &Head<'_>, principal: &Principal) -> Result<(), Cause> {
        let mut lines = head.headers().get_all(ORIGIN).iter();
        match (lines.next(), lines.next()) {
            (Some(origin), None) if principal.record().grant().allows_origin(origin.as_bytes()) => Ok(()),
            (Some(_), None) => Err(Cause::ForeignOrigin),
            _ => Err(Cause::MissingOrigin),
        }
    }
}

impl Check for Origin {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(Self::judge(head, principal(head)?)?)
    }
}

/// Demands that the key is bound to networks, and that the request comes from one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestrictedNetworks;

impl Check for RestrictedNetworks {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        let principal = head.principal().ok_or(NO_PRINCIPAL)?;
        Ok(judge_networks(principal.record().grant(), principal.client_address(), true)?)
    }
}

/// The networks of a key: always kept, and demanded where a rule says so.
pub(crate) fn judge_networks(grant: &Grant, client: ClientAddress, demanded: bool) -> Result<(), Cause> {
    if demanded && grant.networks().is_none() {
        Err(Cause::NetworksRequired)
    } else if grant.allows_address(client.ip()) {
        Ok(())
    } else {
        Err(Cause::ForeignAddress)
    }
}

/// Demands that the request comes from one of these networks, whoever calls. It needs no principal,
/// so it can stand before [`AuthenticateLayer`](crate::AuthenticateLayer).
///
/// # Example
/// ```
/// use tower_authz::{Networks, RequireLayer, check::WithinNetworks};
///
/// let office = RequireLayer::new(WithinNetworks::new(Networks::parse(["192.0.2.0/24"])?));
/// # drop(office);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct WithinNetworks(Networks);

impl WithinNetworks {
    /// The networks that are let in; an empty list lets nobody in.
    #[must_use]
    pub const fn new(networks: Networks) -> Self {
        Self(networks)
    }
}

impl Check for WithinNetworks {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        match head.client_address().ip() {
            Some(address) if self.0.contains(address) => Ok(()),
            _ => Err(Cause::ForeignAddress.into()),
        }
    }
}
