//! Faults about routes, methods, spellings and obligations.

use crate::interpreter::{Cause, Design, Obligation, Reading, Route, Setting, decoded};
use crate::requests::Ask;
use crate::world::{Dim, Grammar, Rule, World};

pub(super) struct LooseIds;

impl Reading for LooseIds {
    fn is_canonical(&self, dim: Dim, project: Grammar, id: &str) -> bool {
        Design.is_canonical(dim, project, id.trim().trim_start_matches(['0', '+']).to_lowercase().as_str())
    }
}

pub(super) struct DecodedFirst;

impl Reading for DecodedFirst {
    fn route<'w>(&self, world: &'w World, path: &str, setting: Setting) -> Option<Route<'w>> {
        Design.route(world, &decoded(path)?, setting)
    }
}

pub(super) struct NoFallback;

impl Reading for NoFallback {
    fn route<'w>(&self, world: &'w World, path: &str, setting: Setting) -> Option<Route<'w>> {
        Design.route(world, path, setting).filter(|route| !route.pattern.is_empty())
    }
}

pub(super) struct EncodedDotIsClean;

impl Reading for EncodedDotIsClean {
    fn is_clean(&self, path: &str) -> bool {
        Design.is_clean(&path.replace("%2e", "."))
    }
}

pub(super) struct HeadNeedsItsOwn;

impl Reading for HeadNeedsItsOwn {
    fn rule_for<'w>(&self, route: &Route<'w>, method: &str) -> Option<&'w Rule> {
        let own = |wanted: Option<&str>| route.rules.iter().find(|rule| rule.method.as_deref() == wanted).copied();
        own(Some(method)).or_else(|| own(None))
    }
}

pub(super) struct UnknownReads;

impl Reading for UnknownReads {
    fn writes(&self, rule: &Rule, method: &str) -> Option<bool> {
        Design.writes(rule, method).or(Some(false))
    }
}

pub(super) struct ConcealedShows;

impl Reading for ConcealedShows {
    fn shown(&self, rule: &Rule, causes: &[Cause]) -> u16 {
        Design.shown(&Rule { concealed: false, ..rule.clone() }, causes)
    }
}

pub(super) struct DeniedMeets;

impl Reading for DeniedMeets {
    fn is_met(&self, obligation: &Obligation, ask: &Ask, answers: &[u16]) -> bool {
        let asked = |dim: &Dim| ask.plan.questions.iter().zip(answers).any(|((over, _, _), _)| over == dim);
        matches!(obligation, Obligation::Check(dim) if asked(dim)) || Design.is_met(obligation, ask, answers)
    }
}

pub(super) struct FilterOptional;

impl Reading for FilterOptional {
    fn is_met(&self, obligation: &Obligation, ask: &Ask, answers: &[u16]) -> bool {
        matches!(obligation, Obligation::Filter(_)) || Design.is_met(obligation, ask, answers)
    }
}
