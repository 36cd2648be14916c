//! Imports existing keys from a key file or a CSV file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

use indicatif::{ProgressBar, ProgressStyle};
use tower_authz::{
    ApiKey, KeyFile, KeyId, KeyRecord, Metadata,
    store::{Imported, StoreSettings},
};

use crate::{
    Failure,
    args::{GrantArgs, Import, KeyArgs, MetaArgs},
    context::Context,
    grant,
    output::note,
    time,
};

/// The number of keys that are written together.
const BATCH: usize = 5000;

const COLUMNS: [&str; 17] = [
    "key",
    "id",
    "name",
    "owner",
    "note",
    "labels",
    "roles",
    "kind",
    "tenant",
    "not_before",
    "expires_at",
    "read",
    "write",
    "include",
    "exclude",
    "ip",
    "origin",
];

pub(crate) async fn run(context: &Context, args: &Import) -> Result<Imported, Failure> {
    let settings = context.store.settings().await?;
    let is_csv = args.csv || args.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let records = if is_csv {
        records_from_csv(read(&args.file)?, &args.file.display().to_string(), &args.like, &settings)?
    } else {
        let mut text = String::new();
        let name = args.file.display().to_string();
        read(&args.file)?.read_to_string(&mut text).map_err(|error| Failure::Other(format!("{name}: {error}")))?;
        if !is_unset(&args.like) {
            return Err(Failure::Usage("options like --read apply to CSV files only".to_owned()));
        }
        let file = KeyFile::parse_with(&text, &name, settings.dimensions());
        let file = file.map_err(|error| Failure::Other(error.to_string()))?;
        let actor = context.store.as_actor(&context.actor);
        for (name, grant) in file.roles() {
            // A key whose role is not there is an error, which names the role.
            if args.with_roles {
                actor.set_role(name, grant.clone()).await?;
            } else if settings.role(name) != Some(grant) {
                note(format!("note: the role {name} of the file was not imported; use --with-roles"));
            }
        }
        let done = write(context, file.records().to_vec()).await?;
        let directory = file.directory().clone();
        let has_directory = directory.is_declared();
        if has_directory && args.with_directory {
            actor.change_settings(move |old| Ok(old.clone().with_directory(directory))).await?;
        } else if has_directory {
            note("note: the directory of the file was not imported; use --with-directory");
        }
        return Ok(done);
    };
    write(context, records).await
}

fn is_unset(like: &KeyArgs) -> bool {
    let KeyArgs { meta, roles, may, kind, tenant, expires, not_before } = like;
    let (MetaArgs { owner, note, labels }, GrantArgs { write, read, include, exclude, ip, origin }) = (meta, may);
    [roles, labels, write, read, include, exclude, ip, origin].iter().all(|list| list.is_empty())
        && [owner, note, kind, tenant, expires, not_before].iter().all(|value| value.is_none())
}

fn read(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
    Ok(Box::new(io::BufReader::new(file)))
}

/// Writes the keys in batches. Keys that the store has already are skipped, so that an interrupted import can be run
/// again.
async fn write(context: &Context, records: Vec<KeyRecord>) -> Result<Imported, Failure> {
    let bar = progress(records.len());
    let mut total = Imported::default();
    let mut records = records.into_iter();
    loop {
        let batch: Vec<KeyRecord> = records.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            bar.finish_and_clear();
            return Ok(total);
        }
        let size = batch.len() as u64;
        match context.store.as_actor(&context.actor).import(batch).await {
            Ok(done) => {
                total.added += done.added;
                total.skipped += done.skipped;
                total.refused += done.refused;
            }
            Err(error) => {
                bar.finish_and_clear();
                if total.added > 0 {
                    note(format!("{} keys are imported; run the import again for the remaining keys", total.added));
                }
                return Err(error.into());
            }
        }
        bar.inc(size);
    }
}

/// A progress bar, which is shown on a terminal only.
fn progress(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    match ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} keys, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Hashes the keys of a CSV file.
///
/// INVARIANT: the keys themselves are not written anywhere, nor quoted in an error.
fn records_from_csv(
    content: impl Read,
    name: &str,
    common: &KeyArgs,
    settings: &StoreSettings,
) -> Result<Vec<KeyRecord>, Failure> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(content);
    let unread = |error: csv::Error| Failure::Other(format!("{name}: {}", describe(&error)));
    let columns = reader.headers().map_err(unread)?.clone();
    if let Some(position) = columns.iter().position(|column| !COLUMNS.contains(&column)) {
        // The error does not quote the name: in a file without a line of names, it is a key.
        let known = COLUMNS.join(", ");
        return Err(Failure::Other(format!(
            "{name}: column {}: unknown column name, expected one of {known}",
            position + 1
        )));
    }
    let twice = |index: usize, column: &str| columns.iter().take(index).any(|earlier| earlier == column);
    if let Some((_, column)) = columns.iter().enumerate().find(|(index, column)| twice(*index, column)) {
        return Err(Failure::Other(format!("{name}: duplicate column {column:?}")));
    }
    if !columns.iter().any(|column| column == "key") {
        return Err(Failure::Other(format!("{name}: column \"key\" is required")));
    }
    let mut records = Vec::new();
    for row in reader.records() {
        let row = row.map_err(unread)?;
        let line = row.position().map_or(0, csv::Position::line);
        let cell = |column: &str| {
            let index = columns.iter().position(|known| known == column)?;
            row.get(index).filter(|value| !value.is_empty())
        };
        let record = record_of(cell, common, settings).map_err(|failure| match failure.message() {
            Some(message) => Failure::Other(format!("{name}: line {line}: {message}")),
            None => failure,
        })?;
        records.push(record);
    }
    Ok(records)
}

/// Describes an error in a CSV file without quoting its content.
fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => error.to_string(),
        csv::ErrorKind::Utf8 { pos, .. } => {
            format!("line {}: it is not UTF-8", pos.as_ref().map_or(0, csv::Position::line))
        }
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line}: expected {expected_len} cells, found {len}")
        }
        _ => "it is not CSV".to_owned(),
    }
}

fn record_of<'a>(
    cell: impl Fn(&str) -> Option<&'a str>,
    common: &KeyArgs,
    settings: &StoreSettings,
) -> Result<KeyRecord, Failure> {
    let key = cell("key").ok_or_else(|| Failure::Other("key is required".to_owned()))?;
    let formats = settings.formats();
    let format = formats.for_kind(cell("kind").or(common.kind.as_deref()));
    if !format.matches(key.as_bytes()) {
        return Err(Failure::Other(match formats.recognize(key.as_bytes()) {
            None => format!(
                "the key does not match this store's format, {format}; `authz init --format '{{ascii:8-512}}'` makes a \
                 store for keys of any form"
            ),
            Some((Some(kind), _)) => format!("the key has the format of the kind {kind:?}, and must be of that kind"),
            Some((None, _)) => format!("the key has the default format, and keys of its kind have {format}"),
        }));
    }
    let key = ApiKey::new(key);
    let id = match cell("id") {
        Some(id) => id.parse().map_err(|_| unfit("id"))?,
        None => match format.key_id(key.expose().as_bytes()) {
            Some(id) => id.parse()?,
            // A random id suffices: the store recognizes a key that it has already by its digest, not by its id.
            None => KeyId::random()?,
        },
    };
    let like = overlaid(&cell, common, settings)?;
    let unread = |column: &'static str, failure| if cell(column).is_some() { unfit(column) } else { failure };
    let not_before = like.not_before.as_deref().map(time::from_now).transpose();
    let not_before = not_before.map_err(|failure| unread("not_before", failure))?;
    let expires_at = like.expires.as_deref().map(time::end).transpose();
    let expires_at = expires_at.map_err(|failure| unread("expires_at", failure))?.flatten();
    let name = cell("name").map_or_else(|| id.to_string(), str::to_owned);
    let misfit = || Failure::Other("the grant in this line conflicts with the options".to_owned());
    Ok(KeyRecord::builder(id, key.digest())
        .name(name)
        .kind(like.kind.clone())
        .tenant(like.tenant.clone())
        .created_at(SystemTime::now())
        .metadata(grant::metadata(Metadata::new(), &like.meta).map_err(|_| unfit("labels"))?)
        .roles(like.roles.clone())
        .not_before(not_before)
        .expires_at(expires_at)
        .grant(grant::grant_of(&like.may, settings).map_err(|_| misfit())?)
        .build())
}

/// The error does not quote the cell: in a line with a column too many or too few, it is the key.
fn unfit(column: &str) -> Failure {
    Failure::Other(format!("column {column}: invalid value (not shown: it may be a key)"))
}

/// Merges the cells of a line with the options of the command line, which apply where a cell is empty.
fn overlaid<'a>(
    cell: impl Fn(&str) -> Option<&'a str>,
    common: &KeyArgs,
    settings: &StoreSettings,
) -> Result<KeyArgs, Failure> {
    let one = |column: &str, common: &Option<String>| cell(column).map(str::to_owned).or_else(|| common.clone());
    let many = |column: &str, common: &[String]| match cell(column) {
        Some(values) => values.split([' ', ',']).filter(|value| !value.is_empty()).map(str::to_owned).collect(),
        None => common.to_vec(),
    };
    let lists = |column: &str| -> Vec<String> {
        cell(column).into_iter().flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let (include, exclude) = (lists("include"), lists("exclude"));
    let mut over = Vec::new();
    for (column, lists) in [("include", &include), ("exclude", &exclude)] {
        for list in lists {
            over.push(grant::parse_list(list, settings).map_err(|_| unfit(column))?.0);
        }
    }
    // A list of the line replaces one of the command line over the same dimension, and no other.
    let rest = |common: &[String]| -> Result<Vec<String>, Failure> {
        let mut kept = Vec::new();
        for list in common {
            if !over.contains(&grant::parse_list(list, settings)?.0) {
                kept.push(list.clone());
            }
        }
        Ok(kept)
    };
    let may = &common.may;
    let like = KeyArgs {
        meta: MetaArgs {
            owner: one("owner", &common.meta.owner),
            note: one("note", &common.meta.note),
            labels: [common.meta.labels.clone(), lists("labels")].concat(),
        },
        roles: many("roles", &common.roles),
        may: GrantArgs {
            write: many("write", &may.write),
            read: many("read", &may.read),
            include: [include, rest(&may.include)?].concat(),
            exclude: [exclude, rest(&may.exclude)?].concat(),
            ip: many("ip", &may.ip),
            origin: many("origin", &may.origin),
        },
        kind: one("kind", &common.kind),
        tenant: one("tenant", &common.tenant),
        expires: one("expires_at", &common.expires),
        not_before: one("not_before", &common.not_before),
    };
    // Validate each column separately, so that the error can name it without quoting its content.
    for column in
        ["write", "read", "include", "exclude", "ip", "origin"].into_iter().filter(|name| cell(name).is_some())
    {
        grant::grant_of(&like.may.only(column), settings).map_err(|_| unfit(column))?;
    }
    Ok(like)
}

impl GrantArgs {
    /// The part that one of the columns sets.
    fn only(&self, column: &str) -> Self {
        let select = |name: &str, values: &[String]| if name == column { values.to_vec() } else { Vec::new() };
        Self {
            write: select("write", &self.write),
            read: select("read", &self.read),
            include: select("include", &self.include),
            exclude: select("exclude", &self.exclude),
            ip: select("ip", &self.ip),
            origin: select("origin", &self.origin),
        }
    }
}
