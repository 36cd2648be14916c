//! Parses one element of a list of addresses.

use std::net::IpAddr;

/// Removes the spaces and tabs at both ends, which are the only white space that HTTP knows.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
pub(super) fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let port_is_well_formed = |rest: &str| match rest.strip_prefix(':') {
        Some(port) => {
            (1..=5).contains(&port.len())
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok()
        }
        None => rest.is_empty(),
    };
    let address: IpAddr = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        let address = IpAddr::V6(address.parse().ok()?);
        port_is_well_formed(rest).then_some(address)?
    } else if text.bytes().filter(|&byte| byte == b':').count() == 1 {
        let (address, _) = text.split_once(':')?;
        port_is_well_formed(text.get(address.len()..)?).then_some(IpAddr::V4(address.parse().ok()?))?
    } else {
        text.parse().ok()?
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_allowed_where_they_are_ports() {
        for good in
            ["192.0.2.1", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:65535", "2001:db8::1", "::ffff:192.0.2.1"]
        {
            assert!(address(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "192.0.2.1:+8",
            "[192.0.2.1]",
            "[::1",
            "[::1]x",
            "::1%eth0",
            "010.0.0.1",
            "a.b",
            "192.0.2.1:80:80",
        ] {
            assert_eq!(address(bad.as_bytes()), None, "{bad}");
        }
    }
}
