//! Times the contenders in turn: other load on the machine slows all of them alike, and the figures that are compared
//! were measured within the same tenth of a second.

use std::time::{Duration, Instant};

use crate::alloc;

/// A turn is long compared with the cost of reading the clock, and short compared with a burst of other load.
const TURN: Duration = Duration::from_millis(3);

/// Makes the given number of calls. Only those inside of [`Meter::watch`] are measured.
pub type Turn = Box<dyn FnMut(&mut Meter, u32)>;

pub struct Contender {
    pub name: &'static str,
    /// The packages whose versions the table names beside the figures.
    pub packages: &'static [&'static str],
    /// The contender that is the same without the gate.
    pub within: Option<&'static str>,
    turn: Turn,
}

impl Contender {
    pub fn new(name: &'static str, packages: &'static [&'static str], turn: Turn) -> Self {
        Self { name, packages, within: None, turn }
    }

    pub fn within(self, bare: &'static str) -> Self {
        Self { within: Some(bare), ..self }
    }
}

/// The time and the allocations while the clock ran.
#[derive(Default)]
pub struct Meter {
    time: Duration,
    allocations: u64,
}

impl Meter {
    pub fn watch(&mut self, work: impl FnOnce()) {
        let before = alloc::count();
        let start = Instant::now();
        work();
        self.time += start.elapsed();
        self.allocations += alloc::count() - before;
    }
}

pub struct Measured {
    pub contender: Contender,
    /// Nanoseconds per call, for each round.
    pub rounds: Vec<f64>,
    /// Allocations per call, over all rounds.
    pub allocations: f64,
}

/// Runs each contender once a round, always in the same order.
pub fn interleaved(contenders: Vec<Contender>, rounds: usize) -> Vec<Measured> {
    let mut turns: Vec<_> = contenders
        .into_iter()
        .map(|mut contender| {
            let iterations = calibrated(&mut contender.turn);
            (iterations, Measured { contender, rounds: Vec::with_capacity(rounds), allocations: 0.0 })
        })
        .collect();
    for _ in 0..rounds {
        for (iterations, measured) in &mut turns {
            // The previous contender has filled the caches with its own data, so a few calls warm them up.
            (measured.contender.turn)(&mut Meter::default(), *iterations / 16 + 1);
            let mut meter = Meter::default();
            (measured.contender.turn)(&mut meter, *iterations);
            let calls = f64::from(*iterations);
            measured.rounds.push(meter.time.as_nanos() as f64 / calls);
            measured.allocations += meter.allocations as f64 / calls / rounds as f64;
        }
    }
    turns.into_iter().map(|(_, measured)| measured).collect()
}

/// Returns the number of calls that fill a turn.
fn calibrated(turn: &mut Turn) -> u32 {
    let mut iterations = 1;
    loop {
        let mut meter = Meter::default();
        turn(&mut meter, iterations);
        if meter.time >= TURN / 4 {
            let wanted = TURN.as_nanos() as f64 / meter.time.as_nanos() as f64;
            return (f64::from(iterations) * wanted).ceil() as u32;
        }
        iterations *= 2;
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
