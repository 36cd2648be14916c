//! Translates a world into the types of the crate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, Method};
use tower_authz::{
    Access, ApiKey, Authz, ConfigError, Dimension, Directory, Grant, Head, IdGrammar, KeyFile, KeyRecord, Permission,
    Policy, Source, Sources, TenantHosts, TrustedProxies, check::EntityRef,
};

use super::{Dim, Grammar, Handling, Key, List, Place, ProxyHeader, Rule, SourceSet, World, store};
use crate::random::must;

/// The header of applications whose keys stand in a header of their own.
pub const OWN_HEADER: &str = "x-acme-key";

/// The clock of every world.
#[must_use]
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn moment(offset: i64) -> SystemTime {
    let distance = Duration::from_nanos(offset.unsigned_abs());
    if offset < 0 { now() - distance } else { now() + distance }
}

/// The dimension of the crate.
#[must_use]
pub fn dimension(dim: Dim, project: Grammar) -> Dimension {
    match (dim, project) {
        (Dim::Company, _) => Dimension::COMPANY,
        (Dim::Shop, _) => Dimension::SHOP,
        (Dim::Country, _) => Dimension::SHOP_COUNTRY,
        (Dim::Project, Grammar::Number) => Dimension::new("project", IdGrammar::Number),
        (Dim::Project, Grammar::Slug) => Dimension::new("project", IdGrammar::Slug),
        (Dim::Project, Grammar::Opaque) => Dimension::new("project", IdGrammar::Opaque),
    }
}

fn method(name: &str) -> Method {
    must(Method::from_bytes(name.as_bytes()), "a method of a rule")
}

fn entity(dim: Dim, project: Grammar, place: &Place) -> EntityRef {
    let dimension = dimension(dim, project);
    match place {
        Place::Path(parameter) => EntityRef::from_path(dimension, parameter.clone()),
        Place::Header(name) => {
            EntityRef::from_header(dimension, must(HeaderName::from_bytes(name.as_bytes()), "a header of a rule"))
        }
        Place::Function(name) => {
            let name = name.clone();
            EntityRef::from_fn(dimension, move |head: &Head<'_>| {
                let query = head.uri().query().unwrap_or_default();
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
            })
        }
    }
}

fn rule(rule: &Rule, project: Grammar) -> tower_authz::Rule {
    let mut built = match &rule.resource {
        Some(resource) => tower_authz::Rule::resource(resource.clone()),
        None => tower_authz::Rule::authenticated(),
    };
    let access = |write: bool| if write { Access::Write } else { Access::Read };
    for (resource, write) in &rule.or {
        built = match write {
            Some(write) => built.or_permission(Permission::new(resource.clone(), access(*write))),
            None => built.or_resource(resource.clone()),
        };
    }
    for (name, write) in &rule.methods {
        built = built.method(method(name), if *write { Access::Write } else { Access::Read });
    }
    if let Some(kind) = &rule.kind {
        built = built.kind(kind.as_str());
    }
    for (dim, handling) in &rule.handlings {
        let over = dimension(*dim, project);
        built = match handling {
            Handling::Scoped(places) => {
                places.iter().fold(built, |built, place| built.scoped(entity(*dim, project, place)))
            }
            Handling::Unscoped => built.unscoped_for(over),
            Handling::Filtered => built.filtered(over),
            Handling::Deferred => built.deferred(over),
        };
    }
    built = if rule.unscoped { built.unscoped() } else { built };
    built = if rule.require_networks { built.require_networks() } else { built };
    built = if rule.require_origin { built.require_origin() } else { built };
    if rule.concealed { built.concealed() } else { built }
}

/// The policy of the world.
///
/// # Errors
/// If the crate refuses the rules.
pub fn policy(world: &World) -> Result<Policy, ConfigError> {
    let mut policy = Policy::builder();
    for each in &world.rules {
        policy = match (&each.method, each.public) {
            (None, true) => policy.public(&each.pattern),
            (Some(name), true) => policy.method_public(method(name), &each.pattern),
            (None, false) => policy.route(&each.pattern, rule(each, world.project)),
            (Some(name), false) => policy.method_route(method(name), &each.pattern, rule(each, world.project)),
        };
    }
    policy = match &world.fallback {
        None => policy,
        Some(each) if each.public => policy.public_fallback(),
        Some(each) => policy.fallback(rule(each, world.project)),
    };
    if world.allow_preflight { policy.allow_preflight() } else { policy }.build()
}

/// The grant of a key.
#[must_use]
pub fn grant(key: &Key, project: Grammar) -> Grant {
    let mut grant = Grant::builder();
    for (resource, write) in &key.permissions {
        grant = if *write { grant.write(resource.clone()) } else { grant.read(resource.clone()) };
    }
    for (dim, list) in &key.lists {
        grant = match list {
            List::Include(ids) => grant.only(dimension(*dim, project), ids),
            List::Exclude(ids) => grant.except(dimension(*dim, project), ids),
        };
    }
    if let Some(networks) = &key.networks {
        grant = grant.from_networks(networks);
    }
    if let Some(origins) = &key.origins {
        grant = grant.from_origins(origins);
    }
    must(grant.build(), "a grant")
}

/// The record of a key.
#[must_use]
pub fn record(key: &Key, project: Grammar) -> KeyRecord {
    KeyRecord::builder(must(key.id.parse(), "a key id"), ApiKey::new(key.secret.clone()).digest())
        .grant(grant(key, project))
        .kind(key.kind.clone())
        .tenant(key.tenant.clone())
        .not_before(key.not_before.map(moment))
        .expires_at(key.expires_at.map(moment))
        .revoked_at(key.revoked_at.map(moment))
        .build()
}

/// The directory of the world.
#[must_use]
pub fn directory(world: &World) -> Directory {
    let Some(known) = &world.directory else { return Directory::default() };
    let mut directory = Directory::builder();
    for (shop, company) in &known.shops {
        directory = directory.shop(shop, company.as_deref());
    }
    for (country, shop) in &known.countries {
        directory = directory.country(shop, "xx", Some(country));
    }
    must(directory.build(), "a directory")
}

/// The proxies that the world trusts.
#[must_use]
pub fn proxies(world: &World) -> Option<TrustedProxies> {
    let (networks, header) = world.proxies.as_ref()?;
    let proxies = must(TrustedProxies::new(networks), "networks of proxies");
    Some(if *header == ProxyHeader::Forwarded { proxies.with_forwarded_header() } else { proxies })
}

/// The gate of the world.
pub fn authz(world: &World) -> Authz {
    let records: Vec<KeyRecord> = world.keys.iter().map(|key| record(key, world.project)).collect();
    let store = store::MoodyStore::new(world, KeyFile::new(records, directory(world)));
    let mut authz = must(Authz::try_new(store, must(policy(world), "a policy")), "a gate").with_clock(now);
    let api_key = HeaderName::from_static("x-api-key");
    authz = match world.sources {
        SourceSet::Usual => authz,
        SourceSet::Exact => authz.with_sources(Sources::from([Source::bearer_exact(), Source::header(api_key)])),
        SourceSet::Own => authz.with_sources(Sources::from([Source::header(HeaderName::from_static(OWN_HEADER))])),
    };
    if let Some(proxies) = proxies(world) {
        authz = authz.with_trusted_proxies(proxies);
    }
    if let Some(known) = &world.tenants {
        let mut hosts = must(TenantHosts::new("{tenant}.{sector}.example.com"), "a pattern of hosts");
        if let Some(known) = known {
            hosts = hosts.known(known.clone());
        }
        if let Some(proxies) = proxies(world).filter(|_| world.host_forwarded) {
            hosts = hosts.with_trusted_proxies(proxies);
        }
        authz = authz.with_tenant_hosts(hosts);
    }
    match (world.https_only, world.https_exempt.is_empty()) {
        (false, _) => authz,
        (true, true) => authz.https_only(),
        (true, false) => authz.https_only_except(world.https_exempt.clone()),
    }
}
