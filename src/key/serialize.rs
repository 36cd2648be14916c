//! Grants and records as values of serde, in the words of the key file.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    dimension::Dimension,
    error::ConfigError,
    json::{self, Object},
    key::{Grant, GrantFile, KeyEntry, KeyRecord, Restriction, Status, restriction::RestrictionFile},
    timestamp,
};

impl Grant {
    /// Reads the JSON object that a grant is [serialized](Serialize) as, with dimensions of your own. A dimension that is
    /// neither among them nor a standard one is an error: if it were left out, the key would reach all of it.
    ///
    /// # Errors
    /// At the first thing that is wrong, with the field.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, Grant, IdGrammar};
    ///
    /// const PROJECT: Dimension = Dimension::new("project", IdGrammar::Opaque);
    /// let text = r#"{ "permissions": { "orders": "write" }, "restrictions": { "project": { "include": ["Apollo"] } } }"#;
    /// let grant = Grant::parse_with(text, &[PROJECT])?;
    /// assert!(grant.restriction(&PROJECT).is_some_and(|list| list.allows("Apollo")));
    /// assert!(serde_json::from_str::<Grant>(text).is_err(), "the dimension is not known there");
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn parse_with(text: &str, dimensions: &[Dimension]) -> Result<Self, ConfigError> {
        json::from_json::<GrantFile>(text, true)?.read(dimensions)
    }
}

/// An object with the fields that the grant of a key has in a [`KeyFile`](crate::KeyFile): `permissions`, `restrictions`,
/// `ip_ranges` and `origins`. What restricts nothing is left out.
impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        GrantFile::from_grant(self).serialize(serializer)
    }
}

/// Reads what is serialized, by the rules of a [`KeyFile`](crate::KeyFile): an unknown field, a wrong type, two lists over
/// one dimension and a malformed id are errors. Only companies and shops are known here, spelt as
/// [`Dimension::COMPANY`] and [`Dimension::SHOP`] have them, and any other dimension is an error;
/// [`Grant::parse_with`] is for an application with dimensions, or spellings, of its own.
impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(file) = Object::<GrantFile>::deserialize(deserializer)?;
        file.read(&[]).map_err(de::Error::custom)
    }
}

/// `{"include": [..]}` or `{"exclude": [..]}`. It cannot be deserialized alone: how its ids are spelt is known to the
/// [`Dimension`] that it is over, which stands beside it in a [`Grant`].
impl Serialize for Restriction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RestrictionFile::from_restriction(self).serialize(serializer)
    }
}

/// For people and programs that look at keys: the fields that a [`KeyFile`](crate::KeyFile) has, without the digest, and
/// `status` as it is now, `version`, and `last_used` if that is known.
///
/// A record cannot be deserialized, as it would have no digest. What is to be imported is a key file, which
/// [`KeyFile::parse_with`](crate::KeyFile::parse_with) checks as a whole.
///
/// # Example
/// ```
/// # use tower_authz::*;
/// let grant = Grant::builder().write("products").build()?;
/// let record = KeyRecord::builder("l64_abc12345".parse()?, Digest::from_key(b"..")).name("prod").grant(grant).build();
/// let value = serde_json::to_value(&record).unwrap();
/// assert_eq!(value["permissions"]["products"], "write");
/// assert_eq!((&value["status"], &value["version"]), (&"active".into(), &1.into()));
/// assert!(value.get("digest").is_none());
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
impl Serialize for KeyRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown {
            #[serde(flatten)]
            entry: KeyEntry,
            status: Status,
            version: u64,
            #[serde(with = "timestamp", skip_serializing_if = "Option::is_none")]
            last_used: Option<SystemTime>,
        }
        let shown = Shown {
            entry: KeyEntry::without_digest(self),
            status: self.status(SystemTime::now()),
            version: self.version(),
            last_used: self.last_used(),
        };
        shown.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;
    use crate::{
        dimension::IdGrammar,
        directory::Directory,
        key::{Digest, KeyFile},
    };

    const PROJECT: Dimension = Dimension::new("project", IdGrammar::Opaque);

    fn full() -> Grant {
        Grant::builder()
            .write("products")
            .read("*")
            .only("company", [1_u64, u64::MAX])
            .except("shop", ["de"])
            .only::<&str>(PROJECT, [])
            .from_networks(["10.0.0.0/8", "2001:db8::/32"])
            .from_origins(["https://shop.example"])
            .build()
            .unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let text = serde_json::to_string(&full()).unwrap();
        assert_eq!(Grant::parse_with(&text, &[PROJECT]).unwrap(), full());
        let standard = full().to_builder().without_restriction(PROJECT).build().unwrap();
        for grant in [Grant::default(), standard] {
            let text = serde_json::to_string(&grant).unwrap();
            assert_eq!(serde_json::from_str::<Grant>(&text).unwrap(), grant);
            assert_eq!(serde_json::from_value::<Grant>(serde_json::to_value(&grant).unwrap()).unwrap(), grant);
        }
        let list = serde_json::to_value(full().restriction(&Dimension::SHOP)).unwrap();
        assert_eq!(list, json!({ "exclude": ["de"] }));
    }

    /// An error, not a grant that reaches more than what was written.
    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, message) in [
            (r#"{"restrictions": {"project": {"include": ["a"]}}}"#, "restrictions.project: no such dimension"),
            (r#"{"restrictions": {"shops": {"include": ["de"]}}}"#, "restrictions.shops: no such dimension"),
            (r#"{"restrictions": {"shop_country": {"include": ["1"]}}}"#, "restrict the shop"),
            (r#"{"restrictions": {"shop": {"include": ["de"], "exclude": ["ch"]}}}"#, "exactly one of the lists"),
            (r#"{"restrictions": {"shop": {}}}"#, "exactly one of the lists"),
            (r#"{"restrictions": {"shop": {"include": ["DE"]}}}"#, "canonical spelling"),
            (r#"{"restrictions": {"shop": {"include": []}, "shop": {"include": ["de"]}}}"#, "duplicate key"),
            (r#"{"restriction": {}}"#, "unknown field"),
            (r#"{"permissions": {"orders": "admin"}}"#, "unknown variant"),
            (r#"{"permissions": {"two words": "read"}}"#, "not a resource name"),
            (r#"{"ip_ranges": ["10.0.0.1/8"]}"#, "host bits"),
            (r#"{"origins": ["*"]}"#, "no wildcard"),
            ("[]", "expected"),
        ] {
            let error = serde_json::from_str::<Grant>(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
            let error = Grant::parse_with(text, &[]).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    /// The fields are those of a key file, with the digest taken out and what a store knows put in.
    #[test]
    fn a_record_is_shown_in_the_words_of_the_key_file() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k"))
            .name("prod")
            .kind("admin".to_owned())
            .tenant("acme".to_owned())
            .created_at(at(1))
            .not_before(at(2))
            .expires_at(at(3))
            .revoked_at(at(4))
            .revocation_reason("lost".to_owned())
            .replaces("a".parse::<crate::key::KeyId>().unwrap())
            .grant(full())
            .last_used(at(5))
            .build();
        let text = KeyFile::new([record.clone()], Directory::default()).to_json().unwrap();
        let mut expected = serde_json::from_str::<serde_json::Value>(&text).unwrap()["keys"][0].take();
        let fields = expected.as_object_mut().unwrap();
        fields.remove("digest").unwrap();
        fields.insert("status".to_owned(), "revoked".into());
        fields.insert("version".to_owned(), 1.into());
        fields.insert("last_used".to_owned(), "1970-01-01T00:00:05Z".into());
        let shown = serde_json::to_value(&record).unwrap();
        assert_eq!(shown, expected);
        assert!(!shown.to_string().contains(&record.digest().to_string()));
        let unused = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).build();
        assert!(serde_json::to_value(&unused).unwrap().get("last_used").is_none());
    }
}
