//! Faults about what a key may do.

use std::net::IpAddr;

use crate::interpreter::{Design, Reading};
use crate::world::{Dim, Key, List, Rule, World};

pub(super) struct ExcludeIgnored;

impl Reading for ExcludeIgnored {
    fn listed(&self, list: Option<&List>, id: &str) -> bool {
        matches!(list, Some(List::Exclude(_))) || Design.listed(list, id)
    }
}

pub(super) struct EmptyIncludeIsAll;

impl Reading for EmptyIncludeIsAll {
    fn listed(&self, list: Option<&List>, id: &str) -> bool {
        matches!(list, Some(List::Include(ids)) if ids.is_empty()) || Design.listed(list, id)
    }
}

pub(super) struct EmptyExcludeRestricts;

impl Reading for EmptyExcludeRestricts {
    fn restricted(&self, list: Option<&List>) -> bool {
        list.is_some()
    }
}

pub(super) struct WriteWithoutRead;

impl Reading for WriteWithoutRead {
    fn permits(&self, key: &Key, resource: &str, write: bool) -> bool {
        key.permissions.get(resource) == Some(&write)
    }
}

pub(super) struct ResourcePrefix;

impl Reading for ResourcePrefix {
    fn permits(&self, key: &Key, resource: &str, write: bool) -> bool {
        key.permissions.iter().any(|(name, may_write)| resource.starts_with(name) && (*may_write || !write))
    }
}

pub(super) struct NothingElseWillDo;

impl Reading for NothingElseWillDo {
    fn alternatives<'r>(&self, _: &'r Rule) -> &'r [(String, Option<bool>)] {
        &[]
    }
}

pub(super) struct CountryInheritsNothing;

impl Reading for CountryInheritsNothing {
    fn reaches_shop_of(&self, _: &World, _: &Key, _: &Rule, _: &str) -> bool {
        true
    }
}

pub(super) struct ShopObeysNoCompany;

impl Reading for ShopObeysNoCompany {
    fn reaches_company_of(&self, _: &World, _: &Key, _: &Rule, _: &str) -> bool {
        true
    }
}

pub(super) struct GapOpens;

impl Reading for GapOpens {
    fn opens_orphans(&self, _: &World, _: &Key, _: &Rule, _: Dim) -> bool {
        true
    }
}

pub(super) struct SilenceAdmits;

impl Reading for SilenceAdmits {
    fn covers(&self, _: &Rule, _: Dim) -> bool {
        true
    }
}

pub(super) struct NoNetworksIsAnywhere;

impl Reading for NoNetworksIsAnywhere {
    fn allows_address(&self, key: &Key, address: Option<IpAddr>) -> bool {
        key.networks.as_ref().is_some_and(Vec::is_empty) || Design.allows_address(key, address)
    }
}

pub(super) struct UnknownAddressPasses;

impl Reading for UnknownAddressPasses {
    fn allows_address(&self, key: &Key, address: Option<IpAddr>) -> bool {
        address.is_none() || Design.allows_address(key, address)
    }
}

pub(super) struct MappedIsForeign;

impl Reading for MappedIsForeign {
    fn holds(&self, network: &str, address: IpAddr) -> bool {
        !network.starts_with("::ffff:") && Design.holds(network, address)
    }
}

pub(super) struct OriginPrefix;

impl Reading for OriginPrefix {
    fn allows_origin(&self, key: &Key, origin: &str) -> bool {
        key.origins.iter().flatten().any(|own| origin.starts_with(own.as_str()))
    }
}
