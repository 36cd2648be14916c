use serde::ser::SerializeMap;

use crate::{
    check::{Check, Demand, Findings, NO_PRINCIPAL},
    client_address::{ClientAddress, TrustedProxies},
    denial::{Cause, Denial},
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::Fields,
    key::Networks,
    principal::Caller,
};

/// Every rule enforces the networks of a key. With `required`, a key without networks is denied, too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NetworksDemand {
    required: bool,
}

impl NetworksDemand {
    pub(crate) const REQUIRED: Self = Self { required: true };

    /// Whether the caller is where its key may be used, and has networks if they are required.
    #[inline]
    pub(crate) fn admits(&self, caller: Caller<'_>) -> bool {
        verdict(caller, self.required).is_ok()
    }
}

impl Demand for NetworksDemand {
    const FIELDS: &'static [&'static str] = &["require_networks"];

    #[inline]
    fn evaluate(&self, _: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings) {
        findings.record(|| "networks".to_owned(), verdict(caller, self.required));
    }

    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        if self.required { fields.serialize_entry("require_networks", &true) } else { Ok(()) }
    }

    fn read(fields: &mut Fields<'_>, _: &dyn Fn(&str) -> Result<Dimension, ConfigError>) -> Result<Self, ConfigError> {
        Ok(Self { required: fields.take_or_default("require_networks")? })
    }
}

/// Enforces the networks of a key, and that it has some if they are required.
pub(super) fn verdict(caller: Caller<'_>, required: bool) -> Result<(), Cause> {
    let (grant, client) = (caller.record.grant(), caller.client);
    if required && grant.networks().is_none() {
        Err(Cause::NetworksRequired)
    } else if grant.allows_address(client.ip()) {
        Ok(())
    } else if client.ip().is_none() {
        Err(Cause::UnknownAddress)
    } else {
        Err(Cause::AddressNotAllowed)
    }
}

/// Demands that the key is bound to networks, and that the request comes from one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestrictedNetworks;

impl Check for RestrictedNetworks {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(verdict(head.principal().ok_or(NO_PRINCIPAL)?.caller(), true)?)
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
