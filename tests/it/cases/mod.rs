//! Runs the case tables of `tests/cases`, row by row, against the public interface.
//!
//! `AUTHZ_CASES_DIR` names another directory with tables of the same form. Nothing here depends on single rows: cells
//! are parsed by general rules, and a cell that cannot be parsed makes the row fail, so that no row is skipped.

mod attacks;
mod cidr;
mod client_ip;
mod credential_extraction;
mod exchange;
mod expand;
mod host_tenant;
mod method_path;
mod mutation;
mod scope_decisions;

use std::{
    collections::HashMap,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use futures::FutureExt as _;
use serde_json::{Map, Value};

fn own_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One line of a table: its cells by the names of their columns.
pub struct Row {
    cells: HashMap<String, String>,
    /// Whether the line has more cells than the table has columns.
    too_long: bool,
}

impl Row {
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// Returns the text of a cell. `-` means absent, which is an empty text.
    pub fn text(&self, column: &str) -> &str {
        match self.cells.get(column).map_or("", String::as_str) {
            "-" => "",
            text => text,
        }
    }

    /// Returns the value of a `_json` cell, which is null if the cell is absent.
    pub fn json(&self, column: &str) -> Result<Value, String> {
        match self.text(column) {
            "" => Ok(Value::Null),
            text => serde_json::from_str(text).map_err(|error| format!("{column}: {error}")),
        }
    }

    /// Returns the value where it must be an object with only these keys: an unknown key could be the one that
    /// matters.
    pub fn object(&self, column: &str, known: &[&str]) -> Result<Map<String, Value>, String> {
        match self.json(column)? {
            Value::Null => Ok(Map::new()),
            Value::Object(object) => match object.keys().find(|key| !known.contains(&key.as_str())) {
                Some(key) => Err(format!("{column}: the harness does not know the key {key:?}")),
                None => Ok(object),
            },
            _ => Err(format!("{column}: an object is expected")),
        }
    }
}

/// Returns a scalar or a list of scalars as texts, and none for null.
pub fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Number(number) => Ok(vec![number.to_string()]),
        Value::Array(values) => Ok(values.iter().map(texts).collect::<Result<Vec<_>, _>>()?.concat()),
        other => Err(format!("{other} is neither a text nor a list of texts")),
    }
}

pub struct Table {
    name: &'static str,
    columns: Vec<String>,
    rows: Vec<Row>,
}

impl Table {
    /// Reads `name.tsv`, which must have these columns.
    pub fn read(name: &'static str, columns: &[&str]) -> Self {
        let directory = std::env::var_os("AUTHZ_CASES_DIR").map_or_else(own_directory, PathBuf::from);
        let table = Self::parse(name, &read(&directory.join(name).with_extension("tsv")));
        for column in ["id", "expected"].iter().chain(columns) {
            assert!(table.columns.iter().any(|known| known == column), "{name}: there is no column {column:?}");
        }
        table
    }

    fn parse(name: &'static str, text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let columns: Vec<String> = lines.next().unwrap_or_default().split('\t').map(str::to_owned).collect();
        let row = |line: &str| {
            let mut cells = line.split('\t').map(str::to_owned);
            Row { cells: columns.iter().cloned().zip(&mut cells).collect(), too_long: cells.next().is_some() }
        };
        let rows: Vec<Row> = lines.map(row).collect();
        assert!(!rows.is_empty(), "{name}: the table has no rows");
        Self { name, columns, rows }
    }

    /// Evaluates every row. `evaluate` returns the outcome, or the reason why there is none.
    pub async fn run(self, evaluate: impl AsyncFn(&Row) -> Result<String, String>) -> Report {
        let mut report = Report { name: self.name, count: self.rows.len(), failures: Vec::new() };
        for row in &self.rows {
            let expected = row.text("expected");
            match AssertUnwindSafe(evaluate(row)).catch_unwind().await {
                _ if row.too_long => report.fail(row.id(), expected, "more cells than columns".to_owned()),
                Ok(Ok(got)) if agrees(expected, &got) => {}
                Ok(Ok(got) | Err(got)) => report.fail(row.id(), expected, got),
                Err(_) => report.fail(row.id(), expected, "a panic".to_owned()),
            }
        }
        report
    }
}

/// Whether an outcome is the expected one: `deny:401|404` accepts either, and `deny` accepts any denial.
fn agrees(expected: &str, got: &str) -> bool {
    let prefix = expected.split_once(':').map_or("", |(prefix, _)| prefix);
    expected == got
        || (expected == "deny" && got.starts_with("deny:"))
        || (expected.contains('|') && expected.split('|').any(|one| one == got || format!("{prefix}:{one}") == got))
}

pub struct Report {
    name: &'static str,
    count: usize,
    failures: Vec<Failure>,
}

struct Failure {
    id: String,
    expected: String,
    got: String,
}

impl Report {
    pub fn fail(&mut self, id: &str, expected: &str, got: String) {
        self.failures.push(Failure { id: id.to_owned(), expected: expected.to_owned(), got });
    }

    /// Prints the summary, and fails unless every failing row is listed as disputed.
    #[expect(clippy::print_stdout, reason = "the summary is for whoever runs the tables")]
    pub fn finish(self) {
        let disputed = disputed();
        println!("{}: {} rows ran, {} failed", self.name, self.count, self.failures.len());
        let mut unexplained = 0;
        for Failure { id, expected, got } in &self.failures {
            let mark = if disputed.contains(id) { " (disputed)" } else { "" };
            unexplained += usize::from(mark.is_empty());
            println!("  {id}: expected {expected}, got {got}{mark}");
        }
        assert!(unexplained == 0, "{}: {unexplained} rows failed that are not disputed; see above", self.name);
    }
}

/// Returns the rows that are wrong themselves, which the file lists with reasons: `- ID: reason`. The file is always
/// read from this repository, even if the tables are not.
fn disputed() -> Vec<String> {
    let text = read(&own_directory().join("DISPUTED.md"));
    text.lines().filter_map(|line| Some(line.strip_prefix("- ")?.split_once(':')?.0.to_owned())).collect()
}

#[test]
fn expectations_are_compared_as_the_grammar_has_it() {
    assert!(agrees("deny:401", "deny:401") && agrees("deny:401|404", "deny:404") && agrees("deny", "deny:403"));
    assert!(!agrees("deny:401|404", "deny:403") && !agrees("allow", "allow:filtered") && !agrees("", "deny:400"));
}

/// Returns all files below a directory, with their text.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![(path.clone(), read(&path))] }).collect()
}

/// Asserts that each row of a table of forbidden outcomes names an existing test, or an existing row of another
/// table.
fn assert_covered(table: &'static str, list: &str) {
    let rows_of = |name| Table::parse(name, &read(&own_directory().join(name).with_extension("tsv"))).rows;
    let tables = ["cidr", "client_ip", "credential_extraction", "host_tenant", "method_path", "scope_decisions"];
    let ids: Vec<String> = tables.into_iter().flat_map(rows_of).map(|row| row.id().to_owned()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/it", "tests/model/tests", "src"].map(|folder| sources(&root.join(folder)));
    let sources = folders.concat();
    let exists = |module: &str, function: &str| {
        sources.iter().any(|(path, text)| {
            let within = path.strip_prefix(root).unwrap().with_extension("");
            let is_there = |open| text.contains(&format!("fn {function}{open}"));
            within.iter().any(|part| part == module) && (is_there('(') || is_there('<'))
        })
    };
    let covered = read(&own_directory().join(list));
    for row in rows_of(table) {
        let id = row.id();
        let line = covered.lines().find_map(|line| line.strip_prefix(&format!("| {id} |")));
        let line = line.unwrap_or_else(|| panic!("{id} does not stand in {list}"));
        let mut named = 0;
        for word in line.split(|character: char| !character.is_alphanumeric() && !"_:".contains(character)) {
            if let Some((module, function)) = word.split_once("::") {
                assert!(exists(module, function), "{id}: there is no {module}::{function}");
                named += 1;
            } else if word.len() == 5 && ["CE", "IP", "CI", "MP", "HT", "SD"].contains(&&word[..2]) {
                assert!(ids.iter().any(|known| known == word), "{id}: there is no row {word}");
                named += 1;
            }
        }
        assert!(named > 0 || line.trim().starts_with("later: "), "{id}: neither a test nor a row is named");
    }
}

#[test]
fn every_attack_is_held_off() {
    assert_covered("attacks", "ATTACKS.md");
}

#[test]
fn every_fault_of_a_revocation_is_shown() {
    assert_covered("revocation_faults", "REVOCATION.md");
}
