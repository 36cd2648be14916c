//! Dimensions, and what an id of an entity looks like in each.

use std::fmt;

use crate::{
    bytes::{Class, every},
    error::ConfigError,
    name::Name,
};

/// A kind of entity that keys can be restricted over: a company, a shop, or one that you name.
///
/// # Example
/// ```
/// use tower_authz::{Dimension, IdGrammar};
///
/// const PROJECT: Dimension = Dimension::new("project", IdGrammar::Slug);
/// assert!(PROJECT.accepts("apollo-11"));
/// assert!(!Dimension::COMPANY.accepts("042"));
/// ```
#[derive(Clone)]
pub struct Dimension {
    name: Name,
    standard: Standard,
    ids: IdGrammar,
}

/// Which standard dimension this is, so that requests compare one byte instead of names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standard {
    Company,
    Shop,
    ShopCountry,
    None,
}

impl Standard {
    const fn named(name: &str) -> Self {
        match name.as_bytes() {
            b"company" => Self::Company,
            b"shop" => Self::Shop,
            b"shop_country" => Self::ShopCountry,
            _ => Self::None,
        }
    }
}

impl Dimension {
    /// Companies, by canonical decimal number.
    pub const COMPANY: Self = Self::new("company", IdGrammar::Number);

    /// Shops, by key (`[a-z0-9_-]{1,64}`). Where the [`Directory`](crate::Directory) knows a shop's
    /// company, company lists hold for the shop as well.
    pub const SHOP: Self = Self::new("shop", IdGrammar::Slug);

    /// Shop countries by an id of their own, as the [`Directory`](crate::Directory) has it. No key
    /// is restricted over shop countries: each inherits from its shop.
    pub const SHOP_COUNTRY: Self = Self::new("shop_country", IdGrammar::Slug);

    pub(crate) const STANDARD: [Self; 3] = [Self::COMPANY, Self::SHOP, Self::SHOP_COUNTRY];

    /// A dimension of your own.
    #[must_use]
    pub const fn new(name: &'static str, ids: IdGrammar) -> Self {
        Self { name: Name::Static(name), standard: Standard::named(name), ids }
    }

    /// A dimension as settings and commands write it: a name of `[a-z0-9_-]` and `number`, `slug` or
    /// `opaque`.
    ///
    /// # Errors
    /// If it is written otherwise.
    pub fn read(name: &str, grammar: &str) -> Result<Self, ConfigError> {
        if !IdGrammar::Slug.accepts(name) {
            return Err(ConfigError::new(format!("{name:?}: a dimension has a name of [a-z0-9_-]")));
        }
        let wrong = || ConfigError::new("its ids are spelt as number, slug or opaque").at(name);
        let ids = IdGrammar::named(grammar).ok_or_else(wrong)?;
        Ok(Self::declared(name.to_owned(), ids))
    }

    pub(crate) fn custom(name: &str, accepts: fn(&str) -> bool) -> Self {
        Self::declared(name.to_owned(), IdGrammar::Custom(accepts))
    }

    /// The dimension of this name: [`COMPANY`](Self::COMPANY), [`SHOP`](Self::SHOP),
    /// [`SHOP_COUNTRY`](Self::SHOP_COUNTRY), or one of slugs.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::STANDARD
            .into_iter()
            .find(|known| known.name() == name)
            .unwrap_or_else(|| Self::declared(name.to_owned(), IdGrammar::Slug))
    }

    /// The dimension of this name among the declared ones and the standard ones. One of your own goes
    /// before a standard one: its ids may be spelt otherwise.
    pub(crate) fn among(name: &str, declared: &[Self]) -> Option<Self> {
        declared.iter().chain(&Self::STANDARD).find(|known| known.name() == name).cloned()
    }

    /// The dimension that a policy file declares.
    pub(crate) fn declared(name: String, ids: IdGrammar) -> Self {
        Self { standard: Standard::named(&name), name: name.into(), ids }
    }

    pub(crate) const fn ids(&self) -> IdGrammar {
        self.ids
    }

    /// Its name, as key files write it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// A bit of its own for each standard dimension. Others need none: bits say what a rule does for standard dimensions
    /// without a directory, and only a directory can declare what others belong to.
    pub(crate) const fn bit(&self) -> u8 {
        match self.standard {
            Standard::Company => 1,
            Standard::Shop => 2,
            Standard::ShopCountry => 4,
            Standard::None => 0,
        }
    }

    /// Whether every id that this grammar accepts is accepted by the other as well. None where that cannot be told, of
    /// two different functions of the user's own.
    pub(crate) fn is_within(&self, other: &Self) -> Option<bool> {
        use IdGrammar::{Custom, Number, Opaque, Slug};
        match (self.ids, other.ids) {
            (Number, Number | Slug | Opaque) | (Slug, Slug | Opaque) | (Opaque, Opaque) => Some(true),
            // Functions at one address are one; two addresses may still be those of one function.
            (Custom(own), Custom(other)) => std::ptr::fn_addr_eq(own, other).then_some(true),
            _ => Some(false),
        }
    }

    /// Whether this text is an id of the dimension in its one spelling.
    #[must_use]
    pub fn accepts(&self, id: &str) -> bool {
        self.ids.accepts(id)
    }
}

/// Two dimensions are one if their names are.
impl PartialEq for Dimension {
    fn eq(&self, other: &Self) -> bool {
        self.standard == other.standard && (self.standard != Standard::None || self.name == other.name)
    }
}

impl Eq for Dimension {}

impl fmt::Debug for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dimension({})", self.name)
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.name, f)
    }
}

impl From<&'static str> for Dimension {
    fn from(name: &'static str) -> Self {
        Self::named(name)
    }
}

/// How the ids of a dimension are spelt. Each grammar gives every entity exactly one spelling: if
/// `3` and `03` both named company 3, an exclude list with one could be dodged with the other.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum IdGrammar {
    /// A decimal `u64`: no sign, no leading zero, nothing but digits.
    Number,
    /// 1 to 64 characters of `[a-z0-9_-]`.
    Slug,
    /// 1 to 128 characters of `[A-Za-z0-9._~-]`, but not `.` or `..`. Case matters: use it only if
    /// your system tells `A` from `a`.
    Opaque,
    /// A grammar of your own. It must accept one spelling only for each entity, and be the same function for keys and
    /// rules: where two functions disagree about the ids of an exclude list, in upper or lower case, the list lets
    /// nothing through.
    Custom(fn(&str) -> bool),
}

impl IdGrammar {
    /// The name of the grammar in settings and policies. All functions are `custom`, which settings cannot read back.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Slug => "slug",
            Self::Opaque => "opaque",
            Self::Custom(_) => "custom",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Number, Self::Slug, Self::Opaque].into_iter().find(|known| known.name() == name)
    }

    fn accepts(self, id: &str) -> bool {
        match self {
            Self::Number => match id.as_bytes() {
                [b'0'] => true,
                [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit) && id.parse::<u64>().is_ok(),
                _ => false,
            },
            Self::Slug => (1..=64).contains(&id.len()) && every(id.as_bytes(), Class::Slug),
            Self::Opaque => {
                (1..=128).contains(&id.len()) && !matches!(id, "." | "..") && every(id.as_bytes(), Class::Unreserved)
            }
            Self::Custom(accepts) => accepts(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        for good in ["0", "1", "42", "18446744073709551615"] {
            assert!(IdGrammar::Number.accepts(good), "{good}");
        }
        for bad in ["", "+42", "-1", "042", "00", "42 ", " 42", "0x2a", "4_2", "١", "4.0", "18446744073709551616"] {
            assert!(!IdGrammar::Number.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn dimensions_are_one_if_their_names_are() {
        let named = |name: &str| Dimension::declared(name.to_owned(), IdGrammar::Opaque);
        for (one, other) in [("shop", "shop"), ("company", "shop"), ("project", "project"), ("shop", "shops")] {
            assert_eq!(named(one) == named(other), one == other, "{one} {other}");
            assert_eq!(Dimension::named(one) == named(other), one == other, "{one} {other}");
        }
        assert!(Dimension::new("shop_country", IdGrammar::Opaque) == Dimension::SHOP_COUNTRY);
    }

    /// The relation between grammars of the crate's own holds for texts of every kind.
    #[test]
    fn a_grammar_within_another_accepts_nothing_else() {
        let texts = ["", "0", "7", "03", "de", "DE", "a-b_c", "A.b~c-1", ".", "..", "a/b", "18446744073709551615"];
        let long = ["a".repeat(64), "a".repeat(65), "a".repeat(128), "a".repeat(129)];
        for (one, other) in [
            (IdGrammar::Number, IdGrammar::Slug),
            (IdGrammar::Number, IdGrammar::Opaque),
            (IdGrammar::Slug, IdGrammar::Opaque),
            (IdGrammar::Slug, IdGrammar::Slug),
        ] {
            let (one, other) = (Dimension::new("project", one), Dimension::new("project", other));
            assert_eq!(one.is_within(&other), Some(true));
            for text in texts.into_iter().chain(long.iter().map(String::as_str)) {
                assert!(!one.accepts(text) || other.accepts(text), "{text}");
            }
        }
        let custom = Dimension::new("project", IdGrammar::Custom(|id| id.len() == 2));
        let opaque = Dimension::new("project", IdGrammar::Opaque);
        for (one, other) in [(&custom, &opaque), (&opaque, &custom), (&opaque, &Dimension::COMPANY)] {
            assert_eq!(one.is_within(other), Some(false));
        }
        assert_eq!(custom.is_within(&custom.clone()), Some(true));
    }

    #[test]
    fn slugs_have_one_spelling() {
        let long = "a".repeat(65);
        for good in ["de", "a-b_c", "0"] {
            assert!(IdGrammar::Slug.accepts(good), "{good}");
        }
        for bad in ["", "DE", "d.e", "d/e", "dе", "\u{212a}", "de ", &long] {
            assert!(!IdGrammar::Slug.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn opaque_ids_are_not_dot_segments() {
        assert!(IdGrammar::Opaque.accepts("A.b~c-1"));
        let long = "a".repeat(129);
        for bad in ["", ".", "..", "a/b", "a b", "%41", "a%2Fb", "caf\u{e9}", &long] {
            assert!(!IdGrammar::Opaque.accepts(bad), "{bad}");
        }
    }
}
