//! Implements `authz role`, and gives keys their roles.

use std::collections::HashMap;

use serde_json::json;
use tower_authz::{
    Grant, KeyRecord,
    store::{KeyQuery, RoleChanged, StoreError},
};

use crate::{
    Failure,
    args::{self, RoleCommand},
    commands::report_propagation,
    context::Context,
    grant,
    output::{self, Rows, note},
};

impl Context {
    pub(crate) async fn role(&self, command: RoleCommand) -> Result<(), Failure> {
        let settings = self.store.settings().await?;
        let not_found = |name: &str| Failure::Store(StoreError::not_found(format!("there is no role {name}")));
        match command {
            RoleCommand::Set { name, may } => {
                let grant = grant::grant_of(&may, &settings)?;
                let changed = self.store.as_actor(&self.actor).set_role(&name, grant.clone()).await?;
                if !self.json {
                    let before = settings.role(&name).map_or("there was no such role".to_owned(), grant::shown);
                    note(format!("before: {before}"));
                    note(format!("now:    {}", grant::shown(&grant)));
                }
                self.report("set", &name, &changed)
            }
            RoleCommand::Delete { name } => {
                let changed = self.store.as_actor(&self.actor).delete_role(&name).await?;
                self.report("deleted", &name, &changed)
            }
            RoleCommand::Show { name } => {
                let role = settings.role(&name).ok_or_else(|| not_found(&name))?;
                match self.json {
                    true => output::json(&json!({ "name": name, "grant": output::to_json(role)? })),
                    false => output::line(grant::shown(role)),
                }
            }
            RoleCommand::List => self.list_roles(settings.roles().collect()).await,
        }
    }

    fn report(&self, did: &str, name: &str, changed: &RoleChanged) -> Result<(), Failure> {
        report_propagation(&changed.propagation);
        output::warn(&changed.warnings);
        match self.json {
            true => output::json(&json!({ "name": name, "keys": changed.keys, "changed": changed.changed })),
            false => output::line(format!("{did} {name} (keys that refer to it: {})", changed.keys)),
        }
    }

    async fn list_roles(&self, roles: Vec<(&str, &Grant)>) -> Result<(), Failure> {
        let mut keys: HashMap<String, usize> = HashMap::new();
        let mut query = KeyQuery::new();
        loop {
            let page = self.store.list(&query).await?;
            let names = page.records.iter().flat_map(|record| record.roles());
            names.for_each(|name| *keys.entry(name.to_owned()).or_default() += 1);
            match page.next {
                Some(last) => query = query.after(last),
                None => break,
            }
        }
        let count = |name: &str| keys.get(name).copied().unwrap_or_default();
        if self.json {
            let role = |(name, grant): (&str, &Grant)| {
                Ok(json!({ "name": name, "keys": count(name), "grant": output::to_json(grant)? }))
            };
            let roles = roles.into_iter().map(role).collect::<Result<Vec<_>, Failure>>()?;
            return output::json(&json!({ "roles": roles }));
        }
        let mut rows = Rows::new(&["ROLE", "KEYS", "MAY"])?;
        for (name, grant) in roles {
            rows.push(vec![name.to_owned(), count(name).to_string(), grant::shown(grant)])?;
        }
        rows.finish()
    }

    /// Adds and removes roles of a key.
    pub(crate) async fn set_roles(&self, old: &KeyRecord, change: &args::Grant) -> Result<(), Failure> {
        if let Some(name) = change.remove_role.iter().find(|name| old.roles().all(|known| known != **name)) {
            return Err(Failure::Usage(format!("--remove-role {name}: the key does not refer to it")));
        }
        let (added, removed) = (change.roles.clone(), change.remove_role.clone());
        let amend = move |old: &Vec<String>| {
            let mut roles: Vec<String> = old.iter().filter(|known| !removed.contains(known)).cloned().collect();
            let new = added.into_iter().filter(|name| !old.contains(name));
            roles.extend(new);
            Ok(roles)
        };
        let changed = self.store.as_actor(&self.actor).change_roles(&change.id, amend).await?;
        if !self.json {
            note(format!("before: {}", grant::shown(old.grant())));
            if let Some(record) = &changed.record {
                note(format!("now:    {}", grant::shown(record.grant())));
            }
        }
        report_propagation(&changed.propagation);
        self.changed("changed", changed.record.as_deref(), &changed.warnings)
    }
}
