//! Faults about which key a request carries, and where it comes from.

use std::net::IpAddr;

use crate::interpreter::{Design, Reading, Request, all_credentials, hops};
use crate::world::{Key, World};

pub(super) struct KeyIdAdmits;

impl Reading for KeyIdAdmits {
    fn find_key<'w>(&self, world: &'w World, secret: &str) -> Option<&'w Key> {
        let (id, _) = secret.rsplit_once('_')?;
        world.keys.iter().find(|key| key.secret.rsplit_once('_').is_some_and(|(known, _)| known == id))
    }
}

pub(super) struct NoKindIsEveryKind;

impl Reading for NoKindIsEveryKind {
    fn is_of_kind(&self, key: &Key, demanded: &str) -> bool {
        key.kind.is_none() || Design.is_of_kind(key, demanded)
    }
}

pub(super) struct NoTenantIsEveryTenant;

impl Reading for NoTenantIsEveryTenant {
    fn belongs_to(&self, key: &Key, tenant: &str) -> bool {
        key.tenant.is_none() || Design.belongs_to(key, tenant)
    }
}

pub(super) struct ExpiresLate;

impl Reading for ExpiresLate {
    fn is_active(&self, key: &Key) -> bool {
        let end = key.expires_at.map(|at| if at == 0 { 1 } else { at });
        Design.is_active(&Key { expires_at: end, ..key.clone() })
    }
}

pub(super) struct RevokedLater;

impl Reading for RevokedLater {
    fn is_active(&self, key: &Key) -> bool {
        Design.is_active(&Key { revoked_at: key.revoked_at.filter(|at| *at <= 0), ..key.clone() })
    }
}

pub(super) struct FallsBack;

impl Reading for FallsBack {
    fn credential(&self, world: &World, request: &Request<'_>) -> Option<String> {
        all_credentials(world, request).into_iter().next()
    }
}

pub(super) struct Leftmost;

impl Reading for Leftmost {
    fn client_address(&self, world: &World, request: &Request<'_>) -> Option<IpAddr> {
        let right = Design.client_address(world, request)?;
        hops(world, request).into_iter().next().or(Some(right))
    }
}

pub(super) struct ProxyIsNotHeard;

impl Reading for ProxyIsNotHeard {
    fn is_https(&self, _: &World, request: &Request<'_>) -> bool {
        request.ask.secure
    }
}
