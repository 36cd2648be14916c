//! S9: what a rule leaves to the handler, and what becomes of its answer.

use super::{Outcome, Reading, answer};
use crate::requests::{Ask, Way};
use crate::world::{Dim, Handling, Key, Rule, World};

/// What the handler has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obligation {
    /// To filter by the scope.
    Filter(Dim),
    /// To ask for the entities that it finds.
    Check(Dim),
}

/// What a rule leaves to the handler.
#[must_use]
pub(super) fn obligations(rule: &Rule) -> Vec<Obligation> {
    let mut all = Vec::new();
    for (dim, handling) in &rule.handlings {
        match handling {
            Handling::Filtered => all.push(Obligation::Filter(*dim)),
            Handling::Deferred => all.push(Obligation::Check(*dim)),
            Handling::Scoped(_) | Handling::Unscoped => {}
        }
    }
    all
}

/// Whether a question over one dimension is about an obligation over the other. The design is silent; to ask for a shop
/// country is to ask for its shop, from which it inherits.
fn is_about(open: Dim, asked: Dim) -> bool {
    open == asked || (open == Dim::Shop && asked == Dim::Country)
}

/// A filter is met by asking for the scope; a check by a question that was answered with yes, or by one that is
/// reported, by name. `answers` may be shorter than the questions, if a denial was returned.
pub(super) fn is_met(obligation: &Obligation, ask: &Ask, answers: &[u16]) -> bool {
    let asked = |open: Dim, counts: &dyn Fn(Way, u16) -> bool| {
        let questions = ask.plan.questions.iter().zip(answers);
        questions.into_iter().any(|((over, _, way), answer)| is_about(open, *over) && counts(*way, *answer))
    };
    match obligation {
        // Who asks a scope for one id has asked for the scope.
        Obligation::Filter(open) => {
            ask.plan.scopes.iter().any(|over| is_about(*open, *over)) || asked(*open, &|way, _| way == Way::ScopeAllows)
        }
        Obligation::Check(open) => asked(*open, &|way, answer| answer == 200 || way == Way::RequireOrReport),
    }
}

/// Runs the handler as the request has it.
pub(super) fn run<R: Reading + ?Sized>(reading: &R, world: &World, key: &Key, rule: &Rule, ask: &Ask) -> Outcome {
    let mut answers = Vec::new();
    let mut status = ask.plan.status;
    for (dim, id, way) in &ask.plan.questions {
        // A scope says yes or no: an id that is not canonical is nobody's.
        let said = match (answer(reading, world, key, rule, *dim, id), way) {
            (400, Way::ScopeAllows) => 403,
            (said, _) => said,
        };
        answers.push(said);
        if said != 200 && *way == Way::Require && ask.plan.returns_denials {
            // The denial that the layers would have given.
            status = if rule.concealed { 404 } else { said };
            break;
        }
    }
    // An error needs no obligation to be met: it shows nothing.
    let unmet = obligations(rule).iter().any(|obligation| !reading.is_met(obligation, ask, &answers));
    if status < 400 && unmet {
        status = 500;
    }
    Outcome { status, ran: true, key: Some(key.id.clone()), answers }
}
