//! S5 to S12 and S17: everything that a rule refuses for, and what is shown of it.

use super::{Reading, Request, Route, answer};
use crate::world::{Dim, Handling, Key, Place, Rule, World};

/// Why a rule refuses, in the fixed order in which causes are shown. The design leaves the order open; it is that of
/// the variants of the crate's `Cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are those of the crate's causes")]
pub enum Cause {
    MalformedId,
    MissingEntity,
    MethodNotAllowed,
    WrongKind,
    MissingPermission,
    Networks,
    Origin,
    EntityNotAllowed,
    DimensionNotDeclared,
}

impl Cause {
    /// The status of the response.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::MalformedId | Self::MissingEntity => 400,
            Self::MethodNotAllowed => 405,
            _ => 403,
        }
    }
}

/// S7: what a method does: as the rule maps it, else as the standard has it. By the documentation of `Rule::method` a
/// mapping for `GET` applies to `HEAD` as well, unless that has its own.
pub(super) fn writes(rule: &Rule, method: &str) -> Option<bool> {
    let mapped = |name: &str| rule.methods.iter().find(|(known, _)| known == name).map(|(_, write)| *write);
    let get = || if method == "HEAD" { mapped("GET") } else { None };
    mapped(method).or_else(get).or(match method {
        "GET" | "HEAD" | "OPTIONS" => Some(false),
        "POST" | "PUT" | "PATCH" | "DELETE" => Some(true),
        _ => None,
    })
}

/// Every reason for which the rule refuses this key, in no order, whatever the tenant and the credential: for [`decide`],
/// and for the questions that an operation in the body or an explanation asks.
///
/// [`decide`]: super::decide
pub fn causes<R>(
    reading: &R,
    world: &World,
    key: &Key,
    rule: &Rule,
    route: &Route<'_>,
    request: &Request<'_>,
) -> Vec<Cause>
where
    R: Reading + ?Sized,
{
    let mut causes = Vec::new();
    match reading.writes(rule, &request.ask.method) {
        None => causes.push(Cause::MethodNotAllowed),
        Some(write) => {
            let others = reading.alternatives(rule).iter();
            let mut others = others.map(|(resource, fixed)| (resource, fixed.unwrap_or(write)));
            if rule.resource.as_ref().is_some_and(|resource| !reading.permits(key, resource, write))
                && !others.any(|(resource, write)| reading.permits(key, resource, write))
            {
                causes.push(Cause::MissingPermission);
            }
        }
    }
    if rule.kind.as_ref().is_some_and(|kind| !reading.is_of_kind(key, kind)) {
        causes.push(Cause::WrongKind);
    }
    let address = reading.client_address(world, request);
    if (rule.require_networks && key.networks.is_none()) || !reading.allows_address(key, address) {
        causes.push(Cause::Networks);
    }
    if rule.require_origin {
        match request.lines("origin").as_slice() {
            [origin] if reading.allows_origin(key, origin) => {}
            _ => causes.push(Cause::Origin),
        }
    }
    for dim in Dim::ALL {
        if reading.restricted(key.lists.get(&dim)) && !reading.covers(rule, dim) {
            causes.push(Cause::DimensionNotDeclared);
        }
    }
    for (dim, handling) in &rule.handlings {
        let Handling::Scoped(places) = handling else { continue };
        for place in places {
            let ids = named(place, route, request);
            if ids.is_empty() {
                causes.push(Cause::MissingEntity);
            }
            for id in ids {
                match answer(reading, world, key, rule, *dim, &id) {
                    200 => {}
                    400 => causes.push(Cause::MalformedId),
                    _ => causes.push(Cause::EntityNotAllowed),
                }
            }
        }
    }
    causes
}

/// The ids that a request names in one place.
pub(crate) fn named(place: &Place, route: &Route<'_>, request: &Request<'_>) -> Vec<String> {
    match place {
        Place::Path(wanted) => {
            route.parameters.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect()
        }
        Place::Header(name) => request.lines(name).into_iter().map(str::to_owned).collect(),
        Place::Function(name) => request.query_values(name).into_iter().map(str::to_owned).collect(),
    }
}

/// S17: the first in the fixed order. A concealed rule shows a 403 as 404; by the documentation of `Rule::concealed` a
/// 400 and a 405, too.
pub(super) fn shown(rule: &Rule, causes: &[Cause]) -> u16 {
    let status = causes.iter().min().map_or(200, |cause| cause.status());
    if rule.concealed { 404 } else { status }
}

/// The dimensions that a rule leaves to the handler.
#[must_use]
pub fn obliged_dims(rule: &Rule) -> Vec<Dim> {
    let open = |handling: &Handling| matches!(handling, Handling::Filtered | Handling::Deferred);
    rule.handlings.iter().filter(|(_, handling)| open(handling)).map(|(dim, _)| *dim).collect()
}
