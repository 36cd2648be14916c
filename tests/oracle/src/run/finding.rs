//! One difference, and those that are known.

use crate::interpreter::Setting;
use crate::requests::Ask;
use crate::world::World;

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Check {
    Gate(Setting),
    /// Two refusals that must look alike do not.
    Likeness,
    Scope,
    Cedar,
    Evaluate,
    Explain,
    PolicyFile,
    SmallerGrant,
    Operation,
}

/// A difference between two answers.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was compared.
    pub check: Check,
    /// The status that the interpreter says, or whatever else is right.
    pub expected: u16,
    /// The status of the crate.
    pub actual: u16,
    /// Both answers, for people.
    pub text: String,
}

impl Finding {
    pub(crate) fn new(check: Check, expected: u16, actual: u16, text: String) -> Self {
        Self { check, expected, actual, text }
    }
}

/// The name of a difference that was reported and has not been mended yet: it is counted and shown, and does not end the
/// run. There is none.
pub(crate) const fn known(_: &World, _: &Ask, _: &Finding) -> Option<&'static str> {
    None
}
