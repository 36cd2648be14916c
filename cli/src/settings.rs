//! Settings of a store, from arguments.

use tower_authz::{Dimension, KeyFile, KeyFormat, KeyFormats, store::StoreSettings};

use crate::{Failure, args, time};

/// The formats of the keys of a new store.
pub(crate) fn formats(init: &args::Init) -> Result<KeyFormats, Failure> {
    let mut formats = KeyFormats::new(init.format.clone());
    for text in &init.formats {
        let wrong = |why: &str| Failure::Usage(format!("--format-for: {why}"));
        // A format contains no equals sign, and the name of a kind may.
        let (kind, format) = text
            .rsplit_once('=')
            .ok_or_else(|| wrong("expected KIND=FORMAT, like live=acme_live_{a-z0-9:8}_{0-9a-f:32}"))?;
        let format: KeyFormat = format.parse().map_err(|error: tower_authz::ConfigError| wrong(&error.to_string()))?;
        formats = formats.with_kind(kind, format).map_err(|error| wrong(&error.to_string()))?;
    }
    Ok(formats)
}

/// Applies the arguments to the settings.
pub(crate) fn with(mut settings: StoreSettings, change: &args::Settings) -> Result<StoreSettings, Failure> {
    for text in &change.dimensions {
        let wrong =
            || Failure::Usage(format!("--dimension {text}: expected NAME=number, slug or opaque, like project=slug"));
        let (name, grammar) = text.split_once('=').ok_or_else(wrong)?;
        settings = settings.with_dimension(Dimension::read(name, grammar).map_err(|_| wrong())?);
    }
    if !change.require_networks.is_empty() {
        settings = settings
            .with_networks_required_for(change.require_networks.iter().filter(|name| !name.is_empty()).cloned());
    }
    if let Some(file) = &change.directory {
        let own: Vec<Dimension> = settings.dimensions().to_vec();
        let file = KeyFile::read_with(file, &own).map_err(|error| Failure::Other(error.to_string()))?;
        settings = settings.with_directory(file.directory().clone());
    }
    if let Some(time) = &change.renew_expired_for {
        settings = settings.with_renewal_of_expired(match &**time {
            "never" => None,
            time => Some(time::length(time)?),
        });
    }
    Ok(settings)
}
