//! Builds grants from arguments, and formats them.

use tower_authz::{
    Dimension, Grant, GrantBuilder, Metadata, Restriction,
    store::{NewKey, StoreSettings},
};

use crate::{
    Failure,
    args::{Grant as Change, GrantArgs, KeyArgs, MetaArgs},
    time,
};

/// Builds the key that is to be issued.
pub(crate) fn new_key(name: &str, like: &KeyArgs, settings: &StoreSettings) -> Result<NewKey, Failure> {
    let new = NewKey::new(name, grant_of(&like.may, settings)?).metadata(metadata(Metadata::new(), &like.meta)?);
    let mut new = new.roles(like.roles.iter().cloned());
    if let Some(kind) = &like.kind {
        new = new.kind(kind);
    }
    if let Some(tenant) = &like.tenant {
        new = new.tenant(tenant);
    }
    if let Some(time) = &like.not_before {
        new = new.not_before(time::from_now(time)?);
    }
    if let Some(time) = like.expires.as_deref().map(time::end).transpose()?.flatten() {
        new = new.expires_at(time);
    }
    Ok(new)
}

/// Applies the arguments to the metadata.
pub(crate) fn metadata(mut metadata: Metadata, args: &MetaArgs) -> Result<Metadata, Failure> {
    if let Some(owner) = &args.owner {
        metadata = metadata.with_owner(owner);
    }
    if let Some(note) = &args.note {
        metadata = metadata.with_note(note);
    }
    for label in &args.labels {
        let wrong = || Failure::Usage(format!("--label {label}: expected NAME=VALUE, like env=prod"));
        let (name, value) = label.split_once('=').ok_or_else(wrong)?;
        metadata = metadata.with_label(name, value);
    }
    Ok(metadata)
}

pub(crate) fn grant_of(may: &GrantArgs, settings: &StoreSettings) -> Result<Grant, Failure> {
    Ok(add(Grant::builder(), may, settings)?.build()?)
}

fn add(mut grant: GrantBuilder, may: &GrantArgs, settings: &StoreSettings) -> Result<GrantBuilder, Failure> {
    for resource in &may.write {
        grant = grant.write(resource.clone());
    }
    for resource in &may.read {
        grant = grant.read(resource.clone());
    }
    for list in &may.include {
        let (dimension, ids) = parse_list(list, settings)?;
        grant = grant.only(dimension, ids);
    }
    for list in &may.exclude {
        let (dimension, ids) = parse_list(list, settings)?;
        grant = grant.except(dimension, ids);
    }
    if !may.ip.is_empty() {
        grant = grant.from_networks(&may.ip);
    }
    if !may.origin.is_empty() {
        grant = grant.from_origins(&may.origin);
    }
    Ok(grant)
}

/// Parses a list such as `shop=de,ch`. An empty list is an error, because it is hardly intended: if the shell variable
/// is not set, `--exclude shop=$IDS` would give a key without any restriction.
pub(crate) fn parse_list<'a>(text: &'a str, settings: &StoreSettings) -> Result<(Dimension, Vec<&'a str>), Failure> {
    let wrong = || Failure::Usage(format!("{text:?}: expected DIMENSION=ID,.., like shop=de,ch"));
    let (name, ids) = text.split_once('=').ok_or_else(wrong)?;
    if ids.is_empty() {
        return Err(Failure::Usage(format!(
            "{text:?}: there are no ids after the sign (is a variable of the shell not set?); leave the option out to restrict \
             nothing"
        )));
    }
    Ok((dimension(name, settings)?, ids.split(',').collect()))
}

fn dimension(name: &str, settings: &StoreSettings) -> Result<Dimension, Failure> {
    settings.dimension_named(name).ok_or_else(|| {
        let known: Vec<&str> = settings.dimensions().iter().map(Dimension::name).collect();
        let known = known.iter().fold("company, shop".to_owned(), |list, own| format!("{list}, {own}"));
        Failure::Usage(format!(
            "unknown dimension {name:?}, expected one of {known}; `authz settings --dimension {name}=slug` adds it"
        ))
    })
}

/// The grant after the change. Parts that the change does not name stay.
pub(crate) fn changed(old: &Grant, change: &Change, settings: &StoreSettings) -> Result<Grant, Failure> {
    let grant = if change.replace { Grant::builder() } else { kept(old, change)? };
    for name in &change.all {
        dimension(name, settings)?;
    }
    Ok(add(grant, &change.may, settings)?.build()?)
}

/// The old grant without the parts that the change removes.
fn kept(old: &Grant, change: &Change) -> Result<GrantBuilder, Failure> {
    let mut grant = old.to_builder();
    for name in &change.remove {
        if old.permissions().iter().all(|held| held.resource() != *name) {
            return Err(Failure::Usage(format!("--remove {name}: the key has no permission for it")));
        }
        grant = grant.without_permission(name);
    }
    for name in &change.all {
        let lists = change.may.include.iter().chain(&change.may.exclude);
        if lists.filter_map(|list| list.split_once('=')).any(|(over, _)| over == name) {
            return Err(Failure::Usage(format!(
                "--all {name} conflicts with --include or --exclude of the same dimension"
            )));
        }
        let over = old.restrictions().iter().map(|(over, _)| over).find(|over| over.name() == *name);
        grant = over.into_iter().fold(grant, |grant, over| grant.without_restriction(over.clone()));
    }
    grant = if change.any_ip { grant.from_anywhere() } else { grant };
    Ok(if change.any_origin { grant.without_origins() } else { grant })
}

/// Formats a grant for a table: `products:write orders:read shop=de,ch company!=3 from 10.0.0.0/8`.
pub(crate) fn shown(grant: &Grant) -> String {
    let mut parts: Vec<String> = grant.permissions().iter().map(ToString::to_string).collect();
    for (dimension, restriction) in grant.restrictions() {
        let (sign, ids) = match restriction {
            Restriction::Include(ids) => ("=", ids),
            Restriction::Exclude(ids) => ("!=", ids),
        };
        parts.push(format!("{dimension}{sign}{}", some(ids.iter())));
    }
    if let Some(networks) = grant.networks() {
        parts.push(format!("from {}", some(networks.iter().map(|network| network.to_string()))));
    }
    if let Some(origins) = grant.origins() {
        parts.push(format!("origin {}", some(origins)));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
}

/// Formats the first five items of a list.
fn some<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<T> = items.into_iter().collect();
    let mut text = items.iter().take(5).map(AsRef::as_ref).collect::<Vec<&str>>().join(",");
    match items.len() {
        0 => text.push_str("(none)"),
        1..=5 => {}
        more => text += &format!(",.. ({more})"),
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    fn amended(old: &Grant, options: &[&str]) -> Result<Grant, Failure> {
        let args = Args::try_parse_from(["authz", "grant", "key_1"].iter().chain(options)).unwrap();
        let Command::Grant(change) = args.command else { panic!("it is the command grant") };
        changed(old, &change, &StoreSettings::new())
    }

    /// Each option changes the part that it names, and `--replace` begins with nothing.
    #[test]
    fn what_no_option_names_is_kept() {
        let old = Grant::builder()
            .write("products")
            .read("orders")
            .only("shop", ["de"])
            .except("company", [3])
            .from_networks(["10.0.0.0/8"])
            .from_origins(["https://a.example"])
            .build()
            .unwrap();
        let with = || old.to_builder();
        for (options, expected) in [
            (&["--read", "products"][..], with().read("products")),
            (&["--write", "customers", "--remove", "orders"], with().without_permission("orders").write("customers")),
            (&["--remove", "products", "--read", "products"], with().read("products")),
            (&["--include", "shop=ch,us"], with().only("shop", ["ch", "us"])),
            (&["--exclude", "shop=ch"], with().except("shop", ["ch"])),
            (&["--all", "shop"], with().without_restriction("shop")),
            (&["--all", "company,shop"], with().without_restriction("shop").without_restriction("company")),
            (&["--ip", "192.0.2.0/24"], with().from_networks(["192.0.2.0/24"])),
            (&["--any-ip"], with().from_anywhere()),
            (&["--origin", "https://b.example"], with().from_origins(["https://b.example"])),
            (&["--any-origin"], with().without_origins()),
            (&["--replace", "--read", "orders"], Grant::builder().read("orders")),
        ] {
            assert_eq!(amended(&old, options).ok().unwrap(), expected.build().unwrap(), "{options:?}");
        }
        for options in [
            &["--remove", "customers"][..],
            &["--all", "shop", "--include", "shop=ch"],
            &["--all", "shops"],
            &["--include", "shops=de"],
            &["--read", "orders", "--write", "orders"],
        ] {
            assert!(amended(&old, options).is_err(), "{options:?}");
        }
    }
}
