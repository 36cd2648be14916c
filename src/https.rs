use crate::{
    check::Check,
    client_address::{ClientAddress, TrustedProxies},
    denial::{Cause, Denial},
    head::Head,
};

/// Marks a connection as TLS. Whatever accepts TLS connections inserts it into the extensions of each
/// request; it cannot come from a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecureConnection;

/// Demands HTTPS: a connection that is marked as a [`SecureConnection`], or one from a trusted proxy that
/// says so in `X-Forwarded-Proto` (its rightmost value) or in `Forwarded`: `https`, or `wss` as some proxies have it for
/// WebSockets. Missing means no.
///
/// It never redirects: a key that came in the clear has been read by others already, and a client that
/// is led on to HTTPS would never notice. Such a key should be revoked.
///
/// # Example
/// ```
/// use tower_authz::{TrustedProxies, RequireLayer, HttpsOnly};
///
/// let behind_a_proxy = RequireLayer::new(HttpsOnly::new().with_trusted_proxies(TrustedProxies::new(["10.0.0.0/8"])?));
/// # drop(behind_a_proxy);
/// # Ok::<(), tower_authz::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct HttpsOnly {
    proxies: Option<TrustedProxies>,
}

impl HttpsOnly {
    /// Only connections that are marked.
    #[must_use]
    pub const fn new() -> Self {
        Self { proxies: None }
    }

    /// Or those that a trusted proxy vouches for.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Some(proxies);
        self
    }
}

impl Check for HttpsOnly {
    fn check(&self, head: &Head<'_>) -> Result<(), Denial> {
        Ok(require_https(head, self.proxies.as_ref())?)
    }
}

pub(crate) fn require_https(head: &Head<'_>, proxies: Option<&TrustedProxies>) -> Result<(), Cause> {
    let marked = head.extensions().get::<SecureConnection>().is_some();
    let vouched =
        |proxies: &TrustedProxies| proxies.is_https(ClientAddress::from_peer(head.extensions()), head.headers());
    if marked || proxies.is_some_and(vouched) { Ok(()) } else { Err(Cause::PlainHttp) }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn as_a_check_it_admits_what_came_by_https_alone() {
        let status = |request: &Request<()>| HttpsOnly::new().check(&Head::new(request)).err().map(|it| it.status());
        let mut request = Request::get("/").header("x-forwarded-proto", "https").body(()).unwrap();
        assert_eq!(status(&request).map(|status| status.as_u16()), Some(403), "nobody is trusted to say so");
        request.extensions_mut().insert(SecureConnection);
        assert_eq!(status(&request), None);
    }
}
