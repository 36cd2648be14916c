//! Rules for programs that search repositories and logs for secrets, by which they find the keys of a store.

use std::fmt::Write as _;

use serde_json::Value;
use tower_authz::{KeyFormat, KeyFormats};

/// Words near an opaque token, which has no mark of its own: without one of them a program does not look for it.
const HINTS: [&str; 5] = ["key", "token", "secret", "auth", "bearer"];

/// A rule file for gitleaks, complete: for `gitleaks --config`, or as `.gitleaks.toml` in a repository.
pub(crate) fn gitleaks(formats: &KeyFormats) -> String {
    let mut text = "# Finds the API keys of this store: gitleaks --config FILE. Made by `authz settings --gitleaks`.\n\
                    title = \"API keys\"\n\n\
                    # The rules that gitleaks brings along stay in force.\n\
                    [extend]\nuseDefault = true\n"
        .to_owned();
    for (kind, format) in formats.iter() {
        let is_opaque = format.beginning().is_none();
        // INVARIANT: an expression has no apostrophes, so that it is a literal string as it is.
        let _ = write!(
            text,
            "\n{}[[rules]]\nid = {}\ndescription = {}\nregex = '''{}'''\n{}keywords = [{}]\n",
            if is_opaque { "# Opaque tokens look like any long word: expect false positives.\n" } else { "" },
            quoted(&id(format)),
            quoted(&description(kind)),
            format.regex(),
            if is_opaque { "secretGroup = 1\n" } else { "" },
            keywords(format).map(|word| quoted(&word)).collect::<Vec<_>>().join(", "),
        );
    }
    text
}

/// A file of custom detectors for trufflehog, for `trufflehog --config`.
pub(crate) fn trufflehog(formats: &KeyFormats) -> String {
    let mut text =
        "# Finds the API keys of this store: trufflehog --config FILE. Made by `authz settings --trufflehog`.\n\
                    detectors:\n"
            .to_owned();
    for (kind, format) in formats.iter() {
        let _ = writeln!(text, "  # {}\n  - name: {}\n    keywords:", quoted(&description(kind)), id(format));
        for word in keywords(format) {
            let _ = writeln!(text, "      - {word}");
        }
        let _ = writeln!(text, "    regex:\n      key: '{}'", format.regex());
    }
    text
}

/// The name of a rule: of two formats of a store, the prefixes differ, or the lengths of opaque tokens.
fn id(format: &KeyFormat) -> String {
    let mark = format.beginning().unwrap_or_else(|| format.to_string());
    let words = mark.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    ["api-key"].into_iter().chain(words).collect::<Vec<_>>().join("-")
}

fn description(kind: Option<&str>) -> String {
    kind.map_or_else(|| "API key".to_owned(), |kind| format!("API key of the kind {kind}"))
}

fn keywords(format: &KeyFormat) -> impl Iterator<Item = String> {
    let beginning = format.beginning();
    let hints = HINTS.into_iter().filter(|_| beginning.is_none()).map(str::to_owned).collect::<Vec<_>>();
    beginning.into_iter().chain(hints)
}

/// A string in quotes. What escapes in JSON escapes in TOML, where no control characters are in the text.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
