//! A biscuit replaces the key: the signature and the expiry are verified, then permission and shop by datalog. No
//! revocation list, network or company is checked.

use std::time::Duration;

use biscuit_auth::{
    AuthorizerBuilder, AuthorizerLimits, Biscuit, KeyPair,
    builder::{fact, string},
};

use crate::{measure::Contender, turns::asked};

const TOKEN: &str = r#"
right("orders", "write"); right("orders", "read"); right("products", "read");
shop("ch"); shop("de"); shop("us");
check if time($now), $now < 2099-01-01T00:00:00Z;
"#;

const POLICY: &str = r#"
allow if resource($resource), operation($operation), right($resource, $operation), asked($shop), shop($shop);
"#;

/// The policy is parsed once, and each request adds its facts.
fn policy() -> AuthorizerBuilder {
    // The default limit of a millisecond is too short on a machine with other load.
    let limits = AuthorizerLimits { max_time: Duration::from_secs(1), ..AuthorizerLimits::default() };
    AuthorizerBuilder::new().code(POLICY).expect("the policy is well formed").set_limits(limits)
}

pub fn verifier() -> Contender {
    let root = KeyPair::new();
    let token = Biscuit::builder().code(TOKEN).expect("the token is well formed");
    let token = token.build(&root).expect("the token can be signed").to_base64().expect("the token can be written");
    let policy = policy();
    let decide = move |public, shop: &str| {
        let token = Biscuit::from_base64(&token, public)?;
        let facts = [
            fact("resource", &[string("orders")]),
            fact("operation", &[string("read")]),
            fact("asked", &[string(shop)]),
        ];
        let asked = facts.into_iter().try_fold(policy.clone().time(), AuthorizerBuilder::fact)?;
        asked.build(&token)?.authorize()
    };
    assert!(decide(KeyPair::new().public(), "de").is_err(), "another issuer's token is refused");
    let turn = asked(move |shop: &&str| decide(root.public(), shop).is_ok(), "de", &"fr");
    Contender::new("biscuit, verify and authorize", &["biscuit-auth"], turn)
}
