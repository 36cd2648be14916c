//! Builds grants from arguments, and formats them.

use tower_authz::{
    Access, Dimension, Grant, GrantBuilder, Metadata, Restriction,
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
    let mut grant = Grant::builder();
    if !change.replace {
        grant = kept(grant, old, change, settings)?;
    }
    for name in &change.all {
        dimension(name, settings)?;
    }
    Ok(add(grant, &change.may, settings)?.build()?)
}

/// Copies the parts that the change does not name.
fn kept(
    mut grant: GrantBuilder,
    old: &Grant,
    change: &Change,
    settings: &StoreSettings,
) -> Result<GrantBuilder, Failure> {
    let GrantArgs { write, read, include, exclude, ip, origin } = &change.may;
    if let Some(absent) =
        change.remove.iter().find(|name| old.permissions().iter().all(|held| held.resource() != **name))
    {
        return Err(Failure::Usage(format!("--remove {absent}: the key has no permission for it")));
    }
    for held in old.permissions() {
        let named = [write, read, &change.remove].iter().any(|names| names.iter().any(|name| name == held.resource()));
        let resource = held.resource().to_owned();
        grant = match held.access() {
            _ if named => grant,
            Access::Write => grant.write(resource),
            Access::Read => grant.read(resource),
        };
    }
    let mut replaced: Vec<Dimension> = Vec::new();
    for list in include.iter().chain(exclude) {
        replaced.push(parse_list(list, settings)?.0);
    }
    if let Some(both) = change.all.iter().find(|name| replaced.iter().any(|over| over.name() == **name)) {
        return Err(Failure::Usage(format!(
            "--all {both} conflicts with --include or --exclude of the same dimension"
        )));
    }
    for (dimension, restriction) in old.restrictions() {
        if replaced.contains(dimension) || change.all.iter().any(|name| name == dimension.name()) {
            continue;
        }
        grant = match restriction {
            Restriction::Include(ids) => grant.only(dimension.clone(), ids.iter()),
            Restriction::Exclude(ids) => grant.except(dimension.clone(), ids.iter()),
        };
    }
    if let Some(networks) = old.networks().filter(|_| ip.is_empty() && !change.any_ip) {
        grant = grant.from_networks(networks.iter().map(|network| network.to_string()));
    }
    if let Some(origins) = old.origins().filter(|_| origin.is_empty() && !change.any_origin) {
        grant = grant.from_origins(origins);
    }
    Ok(grant)
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
