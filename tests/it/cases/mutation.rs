//! Applies `{K1:mutation}` to a key. No result may be accepted as the key itself.

/// Changes the key by a named mutation, or inserts a character before, into or after it (`leading_space`,
/// `split_tab`, `trailing_newline`).
pub fn mutate(key: &str, mutation: &str) -> Result<String, String> {
    let unknown = || format!("the harness does not know the mutation {mutation:?}");
    let (name, argument) = mutation.split_once(':').map_or((mutation, None), |(name, text)| (name, Some(text)));
    let name = name.to_lowercase().replace('-', "_");
    let (public, secret) = key.rsplit_once('_').ok_or_else(unknown)?;
    let middle = key.len() / 2;
    let changed = match name.as_str() {
        "base64" => base64(key.as_bytes(), b"+/"),
        "base64url" => base64(key.as_bytes(), b"-_"),
        "hex" => key.bytes().map(|byte| format!("{byte:02x}")).collect(),
        "percent" | "percent_encoded" | "url_encoded" | "urlencoded" => {
            key.bytes().map(|byte| format!("%{byte:02X}")).collect()
        }
        "upper" | "uppercase" | "upper_case" => key.to_uppercase(),
        "upper_prefix" => format!("L{}", &key[1..]),
        "upper_secret" => format!("{public}_{}", secret.to_uppercase()),
        "reversed" | "reverse" => key.chars().rev().collect(),
        "truncated" | "truncate" | "short" | "shortened" => {
            let count: usize = argument.map_or(Ok(1), str::parse).map_err(|_| unknown())?;
            return Ok(key[..key.len().saturating_sub(count)].to_owned());
        }
        "half" | "first_half" => key[..middle].to_owned(),
        "second_half" => key[middle..].to_owned(),
        "id" | "public" | "public_id" | "key_id" | "no_secret" => public.to_owned(),
        "secret" | "no_id" | "secret_only" => secret.to_owned(),
        "no_prefix" => key[4..].to_owned(),
        "extended" | "extra" | "long" | "longer" => format!("{key}0"),
        "doubled" | "double" | "twice" => key.repeat(2),
        "quoted" => format!("\"{key}\""),
        "single_quoted" => format!("'{key}'"),
        "with_spaces" | "spaces" | "spaced" | "padded" => format!(" {key} "),
        "flipped" | "flip" | "flip_last" | "last" | "last_char" | "changed" => change(key, key.len() - 1),
        "flip_first" | "first" | "first_char" => change(key, public.len() + 1),
        "flip_middle" => change(key, public.len() + 17),
        "wrong_secret" | "other_secret" | "zero_secret" => format!("{public}_{}", "0".repeat(secret.len())),
        "wrong_id" | "other_id" => change(key, 4),
        // These are the UTF-8 bytes, with one code point for each byte: a Cyrillic a, a full-width a, an a with an
        // accent.
        "cyrillic" | "homoglyph" | "confusable" => key.replacen('a', "\u{d0}\u{b0}", 1),
        "fullwidth" => key.replacen('a', "\u{ef}\u{bd}\u{81}", 1),
        "combining" | "accented" => key.replacen('a', "a\u{cc}\u{81}", 1),
        name => {
            let (place, what) = name.split_once('_').unwrap_or(("split", name));
            let what = character(what).ok_or_else(unknown)?;
            match place {
                "split" | "insert" | "inner" | "with" => format!("{}{what}{}", &key[..middle], &key[middle..]),
                "leading" | "prefix" | "before" => format!("{what}{key}"),
                "trailing" | "suffix" | "append" | "after" => format!("{key}{what}"),
                _ => return Err(unknown()),
            }
        }
    };
    match argument {
        None => Ok(changed),
        Some(_) => Err(unknown()),
    }
}

fn character(name: &str) -> Option<&'static str> {
    Some(match name {
        "tab" | "htab" => "\t",
        "space" | "sp" => " ",
        "newline" | "lf" => "\n",
        "cr" => "\r",
        "crlf" => "\r\n",
        "nul" | "null" => "\0",
        "del" => "\u{7f}",
        "comma" => ",",
        "semicolon" => ";",
        "colon" => ":",
        "dot" => ".",
        "dash" | "hyphen" => "-",
        "underscore" => "_",
        "slash" => "/",
        "backslash" => "\\",
        "equals" | "padding" => "=",
        "percent" => "%",
        "quote" => "\"",
        // These are the UTF-8 bytes of characters beyond ASCII.
        "nbsp" => "\u{c2}\u{a0}",
        "zwsp" => "\u{e2}\u{80}\u{8b}",
        "bom" => "\u{ef}\u{bb}\u{bf}",
        _ => return None,
    })
}

/// Replaces the character at this index by another one of the same alphabet.
fn change(key: &str, place: usize) -> String {
    let other = if key.as_bytes()[place] == b'0' { '1' } else { '0' };
    format!("{}{other}{}", &key[..place], &key[place + 1..])
}

fn base64(bytes: &[u8], last: &[u8; 2]) -> String {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*last).collect();
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let sextet = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { char::from(alphabet[sextet]) } else { '=' });
        }
    }
    text
}

#[test]
fn no_mutation_leaves_the_key_as_it_is() {
    let key = "l64_abc12345_0123456789abcdef0123456789abcdef";
    assert_eq!(base64(b"any carnal pleas", b"+/"), "YW55IGNhcm5hbCBwbGVhcw==");
    assert_eq!(mutate(key, "split_tab").unwrap(), format!("{}\t{}", &key[..22], &key[22..]));
    assert_eq!(mutate(key, "truncated:40").unwrap(), "l64_a");
    for mutation in ["base64", "upper", "reversed", "flip_last", "wrong_secret", "trailing-space", "tab", "cyrillic"] {
        assert_ne!(mutate(key, mutation).unwrap(), key, "{mutation}");
    }
    for unknown in ["", "sideways", "split_", "leading_x", "upper:2", "truncated:x"] {
        assert!(mutate(key, unknown).is_err(), "{unknown}");
    }
}
