//! The byte alphabet of byte-level BPE: every byte written as one printable character.
//!
//! From OpenAI's GPT-2 release (`encoder.py`, `bytes_to_unicode`): printable characters of Latin-1 other than the space
//! and the soft hyphen represent their own byte; the other bytes, in order, are written as U+0100, U+0101 and so on.

/// True if the alphabet writes this byte as the Latin-1 character of the same number.
const fn is_itself(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The number of characters from U+0100 on that the alphabet uses.
const MOVED: usize = 68;

/// The bytes of U+0100, U+0101 …
const MOVED_BYTES: [u8; MOVED] = {
    let mut bytes = [0; MOVED];
    let (mut byte, mut n) = (0, 0);
    while byte < 256 {
        if !is_itself(byte as u8) {
            bytes[n] = byte as u8;
            n += 1;
        }
        byte += 1;
    }
    bytes
};

/// The byte of a character of the alphabet.
fn byte_of(character: char) -> Option<u8> {
    let code = character as u32;
    match u8::try_from(code) {
        Ok(byte) => is_itself(byte).then_some(byte),
        Err(_) => MOVED_BYTES.get((code - 0x100) as usize).copied(),
    }
}

/// The byte of a text that is a single character of the alphabet.
pub(super) fn single_byte(text: &str) -> Option<u8> {
    let mut characters = text.chars();
    let byte = byte_of(characters.next()?)?;
    characters.next().is_none().then_some(byte)
}

/// Appends the bytes of a token's text. A character outside the alphabet gives its own UTF-8 bytes.
pub(super) fn push_bytes(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_a_bijection_from_256_characters_to_bytes() {
        let mut seen = [false; 256];
        let mut characters = 0;
        for byte in (0..0x400).filter_map(char::from_u32).filter_map(byte_of) {
            assert!(!seen[byte as usize], "byte {byte:#x} has two characters");
            seen[byte as usize] = true;
            characters += 1;
        }
        assert_eq!(characters, 256);
    }

    #[test]
    fn space_and_newline_are_written_as_in_gpt_2() {
        let mut bytes = Vec::new();
        push_bytes("ĠĊĉé", &mut bytes);
        assert_eq!(bytes, [b' ', b'\n', b'\t', 0xe9]);
    }

    #[test]
    fn a_character_outside_the_alphabet_is_its_own_utf_8() {
        let mut bytes = Vec::new();
        push_bytes("▁a", &mut bytes);
        assert_eq!(bytes, "▁a".as_bytes());
    }
}
