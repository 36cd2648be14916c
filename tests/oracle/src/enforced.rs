//! The policy of a world without the gate around it: what is enforced of a key that was found.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use tower_authz::{Check as _, ClientAddress, Directory, Head, KeyRecord, Policy, Principal};

use crate::interpreter::{self, Design, Reading as _, Route, Setting};
use crate::random::must;
use crate::requests::Ask;
use crate::run::service;
use crate::world::{Key, Rule, World, build};

/// A policy with the records of all keys.
pub(crate) struct Enforced {
    pub(crate) policy: Policy,
    records: Vec<(String, Arc<KeyRecord>)>,
    directory: Directory,
}

/// A request that has come to the rules, with its key.
pub(crate) struct Asked<'w> {
    pub(crate) key: &'w Key,
    /// The rule for its method; `None` if there is none.
    pub(crate) rule: Option<&'w Rule>,
    pub(crate) route: Option<Route<'w>>,
    pub(crate) client: ClientAddress,
}

impl Enforced {
    pub(crate) fn new(world: &World) -> Self {
        let record = |key: &Key| (key.id.clone(), Arc::new(build::record(key, world.project)));
        Self {
            policy: must(build::policy(world), "a policy"),
            records: world.keys.iter().map(record).collect(),
            directory: build::directory(world),
        }
    }

    /// The principal of a key.
    pub(crate) fn principal(&self, key: &Key, client: ClientAddress) -> Principal {
        let record = self.records.iter().find(|(id, _)| *id == key.id).map(|(_, record)| record.clone());
        self.principal_of(must(record.ok_or("unknown"), "a key"), client)
    }

    /// The principal of a record that the world does not have.
    pub(crate) fn principal_of(&self, record: Arc<KeyRecord>, client: ClientAddress) -> Principal {
        Principal::new(record, self.directory.clone(), client)
    }
}

/// The request that handlers and checks see, with its principal.
pub(crate) fn request(ask: &Ask, principal: &Principal) -> Request<Body> {
    let mut request = service::request(ask);
    request.extensions_mut().insert(principal.clone());
    request
}

/// The status with which a policy refuses; 200 if it does not.
pub(crate) fn evaluate(policy: &Policy, ask: &Ask, principal: &Principal) -> u16 {
    let request = request(ask, principal);
    policy.evaluate(&Head::new(&request)).map_or_else(|denial| denial.status().as_u16(), |_| 200)
}

/// What the request asks of which key. `None` if it never gets to the rules: its path is not clean, it has no active
/// key, or it may be a preflight, about which no rule decides.
pub(crate) fn asked<'w>(world: &'w World, ask: &Ask) -> Option<Asked<'w>> {
    let request = interpreter::Request::new(ask);
    if !Design.is_clean(&request.path) || (world.allow_preflight && ask.method == "OPTIONS") {
        return None;
    }
    let key = Design.credential(world, &request).and_then(|secret| Design.find_key(world, &secret))?;
    if !Design.is_active(key) {
        return None;
    }
    let route = Design.route(world, &request.path, Setting::Plain);
    let rule = route.as_ref().and_then(|route| Design.rule_for(route, &ask.method));
    let client = Design.client_address(world, &request).map_or(ClientAddress::UNKNOWN, ClientAddress::from);
    Some(Asked { key, rule, route, client })
}
