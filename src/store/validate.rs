//! Validates what is stored: grants, settings and text must be readable again, and hold no secret.

use std::time::SystemTime;

use crate::{
    error::ConfigError,
    key::{Digest, Grant, GrantFile, KeyRecord, Restriction},
    name::check_tenant,
    store::{StoreError, StoreSettings, source::KeySource},
    timestamp,
};

/// Rejects a grant that could not be read back unchanged, and returns warnings about likely mistakes.
pub(crate) fn validate_grant(grant: &Grant, settings: &StoreSettings) -> Result<Vec<String>, StoreError> {
    let back = GrantFile::from_grant(grant).read(&settings.dimensions).map_err(invalid)?;
    if back != *grant {
        return Err(StoreError::invalid("the grant would not be read back as it is"));
    }
    grant.check_lists(&settings.directory).map_err(invalid)?;
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
    Ok(warnings)
}

/// Validates an imported record by the rules for records that are issued here.
pub(crate) fn validate_record(
    record: &KeyRecord,
    table: &impl KeySource,
    settings: &StoreSettings,
) -> Result<KeyRecord, StoreError> {
    record.texts().try_for_each(|(what, text)| validate_text(what, text, record, table, settings))?;
    validate_grant(record.grant(), settings)?;
    validate_no_secret_in_grant(record.grant(), table, settings)?;
    validate_name("kind", record.kind())?;
    validate_name("tenant", record.tenant())?;
    record.imported(date)
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
        if record.grant().restrictions().is_empty() {
            continue;
        }
        let grant = GrantFile::from_grant(record.grant()).read(&new.dimensions);
        grant.and_then(|grant| grant.check_lists(&new.directory)).map_err(|error| {
            let id = record.id();
            StoreError::conflict(format!("with these settings a key could not be read any more: key {id}: {error}"))
        })?;
    }
    Ok(())
}

/// Validates text that is shown in tables and logs: no line breaks, no escape sequences, no invisible characters.
pub(crate) fn validate_label(what: &str, text: &str, most: usize) -> Result<(), StoreError> {
    if text.chars().count() > most || text.chars().any(is_hidden) {
        let message = format!("{what}: at most {most} characters, none of them control or invisible characters");
        return Err(StoreError::invalid(message));
    }
    Ok(())
}

/// Control characters, those that turn the direction of text around, and those of no width (Unicode's categories Cc, Cf, Zl
/// and Zp, and fillers that show nothing).
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
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
        let formed = settings.format.key_id(word.as_bytes()).is_some();
        if formed
            || (settings.format.matches(word.as_bytes()) && table.by_digest(&Digest::from_key(word.as_bytes()))?)
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

/// The words of a text, with and without surrounding punctuation.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let around = |character: char| !character.is_alphanumeric();
    text.split_whitespace().flat_map(move |word| [word, word.trim_matches(around)])
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
