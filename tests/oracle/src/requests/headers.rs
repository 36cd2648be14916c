//! The headers and the connection of a request: who calls, from where, and by which host.

use super::{Ask, spelling, word};
use crate::random::{Random, must};
use crate::world::{
    Handling, Key, Place, ProxyHeader, Rule, SourceSet, World,
    build::OWN_HEADER,
    generate::{ORIGINS, TENANTS, ids},
};

/// Addresses of clients and proxies. Some are in networks of keys, some in networks of proxies, and some in both.
const ADDRESSES: [&str; 12] = [
    "10.0.0.1",
    "10.1.2.3",
    "10.9.0.4",
    "192.0.2.7",
    "192.0.2.8",
    "2001:db8::1",
    "2001:db8:ffff::1",
    "::ffff:198.51.100.9",
    "198.51.100.9",
    "203.0.113.5",
    "8.8.8.8",
    "::1",
];

fn address(random: &mut Random) -> &'static str {
    word(random, &ADDRESSES)
}

impl Ask {
    pub(super) fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// The headers that name entities: once, or not at all, or several times.
    pub(super) fn entity_headers(&mut self, random: &mut Random, world: &World, rule: &Rule) {
        for (dim, handling) in &rule.handlings {
            let Handling::Scoped(places) = handling else { continue };
            for place in places {
                if let Place::Header(name) = place {
                    for _ in 0..*random.pick(&[1, 1, 1, 1, 1, 1, 2, 0]) {
                        let id = *random.pick(ids(*dim, world.project));
                        self.header(name, &spelling::of_header_id(random, id));
                    }
                }
            }
        }
    }

    pub(super) fn credentials(&mut self, random: &mut Random, world: &World, key: &Key) {
        let names: &[&str] = match world.sources {
            SourceSet::Usual => &["authorization", "x-api-key", "x-access-token"],
            SourceSet::Exact => &["authorization", "x-api-key"],
            SourceSet::Own => &[OWN_HEADER],
        };
        if random.chance(5) {
            // The key stands where it is no credential.
            let name = *random.pick(&["x_api_key", "cookie", "x-apikey", "authorization", "x-access-token"]);
            let value = if name == "cookie" { format!("x-api-key={}", key.secret) } else { key.secret.clone() };
            self.header(name, &value);
            return;
        }
        let name = *random.pick(names);
        let secret = spelling::of_secret(random, &key.secret);
        let value = |random: &mut Random, name: &str, secret: &str| match name {
            "authorization" => spelling::of_bearer(random, secret),
            _ => secret.to_owned(),
        };
        let first = value(random, name, &secret);
        if !random.chance(2) {
            self.header(name, &first);
        }
        if random.chance(6) {
            let other = random.pick(&world.keys).secret.clone();
            let name = *random.pick(names);
            let second = value(random, name, &other);
            self.header(name, &second);
            if random.chance(15) {
                self.header(name, &second);
            }
        }
    }

    pub(super) fn origin(&mut self, random: &mut Random, rule: &Rule, key: &Key) {
        if !(rule.require_origin || random.chance(10)) || random.chance(8) {
            return;
        }
        let own = key.origins.clone().unwrap_or_default();
        let origin = if own.is_empty() { (*random.pick(&ORIGINS)).to_owned() } else { random.pick(&own).clone() };
        let origin = match random.below(16) {
            0 => origin.to_uppercase(),
            1 => origin + "/",
            2 => "null".to_owned(),
            3 => origin + ":443",
            4 => format!("{origin}, {origin}"),
            5 => (*random.pick(&ORIGINS)).to_owned(),
            _ => origin,
        };
        self.header("origin", &origin);
        if random.chance(4) {
            self.header("origin", &origin);
        }
    }

    pub(super) fn host(&mut self, random: &mut Random, world: &World, key: &Key) {
        if world.tenants.is_none() && random.chance(90) {
            return;
        }
        let tenant = key.tenant.clone().filter(|_| random.chance(85));
        let tenant = tenant.unwrap_or_else(|| (*random.pick(&TENANTS)).to_owned());
        let host = spelling::of_host(random, &format!("{tenant}.example.com"));
        match random.below(20) {
            0 => {}
            1 => {
                self.header("host", &host);
                self.header("host", &host);
            }
            2..=3 => {
                let authority = host.clone();
                if !authority.is_empty() && !authority.contains(' ') && self.target.starts_with('/') {
                    self.target = format!("http://{authority}{}", self.target);
                }
                let agreeing = random.chance(60);
                self.header("host", if agreeing { &authority } else { "acme.live.example.com" });
            }
            _ => self.header("host", &host),
        }
        if random.chance(12) {
            for _ in 0..*random.pick(&[1, 1, 1, 2]) {
                let host = format!("{}.example.com", random.pick(&TENANTS));
                self.header("x-forwarded-host", &spelling::of_host(random, &host));
            }
        }
    }

    pub(super) fn connection(&mut self, random: &mut Random, world: &World) {
        self.peer = (!random.chance(8)).then(|| must(address(random).parse(), "an address"));
        self.secure = random.chance(if world.https_only { 65 } else { 10 });
        self.forged = random.chance(3);
        let Some((networks, header)) = &world.proxies else {
            if random.chance(10) {
                self.header("x-forwarded-for", address(random));
            }
            return;
        };
        if !networks.is_empty() && random.chance(70) {
            let proxies = ["203.0.113.5", "10.9.0.4", "2001:db8:ffff::1"];
            self.peer = Some(must(random.pick(&proxies).parse(), "an address"));
        }
        let https = *random.pick(&["https", "https", "wss", "http", "ws", "https, http", "http, https", ""]);
        for _ in 0..*random.pick(&[1, 1, 1, 1, 2, 0]) {
            let number = *random.pick(&[1, 1, 1, 2, 2, 3, 4]);
            let long = random.chance(4);
            // At the limit of 64, the one that is farthest may still count, or not any more.
            let elements: Vec<String> = (0..if long { 62 + number } else { number })
                .map(|index| {
                    let address = address(random);
                    match (long, index) {
                        (true, 0) => "8.8.8.8".to_owned(),
                        (true, _) => "10.9.0.4".to_owned(),
                        (false, _) => spelling::of_hop(random, address),
                    }
                })
                .collect();
            match header {
                ProxyHeader::XForwardedFor => self.header("x-forwarded-for", &elements.join(", ")),
                ProxyHeader::Forwarded => {
                    let elements: Vec<String> =
                        elements.iter().map(|hop| spelling::of_forwarded(random, hop)).collect();
                    self.header("forwarded", &elements.join(", "));
                }
            }
        }
        if random.chance(60) {
            self.header("x-forwarded-proto", https);
        }
    }

    pub(super) fn preflight(&mut self, random: &mut Random) {
        if random.chance(90) && !self.headers.iter().any(|(name, _)| name == "origin") {
            self.header("origin", ORIGINS[0]);
        }
        for _ in 0..*random.pick(&[1, 1, 1, 1, 0, 2]) {
            let method = word(random, &["GET", "POST", "PUT", "PURGE", "TRACE", "get"]);
            self.header("access-control-request-method", method);
        }
        if random.chance(70) {
            let names = ["authorization", "x-api-key", "x-access-token", OWN_HEADER];
            self.headers.retain(|(name, _)| !names.contains(&name.as_str()));
        }
    }
}
