//! How web origins are spelt.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::ConfigError;

/// The origin as every browser sends it (the HTML standard's serialization of an origin, the ASCII form of WHATWG's URL): a
/// scheme and a host in lower case, no default port, nothing behind. None if the text names no origin.
pub(crate) fn as_browsers_write(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    // In brackets there are colons that begin no port.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port.map(|port| decimal(port).ok_or(())).transpose().ok()? {
        Some(80) if matches!(scheme, "http" | "ws") => None,
        Some(443) if matches!(scheme, "https" | "wss") => None,
        port => port,
    };
    if !is_scheme || !is_host(host) {
        return None;
    }
    Some(port.map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}")))
}

/// Refuses what no browser would ever send, and says what it would.
pub(super) fn check(origin: &str) -> Result<(), ConfigError> {
    let written = as_browsers_write(origin);
    if written.as_deref() == Some(origin) {
        return Ok(());
    }
    let shown: String = origin.chars().take(80).collect();
    Err(ConfigError::new(match written {
        Some(written) => format!("origins: no browser sends {shown:?}; write {written:?}"),
        None if origin == "*" => "origins: \"*\" is no wildcard; leave the list out to allow every origin".to_owned(),
        None => format!(
            "origins: {shown:?} is not an origin; write scheme, host and port as browsers send them, like https://shop.example \
             (names that are not ASCII as xn--..)"
        ),
    }))
}

fn decimal(port: &str) -> Option<u16> {
    let is_plain = !port.is_empty() && !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { port.parse().ok() } else { None }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address);
    }
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let labels = host.strip_suffix('.').unwrap_or(host);
    // A browser takes a name that ends in a number for an address, and writes that in its own way.
    let is_number = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.split('.').all(is_name) && (!is_number || host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_taken_and_all_else_told() {
        for sent in [
            "https://shop.example",
            "http://localhost:3000",
            "https://shop.example:8443",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://[2001:db8::1]",
            "chrome-extension://abcdefghijklmnop",
            "capacitor://localhost",
            "https://xn--mnchen-3ya.example",
            "wss://shop.example",
        ] {
            assert_eq!(check(sent), Ok(()), "{sent}");
        }
        for (given, message) in [
            ("https://shop.example/", "write \"https://shop.example\""),
            ("https://Shop.Example", "write \"https://shop.example\""),
            ("HTTPS://shop.example", "write \"https://shop.example\""),
            ("https://shop.example:443", "write \"https://shop.example\""),
            ("http://shop.example:80/", "write \"http://shop.example\""),
            ("shop.example", "is not an origin"),
            ("*", "no wildcard"),
            ("https://*.example", "is not an origin"),
            ("null", "is not an origin"),
            ("", "is not an origin"),
            ("https://", "is not an origin"),
            ("https://shop.example/path", "is not an origin"),
            ("https://user@shop.example", "is not an origin"),
            ("https://shop.example?x", "is not an origin"),
            ("https://shop.example:", "is not an origin"),
            ("https://shop.example:0443", "is not an origin"),
            ("https://shop.example:99999", "is not an origin"),
            ("https://münchen.example", "is not an origin"),
            ("https://[2001:DB8:0::1]", "is not an origin"),
            ("https://0177.1", "is not an origin"),
            ("https://a..example", "is not an origin"),
            ("//shop.example", "is not an origin"),
            ("https://a.example, https://b.example", "is not an origin"),
        ] {
            let error = check(given).unwrap_err().to_string();
            assert!(error.contains(message), "{given}: {error}");
        }
    }
}
