//! Parses the `Forwarded` header (RFC 7239).

use std::net::IpAddr;

use http::{HeaderMap, header::FORWARDED};

use crate::client_address::{
    element::{address, trim},
    is_tls,
};

/// One element of the list, which was written by one proxy.
pub(super) struct Element(Vec<u8>);

/// All elements from the left. Returns `None` if a quoted string is not closed: the text after an open quote may come
/// from anybody.
pub(super) fn elements(headers: &HeaderMap) -> Option<Vec<Element>> {
    let mut all = Vec::new();
    let mut element = Vec::new();
    let mut quoted = false;
    let mut escaped = false;
    for (index, line) in headers.get_all(FORWARDED).iter().enumerate() {
        let comma: &[u8] = if index == 0 { b"" } else { b"," };
        for &byte in comma.iter().chain(line.as_bytes()) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    all.push(Element(std::mem::take(&mut element)));
                    continue;
                }
                _ => {}
            }
            element.push(byte);
        }
    }
    all.push(Element(element));
    (!quoted).then_some(all)
}

impl Element {
    /// The address in `for`. Returns `None` for an obfuscated or unknown node, a second `for`, or any syntax error in
    /// the element.
    pub(super) fn client(&self) -> Option<IpAddr> {
        let node = self.value(b"for")?;
        // The port may be obfuscated too.
        let obfuscated = |port: &[u8]| {
            port.strip_prefix(b"_").is_some_and(|name| {
                !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            })
        };
        match node.iter().rposition(|&byte| byte == b':').map(|colon| node.split_at(colon)) {
            Some((host, port)) if port.get(1..).is_some_and(obfuscated) && !host.is_empty() => match host {
                [b'[', .., b']'] => address(host),
                host if !host.contains(&b':') => address(host),
                _ => None,
            },
            // Unlike in X-Forwarded-For, a bare IPv6 address is not allowed here (section 6).
            _ if node.first() != Some(&b'[') && node.iter().filter(|&&byte| byte == b':').count() > 1 => None,
            _ => address(&node),
        }
    }

    pub(super) fn host(&self) -> Option<Vec<u8>> {
        self.value(b"host")
    }

    pub(super) fn is_https(&self) -> bool {
        self.value(b"proto").is_some_and(|proto| is_tls(&proto))
    }

    /// The unquoted value of the only parameter with this name.
    fn value(&self, wanted: &[u8]) -> Option<Vec<u8>> {
        let mut rest = trim(&self.0);
        let mut found = None;
        loop {
            if !rest.is_empty() && rest.first() != Some(&b';') {
                let equals = rest.iter().position(|&byte| !is_token(byte))?;
                let (name, tail) = rest.split_at_checked(equals)?;
                let tail = tail.strip_prefix(b"=")?;
                let (value, tail) = value(tail)?;
                if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
                    return None;
                }
                rest = trim(tail);
            }
            match rest.split_first() {
                None => return found,
                Some((b';', tail)) => rest = trim(tail),
                Some(_) => return None,
            }
        }
    }
}

/// Parses a token or a quoted string, and returns its value and the rest of the text.
fn value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|&byte| !is_token(byte)).unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        return (!token.is_empty()).then(|| (token.to_vec(), rest));
    };
    let mut unquoted = Vec::new();
    loop {
        match rest {
            [b'"', tail @ ..] => return Some((unquoted, tail)),
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                unquoted.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
}

/// Whether the byte may be in a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
