//! casbin decides whether a subject may perform an operation in a shop. It looks up no key and checks no network.

use casbin::{CachedEnforcer, CoreApi, DefaultModel, Enforcer, MemoryAdapter, MgmtApi};
use futures::executor::block_on;

use crate::{measure::Contender, request::id, turns::asked};

const PACKAGES: &[&str] = &["casbin"];

/// The model has no roles, and compares the field that differs most first, because casbin evaluates the matcher for
/// one policy after the other.
const MODEL: &str = "
[request_definition]
r = sub, shop, obj, act
[policy_definition]
p = sub, shop, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.shop == p.shop && r.obj == p.obj && r.act == p.act
";

/// There is one policy for each key, and the key in the middle makes the request, so that half of the policies are
/// evaluated, as on average.
fn enforcer<E: CoreApi + MgmtApi>(policies: usize) -> E {
    block_on(async {
        let model = DefaultModel::from_str(MODEL).await.expect("the model is well formed");
        let mut enforcer = E::new(model, MemoryAdapter::default()).await.expect("the model is complete");
        let rules = (0..policies).map(|number| vec![id(number), "de".into(), "orders".into(), "read".into()]);
        enforcer.add_policies(rules.collect()).await.expect("the policies fit the model");
        enforcer
    })
}

fn contender<E: CoreApi + MgmtApi + 'static>(name: &'static str, policies: usize) -> Contender {
    let enforcer: E = enforcer(policies);
    let key = id(policies / 2);
    let allows =
        move |shop: &&str| enforcer.enforce((key.as_str(), *shop, "orders", "read")).expect("casbin can decide");
    Contender::new(name, PACKAGES, asked(allows, "de", &"fr"))
}

pub fn enforcers() -> [Contender; 3] {
    [
        contender::<Enforcer>("casbin, 10 policies", 10),
        contender::<Enforcer>("casbin, 1,000 policies", 1000),
        contender::<CachedEnforcer>("casbin, 1,000 policies, answer cached", 1000),
    ]
}
