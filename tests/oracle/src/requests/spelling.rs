//! Spellings that are right, or nearly so.

use crate::random::Random;

/// An id in a path segment.
pub(super) fn of_path_id(random: &mut Random, id: &str) -> String {
    let first = id.chars().next().map_or_else(String::new, |first| format!("%{:02x}", u32::from(first)));
    let rest: String = id.chars().skip(1).collect();
    match random.below(150) {
        0 => format!("0{id}"),
        1 => format!("+{id}"),
        2 => format!("{id}%20"),
        3 => id.to_uppercase(),
        4 | 5 => first + &rest,
        6 => format!("{id}%00"),
        7 => format!("{id};v=1"),
        8 => format!("{id}%2F"),
        9 => format!("{id}%2e"),
        10 => format!("{id}%255"),
        11 => {
            (*random.pick(&["xx", "99", "18446744073709551616", "18446744073709551615", "-1", "..", "%2e%2e"])).into()
        }
        12 => "%EF%BC%91".to_owned(),
        13 => "%c0%af".to_owned(),
        14 => format!("{id}%"),
        15 => "d".repeat(65),
        16 => "de-1_x".to_owned(),
        _ => id.to_owned(),
    }
}

/// An id in a header, or one that a handler asks for.
pub(super) fn of_header_id(random: &mut Random, id: &str) -> String {
    match random.below(50) {
        0 => format!("0{id}"),
        1 => format!("{id} "),
        2 => id.to_uppercase(),
        3 => format!("%{:02x}", id.bytes().next().unwrap_or(b'1')),
        4 => String::new(),
        5 => format!("{id}, {id}"),
        6 => (*random.pick(&["xx", "99", "18446744073709551616", "..", "+1", "\u{664}"])).to_owned(),
        _ => id.to_owned(),
    }
}

/// A path that is written otherwise than its pattern has it.
pub(super) fn of_path(random: &mut Random, path: &str) -> String {
    let letter = path.find(|c: char| c.is_ascii_lowercase());
    let encoded = |at: usize| {
        let byte = path.as_bytes().get(at).copied().unwrap_or(b'a');
        format!("{}%{byte:02X}{}", path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default())
    };
    let last = path.rfind('/').unwrap_or(0);
    match random.below(200) {
        0 => format!("{path}/"),
        1 => path.replacen('/', "//", 1),
        2 => format!("/.{path}"),
        3 => format!("{path}/.."),
        4 => path.to_uppercase(),
        5 | 6 => letter.map_or_else(|| path.to_owned(), encoded),
        7 => format!("{path}/x"),
        8 => path.get(..last.max(1)).unwrap_or("/").to_owned(),
        9 => format!("/x/..{path}"),
        10 => path.replacen('/', "%2F", 2),
        11 => format!("/x%2f..{path}"),
        12 => path.replace("/a", "/..;/a"),
        13 => format!("{path}%5c"),
        14 => format!("{path}\\"),
        15 => format!("{path}.."),
        16 => "*".to_owned(),
        17 => format!("{path}#fragment"),
        _ => path.to_owned(),
    }
}

/// A secret that is whole, or differs in one place.
pub(super) fn of_secret(random: &mut Random, secret: &str) -> String {
    let shorter = secret.get(..secret.len().saturating_sub(1)).unwrap_or_default();
    match random.below(150) {
        0 => shorter.to_owned(),
        1 => format!("{secret}0"),
        2 => secret.to_uppercase(),
        3 => format!("{shorter}e"),
        4 => format!("{secret} "),
        5 => String::new(),
        6 => format!("{secret},{secret}"),
        7 => format!("\"{secret}\""),
        8 => format!("{secret}\u{e9}"),
        9 => "a".repeat(600),
        _ => secret.to_owned(),
    }
}

/// A line of `Authorization`.
pub(super) fn of_bearer(random: &mut Random, secret: &str) -> String {
    match random.below(100) {
        0 => format!("bearer {secret}"),
        1 => format!("BEARER {secret}"),
        2 => format!("Bearer  {secret}"),
        3 => format!("Bearer{secret}"),
        4 => format!("Bearer\t{secret}"),
        5 => format!("Basic {secret}"),
        6 => format!(" Bearer {secret}"),
        7 => "Bearer".to_owned(),
        8 => secret.to_owned(),
        9 => format!("Bearer {secret} x"),
        10 => format!("Bearer token={secret}"),
        11 => String::new(),
        _ => format!("Bearer {secret}"),
    }
}

/// A host that names the same tenant, or none.
pub(super) fn of_host(random: &mut Random, host: &str) -> String {
    match random.below(30) {
        0 => host.to_uppercase(),
        1 => format!("{host}:8443"),
        2 => format!("{host}."),
        3 => "acme.example.com".to_owned(),
        4 => format!("x.{host}"),
        5 => format!("{host}.evil.example"),
        6 => String::new(),
        7 => "ac me.test.example.com".to_owned(),
        8 => "127.0.0.1".to_owned(),
        9 => "ghost.test.example.com".to_owned(),
        _ => host.to_owned(),
    }
}

/// An element of `X-Forwarded-For`.
pub(super) fn of_hop(random: &mut Random, address: &str) -> String {
    match random.below(30) {
        0 => "unknown".to_owned(),
        1 => String::new(),
        2 if address.contains(':') => format!("[{address}]:443"),
        2 => format!("{address}:443"),
        3 => "010.0.0.1".to_owned(),
        4 => "10.0.0".to_owned(),
        5 => format!("  {address}"),
        _ => address.to_owned(),
    }
}

/// An element of `Forwarded` for a hop.
pub(super) fn of_forwarded(random: &mut Random, hop: &str) -> String {
    let hop = hop.trim();
    let node = if hop.starts_with('[') || hop.is_empty() {
        format!("\"{hop}\"")
    } else if hop.matches(':').count() > 1 {
        format!("\"[{hop}]\"")
    } else if hop.contains(':') {
        format!("\"{hop}\"")
    } else {
        hop.to_owned()
    };
    match random.below(20) {
        0 => format!("for={node};proto=http"),
        1 | 2 => format!("proto=https;for={node}"),
        3 => format!("For={node};Proto=wss"),
        4 => "for=_hidden".to_owned(),
        5 => "proto=https".to_owned(),
        6 => format!("for={node};for={node}"),
        7 => format!("for={node};host=acme.live.example.com;proto=https"),
        8..=12 => format!("for={node};proto=https;by=203.0.113.43"),
        _ => format!("for={node}"),
    }
}
