//! Finds the keys of the store that stand in a text: a log, a dump, a repository.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use serde_json::{Value, json};
use tower_authz::{
    Digest, KeyCandidate, KeyId, KeyRecord, KeyScanner, Status,
    store::{KeyQuery, StoreErrorKind},
};

use crate::{
    Failure,
    args::Leaked,
    commands::report_propagation,
    context::Context,
    output::{self, Rows, note},
};

/// How many candidates are looked up one by one. With more of them, as formats without a prefix have them, it is faster to
/// load the digests of all keys.
const LOOK_UPS: usize = 2000;

/// A key that stands in the text.
struct Found {
    record: Arc<KeyRecord>,
    /// Where it was seen first.
    line: u64,
    times: u64,
    revoked_now: bool,
}

impl Found {
    /// Whether somebody who reads the text could use the key, now or later.
    fn is_live(&self) -> bool {
        !matches!(self.record.status(SystemTime::now()), Status::Revoked | Status::Expired)
    }
}

pub(crate) async fn run(context: &Context, args: &Leaked) -> Result<(), Failure> {
    let is_file = args.file.as_os_str() != "-";
    let name = match is_file {
        true => name_without_key(context, &args.file).await?,
        false => "standard input".to_owned(),
    };
    let mut search = Search::new(context).await?;
    let read = match is_file {
        true => match File::open(&args.file) {
            Ok(file) => search.read(file).await,
            Err(error) => Err(error.into()),
        },
        false => search.read(io::stdin().lock()).await,
    };
    // The keys that were found before an error are reported and revoked as well.
    let read = read.map_err(|failure| match failure {
        Failure::Other(message) => Failure::Other(format!("{name}: {message}")),
        other => other,
    });
    let mut found = search.found;
    let mut failures = 0;
    if args.revoke {
        for key in found.iter_mut().filter(|key| key.record.revoked_at().is_none()) {
            failures += u64::from(revoke(context, key, &name).await.is_none());
        }
    }
    let printed = print(context, &found);
    read?;
    if failures > 0 {
        return Err(Failure::Other(format!("{failures} of {} keys could not be revoked, see above", found.len())));
    }
    // If the reader closes the pipe early, the exit code must still report that keys are live.
    if found.iter().any(Found::is_live) { Err(Failure::Leaked) } else { printed }
}

/// The name of a file, for errors and for the reason of a revocation, unless it has a key in it.
async fn name_without_key(context: &Context, file: &Path) -> Result<String, Failure> {
    let name = output::plain(&file.display().to_string());
    let settings = context.store.settings().await?;
    let formats = settings.formats();
    let mut scanner = KeyScanner::new(formats);
    let mut candidates = Vec::new();
    scanner.push(name.as_bytes(), |candidate| candidates.push(candidate));
    scanner.finish(|candidate| candidates.push(candidate));
    // Any long word is a candidate for an opaque key, so that only known ones count.
    let counts_all = formats.iter().all(|(_, format)| format.beginning().is_some());
    for candidate in candidates {
        if counts_all || context.store.lookup(&candidate.digest).found().await?.is_some() {
            return Ok("a file".to_owned());
        }
    }
    Ok(name)
}

/// Revokes a key. The reason names the text, unless the store refuses the name.
async fn revoke(context: &Context, key: &mut Found, name: &str) -> Option<()> {
    let actor = context.store.as_actor(&context.actor);
    let id = key.record.id();
    let end: String = name.chars().rev().take(500).collect::<Vec<_>>().into_iter().rev().collect();
    let mut outcome = actor.revoke(id, format!("leaked: found in {end}, line {}", key.line)).await;
    if outcome.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Invalid) {
        outcome = actor.revoke(id, format!("leaked: found in a file, line {}", key.line)).await;
    }
    match outcome {
        Ok(changed) => {
            report_propagation(&changed.propagation);
            key.revoked_now = changed.changed;
            if let Some(record) = changed.record {
                key.record = record;
            }
            Some(())
        }
        Err(error) => {
            note(format!("error: {id}: {}", output::without_keys(&error.to_string())));
            None
        }
    }
}

fn print(context: &Context, found: &[Found]) -> Result<(), Failure> {
    let mut rows = Rows::new_unless(context.json, &["LINE", "TIMES", "ID", "NAME", "OWNER", "STATUS"])?;
    let mut documents = Vec::new();
    for key in found {
        let fields = output::to_json(&*key.record)?;
        let owner = fields.get("owner").and_then(Value::as_str);
        let status = key.record.status(SystemTime::now()).to_string();
        let name = key.record.name();
        match &mut rows {
            Some(rows) => rows.push(vec![
                key.line.to_string(),
                key.times.to_string(),
                key.record.id().to_string(),
                name.to_owned(),
                owner.unwrap_or("-").to_owned(),
                status,
            ])?,
            None => documents.push(json!({
                "line": key.line,
                "times": key.times,
                "id": key.record.id().as_str(),
                "name": name,
                "owner": owner,
                "status": status,
                "revoked_now": key.revoked_now,
            })),
        }
    }
    match rows {
        Some(rows) => rows.finish(),
        None => output::json(&json!({ "found": documents })),
    }
}

/// The search in one text.
struct Search<'a> {
    context: &'a Context,
    scanner: Option<KeyScanner>,
    found: Vec<Found>,
    positions: HashMap<Digest, usize>,
    look_ups: usize,
    /// The digests of all keys, once there are too many candidates to look each of them up.
    all: Option<HashSet<Digest>>,
}

impl<'a> Search<'a> {
    async fn new(context: &'a Context) -> Result<Self, Failure> {
        let scanner = Some(KeyScanner::new(context.store.settings().await?.formats()));
        let (found, positions) = (Vec::new(), HashMap::new());
        Ok(Self { context, scanner, found, positions, look_ups: 0, all: None })
    }

    async fn read(&mut self, mut text: impl Read) -> Result<(), Failure> {
        let mut buffer = vec![0; 1 << 16];
        let mut candidates = Vec::new();
        loop {
            let read = match text.read(&mut buffer) {
                Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let part = read.as_deref().unwrap_or_default();
            match &mut self.scanner {
                Some(scanner) if !part.is_empty() => scanner.push(part, |candidate| candidates.push(candidate)),
                scanner => {
                    // A key at the end counts, also if the text could not be read further.
                    if let Some(scanner) = scanner.take() {
                        scanner.finish(|candidate| candidates.push(candidate));
                    }
                }
            }
            for candidate in candidates.drain(..) {
                self.look_up(candidate).await?;
            }
            if read?.is_empty() {
                return Ok(());
            }
        }
    }

    async fn look_up(&mut self, candidate: KeyCandidate) -> Result<(), Failure> {
        if let Some(known) = self.positions.get(&candidate.digest).and_then(|position| self.found.get_mut(*position)) {
            known.times += 1;
            return Ok(());
        }
        self.look_ups += 1;
        if self.look_ups > LOOK_UPS && self.all.is_none() {
            self.all = Some(digests(self.context).await?);
        }
        if self.all.as_ref().is_some_and(|all| !all.contains(&candidate.digest)) {
            return Ok(());
        }
        match self.context.store.lookup(&candidate.digest).found().await {
            Ok(None) => {}
            Ok(Some(record)) => {
                self.positions.insert(candidate.digest, self.found.len());
                self.found.push(Found { record, line: candidate.line, times: 1, revoked_now: false });
            }
            Err(error) if error.kind() == StoreErrorKind::Unreadable => {
                note(format!(
                    "warning: line {}: the record of a key cannot be read, so the key is refused",
                    candidate.line
                ));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The digests of all keys. Keys whose records cannot be read are reported, because they are not among them.
async fn digests(context: &Context) -> Result<HashSet<Digest>, Failure> {
    let mut all = HashSet::new();
    let mut query = KeyQuery::new().limit(10_000);
    loop {
        let page = context.store.list(&query).await?;
        all.extend(page.records.iter().map(|record| *record.digest()));
        for broken in page.unreadable {
            note(format!("warning: the record of {} cannot be read, so the key is not searched for", broken.id));
        }
        match page.next {
            Some(last) => query = query.after(KeyId::clone(&last)).limit(10_000),
            None => return Ok(all),
        }
    }
}
