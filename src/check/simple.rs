//! Checks of a single property: permission, kind, networks, origin.

use std::sync::Arc;

use http::header::ORIGIN;

use crate::{
    check::{Check, NO_PRINCIPAL},
    client_address::{ClientAddress, TrustedProxies},
    denial::{Cause, Denial},
    head::Head,
    key::{Grant, Networks, Permission, as_browsers_write},
    principal::Principal,
};

/// The principal, or a denial that tells the developer which layer is missing. Every check enforces the networks of the
/// key.
fn principal<'a>(head: &Head<'a>) -> Result<&'a Principal, Denial> {
    let principal = head.principal().ok_or(NO_PRINCIPAL)?;
    check_networks(principal.record().grant(), principal.client_address(), false)?;
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

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn evaluate(&self, principal: &Principal) -> Result<(), Cause> {
        match principal.record().kind() == Some(&*self.0) {
            true => Ok(()),
            false => Err(Cause::WrongKind { expected: Arc::clone(&self.0) }),
        }
    }
}

impl Check for Kind {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(self.evaluate(principal(head)?)?)
    }
}

/// Demands exactly one `Origin` header that equals one of the key's origins, byte for byte.
///
/// This keeps a key that lives in a web page from being used on another page. It does not keep a
/// program from sending any `Origin` it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    normalized: bool,
}

impl Origin {
    /// Compares as bytes: an origin is whatever string the key has.
    #[must_use]
    pub const fn exact() -> Self {
        Self { normalized: false }
    }

    /// Compares as a browser would write both: scheme and host in lower case, no default port, no slash at
    /// the end.
    #[must_use]
    pub const fn normalized() -> Self {
        Self { normalized: true }
    }

    pub(crate) fn evaluate_request(self, head: &Head<'_>, principal: &Principal) -> Result<(), Cause> {
        let mut lines = head.headers().get_all(ORIGIN).iter();
        let (Some(origin), None) = (lines.next(), lines.next()) else { return Err(Cause::MissingOrigin) };
        let grant = principal.record().grant();
        let allowed = grant.allows_origin(origin.as_bytes()) || {
            let sent = origin.to_str().ok().filter(|_| self.normalized).and_then(as_browsers_write);
            let mut known = grant.origins().unwrap_or_default().iter();
            sent.is_some_and(|sent| known.any(|known| as_browsers_write(known).as_deref() == Some(&*sent)))
        };
        if allowed { Ok(()) } else { Err(Cause::OriginNotAllowed) }
    }
}

impl Check for Origin {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(self.evaluate_request(head, principal(head)?)?)
    }
}

/// Demands that the key is bound to networks, and that the request comes from one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestrictedNetworks;

impl Check for RestrictedNetworks {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        let principal = head.principal().ok_or(NO_PRINCIPAL)?;
        Ok(check_networks(principal.record().grant(), principal.client_address(), true)?)
    }
}

/// Enforces the networks of a key, and requires that it has some where a rule says so.
pub(crate) fn check_networks(grant: &Grant, client: ClientAddress, demanded: bool) -> Result<(), Cause> {
    if demanded && grant.networks().is_none() {
        Err(Cause::NetworksRequired)
    } else if grant.allows_address(client.ip()) {
        Ok(())
    } else if client.ip().is_none() {
        Err(Cause::UnknownAddress)
    } else {
        Err(Cause::AddressNotAllowed)
    }
}

/// Demands that the request comes from one of these networks, whoever calls. It needs no principal, so it
/// can stand before [`AuthenticateLayer`](crate::AuthenticateLayer); behind a proxy tell it of the proxy,
/// or it would judge the proxy's address.
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
pub struct WithinNetworks {
    networks: Networks,
    proxies: Option<TrustedProxies>,
}

impl WithinNetworks {
    /// The networks that are let in; an empty list lets nobody in.
    #[must_use]
    pub const fn new(networks: Networks) -> Self {
        Self { networks, proxies: None }
    }

    /// Which proxies may say where a request comes from.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(proxies);
        self
    }
}

impl Check for WithinNetworks {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        let client = match &self.proxies {
            Some(proxies) => proxies.client(ClientAddress::from_peer(head.extensions()), head.headers()),
            None => head.client_address(),
        };
        match client.ip() {
            Some(address) if self.networks.contains(address) => Ok(()),
            _ => Err(Cause::AddressNotAllowed.into()),
        }
    }
}
