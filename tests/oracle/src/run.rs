//! Sends requests to worlds, and compares what becomes of them with what an interpreter says.

mod likeness;
pub(crate) mod service;
mod shrink;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::cedar::Cedar;
use crate::interpreter::{Design, Outcome, Reading, Setting, decide};
use crate::invariants::{Invariants, scopes_differ};
use crate::random::Random;
use crate::requests::Ask;
use crate::world::World;

use service::Gates;

/// How many requests are sent to one world.
const REQUESTS_PER_WORLD: usize = 100;

/// How much is compared, and from which seed on.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Options {
    pub requests: u64,
    pub seed: u64,
}

/// What a run has done.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Figures {
    pub worlds: u64,
    pub requests: u64,
    pub admitted: u64,
    /// Requests of which the handler's answer was withheld.
    pub withheld: u64,
    /// Refused requests, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Decisions that Cedar was asked for, and those that it allowed.
    pub cedar: (u64, u64),
    /// Requests with an active key, for which the invariants were checked.
    pub invariants: u64,
    /// Rules that the crate has refused, of all that were made: they conflict with another.
    pub rules: (u64, u64),
    pub elapsed: Duration,
}

impl Figures {
    /// Requests in a second, each of which is sent in every setting.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "it is shown to people")]
        let requests = self.requests as f64;
        requests / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn count(&mut self, ask: &Ask, outcome: &Outcome) {
        self.requests += 1;
        if !outcome.ran {
            *self.refused.entry(outcome.status).or_default() += 1;
        } else if outcome.status == 500 && ask.plan.status != 500 {
            self.withheld += 1;
        } else {
            self.admitted += 1;
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "worlds      {:>12}", self.worlds)?;
        writeln!(f, "requests    {:>12}  each in {} settings", self.requests, Setting::ALL.len())?;
        writeln!(f, "admitted    {:>12}", self.admitted)?;
        writeln!(f, "withheld    {:>12}", self.withheld)?;
        for (status, number) in &self.refused {
            writeln!(f, "refused {status} {number:>12}")?;
        }
        writeln!(f, "by Cedar    {:>12}  of which it allows {}", self.cedar.0, self.cedar.1)?;
        writeln!(f, "invariants  {:>12}", self.invariants)?;
        writeln!(f, "rules       {:>12}  of which {} conflict with another", self.rules.1, self.rules.0)?;
        write!(f, "requests/s  {:>12.0}", self.requests_per_second())
    }
}

/// A request about which two answers differ.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Difference {
    pub seed: u64,
    pub world_number: u64,
    /// How many requests had been sent before.
    pub requests: u64,
    /// Both answers, for people.
    pub finding: String,
    pub world: Box<World>,
    pub ask: Box<Ask>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, world {}, after {} requests", self.seed, self.world_number, self.requests)?;
        writeln!(f, "{:#?}\n{:#?}\n{}", self.world, self.ask, self.finding)
    }
}

impl std::error::Error for Difference {}

/// Compares the crate with the interpreter and with Cedar, and checks the invariants.
///
/// # Errors
/// The first difference, shrunk.
pub fn run(options: Options) -> Result<Figures, Box<Difference>> {
    compare(options, &Design, true, |_| true)
}

/// Looks for a request about which the crate and a faulty reading differ, and the right one does not. `Ok` has the
/// figures if there is none.
///
/// # Errors
/// The first difference.
pub fn find_fault(options: Options, faulty: &dyn Reading, limit: Duration) -> Result<Figures, Box<Difference>> {
    compare(options, faulty, false, |elapsed| elapsed < limit)
}

fn compare(
    options: Options,
    reading: &dyn Reading,
    whole: bool,
    goes_on: impl Fn(Duration) -> bool,
) -> Result<Figures, Box<Difference>> {
    let start = Instant::now();
    let mut figures = Figures::default();
    while figures.requests < options.requests && goes_on(start.elapsed()) {
        let mut random = Random::nth(options.seed, figures.worlds);
        let world = World::random(&mut random);
        figures.rules.0 += world.refused_rules;
        figures.rules.1 += world.refused_rules + world.rules.len() as u64;
        if world.rules.is_empty() {
            figures.worlds += 1;
            continue;
        }
        let mut gates = Gates::new(&world);
        let mut beside = whole.then(|| (Cedar::new(&world), Invariants::new(&world)));
        for _ in 0..REQUESTS_PER_WORLD {
            let ask = Ask::random(&mut random, &world);
            let mut finding = differs(reading, &world, &mut gates, &ask);
            match &mut beside {
                Some((cedar, invariants)) if finding.is_none() => {
                    finding = gates.take_unlike();
                    finding = finding.or_else(|| cedar.differs(&world, &ask));
                    finding = finding.or_else(|| invariants.differs(&world, &ask));
                    figures.cedar.0 += u64::from(cedar.take_asked());
                    figures.cedar.1 += u64::from(cedar.take_allowed());
                    figures.invariants += u64::from(invariants.take_checked());
                }
                Some(_) => {}
                // A request that the right reading is wrong about as well shows nothing of the fault.
                None => finding = finding.filter(|_| differs(&Design, &world, &mut gates, &ask).is_none()),
            }
            if let Some(finding) = finding {
                let (world, ask, finding) =
                    if whole { shrink::shrink(world, ask, finding) } else { (world, ask, finding) };
                return Err(Box::new(Difference {
                    seed: options.seed,
                    world_number: figures.worlds,
                    requests: figures.requests,
                    finding,
                    world: Box::new(world),
                    ask: Box::new(ask),
                }));
            }
            if whole {
                figures.count(&ask, &decide(reading, &world, &ask, Setting::Plain));
            } else {
                figures.requests += 1;
            }
            if figures.requests >= options.requests {
                break;
            }
        }
        figures.worlds += 1;
    }
    figures.elapsed = start.elapsed();
    Ok(figures)
}

/// Sends the request in every setting. Returns what differs, with both answers.
pub(crate) fn differs(reading: &dyn Reading, world: &World, gates: &mut Gates, ask: &Ask) -> Option<String> {
    for setting in Setting::ALL {
        let expected = decide(reading, world, ask, setting);
        let (actual, scopes) = gates.send(ask, setting);
        if expected != actual {
            let text = format!("{setting:?}\nthe interpreter says {expected:?}\nthe crate says       {actual:?}");
            return Some(text);
        }
        if let Some(finding) = scopes_differ(reading, world, ask, setting, &actual, &scopes) {
            return Some(finding);
        }
    }
    None
}
