//! The formats of the keys of a store, by the kind of the key.

use crate::{
    error::ConfigError,
    key::{KeyFormat, KeyRecord},
};

/// The formats that the keys of a store have: one for all keys, and others for the kinds of keys that have one of their
/// own, `acme_live_..` for the kind `live` and `acme_test_..` for the kind `test`.
///
/// Whoever sees a key then knows its kind, people and secret scanners alike. A credential that has none of the formats is
/// refused before anything is hashed. One that has the format of another kind than its record is refused like a key that
/// nobody has issued: the kind of a key and its format cannot disagree.
///
/// The formats of a store are set when it is created, by
/// [`StoreSettings::with_formats`](crate::store::StoreSettings::with_formats), and stay as they are.
///
/// # Example
/// ```
/// use tower_authz::{KeyFormat, KeyFormats};
///
/// let formats = KeyFormats::new(KeyFormat::default())
///     .with_kind("live", KeyFormat::structured("acme_live").checksum().build()?)?
///     .with_kind("test", KeyFormat::structured("acme_test").checksum().build()?)?;
/// assert_eq!(formats.for_kind(Some("live")).to_string(), "acme_live_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}");
/// assert_eq!(formats.for_kind(Some("admin")), &KeyFormat::default());
///
/// // No two formats of a store match the same key.
/// assert!(formats.with_kind("other", KeyFormat::opaque(20, 64)?).is_err());
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "formats are given to the settings of a store"]
pub struct KeyFormats {
    default: KeyFormat,
    /// In the order of the kinds, so that equal formats are equal in whatever order they were given.
    ///
    /// INVARIANT: no two formats match the same key, those of `default` included.
    of_kinds: Vec<(Box<str>, KeyFormat)>,
}

/// Which of the formats of a store a key has. The default is the format of all kinds that have none of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormatIndex(u8);

/// A credential that has none of the formats is compared with each of them.
const MOST_KINDS: usize = 64;
/// As long as the name of a kind may be that a key is issued with.
const LONGEST_KIND: usize = 256;

impl KeyFormats {
    /// This format for all keys.
    pub const fn new(format: KeyFormat) -> Self {
        Self { default: format, of_kinds: Vec::new() }
    }

    /// Another format for the keys of one kind.
    ///
    /// # Errors
    /// If a key, or the id of one, could be of this format and of another as well: two formats of one store differ in
    /// their prefixes, and a format of opaque tokens in its lengths. If the kind has a format already, its name is empty,
    /// longer than 256 characters or has control characters, or there are 64 kinds with formats.
    pub fn with_kind(mut self, kind: impl Into<String>, format: KeyFormat) -> Result<Self, ConfigError> {
        let kind = kind.into();
        // The first errors do not quote the name, which may be of any length, or a whole key.
        if kind.is_empty() || kind.chars().count() > LONGEST_KIND || kind.chars().any(char::is_control) {
            return Err(ConfigError::new(
                "kind: its name is 1 to 256 characters, none of them control characters; keys without a kind have the \
                 default format",
            ));
        }
        let is_key = |format: &KeyFormat, kind: &str| format.key_id(kind.as_bytes()).is_some();
        if is_key(&format, &kind)
            || self
                .iter()
                .any(|(known, other)| is_key(other, &kind) || known.is_some_and(|known| is_key(&format, known)))
        {
            return Err(ConfigError::new("kind: it is a whole API key, which must not be stored in the clear"));
        }
        if self.of_kinds.len() >= MOST_KINDS {
            return Err(ConfigError::new(format!("a store has at most {MOST_KINDS} kinds with formats of their own")));
        }
        if let Some((other, why)) = self.iter().find_map(|(other, known)| Some((other, known.conflict(&format)?))) {
            let other = described(other);
            return Err(ConfigError::new(format!(
                "the format of the kind {kind:?} and {other} could be confused: {why}"
            )));
        }
        match self.of_kinds.binary_search_by(|(known, _)| (**known).cmp(&*kind)) {
            Ok(_) => return Err(ConfigError::new(format!("the kind {kind:?} has a format already"))),
            Err(position) => self.of_kinds.insert(position, (kind.into(), format)),
        }
        Ok(self)
    }

    /// The format of the keys of a kind, or of those without one.
    #[must_use]
    pub fn for_kind(&self, kind: Option<&str>) -> &KeyFormat {
        self.position(kind).and_then(|position| self.of_kinds.get(position)).map_or(&self.default, |(_, format)| format)
    }

    /// All formats: first that of the keys whose kind has none of its own, then those of the kinds.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &KeyFormat)> {
        let of_kinds = self.of_kinds.iter().map(|(kind, format)| (Some(&**kind), format));
        std::iter::once((None, &self.default)).chain(of_kinds)
    }

    /// The format that a key has, and the kind that it is tied to, if it is tied to one. True says nothing about whether
    /// the key was issued.
    #[must_use]
    pub fn recognize(&self, key: &[u8]) -> Option<(Option<&str>, &KeyFormat)> {
        self.iter().find(|(_, format)| format.matches(key))
    }

    /// Whether these bytes have the form of a key of this store.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// The public part of a structured key of one of the formats, safe to log.
    #[must_use]
    pub fn key_id<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        self.iter().find_map(|(_, format)| format.key_id(key))
    }

    /// Which format a key has. A store with one format pays for nothing else.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<FormatIndex> {
        if self.default.matches(key) {
            return Some(FormatIndex::default());
        }
        self.find_of_kinds(key)
    }

    /// Apart, so that the code of a store with one format stays short.
    #[inline(never)]
    fn find_of_kinds(&self, key: &[u8]) -> Option<FormatIndex> {
        let position = self.of_kinds.iter().position(|(_, format)| format.matches(key))?;
        Some(FormatIndex::of_kind(position))
    }

    /// Whether a key of this format can be the key of this record, whose kind demands a format.
    #[inline]
    pub(crate) fn fits(&self, found: FormatIndex, record: &KeyRecord) -> bool {
        self.of_kinds.is_empty() || self.demanded(record) == found
    }

    /// Refuses a record whose id tells that its key has the format of another kind: it could never be used. Of a key
    /// whose id tells nothing, only the digest is known.
    pub(crate) fn check_id(&self, record: &KeyRecord) -> Result<(), ConfigError> {
        if self.of_kinds.is_empty() {
            return Ok(());
        }
        let id = record.id().as_str().as_bytes();
        let Some((index, (kind, _))) = self.iter().enumerate().find(|(_, (_, format))| format.is_id(id)) else {
            return Ok(());
        };
        let found = index.checked_sub(1).map_or_else(FormatIndex::default, FormatIndex::of_kind);
        match self.demanded(record) == found {
            true => Ok(()),
            false => Err(ConfigError::new(format!(
                "id: it has {}, and the key is of another kind: it would be refused",
                described(kind)
            ))),
        }
    }

    #[inline(never)]
    fn demanded(&self, record: &KeyRecord) -> FormatIndex {
        self.position(record.kind()).map_or_else(FormatIndex::default, FormatIndex::of_kind)
    }

    fn position(&self, kind: Option<&str>) -> Option<usize> {
        let kind = kind?;
        self.of_kinds.binary_search_by(|(known, _)| (**known).cmp(kind)).ok()
    }
}

impl FormatIndex {
    /// INVARIANT: there are at most 64 kinds. If not, the last index fits no kind, so that the key is refused.
    fn of_kind(position: usize) -> Self {
        Self(u8::try_from(position + 1).unwrap_or(u8::MAX))
    }
}

fn described(kind: Option<&str>) -> String {
    kind.map_or_else(|| "the default format".to_owned(), |kind| format!("the format of the kind {kind:?}"))
}

impl From<KeyFormat> for KeyFormats {
    fn from(format: KeyFormat) -> Self {
        Self::new(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Digest;

    fn structured(prefix: &str) -> KeyFormat {
        KeyFormat::structured(prefix).build().unwrap()
    }

    fn two() -> KeyFormats {
        let live = KeyFormats::default().with_kind("live", structured("acme_live")).unwrap();
        live.with_kind("test", structured("acme_test")).unwrap()
    }

    #[test]
    fn kinds_that_no_key_could_have_are_refused() {
        let key = format!("acme_abcdefghij_{}", "0".repeat(30));
        for kind in ["", "a\nb", "a\u{1b}[31m", &"k".repeat(10_000), "live", &key] {
            let error = two().with_kind(kind, structured("acme")).unwrap_err().to_string();
            assert!(error.len() < 300 && !error.contains(&key), "{error}");
        }
        let mut many = KeyFormats::default();
        for number in 0..MOST_KINDS {
            many = many.with_kind(format!("kind {number}"), structured(&format!("k{number}"))).unwrap();
        }
        assert!(many.clone().with_kind("one more", structured("more")).is_err());
        assert_eq!(many.for_kind(Some("kind 63")), &structured("k63"));
    }

    #[test]
    fn a_key_fits_records_of_its_kind_only() {
        let formats = two();
        let record = |kind: Option<&str>, id: &str| {
            KeyRecord::builder(id.parse().unwrap(), Digest::from_key(b"k")).kind(kind.map(str::to_owned)).build()
        };
        let kinds = [None, Some("live"), Some("test"), Some("admin"), Some("liv"), Some("")];
        for (format, accepted) in
            [(None, [true, false, false, true, true, true]), (Some("live"), [false, true, false, false, false, false])]
        {
            let (id, key) = formats.for_kind(format).generate().unwrap();
            let index = formats.find(key.expose().as_bytes()).unwrap();
            assert_eq!(formats.recognize(key.expose().as_bytes()).unwrap().0, format);
            assert_eq!(formats.key_id(key.expose().as_bytes()), Some(&*id));
            assert_eq!(kinds.map(|kind| formats.fits(index, &record(kind, "k"))), accepted);
            assert_eq!(kinds.map(|kind| formats.check_id(&record(kind, &id)).is_ok()), accepted);
            assert_eq!(kinds.map(|kind| formats.check_id(&record(kind, "legacy-7")).is_ok()), [true; 6]);
        }
        assert!(formats.find(b"acme_prod_abcdefghij_012345678901234567890123456789").is_none());
        let one = KeyFormats::default();
        assert!(kinds.iter().all(|kind| one.fits(FormatIndex::default(), &record(*kind, "acme_live_0123456789"))));
        assert!(one.check_id(&record(None, "acme_live_0123456789")).is_ok());
    }

    #[test]
    fn the_order_in_which_formats_are_given_does_not_matter() {
        let test = KeyFormats::default().with_kind("test", structured("acme_test")).unwrap();
        assert_eq!(test.with_kind("live", structured("acme_live")).unwrap(), two());
    }
}
