//! cedar decides on a request that was built before the clock started. It checks permission, shop list, company list
//! and only one network of the eight, because a policy cannot iterate over a list of them. It looks up no key.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression as Value,
};

use crate::{
    measure::Contender,
    request::{COMPANIES, EXCLUDED_COMPANY, KEYS, KNOWN, PEER, SHOPS, id},
    turns::asked,
};

const POLICY: &str = r#"
permit (principal is Key, action == Action::"read", resource is Shop)
when {
    principal in Permission::"orders:read"
        && principal.shops.contains(resource)
        && !principal.excludedCompanies.contains(resource.company)
        && context.peer.isInRange(principal.network)
};
"#;

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::\"{id}\"").parse().expect("an entity's name")
}

fn names(kind: &str, ids: &[&str]) -> Value {
    Value::new_set(ids.iter().map(|id| Value::new_entity_uid(uid(kind, id))))
}

fn key(number: usize) -> Entity {
    let attributes = HashMap::from([
        ("shops".to_owned(), names("Shop", &SHOPS)),
        ("excludedCompanies".to_owned(), names("Company", &[EXCLUDED_COMPANY])),
        ("network".to_owned(), Value::new_ip("10.14.0.0/16")),
    ]);
    let permissions = ["orders:write", "orders:read", "products:read"].map(|name| uid("Permission", name));
    Entity::new(uid("Key", &id(number)), attributes, HashSet::from(permissions)).expect("the attributes are values")
}

fn shop((shop, company): (&str, &str)) -> Entity {
    let attributes = HashMap::from([("company".to_owned(), Value::new_entity_uid(uid("Company", company)))]);
    Entity::new(uid("Shop", shop), attributes, HashSet::new()).expect("the attributes are values")
}

fn request(shop: &str) -> Request {
    let peer = ("peer".to_owned(), Value::new_ip(PEER.ip().to_string()));
    let context = Context::from_pairs([peer]).expect("the address is one");
    Request::new(uid("Key", &id(KNOWN)), uid("Action", "read"), uid("Shop", shop), context, None)
        .expect("without a schema any request will do")
}

pub fn authorizer() -> Contender {
    let authorizer = Authorizer::new();
    let policies: PolicySet = POLICY.parse().expect("the policy is well formed");
    let entities = (0..KEYS).map(key).chain(COMPANIES.map(shop));
    let entities = Entities::from_entities(entities, None).expect("no entity is there twice");
    let allows =
        move |request: &Request| authorizer.is_authorized(request, &policies, &entities).decision() == Decision::Allow;
    let turn = asked(allows, request("de"), &request("fr"));
    Contender::new("cedar, prebuilt request", &["cedar-policy"], turn)
}
