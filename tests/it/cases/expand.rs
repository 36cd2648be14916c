//! Expands placeholders in cells, and encodes text as bytes.

use crate::cases::mutation::mutate;

/// The keys of the fixtures. `KX` was never issued.
pub const KEYS: [(&str, &str); 6] = [
    ("K1", "l64_abc12345_0123456789abcdef0123456789abcdef"),
    ("K2", "l64_zyx98765_fedcba9876543210fedcba9876543210"),
    ("KR", "l64_revoked1_00112233445566778899aabbccddeeff"),
    ("KE", "l64_expired1_ffeeddccbbaa99887766554433221100"),
    ("KX", "l64_unknown1_0f1e2d3c4b5a69788796a5b4c3d2e1f0"),
    ("KT", "l64_runtime1_89abcdef0123456789abcdef01234567"),
];

pub fn key(name: &str) -> Result<&'static str, String> {
    let known = KEYS.iter().find(|(known, _)| *known == name);
    known.map(|(_, key)| *key).ok_or_else(|| format!("the harness does not know the key {{{name}}}"))
}

/// The limit is more than any row needs, and low enough that a mistake in a row does not exhaust memory.
const MOST: usize = 1 << 24;

/// Replaces `{K1}`, `{K1:mutation}`, `{repeat:text:n}` and `{repeat_csv:text:n}`. Other braces are kept as they are.
pub fn expand(text: &str) -> Result<String, String> {
    let Some(open) = text.find('{') else { return Ok(text.to_owned()) };
    let (before, rest) = text.split_at(open);
    let inside = closing(rest).map(|close| (&rest[1..close], &rest[close + 1..]));
    match inside {
        Some((inside, after)) if is_placeholder(inside) => {
            Ok(format!("{before}{}{}", placeholder(inside)?, expand(after)?))
        }
        _ => Ok(format!("{before}{{{}", expand(&rest[1..])?)),
    }
}

/// Returns the index of the brace that closes the one at the start of the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.char_indices().find_map(|(index, character)| {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(index)
    })
}

fn is_placeholder(inside: &str) -> bool {
    let name = inside.split(':').next().unwrap_or_default();
    let is_key = |name: &str| name.starts_with('K') && (2..=3).contains(&name.len());
    name.starts_with("repeat")
        || (is_key(name) && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()))
}

fn placeholder(inside: &str) -> Result<String, String> {
    let wrong = || format!("the harness cannot read {{{inside}}}");
    if !inside.starts_with("repeat") {
        return match inside.split_once(':') {
            None => key(inside).map(str::to_owned),
            Some((name, mutation)) => mutate(key(name)?, mutation),
        };
    }
    let (kind, rest) = inside.split_once(':').ok_or_else(wrong)?;
    // The repeated text may contain colons itself, as an IPv6 address does.
    let (what, count) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let what = expand(what)?;
    let count: usize = count.parse().map_err(|_| wrong())?;
    if count.saturating_mul(what.len() + 2) > MOST {
        return Err(format!("{{{inside}}} is too much"));
    }
    match kind {
        "repeat" => Ok(what.repeat(count)),
        "repeat_csv" => Ok(vec![what; count].join(", ")),
        _ => Err(wrong()),
    }
}

/// Encodes a text with one byte per code point (ISO-8859-1).
pub fn latin1(text: &str) -> Result<Vec<u8>, String> {
    let byte = |character| u8::try_from(character).map_err(|_| format!("{character:?} is no byte in ISO-8859-1"));
    text.chars().map(byte).collect()
}

#[test]
fn placeholders_are_replaced_and_what_is_unknown_is_told() {
    for (text, expanded) in [
        (
            "Bearer {K1}, {K2}",
            "Bearer l64_abc12345_0123456789abcdef0123456789abcdef, l64_zyx98765_fedcba9876543210fedcba9876543210",
        ),
        ("{repeat:ab:3}{", "ababab{"),
        ("x{repeat_csv:::1:2}y", "x::1, ::1y"),
        ("{tenant} {} }{", "{tenant} {} }{"),
        ("{{repeat:a:2}}", "{aa}"),
    ] {
        assert_eq!(expand(text).as_deref(), Ok(expanded));
    }
    for unknown in ["{K9}", "{K1:no_such_thing}", "{repeat:a:x}", "{repeat:a:99999999}", "{repeated:a:1}"] {
        assert!(expand(unknown).is_err(), "{unknown}");
    }
    assert_eq!(latin1("\u{ff}a"), Ok(vec![0xff, b'a']));
    assert!(latin1("\u{100}").is_err());
}
