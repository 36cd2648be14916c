//! What is printed: for people on a terminal, for programs in a pipe.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
    time::SystemTime,
};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use tower_authz::{
    ApiKey, Directory, KeyFile, KeyId, KeyRecord, Status,
    store::{AuditRecord, IssuedKey},
};

use crate::{Failure, grant, moment};

/// Prints one line, or fails if nobody reads.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{}", text.as_ref())?)
}

/// Text out of a file or a store, without what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// A word to the person, beside what is printed.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", plain(text.as_ref()));
}

pub(crate) fn warn(warnings: &[String]) {
    warnings.iter().for_each(|warning| note(format!("warning: {warning}")));
}

pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?)
}

/// The secret, alone on standard output. Should nobody read it, it is lost: then that is said.
pub(crate) fn secret(issued: &IssuedKey, as_json: bool) -> Result<(), Failure> {
    let IssuedKey { api_key, record, warnings, .. } = issued;
    let printed = if as_json {
        // Whatever becomes of the rest, the key is printed.
        let record = record_json(record).unwrap_or_default();
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
            Err(Failure::Other(format!("nobody has read the key {id}, and it cannot be shown again: revoke it")))
        }
    }
}

fn print_key(key: &ApiKey) -> Result<(), Failure> {
    line(key.expose())
}

/// A record as a key file has it, without the digest, and how it stands.
pub(crate) fn record_json(record: &KeyRecord) -> Result<Value, Failure> {
    let text = KeyFile::new([record.clone()], Directory::default()).to_json()?;
    let mut file: Value = serde_json::from_str(&text).map_err(|error| Failure::Other(error.to_string()))?;
    let mut value = file.pointer_mut("/keys/0").map(Value::take).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("digest");
        fields.insert("status".to_owned(), record.status(SystemTime::now()).to_string().into());
        fields.insert("version".to_owned(), record.version().into());
        if let Some(used) = record.last_used() {
            let used = jiff::Timestamp::try_from(used).map(|used| used.to_string()).unwrap_or_default();
            fields.insert("last_used".to_owned(), used.into());
        }
    }
    Ok(value)
}

pub(crate) fn audit_json(audit: &AuditRecord) -> Value {
    let state = |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "number": audit.number,
        "at": jiff::Timestamp::try_from(audit.at).map(|at| at.to_string()).unwrap_or_default(),
        "by": audit.by,
        "action": audit.action.name(),
        "key": audit.key.as_ref().map(|key| key.as_str()),
        "note": audit.note,
        "before": state(&audit.before),
        "after": state(&audit.after),
    })
}

/// Whether a person reads it.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Rows in columns: aligned and coloured for people, with tabs between for programs.
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
        // On a narrow terminal lines that the terminal wraps read better than columns of single letters.
        if table.width().is_some_and(|width| width >= 110) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            let whole = ["ID", "KEY", "STATUS", "NUMBER", "ACTION"];
            for (place, name) in columns.iter().enumerate() {
                if let Some(column) = table.column_mut(place).filter(|_| whole.contains(name)) {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        Ok(Self { table: Some(table) })
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

/// Statuses and verdicts stand out. The colours go where `NO_COLOR` is set.
fn coloured(text: String) -> Cell {
    let colour = match text.as_str() {
        "active" | "ok" => Some(Color::Green),
        "revoked" | "DENY" => Some(Color::Red),
        "expired" | "not-yet-valid" => Some(Color::Yellow),
        _ => None,
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match colour.filter(|_| !plain) {
        Some(colour) => Cell::new(text).fg(colour),
        None => Cell::new(text),
    }
}

pub(crate) const KEY_COLUMNS: [&str; 8] = ["ID", "NAME", "STATUS", "KIND", "TENANT", "EXPIRES", "LAST USED", "MAY"];

pub(crate) fn key_cells(record: &Arc<KeyRecord>, now: SystemTime) -> Vec<String> {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    vec![
        record.id().to_string(),
        record.name().to_owned(),
        record.status(now).to_string(),
        or_dash(record.kind()),
        or_dash(record.tenant()),
        moment::shown(record.expires_at()),
        moment::shown(record.last_used()),
        grant::shown(record.grant()),
    ]
}

/// One key, a line for each thing that is known.
pub(crate) fn show(record: &KeyRecord) -> Result<(), Failure> {
    let status = record.status(SystemTime::now());
    let mut lines = vec![
        ("id", record.id().to_string()),
        ("name", record.name().to_owned()),
        ("status", status.to_string()),
        ("kind", record.kind().unwrap_or("-").to_owned()),
        ("tenant", record.tenant().unwrap_or("-").to_owned()),
        ("created", moment::shown(record.created_at())),
        ("begins", moment::shown(record.not_before())),
        ("expires", moment::shown(record.expires_at())),
    ];
    if status == Status::Revoked {
        lines.push(("revoked", moment::shown(record.revoked_at())));
        lines.push(("reason", record.revocation_reason().unwrap_or("-").to_owned()));
    }
    let of = |id: Option<&KeyId>| id.map(ToString::to_string);
    lines.extend(of(record.replaces()).map(|id| ("replaces", id)));
    lines.extend(of(record.replaced_by()).map(|id| ("replaced", format!("by {id}"))));
    lines.push(("last used", moment::shown(record.last_used())));
    lines.push(("may", grant::shown(record.grant())));
    lines.into_iter().try_for_each(|(name, value)| line(format!("{name:<10} {}", plain(&value))))
}
