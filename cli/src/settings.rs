//! Settings of a store, from arguments.

use tower_authz::{Dimension, KeyFile, store::StoreSettings};

use crate::{Failure, args, time};

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
