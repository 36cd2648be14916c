use http::header::ORIGIN;
use serde::{Deserialize, Serialize, ser::SerializeMap};

use crate::{
    check::{Check, Demand, Findings, caller},
    denial::{Cause, Denial},
    dimension::Dimension,
    error::ConfigError,
    head::Head,
    json::Fields,
    key::as_browsers_write,
    principal::Caller,
};

/// Demands exactly one `Origin` header that equals one of the key's origins, byte for byte.
///
/// This keeps a key that lives in a web page from being used on another page. It does not keep a
/// program from sending any `Origin` it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    normalized: bool,
}

impl Origin {
    /// Compares as bytes: an origin is whatever string the key has.
    #[must_use]
    pub const fn exact() -> Self {
        Self { normalized: false }
    }

    /// Compares as a browser would write both: scheme and host in lower case, no default port, no slash at
    /// the end.
    #[must_use]
    pub const fn normalized() -> Self {
        Self { normalized: true }
    }

    pub(crate) fn admits(self, head: &Head<'_>, caller: Caller<'_>) -> bool {
        self.verdict(head, caller).is_ok()
    }

    fn verdict(self, head: &Head<'_>, caller: Caller<'_>) -> Result<(), Cause> {
        let mut lines = head.headers().get_all(ORIGIN).iter();
        let (Some(origin), None) = (lines.next(), lines.next()) else { return Err(Cause::MissingOrigin) };
        let grant = caller.record.grant();
        let allowed = grant.allows_origin(origin.as_bytes()) || {
            let sent = origin.to_str().ok().filter(|_| self.normalized).and_then(as_browsers_write);
            let mut known = grant.origins().unwrap_or_default().iter();
            sent.is_some_and(|sent| known.any(|known| as_browsers_write(known).as_deref() == Some(&*sent)))
        };
        if allowed { Ok(()) } else { Err(Cause::OriginNotAllowed) }
    }
}

impl Check for Origin {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(self.verdict(head, caller(head)?)?)
    }
}

/// How origins are compared, as a policy file writes it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Comparison {
    Exact,
    Normalized,
}

impl Demand for Option<Origin> {
    const FIELDS: &'static [&'static str] = &["origin"];

    #[inline]
    fn evaluate(&self, head: &Head<'_>, caller: Caller<'_>, findings: &mut impl Findings) {
        if let Some(origin) = self {
            findings.record(|| "origin".to_owned(), origin.verdict(head, caller));
        }
    }

    fn write<M: SerializeMap>(&self, fields: &mut M) -> Result<(), M::Error> {
        let Some(origin) = self else { return Ok(()) };
        let comparison = if origin.normalized { Comparison::Normalized } else { Comparison::Exact };
        fields.serialize_entry("origin", &comparison)
    }

    fn read(fields: &mut Fields<'_>, _: &dyn Fn(&str) -> Result<Dimension, ConfigError>) -> Result<Self, ConfigError> {
        Ok(fields.take("origin")?.map(|comparison| match comparison {
            Comparison::Exact => Origin::exact(),
            Comparison::Normalized => Origin::normalized(),
        }))
    }
}
