use crate::{error::ConfigError, text::check_text};

/// The metadata of a key beside its name: its owner, a note, and labels.
///
/// No decision of this crate reads it. Custom checks and handlers can, through
/// [`Principal::record`](crate::Principal::record). A store finds keys [by owner](crate::store::KeyQuery::owner) and
/// [by label](crate::store::KeyQuery::label), and
/// [revokes all keys of an owner](crate::store::Actor::revoke_all_of) at once.
///
/// Texts hold no control or invisible characters, and no API key. An owner has at most 256 characters, a note 1,024; there
/// are at most 16 labels, whose names are 1 to 63 characters of `[A-Za-z0-9._/-]` and whose values have at most 256
/// characters. A store refuses others.
///
/// # Example
/// ```
/// use tower_authz::Metadata;
///
/// let metadata = Metadata::new().with_owner("acct-7").with_note("for their ERP").with_label("env", "prod");
/// assert_eq!(metadata.owner(), Some("acct-7"));
/// assert_eq!(metadata.label("env"), Some("prod"));
/// assert_eq!(metadata.without_label("env").labels().count(), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    owner: Option<Box<str>>,
    note: Option<Box<str>>,
    /// In the order of their names.
    labels: Vec<(Box<str>, Box<str>)>,
}

const OWNER_LENGTH: usize = 256;
const NOTE_LENGTH: usize = 1024;
const LABELS: usize = 16;
const LABEL_NAME_LENGTH: usize = 63;
const LABEL_VALUE_LENGTH: usize = 256;

impl Metadata {
    pub(crate) const NONE: &'static Self = &Self::new();

    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self { owner: None, note: None, labels: Vec::new() }
    }

    /// Sets the owner: an account, a customer or a user of the application. An empty text is none.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = text(owner);
        self
    }

    /// Sets a note for people. An empty text is none.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = text(note);
        self
    }

    /// Adds a label, or gives it another value.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into().into_boxed_str(), value.into().into_boxed_str());
        match self.position(&name) {
            Ok(known) => {
                if let Some(label) = self.labels.get_mut(known) {
                    label.1 = value;
                }
            }
            Err(free) => self.labels.insert(free, (name, value)),
        }
        self
    }

    /// Removes a label, if it is there.
    #[must_use]
    pub fn without_label(mut self, name: &str) -> Self {
        self.labels.retain(|(known, _)| **known != *name);
        self
    }

    /// The owner of the key.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The note.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The labels and their values, in the order of their names.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.position(name).ok().and_then(|known| self.labels.get(known)).map(|(_, value)| &**value)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.labels.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == *Self::NONE
    }

    /// Every text, with the name of its field.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let labels = self.labels().flat_map(|(name, value)| [("labels", name), ("labels", value)]);
        let others = [("owner", self.owner()), ("note", self.note())];
        others.into_iter().filter_map(|(field, text)| Some((field, text?))).chain(labels)
    }

    /// Refuses texts that are too long, or that could not be shown as they are. The error quotes none of them, because one
    /// may be a key.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_text("owner", self.owner().unwrap_or_default(), OWNER_LENGTH)?;
        check_text("note", self.note().unwrap_or_default(), NOTE_LENGTH)?;
        if self.labels.len() > LABELS {
            return Err(ConfigError::new(format!("at most {LABELS} labels")).at("labels"));
        }
        for (name, value) in self.labels() {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
            if !(1..=LABEL_NAME_LENGTH).contains(&name.len()) || !name.bytes().all(is_name) {
                let message = format!("a name is 1 to {LABEL_NAME_LENGTH} characters of [A-Za-z0-9._/-]");
                return Err(ConfigError::new(message).at("labels"));
            }
            check_text("labels", value, LABEL_VALUE_LENGTH)?;
        }
        Ok(())
    }
}

fn text(text: impl Into<String>) -> Option<Box<str>> {
    Some(text.into().into_boxed_str()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_name_and_kept_in_order() {
        let metadata = Metadata::new().with_label("b", "2").with_label("a", "1").with_label("b", "3");
        assert_eq!(metadata.labels().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!((metadata.label("b"), metadata.label("c")), (Some("3"), None));
        assert_eq!(metadata.without_label("a").without_label("b").without_label("c"), Metadata::new());
        assert!(Metadata::new().with_owner("").with_note("").is_empty());
    }

    #[test]
    fn what_is_too_long_or_hidden_is_refused() {
        let many = |count: usize| (0..count).fold(Metadata::new(), |some, at| some.with_label(format!("l{at}"), ""));
        let good = [
            Metadata::new(),
            Metadata::new().with_owner("é".repeat(256)).with_note("a note, and more"),
            Metadata::new().with_label("team.example/env_".replace('_', "-"), "any text (at all)"),
            many(16),
        ];
        for metadata in good {
            assert_eq!(metadata.check(), Ok(()), "{metadata:?}");
        }
        let bad = [
            Metadata::new().with_owner("a".repeat(10_000)),
            Metadata::new().with_owner("a\nb"),
            Metadata::new().with_note("a\u{202e}b"),
            Metadata::new().with_note("a".repeat(1025)),
            Metadata::new().with_label("", "x"),
            Metadata::new().with_label("two words", "x"),
            Metadata::new().with_label("n".repeat(64), "x"),
            Metadata::new().with_label("n", "a\u{1b}[31m"),
            Metadata::new().with_label("n", "a".repeat(257)),
            many(17),
        ];
        for metadata in bad {
            assert!(metadata.check().is_err(), "{metadata:?}");
        }
    }
}
