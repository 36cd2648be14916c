use serde::{Deserialize, Serialize};

use crate::{
    dimension::{Dimension, IdGrammar},
    error::ConfigError,
    json::{self, Object},
};

/// How the ids of each dimension are spelt, where that is not known without a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Grammars(#[serde(with = "json::unique")] Vec<(String, String)>);

impl Grammars {
    /// Nothing if every dimension is a standard one, spelt in the standard way.
    pub(super) fn from_dimensions(dimensions: &[Dimension]) -> Option<Self> {
        let known = |name: &str| standard(name).map(|known| known.ids().name());
        let grammars = dimensions.iter().map(|dimension| (dimension.name(), dimension.ids().name()));
        let own = grammars.filter(|&(name, grammar)| known(name) != Some(grammar));
        let own: Vec<_> = own.map(|(name, grammar)| (name.to_owned(), grammar.to_owned())).collect();
        (!own.is_empty()).then_some(Self(own))
    }
}

fn standard(name: &str) -> Option<Dimension> {
    [Dimension::COMPANY, Dimension::SHOP, Dimension::SHOP_COUNTRY].into_iter().find(|known| known.name() == name)
}

/// The dimensions that the rules of a file may name.
pub(super) struct Known<'a> {
    declared: Vec<Dimension>,
    /// The dimensions that the reader's code declares. They must not differ from those of the file: one text would
    /// mean one thing to the server and another to whoever reads it elsewhere.
    own: &'a [Dimension],
}

impl<'a> Known<'a> {
    pub(super) fn new(file: Option<Object<Grammars>>, own: &'a [Dimension]) -> Result<Self, ConfigError> {
        let mut known = Self { declared: Vec::new(), own };
        for (name, grammar) in file.map(|Object(Grammars(grammars))| grammars).unwrap_or_default() {
            let location = format!("dimensions.{name}");
            let ids = match (&*grammar, known.own(&name)) {
                ("custom", Some(own)) => own.ids(),
                ("custom", None) => {
                    let wrong =
                        "its grammar is Rust code, which a file cannot hold: give the dimension to `parse_with`";
                    return Err(ConfigError::new(wrong).at(location));
                }
                (grammar, _) => IdGrammar::named(grammar).ok_or_else(|| {
                    let expected = "expected one of `number`, `slug`, `opaque`, `custom`";
                    ConfigError::new(format!("unknown variant `{grammar}`, {expected}")).at(&location)
                })?,
            };
            known.agree(&name, &grammar).map_err(|error| error.at(&location))?;
            known.declared.push(Dimension::declared(name, ids));
        }
        Ok(known)
    }

    pub(super) fn declared(&self) -> &[Dimension] {
        &self.declared
    }

    pub(super) fn find(&self, name: &str) -> Result<Dimension, ConfigError> {
        if let Some(declared) = self.declared.iter().find(|declared| declared.name() == name) {
            return Ok(declared.clone());
        }
        let undeclared = || {
            ConfigError::new(format!(
                "the dimension {name:?} is not declared in `dimensions`; company, shop and shop_country always are"
            ))
        };
        let standard = standard(name).ok_or_else(undeclared)?;
        self.agree(name, standard.ids().name())?;
        Ok(standard)
    }

    fn own(&self, name: &str) -> Option<&Dimension> {
        self.own.iter().find(|own| own.name() == name)
    }

    fn agree(&self, name: &str, in_file: &str) -> Result<(), ConfigError> {
        match self.own(name).map(|own| own.ids().name()) {
            Some(in_code) if in_code != in_file => {
                Err(ConfigError::new(format!("ids of {name} are `{in_code}` in the code and `{in_file}` in the file")))
            }
            _ => Ok(()),
        }
    }
}
