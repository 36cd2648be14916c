//! Implements the commands.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use clap::CommandFactory as _;
use serde_json::{Value, json};
use tower_authz::{
    ConfigError, KeyId, KeyRecord, Metadata, Status,
    store::{AuditQuery, Imported, KeyQuery, NewKey, Overlap, Propagation, Rotation, StoreError},
};

use crate::{
    Failure,
    args::{self, Args, Command},
    check,
    context::Context,
    grant, import, leaked,
    output::{self, KEY_COLUMNS, Rows, note},
    scanners, settings,
    store::StoreUrl,
    time,
};

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    if let Command::Completions { shell } = args.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "authz", &mut script);
        return Ok(io::stdout().write_all(&script)?);
    }
    let path = args
        .store
        .ok_or_else(|| Failure::Usage("a store is required: pass --store keys.sqlite or set AUTHZ_STORE".to_owned()))?;
    let user = || ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let actor = args.actor.or_else(user).unwrap_or_else(|| "authz".to_owned());
    let json = args.json;
    let url = StoreUrl::parse(path)?;
    if let Command::Init(init) = args.command {
        return url.create(&init, json).await;
    }
    if let Command::Replicas = args.command {
        return url.replicas(json).await;
    }
    if let Command::Migrate = args.command {
        return url.migrate(json).await;
    }
    let context = Context { store: url.open().await?, actor, json };
    match args.command {
        Command::Settings(settings) => context.settings(&settings).await,
        Command::Issue(issue) => context.issue(&issue).await,
        Command::List(list) => context.list(&list).await,
        Command::Show(show) => context.show(&show).await,
        Command::Rename { id, name } => context.rename(&id, name).await,
        Command::Grant(change) => context.grant(&change).await,
        Command::Meta(meta) => context.meta(meta).await,
        Command::Role { command } => context.role(command).await,
        Command::Expiry { id, expires } => context.expiry(&id, &expires).await,
        Command::Suspend { ids, reason } => context.suspend(&ids, &reason).await,
        Command::Resume { ids } => context.resume(&ids).await,
        Command::Rotate(rotate) => context.rotate(&rotate).await,
        Command::Revoke { owner: Some(owner), reason, .. } => context.revoke_owner(&owner, &reason).await,
        Command::Revoke { ids, reason, .. } => context.revoke(&ids, &reason).await,
        Command::Delete { ids } => context.delete(&ids).await,
        Command::Purge { dead_for } => context.purge(&dead_for).await,
        Command::Audit(audit) => context.audit(&audit).await,
        Command::Usage(usage) => context.usage(&usage).await,
        Command::Watch(watch) => context.watch(&watch).await,
        Command::Import(import) => context.import(&import).await,
        Command::Export { file, expand } => context.export(file.as_deref(), expand).await,
        Command::Leaked(leaked) => leaked::run(&context, &leaked).await,
        Command::Check(check) => check::run(&context, &check).await,
        Command::Init(_) | Command::Replicas | Command::Migrate | Command::Completions { .. } => Ok(()),
    }
}

/// The number of keys of a list that are in memory at a time.
const PAGE: usize = 1000;

pub(crate) fn to_config_error(failure: Failure) -> ConfigError {
    ConfigError::new(failure.message().unwrap_or_default())
}

impl Context {
    async fn settings(&self, args: &args::SettingsArgs) -> Result<(), Failure> {
        let change = &args.change;
        let args::Settings { dimensions, require_networks, directory, renew_expired_for } = change;
        if !dimensions.is_empty() || !require_networks.is_empty() || directory.is_some() || renew_expired_for.is_some()
        {
            // Try the change first, so that a wrong argument has its own exit code. The store then applies it to the
            // settings that are current at that time.
            let _ = settings::with(self.store.settings().await?, change)?;
            let change = change.clone();
            self.store
                .as_actor(&self.actor)
                .change_settings(move |old| settings::with(old.clone(), &change).map_err(to_config_error))
                .await?;
        }
        let settings = self.store.settings().await?;
        if args.gitleaks || args.trufflehog {
            let rules = if args.gitleaks { scanners::gitleaks } else { scanners::trufflehog };
            return output::line(rules(settings.formats()).trim_end());
        }
        let value: Value =
            serde_json::from_str(&settings.to_json()?).map_err(|error| Failure::Other(error.to_string()))?;
        output::json(&value)
    }

    async fn issue(&self, issue: &args::Issue) -> Result<(), Failure> {
        let settings = self.store.settings().await?;
        let new: NewKey = grant::new_key(&issue.name, &issue.like, &settings)?;
        output::assert_read()?;
        let issued = self.store.as_actor(&self.actor).issue(new).await?;
        if !self.json {
            let ends = time::ends(issued.record.expires_at());
            note(format!("issued {} ({}, {ends}); it is shown only once:", issued.record.id(), issue.name));
        }
        output::secret(&issued, self.json)
    }

    async fn list(&self, list: &args::List) -> Result<(), Failure> {
        let most = list.limit.unwrap_or(if output::is_terminal() && !self.json { 100 } else { usize::MAX });
        let mut query = to_query(list)?;
        let mut rows = if self.json { None } else { Some(Rows::new(&KEY_COLUMNS)?) };
        // Keys are written as they are read, because a store may have millions of them.
        let mut document = output::Document::begin("keys", self.json)?;
        let mut unreadable = Vec::new();
        let (mut shown, mut next) = (0, None);
        let now = SystemTime::now();
        while shown < most {
            let page = self.store.list(&query.clone().limit((most - shown).min(PAGE))).await?;
            for record in &page.records {
                match &mut rows {
                    Some(rows) => rows.push(output::key_cells(record, now))?,
                    None => document.push(&output::to_json(record)?)?,
                }
            }
            shown += page.records.len();
            for broken in page.unreadable {
                note(format!(
                    "warning: the record of {} cannot be read, so the key is refused: {}",
                    broken.id, broken.why
                ));
                unreadable.push(output::to_json(&broken)?);
            }
            next = page.next;
            match &next {
                Some(last) => query = query.after(last.clone()),
                None => break,
            }
        }
        let Some(rows) = rows else {
            let next = next.as_ref().map_or(Value::Null, |next| next.as_str().into());
            return document.end(&[("next", next), ("unreadable", unreadable.into())]);
        };
        rows.finish()?;
        if let Some(last) = next {
            note(format!("more keys: use --after {last}"));
        }
        Ok(())
    }

    async fn show(&self, show: &args::Show) -> Result<(), Failure> {
        let record = self.which(show.id.as_ref(), show.key_stdin).await?;
        match self.json {
            true => output::json(&output::to_json(&record)?),
            false => output::show(&record),
        }
    }

    async fn rename(&self, id: &KeyId, name: String) -> Result<(), Failure> {
        self.assert_no_secret(id).await?;
        let changed = self.store.as_actor(&self.actor).rename(id, name).await?;
        self.changed("renamed", changed.record.as_deref(), &changed.warnings)
    }

    async fn meta(&self, meta: args::Meta) -> Result<(), Failure> {
        let args::Meta { id, set, no_owner, no_note, remove_label } = meta;
        self.assert_no_secret(&id).await?;
        // Try the change first, so that a wrong argument has its own exit code.
        grant::metadata(Metadata::new(), &set)?;
        let change = move |old: &Metadata| {
            let mut metadata = remove_label.iter().fold(old.clone(), |metadata, name| metadata.without_label(name));
            if no_owner {
                metadata = metadata.with_owner("");
            }
            if no_note {
                metadata = metadata.with_note("");
            }
            grant::metadata(metadata, &set).map_err(to_config_error)
        };
        let changed = self.store.as_actor(&self.actor).change_metadata(&id, change).await?;
        self.changed("changed", changed.record.as_deref(), &changed.warnings)
    }

    async fn expiry(&self, id: &KeyId, expires: &str) -> Result<(), Failure> {
        self.assert_no_secret(id).await?;
        let end = time::end(expires)?;
        let before = self.store.show(id).await?;
        let changed = self.store.as_actor(&self.actor).set_expiry(id, end).await?;
        if !self.json {
            note(format!("before: {}", time::ends(before.expires_at())));
            note(format!("now:    {}", time::ends(end)));
        }
        report_propagation(&changed.propagation);
        self.changed("changed", changed.record.as_deref(), &changed.warnings)
    }

    async fn grant(&self, change: &args::Grant) -> Result<(), Failure> {
        self.assert_no_secret(&change.id).await?;
        let old = self.store.show(&change.id).await?;
        if !change.roles.is_empty() || !change.remove_role.is_empty() {
            return self.set_roles(&old, change).await;
        }
        let settings = self.store.settings().await?;
        // Try the change first, so that a wrong argument has its own exit code. The store then applies it to the grant
        // that is current at that time.
        grant::changed(old.own_grant(), change, &settings)?;
        let (id, delta) = (change.id.clone(), change.clone());
        let changed = self
            .store
            .as_actor(&self.actor)
            .change_grant(&id, move |old| grant::changed(old, &delta, &settings).map_err(to_config_error))
            .await?;
        if !self.json {
            note(format!("before: {}", grant::shown(old.grant())));
            if let Some(record) = &changed.record {
                note(format!("now:    {}", grant::shown(record.grant())));
            }
        }
        report_propagation(&changed.propagation);
        self.changed("changed", changed.record.as_deref(), &changed.warnings)?;
        self.tell_sibling(changed.record.as_deref()).await;
        Ok(())
    }

    /// Reports the other key of a rotation if it is active, because the change does not apply to it.
    async fn tell_sibling(&self, record: Option<&KeyRecord>) {
        for id in record.into_iter().flat_map(|record| [record.replaces(), record.replaced_by()]).flatten() {
            if let Ok(sibling) = self.store.show(id).await
                && sibling.status(SystemTime::now()) == Status::Active
            {
                note(format!("note: {id}, of the same rotation, is still active and was not changed"));
            }
        }
    }

    pub(crate) fn changed(&self, what: &str, record: Option<&KeyRecord>, warnings: &[String]) -> Result<(), Failure> {
        output::warn(warnings);
        match record {
            Some(record) if self.json => output::json(&output::to_json(record)?),
            Some(record) => output::line(format!("{what} {} ({})", record.id(), output::plain(record.name()))),
            None => Ok(()),
        }
    }

    async fn rotate(&self, rotate: &args::Rotate) -> Result<(), Failure> {
        self.assert_no_secret(&rotate.id).await?;
        let mut rotation = Rotation::new(match &rotate.overlap {
            Some(time) => Overlap::For(time::length(time)?),
            None => Overlap::UntilRevoked,
        });
        if let Some(text) = &rotate.expires {
            rotation = match time::end(text)? {
                Some(time) => rotation.expires_at(time),
                None => rotation.never_expires(),
            };
        }
        output::assert_read()?;
        let issued = self.store.as_actor(&self.actor).rotate(&rotate.id, rotation).await?;
        // Print the secret first, so that no later failure loses it.
        let printed = output::secret(&issued, self.json);
        if !self.json {
            let until = match issued.replaced.as_ref().and_then(|old| old.expires_at()) {
                Some(end) => time::ends(Some(end)),
                None => format!("is valid until `authz revoke {}`", rotate.id),
            };
            let (new, ends) = (issued.record.id(), time::ends(issued.record.expires_at()));
            note(format!("issued {new} ({ends}), shown this once; the old key {} {until}", rotate.id));
        }
        printed
    }

    async fn suspend(&self, ids: &[KeyId], reason: &str) -> Result<(), Failure> {
        let actor = self.store.as_actor(&self.actor);
        self.each(ids, async |id| {
            let changed = actor.suspend(id, reason).await?;
            report_propagation(&changed.propagation);
            Ok((if changed.changed { "suspended" } else { "already suspended:" }, changed.record))
        })
        .await
    }

    async fn resume(&self, ids: &[KeyId]) -> Result<(), Failure> {
        let actor = self.store.as_actor(&self.actor);
        self.each(ids, async |id| {
            let changed = actor.resume(id).await?;
            report_propagation(&changed.propagation);
            output::warn(&changed.warnings);
            Ok((if changed.changed { "resumed" } else { "not suspended:" }, changed.record))
        })
        .await
    }

    async fn revoke_owner(&self, owner: &str, reason: &str) -> Result<(), Failure> {
        let revoked = self.store.as_actor(&self.actor).revoke_all_of(owner, reason).await?;
        report_propagation(&revoked.propagation);
        if revoked.unreadable > 0 {
            note(format!("note: {} of the keys cannot be read, and are revoked as well", revoked.unreadable));
        }
        if self.json {
            let records =
                revoked.records.iter().map(|record| output::to_json(&**record)).collect::<Result<Vec<_>, _>>()?;
            return output::json(
                &json!({ "revoked": records, "unreadable": revoked.unreadable, "unchanged": revoked.unchanged }),
            );
        }
        let mut printed = Ok(());
        for record in &revoked.records {
            printed = printed.and(output::line(format!("revoked {} ({})", record.id(), output::plain(record.name()))));
        }
        if revoked.unchanged > 0 {
            note(format!("{} were revoked before", revoked.unchanged));
        }
        printed
    }

    async fn revoke(&self, ids: &[KeyId], reason: &str) -> Result<(), Failure> {
        let actor = self.store.as_actor(&self.actor);
        self.each(ids, async |id| {
            let changed = actor.revoke(id, reason).await?;
            report_propagation(&changed.propagation);
            let what = if changed.changed { "revoked" } else { "already revoked:" };
            Ok((what, changed.record))
        })
        .await
    }

    async fn delete(&self, ids: &[KeyId]) -> Result<(), Failure> {
        let actor = self.store.as_actor(&self.actor);
        self.each(ids, async |id| {
            let changed = actor.delete(id).await?;
            report_propagation(&changed.propagation);
            Ok(("deleted", changed.record))
        })
        .await
    }

    /// Applies an action to each of the keys. All actions are done before anything is printed: in an emergency,
    /// neither a wrong id nor a closed pipe may prevent the revocation of the other keys.
    async fn each(
        &self,
        ids: &[KeyId],
        act: impl AsyncFn(&KeyId) -> Result<(&'static str, Option<Arc<KeyRecord>>), StoreError>,
    ) -> Result<(), Failure> {
        let mut outcomes = Vec::new();
        for id in ids {
            let outcome = match self.assert_no_secret(id).await {
                Ok(()) => act(id).await.map_err(Failure::from),
                Err(failure) => Err(failure),
            };
            outcomes.push((id, outcome));
        }
        let single = ids.len() == 1;
        let (mut failed, mut printed, mut documents) = (None, Ok(()), Vec::new());
        let mut failures = 0;
        for (id, outcome) in outcomes {
            match outcome {
                Ok((_, record)) if self.json => documents.push(match &record {
                    Some(record) => output::to_json(record)?,
                    None => json!({ "id": id.as_str() }),
                }),
                Ok((what, record)) => {
                    let line = match &record {
                        Some(record) => format!("{what} {id} ({})", output::plain(record.name())),
                        None => format!("{what} {id}"),
                    };
                    printed = printed.and(output::line(line));
                    self.tell_sibling(record.as_deref()).await;
                }
                Err(failure) if single => return Err(failure),
                Err(failure) => {
                    note(format!("error: {}", output::without_keys(&failure.message().unwrap_or_default())));
                    failures += 1;
                    failed.get_or_insert(failure);
                }
            }
        }
        if self.json {
            let one = if single { documents.pop() } else { None };
            printed = output::json(&one.unwrap_or(Value::Array(documents)));
        }
        match failed {
            None => printed,
            Some(_) => Err(Failure::Other(format!("{failures} of {} keys failed, see above", ids.len()))),
        }
    }

    async fn purge(&self, dead_for: &str) -> Result<(), Failure> {
        let count = self.store.as_actor(&self.actor).purge(time::ago(dead_for)?).await?;
        match self.json {
            true => output::json(&json!({ "purged": count })),
            false => output::line(format!("purged {count}")),
        }
    }

    async fn audit(&self, audit: &args::Audit) -> Result<(), Failure> {
        if let Some(time) = &audit.prune {
            let count = self.store.as_actor(&self.actor).prune_audit(time::ago(time)?).await?;
            return match self.json {
                true => output::json(&json!({ "pruned": count })),
                false => output::line(format!("pruned {count}")),
            };
        }
        if audit.follow {
            return self.follow(audit).await;
        }
        let mut query = AuditQuery::new().limit(audit.limit);
        if let Some(number) = audit.after {
            query = query.after(number);
        }
        if let Some(id) = &audit.id {
            query = query.key(id.clone());
        }
        if let Some(number) = audit.before {
            query = query.before(number);
        }
        let records = self.store.audit(&query).await?;
        if self.json {
            return output::json(&output::to_json(&records)?);
        }
        let mut rows = Rows::new(&output::AUDIT_COLUMNS)?;
        records.iter().try_for_each(|audit| rows.push(output::audit_cells(audit)))?;
        rows.finish()
    }

    async fn import(&self, args: &args::Import) -> Result<(), Failure> {
        let Imported { added, skipped, refused, .. } = import::run(self, args).await?;
        if self.json {
            return output::json(&json!({ "added": added, "skipped": skipped, "refused": refused }));
        }
        if refused > 0 {
            note(format!("warning: {refused} keys are revoked in this store and were not imported"));
        }
        output::line(match skipped {
            0 => format!("imported {added}"),
            _ => format!("imported {added}; {skipped} already exist"),
        })
    }

    async fn export(&self, file: Option<&Path>, expand: bool) -> Result<(), Failure> {
        let keys = self.store.export().await?;
        let text = if expand { keys.expanded() } else { keys }.to_json()?;
        let Some(path) = file else { return output::line(text) };
        let to_failure = |error: io::Error| Failure::Other(format!("{}: {error}", path.display()));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        // The file is for its owner only: digests cannot be used as keys, but grants are confidential.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(path).map_err(to_failure)?;
        writeln!(out, "{text}").and_then(|()| out.sync_all()).map_err(to_failure)?;
        note(format!("wrote {}", path.display()));
        Ok(())
    }
}

/// Reports the replicas that did not acknowledge a change.
pub(crate) fn report_propagation(propagation: &Propagation) {
    if !propagation.unacknowledged.is_empty() {
        let (replicas, waited) = (propagation.unacknowledged.join(", "), propagation.waited.as_millis());
        note(format!("note: {replicas} did not acknowledge; waited {waited} ms for its lease to expire"));
    }
}

fn to_query(list: &args::List) -> Result<KeyQuery, Failure> {
    let mut query = KeyQuery::new();
    if let Some(name) = &list.name {
        query = query.name(name);
    }
    if let Some(kind) = &list.kind {
        query = query.kind(kind);
    }
    if let Some(tenant) = &list.tenant {
        query = query.tenant(tenant);
    }
    if let Some(owner) = &list.owner {
        query = query.owner(owner);
    }
    if let Some(label) = &list.label {
        query = match label.split_once('=') {
            Some((name, value)) => query.label(name, value),
            None => query.has_label(label),
        };
    }
    if let Some(role) = &list.role {
        query = query.role(role);
    }
    if let Some(status) = list.status {
        query = query.status(status.into());
    }
    if let Some(resource) = &list.resource {
        query = query.resource(resource);
    }
    if let Some(time) = &list.expiring {
        query = query.expires_before(time::from_now(time)?);
    }
    if let Some(time) = &list.unused {
        query = query.unused_for(time::length(time)?);
    }
    if let Some(after) = &list.after {
        query = query.after(after.clone());
    }
    Ok(query)
}
