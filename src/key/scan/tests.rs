//! Texts with keys in them.

use proptest::prelude::*;

use super::{starts::MOST_SOFT, *};

fn formats(opaque: bool) -> KeyFormats {
    let formats = KeyFormats::new("acme_{0-9a-f:4}_{0-9a-f:30}".parse().unwrap());
    let formats = formats.with_kind("live", "acme_live_{0-9a-f:8}_{0-9a-f:30}".parse().unwrap()).unwrap();
    if opaque { formats.with_kind("any", KeyFormat::opaque(21, 30).unwrap()).unwrap() } else { formats }
}

/// All that is found if the text is given in parts of these sizes.
fn found(formats: &KeyFormats, text: &[u8], mut sizes: impl Iterator<Item = usize>) -> Vec<KeyCandidate> {
    let mut scanner = KeyScanner::new(formats);
    let mut all = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        scanner.push(part, |candidate| all.push(candidate));
        rest = after;
    }
    scanner.finish(|candidate| all.push(candidate));
    all
}

/// The lines that a key is found in.
fn lines(formats: &KeyFormats, text: &[u8], key: &str) -> Vec<u64> {
    let digest = Digest::from_key(key.as_bytes());
    let found = found(formats, text, std::iter::repeat(usize::MAX));
    found.iter().filter(|candidate| candidate.digest == digest).map(|candidate| candidate.line).collect()
}

const HEX: &str = "0123456789abcdef0123456789abcd";

#[test]
fn structured_keys_are_found_wherever_they_stand() {
    let key = format!("acme_live_01234567_{HEX}");
    for (text, expected) in [
        (key.clone(), vec![1]),
        (format!("\n\r\nx-api-key: {key}\r\n"), vec![3]),
        (format!("{{\"a\":\"\\n{key}\\n\"}}"), vec![1]),
        (format!("%3D{key}%20{key}"), vec![1, 1]),
        (format!("{key}{key}\n{key}"), vec![1, 1, 2]),
        (format!("\0{key}\u{7f}é{key}"), vec![1, 1]),
        (format!("acme_{key}_acme_live_"), vec![1]),
        (key.to_uppercase(), vec![]),
        (key.replace("67_", "67-"), vec![]),
        (key.replacen('0', "", 1), vec![]),
        (key[..key.len() - 1].to_owned(), vec![]),
    ] {
        assert_eq!(lines(&formats(false), text.as_bytes(), &key), expected, "{text}");
    }
    let utf16 = |little: bool| -> Vec<u8> {
        let bytes = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
        format!("\u{feff}é 🔑\n{key}").encode_utf16().flat_map(bytes).collect()
    };
    assert_eq!([true, false].map(|little| lines(&formats(false), &utf16(little), &key)), [[2], [2]]);
    assert_eq!(lines(&formats(false), &[&[0xff, 0xff], key.as_bytes()].concat(), &key), [1]);
}

#[test]
fn opaque_keys_are_found_between_delimiters() {
    let formats = formats(true);
    for key in [
        "abcdefghijklmnopqrstuvwxyz",
        "ab/cd+efghijklmnopqrst==",
        "user:abcdefghijklmnop@host",
        "a=b=c=d=e=f=g=h=i=j=k=l",
    ] {
        for (before, after) in [
            ("", ""),
            ("\n", "\n"),
            ("key=", ""),
            ("\"", "\""),
            ("{\"a\":{\"b\":\"", "\"},\"c\":1}"),
            ("{\\\"a\\\":\\\"", "\\\"}"),
            ("https://host/a?key=", "&b=c"),
            ("Authorization: Bearer ", "\r\n"),
            ("key:", ";"),
            ("'", "',"),
            ("\0", "\0"),
        ] {
            let line = 1 + before.matches('\n').count() as u64;
            assert_eq!(
                lines(&formats, format!("{before}{key}{after}").as_bytes(), key),
                [line],
                "{before}{key}{after}"
            );
        }
    }
    // A token with delimiters of every sort is found where it stands alone.
    let odd = "a\"b'c,d;e{f}g(h)i<j>k\\l";
    assert_eq!(lines(&formats, format!("x {odd} y").as_bytes(), odd), [1]);
    assert_eq!(lines(&formats, format!("\"{odd}\"").as_bytes(), odd), [] as [u64; 0]);
    assert!(found(&formats, "short words only, and 20 characters".as_bytes(), std::iter::repeat(99)).is_empty());
}

/// A line without end costs neither memory nor time that grows with its square.
#[test]
fn a_text_without_lines_and_spaces_is_read_in_bounded_memory() {
    let key = format!("acme_live_01234567_{HEX}");
    let formats = formats(true);
    for filler in ["a=", "=", "\"", "\\", "acme_live_", "x", "\0"] {
        let mut scanner = KeyScanner::new(&formats);
        let (mut candidates, mut hits) = (0, 0);
        let filler = filler.repeat(100_000 / filler.len());
        let digest = Digest::from_key(key.as_bytes());
        for part in [&*filler, &key, &filler, &filler, &key, &filler] {
            let capacity = scanner.buffer.capacity();
            scanner.push(part.as_bytes(), |candidate| {
                candidates += 1;
                hits += u64::from(candidate.digest == digest);
            });
            assert!(scanner.buffer.capacity() == capacity && scanner.buffer.len() <= PART);
        }
        scanner.finish(|_| {});
        assert_eq!(hits, 2);
        assert!(candidates < 6 * 100_000 * (MOST_SOFT + 2), "{candidates}");
    }
}

proptest! {
    /// In whatever parts a text comes, the same is found, and every structured key that a naive search finds.
    #[test]
    fn parts_do_not_matter(
        words in prop::collection::vec(prop::sample::select(vec![
            "acme_", "acme_live_", "01234567_", "0123_", "0123456789abcdef", "0123456789abcd", "\n", " ", "=", "\"", "&", "x", "\0", "é",
            "acme_live_01234567_0123456789abcdef0123456789abcd", "acme_0123_0123456789abcdef0123456789abcd",
        ]), 0..40),
        sizes in prop::collection::vec(1..60_usize, 1..8),
    ) {
        let text = words.concat();
        let formats = formats(true);
        let whole = found(&formats, text.as_bytes(), std::iter::repeat(usize::MAX));
        prop_assert_eq!(&found(&formats, text.as_bytes(), sizes.iter().copied().cycle()), &whole);
        for (_, format) in formats.iter().filter(|(_, format)| format.beginning().is_some()) {
            for (start, end) in (0..text.len()).flat_map(|start| [40, 49].map(|length| (start, start + length))) {
                let Some(key) = text.as_bytes().get(start..end).filter(|key| format.matches(key)) else { continue };
                let line = 1 + text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count() as u64;
                let expected = KeyCandidate { line, digest: Digest::from_key(key) };
                prop_assert!(whole.contains(&expected));
            }
        }
    }
}
