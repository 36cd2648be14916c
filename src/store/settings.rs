//! The settings of a store: all that it knows beside its keys.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    dimension::Dimension,
    directory::{Directory, DirectoryFile},
    error::ConfigError,
    json::{self, Object},
    key::{Grant, GrantFile, KeyFormat, KeyFormats, Roles},
};

/// The settings of a store: the formats of its keys, the dimensions that they can be restricted over,
/// the resources that ask for networks, the [`Directory`], the roles, and whether expired keys can be renewed.
///
/// # Roles
/// A role is a named grant that many keys [refer to](crate::store::NewKey::roles). Such a key has the permissions of its
/// roles and of its own grant. What a role restricts, or the key itself, stays restricted: of two lists over one dimension,
/// of networks or of origins, only what both allow counts. Roles are expanded when keys are loaded, so a request pays
/// nothing for them; [`set_role`](crate::store::Actor::set_role) changes all keys that refer to a role at once, in force as
/// any change of a grant. A role cannot refer to another.
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
    pub(crate) formats: KeyFormats,
    pub(crate) dimensions: Vec<Dimension>,
    pub(crate) networks_required_for: Vec<String>,
    pub(crate) directory: Directory,
    pub(crate) roles: Roles,
    pub(crate) renew_expired_for: Option<Duration>,
}

impl StoreSettings {
    /// The default key format, companies and shops, nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// How keys look, whatever their kind.
    pub fn with_format(self, format: KeyFormat) -> Self {
        self.with_formats(format.into())
    }

    /// How keys look, where a kind of keys has a format of its own. A store has the formats that it was created with: they
    /// cannot be changed later, because its keys would be malformed.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Grant, KeyFormat, KeyFormats, store::{KeyAdmin, MemoryStore, NewKey, StoreSettings}};
    ///
    /// # futures::executor::block_on(async {
    /// let formats = KeyFormats::new(KeyFormat::default())
    ///     .with_kind("test", "acme_test_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}".parse()?)?;
    /// let store = MemoryStore::with_settings(StoreSettings::new().with_formats(formats));
    /// let key = NewKey::new("ci", Grant::builder().read("products").build()?).kind("test");
    /// let issued = store.as_actor("anna").issue(key).await?;
    /// assert!(issued.api_key.expose().starts_with("acme_test_"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn with_formats(mut self, formats: KeyFormats) -> Self {
        self.formats = formats;
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

    /// Adds a role, or gives it another grant. A name is 1 to 64 characters of `[A-Za-z0-9._-]`; a store refuses others when
    /// its settings are changed.
    pub fn with_role(mut self, name: &str, grant: impl Into<Arc<Grant>>) -> Self {
        self.roles = self.roles.with(name, Some(grant.into()));
        self
    }

    /// Removes a role. Settings without a role that a key refers to are refused by the store.
    pub fn without_role(mut self, name: &str) -> Self {
        self.roles = self.roles.with(name, None);
        self
    }

    pub(crate) fn with_roles(mut self, roles: Roles) -> Self {
        self.roles = roles;
        self
    }

    /// Allows [`set_expiry`](crate::store::Actor::set_expiry) to renew a key that has expired, as long as its secret is not
    /// older than this. Default: an expired key stays expired.
    pub const fn with_renewal_of_expired(mut self, max_age_of_secret: Option<Duration>) -> Self {
        self.renew_expired_for = max_age_of_secret;
        self
    }

    /// How keys look.
    pub const fn formats(&self) -> &KeyFormats {
        &self.formats
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

    /// The roles by their names, in order.
    pub fn roles(&self) -> impl ExactSizeIterator<Item = (&str, &Grant)> {
        self.roles.iter().map(|(name, grant)| (name, &**grant))
    }

    /// The grant of a role.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Grant> {
        self.roles.get(name).map(|grant| &**grant)
    }

    /// How old the secret of an expired key may be for the key to be renewed; `None` if it cannot be.
    #[must_use]
    pub const fn renewal_of_expired(&self) -> Option<Duration> {
        self.renew_expired_for
    }

    /// The settings as one JSON object.
    ///
    /// # Errors
    /// If a value cannot be written, which none that was built can have.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        let dimensions = self.dimensions.iter().map(|own| (own.name().to_owned(), own.ids().name().to_owned()));
        let of_kinds = self.formats.iter().filter_map(|(kind, format)| Some((kind?.to_owned(), format.to_string())));
        let file = SettingsFile {
            format: self.formats.for_kind(None).to_string(),
            formats: of_kinds.collect(),
            dimensions: dimensions.collect(),
            networks_required_for: self.networks_required_for.clone(),
            directory: self.directory.to_file().map(Object),
            roles: self.roles.to_file(),
            renew_expired_for: self.renew_expired_for.map(|time| time.as_secs()),
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
        let roles = Roles::from_file(file.roles, &dimensions)?;
        let directory = file.directory.map(|Object(directory)| directory.read(&dimensions)).transpose()?;
        let mut formats = KeyFormats::new(file.format.parse().map_err(|error: ConfigError| error.at("format"))?);
        for (kind, format) in file.formats {
            let format: Result<KeyFormat, _> = format.parse();
            formats = format
                .and_then(|format| formats.with_kind(kind, format))
                .map_err(|error: ConfigError| error.at("formats"))?;
        }
        Ok(Self {
            formats,
            dimensions,
            networks_required_for: file.networks_required_for,
            directory: directory.unwrap_or_default(),
            roles,
            renew_expired_for: file.renew_expired_for.map(Duration::from_secs),
        })
    }
}

impl From<KeyFormat> for StoreSettings {
    fn from(format: KeyFormat) -> Self {
        Self::new().with_format(format)
    }
}

impl From<KeyFormats> for StoreSettings {
    fn from(formats: KeyFormats) -> Self {
        Self::new().with_formats(formats)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    format: String,
    /// By kind. Left out where there are none: the text of such a store stays as it was, and is read by replicas of an
    /// earlier version. One of those refuses a store with such formats, because it would not check them.
    #[serde(default, with = "json::unique", skip_serializing_if = "Vec::is_empty")]
    formats: Vec<(String, String)>,
    #[serde(default, with = "json::unique")]
    dimensions: Vec<(String, String)>,
    /// Its name is that of the first version, which an older replica beside this one reads.
    #[serde(default, rename = "ip_restricted")]
    networks_required_for: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<Object<DirectoryFile>>,
    #[serde(default, with = "json::unique", skip_serializing_if = "Vec::is_empty")]
    roles: Vec<(String, Object<GrantFile>)>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renew_expired_for: Option<u64>,
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
    fn formats_of_kinds_are_written_only_if_there_are_some() {
        let plain = StoreSettings::new().to_json().unwrap();
        assert!(!plain.contains("formats"), "{plain}");
        let formats = KeyFormats::default()
            .with_kind("test", KeyFormat::structured("acme_test").build().unwrap())
            .and_then(|formats| formats.with_kind("\"live\" 🔑", KeyFormat::structured("acme_live").build().unwrap()))
            .unwrap();
        let text = StoreSettings::from(formats.clone()).to_json().unwrap();
        let read = StoreSettings::parse(&text, &[]).unwrap();
        assert_eq!((read.formats(), read.to_json().unwrap()), (&formats, text));

        let own = r#"{"format":"key_{0-9A-Za-z:10}_{0-9A-Za-z:30}","formats":"#;
        for (formats, expected) in [
            (r#"{"":"a_{0-9a-f:8}_{0-9a-f:32}"}"#, "formats: kind: its name is"),
            (
                r#"{"a":"key_{0-9a-f:8}_{0-9a-f:32}"}"#,
                "formats: the format of the kind \"a\" and the default format could",
            ),
            (r#"{"a":"{ascii:8-512}"}"#, "could be confused"),
            (r#"{"a":"a"}"#, "formats: \"a\" is not a key format"),
            (r#"{"a":"a_{0-9a-f:8}_{0-9a-f:32}","a":"b_{0-9a-f:8}_{0-9a-f:32}"}"#, "duplicate key \"a\""),
        ] {
            let error = StoreSettings::parse(&format!("{own}{formats}}}"), &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
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
