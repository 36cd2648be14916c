//! The figures as Markdown tables.

/// Where there is nothing to say.
pub(crate) const NOTHING: &str = "–";

/// The head of a table: the first column is of words, the others are of figures.
pub(crate) fn head(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|---{}|", "|--:".repeat(columns.len() - 1));
}

pub(crate) fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// A figure that is held against a mark, or is not.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    AtMost(f64),
    None,
}

impl Mark {
    /// What the mark is, and whether the figure keeps it.
    pub(crate) fn judge(self, figure: f64) -> String {
        match self {
            Self::AtMost(most) if figure <= most => format!("≤ {most}: kept"),
            Self::AtMost(most) => format!("≤ {most}: **missed**"),
            Self::None => NOTHING.to_owned(),
        }
    }
}

pub(crate) fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// A whole number, `1,234`.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// The same of a count.
pub(crate) fn count(value: usize) -> String {
    thousands(value as f64)
}
