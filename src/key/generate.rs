//! Random text and checksums for new keys.

use zeroize::Zeroizing;

use crate::key::Alphabet;

/// `length` characters, each drawn evenly from the alphabet.
pub(crate) fn random(alphabet: Alphabet, length: usize) -> Result<Zeroizing<String>, getrandom::Error> {
    let characters = alphabet.characters();
    // Bytes from here on would make the first characters likelier than the last.
    let even = 256 - 256 % characters.len();
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < length {
        getrandom::fill(bytes.as_mut())?;
        let drawn = bytes
            .iter()
            .map(|&byte| usize::from(byte))
            .filter(|&byte| byte < even)
            .filter_map(|byte| characters.get(byte % characters.len()));
        let missing = length - text.len();
        text.extend(drawn.take(missing).map(|&character| char::from(character)));
    }
    Ok(text)
}

/// The length of a [`checksum`].
pub(crate) const CHECKSUM_LENGTH: usize = 6;

/// CRC-32 of the text in six characters of base62, most significant first.
pub(crate) fn checksum(text: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let characters = Alphabet::Base62.characters();
    let mut rest = crc32fast::hash(text);
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        if let Some(&character) = characters.get((rest % 62) as usize) {
            *digit = character;
        }
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_drawn_about_evenly() {
        let text = random(Alphabet::Base62, 62_000).unwrap();
        for &character in Alphabet::Base62.characters() {
            let count = text.bytes().filter(|&byte| byte == character).count();
            assert!((700..1300).contains(&count), "{} came {count} times", char::from(character));
        }
    }

    #[test]
    fn checksums_are_six_characters() {
        assert_eq!(checksum(b""), *b"000000");
        assert_eq!(checksum(b"123456789"), *b"3jZRME");
    }
}
