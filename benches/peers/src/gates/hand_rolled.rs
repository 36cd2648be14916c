//! The gate that a competent team would write itself with axum. It makes the same checks of the key, its expiry,
//! networks, permission, shop and company, but it does not detect malformed keys or ambiguous paths, renders no
//! refusals and does not revoke requests in flight.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::Response,
};
use ipnet::IpNet;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::bare;
use crate::request::{COMPANIES, EXCLUDED_COMPANY, KEYS, SHOPS, key};

struct Record {
    expires_at: Option<SystemTime>,
    networks: Vec<IpNet>,
    /// Permissions such as `orders:read`. Write permission implies read permission, which is expanded when the record
    /// is loaded.
    permissions: HashSet<String>,
    shops: HashSet<String>,
    excluded_companies: HashSet<String>,
}

struct Keys {
    /// The records, indexed by the hex digest of the key.
    records: RwLock<HashMap<String, Arc<Record>>>,
    companies: HashMap<String, String>,
}

/// The gate reads only the shop parameter of the path and ignores the others.
#[derive(Deserialize)]
struct ShopPath {
    shop: String,
}

async fn authorize(
    State(keys): State<Arc<Keys>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(ShopPath { shop }): Path<ShopPath>,
    mut request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let token = bearer(request.headers()).ok_or(StatusCode::UNAUTHORIZED)?;
    let record = keys.find(token).ok_or(StatusCode::UNAUTHORIZED)?;
    if record.expires_at.is_some_and(|end| end <= SystemTime::now()) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let permission = match *request.method() {
        Method::GET | Method::HEAD => "orders:read",
        _ => "orders:write",
    };
    let company = keys.companies.get(&shop).ok_or(StatusCode::FORBIDDEN)?;
    let allowed = record.networks.iter().any(|network| network.contains(&peer.ip()))
        && record.permissions.contains(permission)
        && record.shops.contains(&shop)
        && !record.excluded_companies.contains(company);
    if !allowed {
        return Err(StatusCode::FORBIDDEN);
    }
    request.extensions_mut().insert(record);
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl Keys {
    fn find(&self, token: &str) -> Option<Arc<Record>> {
        let digest = hex::encode(Sha256::digest(token));
        self.records.read().expect("nobody panics with the lock").get(&digest).cloned()
    }

    fn load(networks: &[String]) -> Self {
        let strings = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let networks = networks.iter().map(|text| text.parse().expect("a network")).collect::<Vec<IpNet>>();
        let record = || Record {
            expires_at: Some(SystemTime::now() + Duration::from_secs(365 * 86_400)),
            networks: networks.clone(),
            permissions: strings(&["orders:write", "orders:read", "products:read"]),
            shops: strings(&SHOPS),
            excluded_companies: strings(&[EXCLUDED_COMPANY]),
        };
        let digest = |number| hex::encode(Sha256::digest(key(number)));
        Self {
            records: RwLock::new((0..KEYS).map(|number| (digest(number), Arc::new(record()))).collect()),
            companies: COMPANIES.iter().map(|&(shop, company)| (shop.to_owned(), company.to_owned())).collect(),
        }
    }
}

pub fn router(networks: &[String]) -> Router {
    bare().layer(middleware::from_fn_with_state(Arc::new(Keys::load(networks)), authorize))
}
