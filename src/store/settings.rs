//! The settings of a store: all that it knows beside its keys.

use serde::{Deserialize, Serialize};

use crate::{
    dimension::Dimension,
    directory::{Directory, DirectoryFile},
    error::ConfigError,
    json::{self, Object},
    key::KeyFormat,
};

/// The settings of a store: the format of its keys, the dimensions that they can be restricted over,
/// the resources that ask for networks, and the [`Directory`].
///
/// Durable stores keep it with the keys, so that the server and the command line agree: a key that
/// the command issues has the form that the server accepts.
///
/// # Example
/// ```
/// use tower_authz::{Dimension, IdGrammar, store::StoreSettings};
///
/// let settings = StoreSettings::new()
///     .with_format("l64_{a-z0-9:8}_{0-9a-f:32}".parse()?)
///     .with_dimension(Dimension::new("project", IdGrammar::Slug))
///     .with_networks_required_for(["ledger"]);
/// # drop(settings);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "settings are given to a store"]
pub struct StoreSettings {
    pub(crate) format: KeyFormat,
    pub(crate) dimensions: Vec<Dimension>,
    pub(crate) networks_required_for: Vec<String>,
    pub(crate) directory: Directory,
}

impl StoreSettings {
    /// The default key format, companies and shops, nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// How keys look.
    pub fn with_format(mut self, format: KeyFormat) -> Self {
        self.format = format;
        self
    }

    /// A dimension of your own. Companies and shops are always there. A grant over a dimension that is
    /// not known is refused: of `shops`, written for `shop`, no rule would take notice.
    pub fn with_dimension(mut self, dimension: Dimension) -> Self {
        self.dimensions.retain(|known| *known != dimension);
        self.dimensions.push(dimension);
        self
    }

    /// Resources whose routes demand a key with networks, see
    /// [`Rule::require_networks`](crate::Rule::require_networks). Whoever issues a key for one of them
    /// without networks is warned.
    pub fn with_networks_required_for<T: Into<String>>(mut self, resources: impl IntoIterator<Item = T>) -> Self {
        self.networks_required_for = resources.into_iter().map(Into::into).collect();
        self
    }

    /// Sets which entity belongs to which. A directory that is given declares a hierarchy even if it is empty;
    /// [`Directory::default`] takes the declaration back.
    pub fn with_directory(mut self, directory: Directory) -> Self {
        self.directory = directory;
        self
    }

    /// How keys look.
    #[must_use]
    pub const fn format(&self) -> &KeyFormat {
        &self.format
    }

    /// The dimensions beside companies and shops.
    #[must_use]
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// The dimension of this name: one of those, or company or shop.
    #[must_use]
    pub fn dimension_named(&self, name: &str) -> Option<Dimension> {
        Dimension::among(name, &self.dimensions).filter(|found| *found != Dimension::SHOP_COUNTRY)
    }

    /// Which entity belongs to which.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The settings as one JSON object.
    ///
    /// # Errors
    /// If a value cannot be written, which none that was built can have.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        let dimensions = self.dimensions.iter().map(|own| (own.name().to_owned(), own.ids().name().to_owned()));
        let file = SettingsFile {
            format: self.format.to_string(),
            dimensions: dimensions.collect(),
            networks_required_for: self.networks_required_for.clone(),
            directory: self.directory.to_file().map(Object),
        };
        serde_json::to_string(&file).map_err(|error| ConfigError::new(error.to_string()))
    }

    /// Reads what [`to_json`](Self::to_json) wrote. `own` has the dimensions whose grammar is a function, which no
    /// text can hold; of those that are missing there every id is taken as it is.
    ///
    /// # Errors
    /// At the first thing that is wrong, with the field.
    pub fn parse(text: &str, own: &[Dimension]) -> Result<Self, ConfigError> {
        let file: SettingsFile = json::from_json(text, true)?;
        let mut dimensions = Vec::new();
        for (name, grammar) in file.dimensions {
            dimensions.push(match own.iter().find(|own| own.name() == name && own.ids().name() == grammar) {
                Some(own) => own.clone(),
                // Only its code knows how ids are spelt. Nothing is lost by taking them as they are: where they are
                // compared, the rule's own grammar is asked as well.
                None if grammar == "custom" => Dimension::custom(&name, |id| !id.is_empty() && id.len() <= 256),
                None => Dimension::read(&name, &grammar).map_err(|error| error.at("dimensions"))?,
            });
        }
        let directory = file.directory.map(|Object(directory)| directory.read(&dimensions)).transpose()?;
        Ok(Self {
            format: file.format.parse().map_err(|error: ConfigError| error.at("format"))?,
            dimensions,
            networks_required_for: file.networks_required_for,
            directory: directory.unwrap_or_default(),
        })
    }
}

impl From<KeyFormat> for StoreSettings {
    fn from(format: KeyFormat) -> Self {
        Self::new().with_format(format)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    format: String,
    #[serde(default, with = "json::unique")]
    dimensions: Vec<(String, String)>,
    /// Its name is that of the first version, which an older replica beside this one reads.
    #[serde(default, rename = "ip_restricted")]
    networks_required_for: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<Object<DirectoryFile>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimension::IdGrammar;

    #[test]
    fn what_is_written_is_read() {
        let settings = StoreSettings::new()
            .with_format(KeyFormat::opaque(20, 64).unwrap())
            .with_dimension(Dimension::new("project", IdGrammar::Opaque))
            .with_networks_required_for(["ledger"])
            .with_directory(Directory::builder().shop("de", Some("1")).build().unwrap());
        let text = settings.to_json().unwrap();
        assert_eq!(StoreSettings::parse(&text, &[]).unwrap().to_json().unwrap(), text);
    }

    #[test]
    fn an_empty_directory_is_not_read_back_as_none() {
        let declared = |directory| {
            let text = StoreSettings::new().with_directory(directory).to_json().unwrap();
            StoreSettings::parse(&text, &[]).unwrap().directory.is_declared()
        };
        assert!(declared(Directory::builder().build().unwrap()));
        assert!(!declared(Directory::default()));
    }

    #[test]
    fn what_no_text_can_hold_is_asked_for() {
        let own = Dimension::new("project", IdGrammar::Custom(|id| id.len() == 3));
        let text = StoreSettings::new().with_dimension(own.clone()).to_json().unwrap();
        assert!(StoreSettings::parse(&text, &[]).unwrap().dimensions()[0].accepts("anything"));
        let read = StoreSettings::parse(&text, &[own]).unwrap();
        assert!(read.dimensions()[0].accepts("abc") && !read.dimensions()[0].accepts("ab"));
        // A declaration in the text takes precedence over one in the code.
        let text = StoreSettings::new().with_dimension(Dimension::new("project", IdGrammar::Opaque)).to_json().unwrap();
        let slugs = Dimension::new("project", IdGrammar::Slug);
        assert!(StoreSettings::parse(&text, &[slugs]).unwrap().dimensions()[0].accepts("A.b"));
    }
}
