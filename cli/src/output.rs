//! Formats the output: for people on a terminal, for programs in a pipe.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
    time::SystemTime,
};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};
use tower_authz::{
    ApiKey, KeyId, KeyRecord, Status,
    store::{AuditRecord, IssuedKey},
};

use crate::{Failure, grant, time};

/// Prints one line. Fails if standard output is closed.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{}", text.as_ref())?)
}

/// Replaces the characters of a text from a file or a store that a terminal would execute, or that make it show the
/// text in another position.
pub(crate) fn plain(text: &str) -> String {
    let is_shown = |character: char| {
        !character.is_control()
            && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|character| if is_shown(character) { character } else { '\u{fffd}' }).collect()
}

/// Withholds words that look like keys from an error, because logs are made from standard error. A key that was passed
/// in the wrong position is already in the history of a shell.
pub(crate) fn without_keys(text: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-.~+=".contains(character);
    let looks_like_a_key = |word: &str| {
        word.len() >= 24
            && word.bytes().any(|byte| byte.is_ascii_digit())
            && word.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(length);
        // A path, an address or the name of a file is not a key.
        let is_file = word
            .rsplit_once('.')
            .is_some_and(|(_, end)| (1..=6).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_lowercase()));
        let is_path = is_file || shown.ends_with('/') || tail.starts_with('/');
        shown.push_str(if looks_like_a_key(word) && !is_path { "<redacted: looks like a key>" } else { word });
        let mut characters = tail.chars();
        shown.extend(characters.next());
        rest = characters.as_str();
    }
    shown
}

/// Prints a message for the user on standard error, so that it does not mix with the output.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", plain(text.as_ref()));
}

pub(crate) fn warn(warnings: &[String]) {
    warnings.iter().for_each(|warning| note(format!("warning: {warning}")));
}

pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?)
}

/// Writes a JSON document with one long list, item by item, so that the list is never in memory as a whole.
pub(crate) struct Document {
    is_empty: bool,
}

impl Document {
    /// Begins the document. Nothing is written if `is_json` is false.
    pub(crate) fn begin(name: &str, is_json: bool) -> Result<Self, Failure> {
        if is_json {
            write!(io::stdout(), "{{\n  {}: [", Value::from(name))?;
        }
        Ok(Self { is_empty: true })
    }

    pub(crate) fn push(&mut self, value: &Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?;
        let comma = if std::mem::replace(&mut self.is_empty, false) { "" } else { "," };
        Ok(write!(io::stdout(), "{comma}\n    {}", text.replace('\n', "\n    "))?)
    }

    /// Ends the list, and writes the fields after it.
    pub(crate) fn end(self, fields: &[(&str, Value)]) -> Result<(), Failure> {
        let mut rest = if self.is_empty { "]" } else { "\n  ]" }.to_owned();
        for (name, value) in fields {
            let value = serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?;
            rest += &format!(",\n  {}: {}", Value::from(*name), value.replace('\n', "\n  "));
        }
        line(rest + "\n}")
    }
}

/// Fails before a key is issued that nobody would get. The Rust runtime replaces a closed standard output by
/// `/dev/null`.
pub(crate) fn assert_read() -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
        let (out, null) = (rustix::fs::fstat(io::stdout()), std::fs::metadata("/dev/null"));
        if let (Ok(out), Ok(null)) = (out, null)
            && null.file_type().is_char_device()
            && out.st_dev == null.dev()
            && out.st_ino == null.ino()
        {
            let message = "standard output is closed or is /dev/null, so the key would be lost; no key was issued";
            return Err(Failure::Usage(message.to_owned()));
        }
    }
    Ok(())
}

/// Prints the secret alone on standard output. If that fails, the secret is lost, and the error says so.
pub(crate) fn secret(issued: &IssuedKey, as_json: bool) -> Result<(), Failure> {
    let IssuedKey { api_key, record, warnings, .. } = issued;
    let printed = if as_json {
        // The key must be printed even if the rest cannot be formatted.
        let record = to_json(record).unwrap_or_default();
        json(&json!({ "api_key": api_key.expose(), "key": record, "warnings": warnings }))
    } else {
        print_key(api_key)
    };
    match printed.and_then(|()| Ok(io::stdout().flush()?)) {
        Ok(()) => {
            warn(if as_json { &[] } else { warnings });
            Ok(())
        }
        Err(_) => {
            let id = record.id();
            let message =
                format!("stdout closed before the key {id} was delivered; it cannot be shown again: revoke it");
            Err(Failure::Other(message))
        }
    }
}

fn print_key(key: &ApiKey) -> Result<(), Failure> {
    line(key.expose())
}

/// A value of the library as JSON: a record, an audit record.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::Other(error.to_string()))
}

pub(crate) const AUDIT_COLUMNS: [&str; 7] = ["NUMBER", "AT", "BY", "FROM", "ACTION", "KEY", "NOTE"];

pub(crate) fn audit_cells(audit: &AuditRecord) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        audit.number.to_string(),
        time::shown(Some(audit.at)),
        audit.by.clone(),
        or_dash(audit.address.map(|address| address.to_string())),
        audit.action.to_string(),
        or_dash(audit.key.as_ref().map(ToString::to_string)),
        or_dash(audit.note.clone()),
    ]
}

/// Prints a JSON value in one line, at once, for programs that read line by line.
pub(crate) fn json_line(value: &Value) -> Result<(), Failure> {
    line(value.to_string()).and_then(|()| Ok(io::stdout().flush()?))
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Rows in columns: aligned and coloured for people, separated by tabs for programs.
pub(crate) struct Rows {
    table: Option<Table>,
}

impl Rows {
    pub(crate) fn new(columns: &[&str]) -> Result<Self, Failure> {
        if !is_terminal() {
            line(columns.join("\t"))?;
            return Ok(Self { table: None });
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(columns);
        // On a narrow terminal, lines that the terminal wraps are easier to read than columns of single letters.
        if table.width().is_some_and(|width| width >= 110) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            let whole = ["ID", "KEY", "STATUS", "NUMBER", "ACTION"];
            for (index, name) in columns.iter().enumerate() {
                if let Some(column) = table.column_mut(index).filter(|_| whole.contains(name)) {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        Ok(Self { table: Some(table) })
    }

    /// None where JSON is printed instead.
    pub(crate) fn new_unless(is_json: bool, columns: &[&str]) -> Result<Option<Self>, Failure> {
        if is_json { Ok(None) } else { Self::new(columns).map(Some) }
    }

    pub(crate) fn push(&mut self, cells: Vec<String>) -> Result<(), Failure> {
        let cells: Vec<String> = cells.iter().map(|cell| plain(cell)).collect();
        match &mut self.table {
            None => line(cells.join("\t")),
            Some(table) => {
                table.add_row(cells.into_iter().map(coloured));
                Ok(())
            }
        }
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.table {
            Some(table) => line(table.trim_fmt()),
            None => Ok(()),
        }
    }
}

/// Colours statuses and verdicts, unless `NO_COLOR` is set.
fn coloured(text: String) -> Cell {
    let colour = match text.as_str() {
        "active" | "ok" => Some(Color::Green),
        "revoked" | "DENY" => Some(Color::Red),
        "expired" | "not-yet-valid" | "suspended" => Some(Color::Yellow),
        _ => None,
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match colour.filter(|_| !plain) {
        Some(colour) => Cell::new(text).fg(colour),
        None => Cell::new(text),
    }
}

pub(crate) const KEY_COLUMNS: [&str; 9] =
    ["ID", "NAME", "OWNER", "STATUS", "KIND", "TENANT", "EXPIRES", "LAST USED", "MAY"];

pub(crate) fn key_cells(record: &Arc<KeyRecord>, now: SystemTime) -> Vec<String> {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    vec![
        record.id().to_string(),
        record.name().to_owned(),
        or_dash(record.metadata().owner()),
        record.status(now).to_string(),
        or_dash(record.kind()),
        or_dash(record.tenant()),
        time::shown(record.expires_at()),
        time::shown(record.last_used()),
        grant::shown(record.grant()),
    ]
}

/// Prints one key, with a line for each property that is known.
pub(crate) fn show(record: &KeyRecord) -> Result<(), Failure> {
    let status = record.status(SystemTime::now());
    let mut lines = vec![
        ("id", record.id().to_string()),
        ("name", record.name().to_owned()),
        ("owner", record.metadata().owner().unwrap_or("-").to_owned()),
        ("status", status.to_string()),
        ("kind", record.kind().unwrap_or("-").to_owned()),
        ("tenant", record.tenant().unwrap_or("-").to_owned()),
        ("created", time::shown(record.created_at())),
        ("begins", time::shown(record.not_before())),
        ("expires", time::shown(record.expires_at())),
    ];
    if status == Status::Revoked {
        lines.push(("revoked", time::shown(record.revoked_at())));
        lines.push(("reason", record.revocation_reason().unwrap_or("-").to_owned()));
    }
    if status == Status::Suspended {
        lines.push(("suspended", time::shown(record.suspended_at())));
    }
    lines.extend(record.metadata().note().map(|note| ("note", note.to_owned())));
    let labels: Vec<String> = record.metadata().labels().map(|(name, value)| format!("{name}={value}")).collect();
    lines.extend((!labels.is_empty()).then(|| ("labels", labels.join(" "))));
    let to_text = |id: Option<&KeyId>| id.map(ToString::to_string);
    lines.extend(to_text(record.replaces()).map(|id| ("replaces", id)));
    lines.extend(to_text(record.replaced_by()).map(|id| ("replaced", format!("by {id}"))));
    lines.push(("last used", time::shown(record.last_used())));
    if record.roles().len() > 0 {
        lines.push(("roles", record.roles().collect::<Vec<_>>().join(" ")));
        lines.push(("of its own", grant::shown(record.own_grant())));
    }
    lines.push(("may", grant::shown(record.grant())));
    lines.into_iter().try_for_each(|(name, value)| line(format!("{name:<10} {}", plain(&value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_key_is_withheld_and_what_names_a_file_is_not() {
        let withheld = "<redacted: looks like a key>";
        for (text, shown) in [
            ("--read key_3jWz9Qb2Lx_0123456789abcdefABCDEF: no", format!("--read {withheld}: no")),
            ("\"l64_abc12345_0123456789abcdef0123456789abcdef\"", format!("\"{withheld}\"")),
            ("key_3jWz9Qb2Lx is revoked", "key_3jWz9Qb2Lx is revoked".to_owned()),
            ("production-keys-2026-eu-west-1.sqlite: no", "production-keys-2026-eu-west-1.sqlite: no".to_owned()),
            (
                "/srv/authz/production-keys-2026-eu-west-1: no",
                "/srv/authz/production-keys-2026-eu-west-1: no".to_owned(),
            ),
            ("2027-01-01T18:00:00+01:00", "2027-01-01T18:00:00+01:00".to_owned()),
            ("ünïcode 0123456789012345678901234567890", "ünïcode 0123456789012345678901234567890".to_owned()),
            ("", String::new()),
        ] {
            assert_eq!(without_keys(text), shown);
        }
    }
}
