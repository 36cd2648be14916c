//! S6: the tenant that the host of a request names.

use super::{Request, address};
use crate::world::{ProxyHeader, World};

/// The tenant. `Err` has the status of the refusal: 400 for a bad host, 404 for one of no tenant.
pub(super) fn tenant(world: &World, known: Option<&[String]>, request: &Request<'_>) -> Result<String, u16> {
    let host = host(world, request)?;
    let labels: Vec<&str> = host.split('.').collect();
    let tenant = match labels.as_slice() {
        [tenant, sector, "example", "com"] => format!("{tenant}.{sector}"),
        _ => return Err(404),
    };
    if known.is_some_and(|known| !known.contains(&tenant)) { Err(404) } else { Ok(tenant) }
}

fn host(world: &World, request: &Request<'_>) -> Result<String, u16> {
    // Forwarded host headers count only from trusted peers, and only where that is configured.
    if world.host_forwarded && address::peer_is_trusted(world, request) {
        match world.proxies.as_ref().map(|(_, header)| *header) {
            Some(ProxyHeader::Forwarded) => {
                // That of the nearest proxy, which has written the last element.
                let elements = address::elements(request, ProxyHeader::Forwarded);
                if let Some(host) = elements.last().and_then(|element| address::parameter(element, "host")) {
                    return normalized(&host);
                }
            }
            _ => match request.lines("x-forwarded-host").as_slice() {
                [] => {}
                [line] => return normalized(line),
                _ => return Err(400),
            },
        }
    }
    match (request.authority.as_deref(), request.lines("host").as_slice()) {
        (None, [host]) => normalized(host),
        (Some(authority), []) => normalized(authority),
        // The documentation of `TenantHosts`: if both are present, they must agree.
        (Some(authority), [host]) if normalized(authority)? == normalized(host)? => normalized(host),
        _ => Err(400),
    }
}

/// The host in lower case, without the port and a final dot.
fn normalized(host: &str) -> Result<String, u16> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        Some(_) => return Err(400),
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if name.split('.').all(label) { Ok(name) } else { Err(400) }
}
