//! Prints the figures as Markdown tables.

/// The text of a cell without a value.
pub(crate) const NOTHING: &str = "–";

/// Prints the header of a table whose first column is text and whose other columns are figures.
pub(crate) fn head(columns: &[&str]) {
    println!("| {} |", columns.join(" | "));
    println!("|---{}|", "|--:".repeat(columns.len() - 1));
}

pub(crate) fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// The limit that a figure is compared with, if there is one.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    AtMost(f64),
    None,
}

impl Mark {
    /// Returns the text of the limit, and whether the figure keeps it.
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

/// Formats a whole number as `1,234`.
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

/// Formats a count in the same way.
pub(crate) fn count(value: usize) -> String {
    thousands(value as f64)
}
