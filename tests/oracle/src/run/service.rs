//! The gate of a world around a handler that notes what it sees, in three settings.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::any,
};
use http::{HeaderName, HeaderValue, Method, Request};
use tower::{Layer as _, Service as _, ServiceExt as _, util::BoxCloneSyncService};
use tower_authz::{ClientAddress, Denial, Filter, PeerAddress, Principal, SecureConnection};

use super::likeness::Likeness;
use crate::interpreter::{Outcome, Setting};
use crate::random::must;
use crate::requests::{Ask, Plan, Way};
use crate::world::{
    Dim, Grammar, Handling, Key, ROUTE_WITHOUT_RULE, World,
    build::{authz, dimension, directory, record},
    generate::ids,
};

type Gate = BoxCloneSyncService<Request<Body>, Response, Infallible>;

/// What a scope said: its filter, and each id with whether it is allowed.
pub(crate) type ScopeSeen = (Dim, Filter, Vec<(String, bool)>);

/// What the handler has seen of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    outcome: Outcome,
    pub(crate) scopes: Vec<ScopeSeen>,
}

/// What the handler has to do, in the extensions of the request.
#[derive(Clone)]
struct Orders {
    plan: Arc<Plan>,
    project: Grammar,
    /// The dimensions of which a question would meet an obligation.
    deferred: Arc<Vec<Dim>>,
    seen: Arc<Mutex<Seen>>,
}

/// The gates of a world.
pub(crate) struct Gates {
    gates: Vec<(Setting, Gate)>,
    seen: Arc<Mutex<Seen>>,
    stranger: Principal,
    deferred: Arc<Vec<Dim>>,
    project: Grammar,
    likeness: Likeness,
    unlike: Option<String>,
}

impl Gates {
    /// Builds the gates.
    pub(crate) fn new(world: &World) -> Self {
        let authz = authz(world);
        let handler = tower::service_fn(async |request: Request<Body>| {
            let response = handle(&request);
            Ok::<_, Infallible>(response.unwrap_or_else(|denial| status(denial.status().as_u16())))
        });
        let router = router(world);
        let around = authz.clone().layer(router.clone());
        let gates = vec![
            (Setting::Plain, Gate::new(authz.layer(handler))),
            (Setting::AroundRouter, Gate::new(around)),
            (Setting::InRouter, Gate::new(router.layer(authz))),
        ];
        let handlings = world.rules.iter().chain(&world.fallback).flat_map(|rule| &rule.handlings);
        let deferred = handlings.filter(|(_, handling)| **handling == Handling::Deferred).map(|(dim, _)| *dim);
        // A question for a shop country is one for its shop.
        let deferred = deferred.flat_map(|dim| if dim == Dim::Shop { vec![dim, Dim::Country] } else { vec![dim] });
        let stranger = Key { id: "stranger".to_owned(), secret: "x".repeat(20), ..Key::default() };
        let stranger = Arc::new(record(&stranger, world.project));
        Self {
            gates,
            seen: Arc::default(),
            stranger: Principal::new(stranger, directory(world), ClientAddress::UNKNOWN),
            deferred: Arc::new(deferred.collect()),
            project: world.project,
            likeness: Likeness::new(world),
            unlike: None,
        }
    }

    /// What the last refusal shows that it must not show.
    pub(crate) fn take_unlike(&mut self) -> Option<String> {
        self.unlike.take()
    }

    /// Sends a request, and returns what became of it, and what the handler saw of scopes.
    pub(crate) fn send(&mut self, ask: &Ask, setting: Setting) -> (Outcome, Vec<ScopeSeen>) {
        *lock(&self.seen) = Seen::default();
        let mut request = request(ask);
        if ask.forged {
            request.extensions_mut().insert(self.stranger.clone());
        }
        request.extensions_mut().insert(Orders {
            plan: Arc::new(ask.plan.clone()),
            project: self.project,
            deferred: self.deferred.clone(),
            seen: self.seen.clone(),
        });
        let gate = self.gates.iter_mut().find(|(known, _)| *known == setting).map(|(_, gate)| gate);
        let gate = must(gate.ok_or("no gate"), "setting");
        let response = futures::executor::block_on(async {
            let ready = must(gate.ready().await, "a gate");
            must(ready.call(request).await, "a response")
        });
        let seen = std::mem::take(&mut *lock(&self.seen));
        let outcome = Outcome { status: response.status().as_u16(), ..seen.outcome };
        if !outcome.ran {
            self.unlike = self.likeness.compare(setting, &ask.method, response);
        }
        (outcome, seen.scopes)
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The request as a tower service receives it.
pub(crate) fn request(ask: &Ask) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = must(Method::from_bytes(ask.method.as_bytes()), "a method");
    *request.uri_mut() = must(ask.target.parse(), "a target");
    for (name, value) in &ask.headers {
        let name = must(HeaderName::from_bytes(name.as_bytes()), "a header name");
        request.headers_mut().append(name, must(HeaderValue::from_bytes(value.as_bytes()), "a header value"));
    }
    if let Some(peer) = ask.peer {
        request.extensions_mut().insert(PeerAddress((peer, 4321).into()));
    }
    if ask.secure {
        request.extensions_mut().insert(SecureConnection);
    }
    request
}

fn router(world: &World) -> Router {
    let handler = || any(async |request: Request<Body>| handle(&request));
    let mut patterns: Vec<&str> = world.rules.iter().map(|rule| rule.pattern.as_str()).collect();
    patterns.retain(|pattern| !world.unrouted.iter().any(|missing| missing == pattern));
    patterns.push(ROUTE_WITHOUT_RULE);
    patterns.sort_unstable();
    patterns.dedup();
    let router = patterns.into_iter().fold(Router::new(), |router, pattern| router.route(pattern, handler()));
    router.fallback(async |request: Request<Body>| handle(&request))
}

fn status(code: u16) -> Response {
    must(http::StatusCode::from_u16(code), "a status").into_response()
}

/// Does what the request says, and notes it.
fn handle(request: &Request<Body>) -> Result<Response, Denial> {
    let orders = must(request.extensions().get::<Orders>().ok_or("lost"), "orders");
    let mut seen = Seen::default();
    seen.outcome.ran = true;
    let result = match request.extensions().get::<Principal>() {
        None => Ok(()),
        Some(principal) => {
            seen.outcome.key = Some(principal.key_id().as_str().to_owned());
            follow(orders, principal, &mut seen)
        }
    };
    *lock(&orders.seen) = seen;
    result.map(|()| status(orders.plan.status))
}

fn follow(orders: &Orders, principal: &Principal, seen: &mut Seen) -> Result<(), Denial> {
    let plan = &orders.plan;
    for dim in &plan.scopes {
        let scope = principal.scope(dimension(*dim, orders.project));
        // To ask for an id would meet the obligation of a deferred dimension, which the plan may want unmet.
        let asked = if orders.deferred.contains(dim) { &[][..] } else { ids(*dim, orders.project) };
        let answers =
            asked.iter().chain(asked.first().map(|_| &"unknown-1")).map(|id| ((*id).to_owned(), scope.allows(id)));
        seen.scopes.push((*dim, scope.filter(), answers.collect()));
    }
    for (dim, id, way) in &plan.questions {
        let over = dimension(*dim, orders.project);
        let answer = match way {
            Way::Require => principal.require(over, id),
            Way::RequireOrReport => principal.require_or_report(over, id),
            Way::ScopeAllows => {
                let said = principal.scope(over).allows(id);
                seen.outcome.answers.push(if said { 200 } else { 403 });
                continue;
            }
        };
        // A concealed denial shows 404; the causes tell what was answered.
        seen.outcome.answers.push(answer.as_ref().err().map_or(200, |denial| denial.cause().status().as_u16()));
        if *way == Way::Require && plan.returns_denials {
            answer?;
        }
    }
    Ok(())
}
