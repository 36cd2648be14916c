//! Random requests to a world: most are nearly right, and wrong in one or two ways at most.

use std::net::IpAddr;

use crate::random::Random;
use crate::world::{Dim, Grammar, Handling, Place, ROUTE_WITHOUT_RULE, Rule, World, generate::ids};

mod headers;
mod spelling;

/// How a handler asks for an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Way {
    Require,
    RequireOrReport,
    ScopeAllows,
}

/// What the handler does if it runs and there is a key.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The dimensions whose scope it asks for.
    pub scopes: Vec<Dim>,
    /// The entities that it asks for afterwards.
    pub questions: Vec<(Dim, String, Way)>,
    /// Whether it returns the first denial that it gets from `Principal::require`.
    pub returns_denials: bool,
    /// The status with which it answers in the end.
    pub status: u16,
}

/// A request, as text.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Ask {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub peer: Option<IpAddr>,
    /// Whether the connection is marked as TLS.
    pub secure: bool,
    /// Whether other middleware has left an identity in the extensions.
    pub forged: bool,
    pub plan: Plan,
}

fn word(random: &mut Random, all: &[&'static str]) -> &'static str {
    random.pick::<&str>(all)
}

impl Ask {
    /// Makes a request for a world.
    #[must_use]
    pub fn random(random: &mut Random, world: &World) -> Self {
        let rule = random.pick(&world.rules).clone();
        let key = random.pick(&world.keys).clone();
        let mut ask = Self { method: method(random, &rule), ..Self::default() };
        ask.target = target(random, world, &rule);
        ask.entity_headers(random, world, &rule);
        ask.credentials(random, world, &key);
        ask.origin(random, &rule, &key);
        ask.host(random, world, &key);
        ask.connection(random, world);
        if random.chance(3) {
            ask.header("x-http-method-override", word(random, &["GET", "DELETE"]));
        }
        if ask.method == "OPTIONS" && random.chance(60) {
            ask.preflight(random);
        }
        ask.plan = plan(random, world, &rule);
        ask
    }
}

fn method(random: &mut Random, rule: &Rule) -> String {
    let all = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
    let odd = ["TRACE", "CONNECT", "PURGE", "QUERY", "get", "Post"];
    let method = match (&rule.method, random.below(10)) {
        (Some(method), 0..=7) if method == "GET" && random.chance(30) => "HEAD".to_owned(),
        (Some(method), 0..=7) => method.clone(),
        (_, 0..=8) => (*random.pick(&all)).to_owned(),
        _ => (*random.pick(&odd)).to_owned(),
    };
    match rule.methods.first() {
        Some((mapped, _)) if rule.method.is_none() && random.chance(25) => mapped.clone(),
        _ => method,
    }
}

/// Fills the pattern of a rule, and sometimes spells the result otherwise.
fn target(random: &mut Random, world: &World, rule: &Rule) -> String {
    let pattern = match random.below(100) {
        0 => ROUTE_WITHOUT_RULE,
        // Where a fallback is asked, more often than elsewhere.
        1..=10 if world.fallback.is_some() => "/nowhere",
        _ => rule.pattern.as_str(),
    };
    let mut path = String::new();
    for segment in pattern.split('/').skip(1) {
        let (literal, parameter) = segment.split_once('{').unwrap_or((segment, ""));
        path += &format!("/{literal}");
        match Dim::ALL.into_iter().find(|dim| parameter == format!("{}}}", dim.name())) {
            Some(dim) => {
                // Ids of another dimension now and then, because some of them collide.
                let dim = if random.chance(4) { *random.pick(&Dim::ALL) } else { dim };
                let id = *random.pick(ids(dim, world.project));
                path += &spelling::of_path_id(random, id);
            }
            None if parameter.starts_with('*') => path += word(random, &["a", "a/b", "1/de", "logo.png", "a/"]),
            None if !parameter.is_empty() => path += "7",
            None => {}
        }
    }
    let path = spelling::of_path(random, &path);
    let mut query: Vec<String> = Vec::new();
    for (dim, handling) in &rule.handlings {
        let Handling::Scoped(places) = handling else { continue };
        if places.iter().any(|place| matches!(place, Place::Function(_))) {
            for _ in 0..*random.pick(&[1, 1, 1, 2, 0]) {
                query.push(format!("{}={}", dim.name(), random.pick(ids(*dim, world.project))));
            }
        }
    }
    if random.chance(3) {
        query.push((*random.pick(&["access_token=x", "x=/../..", "_method=GET", "a=//b"])).to_owned());
    }
    let target = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
    if target.parse::<http::Uri>().is_ok() { target } else { "/".to_owned() }
}

/// Mostly what the rule obliges to, so that most handlers are heard.
fn plan(random: &mut Random, world: &World, rule: &Rule) -> Plan {
    let mut plan = Plan {
        returns_denials: random.chance(50),
        status: *random.pick(&[200, 200, 200, 204, 302, 404, 503]),
        ..Plan::default()
    };
    let wants = |handling: Handling| -> Vec<Dim> {
        rule.handlings.iter().filter(|(_, each)| **each == handling).map(|(dim, _)| *dim).collect()
    };
    plan.scopes = wants(Handling::Filtered).into_iter().filter(|_| random.chance(85)).collect();
    let mut asked: Vec<Dim> = wants(Handling::Deferred).into_iter().filter(|_| random.chance(90)).collect();
    if random.chance(10) {
        asked.push(*random.pick(&Dim::ALL));
        plan.scopes.push(*random.pick(&Dim::ALL));
    }
    for dim in asked {
        for _ in 0..=random.below(2) {
            plan.questions.push((dim, question(random, dim, world.project), way(random)));
        }
    }
    plan
}

fn question(random: &mut Random, dim: Dim, project: Grammar) -> String {
    let id = *random.pick(ids(dim, project));
    spelling::of_header_id(random, id)
}

fn way(random: &mut Random) -> Way {
    *random.pick(&[Way::Require, Way::Require, Way::RequireOrReport, Way::ScopeAllows])
}
