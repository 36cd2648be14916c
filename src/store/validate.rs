//! Validates what is stored: grants, settings and text must be readable again, and hold no secret.

use std::time::SystemTime;

use crate::{
    error::ConfigError,
    key::{Digest, Grant, GrantFile, KeyRecord, Metadata, Restriction, check_roles},
    name::check_tenant,
    store::{StoreError, StoreSettings, source::KeySource},
    text::check_text,
    timestamp,
};

/// Rejects a grant that could not be read back unchanged.
pub(crate) fn validate_grant(grant: &Grant, settings: &StoreSettings) -> Result<(), StoreError> {
    if GrantFile::from_grant(grant).read(&settings.dimensions).map_err(invalid)? != *grant {
        return Err(StoreError::invalid("the grant would not be read back as it is"));
    }
    grant.check_lists(&settings.directory).map_err(invalid)
}

/// Warnings about likely mistakes in a grant.
pub(crate) fn warnings_of(grant: &Grant, settings: &StoreSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let starred =
        grant.permissions().iter().map(crate::key::Permission::resource).filter(|resource| resource.contains('*'));
    warnings.extend(starred.map(|resource| format!("the resource {resource:?} is a name like any other, no wildcard")));
    if grant.permissions().is_empty() {
        warnings.push("it has no permissions".to_owned());
    }
    match grant.networks() {
        None => warnings.extend(
            settings
                .networks_required_for
                .iter()
                .filter(|wanted| grant.permissions().iter().any(|held| held.resource() == **wanted))
                .map(|resource| format!("the routes of {resource} demand a key with networks, and it has none")),
        ),
        Some(networks) if networks.is_empty() => warnings.push("its list of networks is empty".to_owned()),
        Some(networks) => warnings.extend(
            networks
                .iter()
                .filter(crate::key::Network::is_everything)
                .map(|network| format!("the network {network} is every address of its family")),
        ),
    }
    warnings
}

/// Validates an imported record by the rules for records that are issued here.
pub(crate) fn validate_record(
    record: &KeyRecord,
    table: &impl KeySource,
    settings: &StoreSettings,
) -> Result<KeyRecord, StoreError> {
    record.texts().try_for_each(|(what, text)| validate_text(what, text, record, table, settings))?;
    validate_grant(record.own_grant(), settings)?;
    validate_no_secret_in_grant(record.own_grant(), table, settings)?;
    validate_metadata(record.metadata(), table, settings)?;
    check_roles(&record.roles().collect::<Vec<_>>()).map_err(invalid)?;
    validate_name("kind", record.kind())?;
    validate_name("tenant", record.tenant())?;
    record.imported(date)
}

/// Validates what is said about a key.
pub(crate) fn validate_metadata(
    metadata: &Metadata,
    table: &impl KeySource,
    settings: &StoreSettings,
) -> Result<(), StoreError> {
    metadata.texts().try_for_each(|(what, text)| validate_no_secret(what, text, table, settings))?;
    metadata.check().map_err(invalid)
}

/// Validates one text of an imported record, also against the key of the record itself, which the store need not know.
pub(crate) fn validate_text(
    what: &str,
    text: &str,
    record: &KeyRecord,
    table: &impl KeySource,
    settings: &StoreSettings,
) -> Result<(), StoreError> {
    validate_label(what, text, 1024)?;
    if words(text).any(|word| Digest::from_key(word.as_bytes()) == *record.digest()) {
        return Err(contains_secret(what));
    }
    validate_no_secret(what, text, table, settings)
}

/// Rejects settings that could not be read back, or under which stored keys could not: that would go unnoticed until
/// the store is opened again.
pub(crate) fn validate_readable(new: &StoreSettings, table: &impl KeySource) -> Result<(), StoreError> {
    let text = new.to_json().map_err(invalid)?;
    StoreSettings::parse(&text, &new.dimensions).map(drop).map_err(invalid)?;
    for record in table.all()? {
        if let Some(role) = record.roles().find(|role| new.role(role).is_none()) {
            let id = record.id();
            return Err(StoreError::conflict(format!("the key {id} refers to the role {role}, which would be gone")));
        }
        if record.own_grant().restrictions().is_empty() {
            continue;
        }
        let grant = GrantFile::from_grant(record.own_grant()).read(&new.dimensions);
        grant.and_then(|grant| grant.check_lists(&new.directory)).map_err(|error| {
            let id = record.id();
            StoreError::conflict(format!("with these settings a key could not be read any more: key {id}: {error}"))
        })?;
    }
    Ok(())
}

/// Validates text that is shown in tables and logs.
pub(crate) fn validate_label(what: &str, text: &str, most: usize) -> Result<(), StoreError> {
    check_text(what, text, most).map_err(invalid)
}

/// Rejects text that contains a whole API key, which would end up in the store, in lists and in audit records.
pub(crate) fn validate_no_secret(
    what: &str,
    text: &str,
    table: &impl KeySource,
    settings: &StoreSettings,
) -> Result<(), StoreError> {
    for word in words(text) {
        // Opaque keys look like other words; only known ones can be recognized.
        let formed = settings.formats.key_id(word.as_bytes()).is_some();
        if formed
            || (settings.formats.matches(word.as_bytes()) && table.by_digest(&Digest::from_key(word.as_bytes()))?)
        {
            return Err(contains_secret(what));
        }
    }
    Ok(())
}

/// The same for all names in a grant.
pub(crate) fn validate_no_secret_in_grant(
    grant: &Grant,
    table: &impl KeySource,
    settings: &StoreSettings,
) -> Result<(), StoreError> {
    texts_of(grant).try_for_each(|(what, text)| validate_no_secret(what, text, table, settings))
}

/// The texts in a grant that are long enough to be a key, with the names of their fields.
pub(crate) fn texts_of(grant: &Grant) -> impl Iterator<Item = (&str, &str)> {
    let resources = grant.permissions().iter().map(|permission| ("resource", permission.resource()));
    let ids = grant.restrictions().iter().flat_map(|(dimension, restriction)| {
        let (Restriction::Include(ids) | Restriction::Exclude(ids)) = restriction;
        ids.iter().map(|id| (dimension.name(), id))
    });
    let origins = grant.origins().into_iter().flatten().map(|origin| ("origins", &**origin));
    resources.chain(ids).chain(origins).filter(|(_, text)| text.len() >= SHORTEST_KEY)
}

/// The minimum length of keys in every format.
const SHORTEST_KEY: usize = 8;

pub(crate) fn contains_secret(what: &str) -> StoreError {
    StoreError::invalid(format!("{what}: it holds a whole API key, which must not be stored in the clear"))
}

/// The words of a text, with and without surrounding punctuation, and their parts between punctuation: a key may stand in a
/// path or an address.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let around = |character: char| !character.is_alphanumeric();
    let between = |character: char| !character.is_alphanumeric() && character != '_';
    text.split_whitespace().flat_map(move |word| {
        let parts = word.split(between).filter(move |part| part.len() < word.len() && part.len() >= SHORTEST_KEY);
        [word, word.trim_matches(around)].into_iter().chain(parts)
    })
}

pub(crate) fn validate_name(what: &str, name: Option<&str>) -> Result<(), StoreError> {
    if let Some(name) = name {
        validate_label(what, name, 256)?;
        if name.is_empty() {
            return Err(StoreError::invalid(format!("{what}: leave it out, or give it a name")));
        }
        if what == "tenant" {
            check_tenant(name).map_err(invalid)?;
        }
    }
    Ok(())
}

pub(crate) fn date(time: Option<SystemTime>) -> Result<Option<SystemTime>, StoreError> {
    time.map(timestamp::whole_micros).transpose().map_err(invalid)
}

pub(crate) fn invalid(error: ConfigError) -> StoreError {
    StoreError::invalid(error.to_string())
}
