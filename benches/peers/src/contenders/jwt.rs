//! A JSON Web Token replaces the key: the signature and the expiry are verified, then two claims. No revocation list,
//! network or company is checked.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::{
    measure::Contender,
    request::{KNOWN, SHOPS, id},
    turns::asked,
};

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    permissions: Vec<String>,
    shops: Vec<String>,
}

fn token(secret: &[u8], shops: &[&str]) -> String {
    let claims = Claims {
        sub: id(KNOWN),
        exp: 4_070_908_800, // 2099-01-01
        permissions: ["orders:write", "orders:read", "products:read"].map(str::to_owned).into(),
        shops: shops.iter().map(|&shop| shop.to_owned()).collect(),
    };
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret)).expect("the claims are JSON")
}

pub fn decoder() -> Contender {
    let secret = [7; 32];
    let (key, validation) = (DecodingKey::from_secret(&secret), Validation::new(Algorithm::HS256));
    let allows = move |token: &String| {
        decode::<Claims>(token, &key, &validation).is_ok_and(|token| {
            let Claims { permissions, shops, .. } = token.claims;
            permissions.iter().any(|name| name == "orders:read") && shops.iter().any(|name| name == "de")
        })
    };
    assert!(!allows(&token(&[8; 32], &SHOPS)), "another issuer's token is refused");
    let turn = asked(allows, token(&secret, &SHOPS), &token(&secret, &["fr"]));
    Contender::new("jsonwebtoken HS256, decode and claims", &["jsonwebtoken"], turn)
}
