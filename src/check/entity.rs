use std::{fmt, ops::Not, sync::Arc};

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::{
    check::custom::RUST_CODE, denial::Cause, dimension::Dimension, error::ConfigError, head::Head, json::given,
    name::Name, route::Pattern,
};

/// Which entity of a dimension a request is about, and where the request says so.
///
/// Every value that is found must be allowed: a request that names a foreign shop beside its own is
/// refused as a whole. A value that is not canonical is refused for every key with 400.
///
/// # Example
/// ```
/// use tower_authz::{Dimension, Rule, check::EntityRef};
///
/// // GET /shops/{shop}/orders
/// let rule = Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop"));
/// # drop(rule);
/// ```
#[derive(Clone)]
pub struct EntityRef {
    dimension: Dimension,
    source: IdSource,
}

#[derive(Clone)]
enum IdSource {
    /// The name of a parameter, and its position in the pattern, which is known once the rule is in a policy.
    Path(Name, Option<usize>),
    Header(HeaderName),
    Function(Arc<Finder>),
}

type Finder = dyn Fn(&Head<'_>) -> Vec<String> + Send + Sync;

impl EntityRef {
    /// The entity stands in a parameter of the matched route.
    pub fn from_path(dimension: impl Into<Dimension>, parameter: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { dimension: dimension.into(), source: IdSource::Path(parameter.into().into(), None) }
    }

    /// The entity stands in a header, which is required. Each line of it is one entity.
    pub fn from_header(dimension: impl Into<Dimension>, name: HeaderName) -> Self {
        Self { dimension: dimension.into(), source: IdSource::Header(name) }
    }

    /// The entities are what the function finds in the head; if it finds none the request is refused.
    pub fn from_fn(
        dimension: impl Into<Dimension>,
        find: impl Fn(&Head<'_>) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { dimension: dimension.into(), source: IdSource::Function(Arc::new(find)) }
    }

    /// The path parameter that holds the entity, if one does.
    pub(super) fn parameter(&self) -> Option<&str> {
        match &self.source {
            IdSource::Path(name, _) => Some(name.as_str()),
            _ => None,
        }
    }

    /// Looks the position of the parameter up in the pattern of the route, and returns whether there is one.
    pub(super) fn compile(&mut self, pattern: &Pattern) -> bool {
        let IdSource::Path(name, position) = &mut self.source else { return false };
        *position = pattern.position(name.as_str());
        position.is_some()
    }

    /// The id in the path, if it stands there as it is.
    #[inline]
    pub(super) fn plain_id<'h>(&self, head: &Head<'h>) -> Option<&'h str> {
        match self.source {
            IdSource::Path(_, Some(position)) => head.plain_parameter(position),
            _ => None,
        }
    }

    /// Whether user code reads the request.
    pub(super) const fn runs_user_code(&self) -> bool {
        matches!(self.source, IdSource::Function(_))
    }

    pub(super) const fn dimension(&self) -> &Dimension {
        &self.dimension
    }

    /// Calls `each` for every id of the entity in the request; each must be allowed.
    pub(super) fn for_each_id(&self, head: &Head<'_>, each: &mut impl FnMut(Result<&str, Cause>)) {
        let missing = || Err(Cause::MissingEntity(self.dimension.clone()));
        let malformed = || Cause::MalformedId(self.dimension.clone());
        match &self.source {
            // There is no value if an escape is invalid, or the path does not fit its route.
            IdSource::Path(name, position) => {
                each(head.parameter_at(*position, name.as_str()).as_deref().ok_or_else(malformed));
            }
            IdSource::Header(name) => {
                let mut lines = head.headers().get_all(name).iter().peekable();
                if lines.peek().is_none() {
                    each(missing());
                }
                lines.for_each(|line| each(line.to_str().map_err(|_| malformed())));
            }
            IdSource::Function(find) => {
                let values = find(head);
                if values.is_empty() {
                    each(missing());
                }
                values.iter().for_each(|value| each(Ok(value)));
            }
        }
    }
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            IdSource::Path(name, _) => write!(f, "EntityRef({} from {{{name}}})", self.dimension),
            IdSource::Header(name) => write!(f, "EntityRef({} from header {name})", self.dimension),
            IdSource::Function(_) => write!(f, "EntityRef({} from a function)", self.dimension),
        }
    }
}

/// An entity as a policy file writes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntityRefFile {
    dimension: String,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    function: bool,
}

impl EntityRefFile {
    pub(super) fn from_entity(entity: &EntityRef) -> Self {
        let (path, header) = match &entity.source {
            IdSource::Path(name, _) => (Some(name.as_str().to_owned()), None),
            IdSource::Header(name) => (None, Some(name.as_str().to_owned())),
            IdSource::Function(_) => (None, None),
        };
        let function = entity.runs_user_code();
        Self { dimension: entity.dimension.name().to_owned(), path, header, function }
    }

    pub(super) fn read(
        self,
        dimension: &dyn Fn(&str) -> Result<Dimension, ConfigError>,
        location: &str,
    ) -> Result<EntityRef, ConfigError> {
        let at = |field: &str| format!("{location}.{field}");
        let dimension = dimension(&self.dimension).map_err(|error| error.at(at("dimension")))?;
        match (self.path, self.header, self.function) {
            (Some(parameter), None, false) => Ok(EntityRef::from_path(dimension, parameter)),
            (None, Some(name), false) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(EntityRef::from_header(dimension, name)),
                Err(_) => Err(ConfigError::new(format!("{name:?} is not the name of a header")).at(at("header"))),
            },
            (None, None, true) => Err(ConfigError::new(RUST_CODE).at(at("function"))),
            _ => {
                let wrong = "give exactly one of `path`, the name of a parameter, and `header`";
                Err(ConfigError::new(wrong).at(location))
            }
        }
    }
}
