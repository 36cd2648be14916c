//! Prints the figures as a Markdown table.

use crate::{
    contenders::DIGEST,
    measure::{Measured, median},
    versions,
};

pub fn print(all: &[Measured]) {
    println!("| contender | version | ns a call | ns over its surroundings | in SHA-256 of the key | allocations |");
    println!("|---|---|--:|--:|--:|--:|");
    for one in all {
        let versions: Vec<_> = one.contender.packages.iter().map(|package| versions::named(package)).collect();
        let whole = thousands(median(one.rounds.iter().copied()));
        let rest = net(one, all).unwrap_or_else(|| "– | – | –".to_owned());
        println!("| {} | {} | {whole} | {rest} |", one.contender.name, versions.join(", "));
    }
}

/// Returns the net cost of the gate, or `None` for a contender that is the baseline of others.
fn net(one: &Measured, all: &[Measured]) -> Option<String> {
    if all.iter().any(|other| other.contender.within == Some(one.contender.name)) {
        return None;
    }
    let digest = find(all, DIGEST);
    let bare = one.contender.within.map(|name| find(all, name));
    // Other load on the machine affects both alike within a round, so the difference and the ratio are taken per
    // round.
    let net: Vec<f64> = match bare {
        Some(bare) => one.rounds.iter().zip(&bare.rounds).map(|(whole, bare)| whole - bare).collect(),
        None => one.rounds.clone(),
    };
    let times = median(net.iter().zip(&digest.rounds).map(|(net, digest)| net / digest));
    let allocations = one.allocations - bare.map_or(0.0, |bare| bare.allocations);
    Some(format!("{} | {} | {}", thousands(median(net)), ratio(times), count(allocations)))
}

fn find<'a>(all: &'a [Measured], name: &str) -> &'a Measured {
    all.iter().find(|one| one.contender.name == name).expect("whoever is named takes part")
}

/// Formats a number as `1,234`.
fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

fn ratio(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => thousands(value),
    }
}

/// Formats a whole number, unless some calls allocate more than others.
fn count(value: f64) -> String {
    if (value - value.round()).abs() < 0.05 { thousands(value) } else { format!("{value:.1}") }
}
