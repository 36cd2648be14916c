//! Maps the host of a request to a tenant.

use std::{borrow::Cow, collections::HashSet, net::Ipv6Addr};

use http::{HeaderMap, HeaderName, Uri, header::HOST};

use crate::{
    check::Check,
    client_address::{ClientAddress, TrustedProxies},
    denial::{Cause, Denial},
    error::ConfigError,
    head::Head,
};

/// A pattern of hosts that name a tenant: `{tenant}.{sector}.example.com`, `{tenant}-{space}.admin.example.com`.
///
/// The name of a tenant consists of the labels that have placeholders: for these two patterns, for example,
/// `acme.test` and `acme-live`. A key belongs to one tenant, and on the host of another tenant it is unknown: 401,
/// like any key that was never issued. A malformed host is refused with 400, and one that belongs to no tenant with
/// 404.
///
/// The host is that of the request target (`:authority` on HTTP/2), or the `Host` header; if both are present, they
/// must agree. `X-Forwarded-Host` is read from trusted proxies only, and only if
/// [`with_trusted_proxies`](Self::with_trusted_proxies) names them.
///
/// As a [`Check`] it refuses hosts that belong to no tenant. To bind keys to tenants, pass it to
/// [`Authz::with_tenant_hosts`](crate::Authz::with_tenant_hosts).
///
/// # Example
/// ```
/// use http::Request;
/// use tower_authz::{Head, TenantHosts};
///
/// let hosts = TenantHosts::new("{tenant}-{space}.admin.api.example.com")?;
/// let request = Request::get("/").header("host", "Acme-LIVE.admin.api.example.com:8443").body(())?;
/// assert_eq!(hosts.tenant(&Head::new(&request)).unwrap(), "acme-live");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TenantHosts {
    labels: Vec<Label>,
    known: Option<HashSet<String>>,
    trusted_proxies: Option<TrustedProxies>,
}

#[derive(Clone, Debug)]
enum Label {
    Literal(String),
    /// The literals before, between and after placeholders.
    Named(Vec<String>),
}

impl TenantHosts {
    /// Parses a pattern of hosts.
    ///
    /// # Errors
    /// Returns an error if the pattern is not a host name with placeholders like `{tenant}`, or has no placeholder.
    pub fn new(pattern: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::new(format!(
                "host pattern {pattern:?}: write a host name with placeholders, {{tenant}}.example.com"
            ))
        };
        let labels: Vec<Label> = pattern.split('.').map(Label::parse).collect::<Option<_>>().ok_or_else(wrong)?;
        if !labels.iter().any(|label| matches!(label, Label::Named(_))) {
            return Err(wrong());
        }
        Ok(Self { labels, known: None, trusted_proxies: None })
    }

    /// Sets the list of all tenants: a request to any other host gets a 404. Without a list, every host that matches
    /// the pattern names a tenant, and requests to an unknown tenant are refused because no key belongs to it.
    #[must_use]
    pub fn known<T: Into<String>>(mut self, tenants: impl IntoIterator<Item = T>) -> Self {
        self.known = Some(tenants.into_iter().map(|tenant| tenant.into().to_ascii_lowercase()).collect());
        self
    }

    /// Takes the host from `X-Forwarded-Host` (or from `Forwarded`, if the proxies are configured for it) if one of
    /// these proxies sends the request and the header. Each proxy must overwrite the header that it gets from a
    /// client.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.trusted_proxies = Some(proxies);
        self
    }

    /// The tenant of a request.
    ///
    /// # Errors
    /// Returns [`Cause::BadHost`] or [`Cause::UnknownHost`].
    pub fn tenant(&self, head: &Head<'_>) -> Result<String, Cause> {
        let peer = || ClientAddress::from_peer(head.extensions());
        let host = match &self.trusted_proxies {
            Some(proxies) if proxies.trusts(peer()) => match proxies.host(head.headers()) {
                Some(forwarded) => Cow::Owned(normalize(&forwarded)?.into_owned()),
                None => host(head.uri(), head.headers())?,
            },
            _ => host(head.uri(), head.headers())?,
        };
        let labels: Vec<&str> = host.split('.').collect();
        if labels.len() != self.labels.len() || !self.labels.iter().zip(&labels).all(|(label, text)| label.fits(text)) {
            return Err(Cause::UnknownHost);
        }
        let named = self.labels.iter().zip(&labels).filter(|(label, _)| matches!(label, Label::Named(_)));
        let tenant = named.map(|(_, text)| *text).collect::<Vec<_>>().join(".");
        match &self.known {
            Some(known) if !known.contains(&tenant) => Err(Cause::UnknownHost),
            _ => Ok(tenant),
        }
    }
}

impl Check for TenantHosts {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(self.tenant(head).map(drop)?)
    }
}

impl Label {
    fn parse(text: &str) -> Option<Self> {
        let literal = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if !text.contains('{') {
            return (!text.is_empty() && literal(text)).then(|| Self::Literal(text.to_owned()));
        }
        let mut parts = text.split('{');
        let mut literals = vec![parts.next()?.to_owned()];
        for part in parts {
            let (name, suffix) = part.split_once('}')?;
            if name.is_empty() || !literal(name) {
                return None;
            }
            literals.push(suffix.to_owned());
        }
        // Two placeholders need a literal between them: otherwise it is not defined where the first one ends.
        let inner = literals.get(1..literals.len() - 1)?;
        (literals.iter().all(|text| literal(text)) && inner.iter().all(|text| !text.is_empty()))
            .then_some(Self::Named(literals))
    }

    /// Whether a label has this form, with a non-empty value for each placeholder.
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Named(literals) => {
                let Some((first, others)) = literals.split_first() else { return false };
                let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
                let Some((last, inner)) = others.split_last() else { return false };
                for literal in inner {
                    let Some((at, _)) = rest.match_indices(literal.as_str()).find(|(at, _)| *at > 0) else {
                        return false;
                    };
                    rest = rest.get(at + literal.len()..).unwrap_or_default();
                }
                rest.strip_suffix(last.as_str()).is_some_and(|value| !value.is_empty())
            }
        }
    }
}

/// The host of a request, in lower case, without the port and a final dot.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Cow<'a, str>, Cause> {
    let target = uri.authority().map(|authority| normalize(authority.as_str().as_bytes())).transpose()?;
    let header = single(headers, &HOST)?.map(normalize).transpose()?;
    match (target, header) {
        (Some(target), Some(header)) if target != header => {
            Err(Cause::BadHost("request target and Host header do not match"))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(Cause::BadHost("the Host header is required")),
    }
}

/// The value of a header that must not occur twice (RFC 9112 section 3.2).
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Cause> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(Cause::BadHost("duplicate Host header")),
        (line, None) => Ok(line.map(http::HeaderValue::as_bytes)),
    }
}

fn normalize(value: &[u8]) -> Result<Cow<'_, str>, Cause> {
    let wrong = |what| Err(Cause::BadHost(what));
    let Ok(value) = std::str::from_utf8(value) else { return wrong("it is not ASCII") };
    let (host, port) = match value.rfind(':') {
        Some(colon) if !value.ends_with(']') => value.split_at(colon),
        _ => (value, ""),
    };
    let digits = port.strip_prefix(':').unwrap_or_default();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || (!digits.is_empty() && digits.parse::<u16>().is_err()) {
        return wrong("invalid port");
    }
    if let Some(literal) = host.strip_prefix('[') {
        return match literal.strip_suffix(']').map(str::parse::<Ipv6Addr>) {
            Some(Ok(_)) => Ok(host.into()),
            _ => wrong("invalid IPv6 address"),
        };
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 253 || host.split('.').any(|label| !(1..=63).contains(&label.len())) {
        return wrong("a label is empty or too long");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return wrong("it has an invalid character");
    }
    Ok(match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_tenants() {
        let fits = |pattern: &str, host: &str| {
            let request = http::Request::get("/").header("host", host).body(()).unwrap();
            TenantHosts::new(pattern).unwrap().tenant(&Head::new(&request)).ok()
        };
        let space = "{tenant}-{space}.admin.example.com";
        assert_eq!(fits(space, "acme-live.admin.example.com").as_deref(), Some("acme-live"));
        assert_eq!(fits(space, "a-b-c.admin.example.com").as_deref(), Some("a-b-c"));
        for host in [
            "acme.admin.example.com",
            "-live.admin.example.com",
            "acme-.admin.example.com",
            "x.acme-live.admin.example.com",
        ] {
            assert_eq!(fits(space, host), None, "{host}");
        }
        assert_eq!(fits("{tenant}.{sector}.localhost", "acme.test.localhost:3000").as_deref(), Some("acme.test"));
        for broken in [
            "example.com",
            "{}.example.com",
            "{a}{b}.example.com",
            "{a.example.com",
            "",
            "{tenant}..com",
            "{tenant}.Example.com",
        ] {
            assert!(TenantHosts::new(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn forwarded_hosts_count_from_trusted_proxies_only() {
        let hosts = TenantHosts::new("{tenant}.example.com").unwrap();
        let trusting = hosts.clone().with_trusted_proxies(TrustedProxies::new(["10.0.0.0/8"]).unwrap());
        let tenant = |hosts: &TenantHosts, peer: [u8; 4]| {
            let mut request = http::Request::get("/").header("host", "own.example.com").body(()).unwrap();
            request.headers_mut().insert("x-forwarded-host", "other.example.com".parse().unwrap());
            request.extensions_mut().insert(crate::client_address::PeerAddress((peer, 1).into()));
            hosts.tenant(&Head::new(&request)).unwrap()
        };
        assert_eq!(tenant(&hosts, [10, 0, 0, 1]), "own");
        assert_eq!(tenant(&trusting, [10, 0, 0, 1]), "other");
        assert_eq!(tenant(&trusting, [192, 0, 2, 1]), "own");
        // A proxy that writes `Forwarded` passes on the other header as a client sent it.
        let speaking = hosts.with_trusted_proxies(TrustedProxies::new(["10.0.0.0/8"]).unwrap().with_forwarded_header());
        assert_eq!(tenant(&speaking, [10, 0, 0, 1]), "own");
    }
}
