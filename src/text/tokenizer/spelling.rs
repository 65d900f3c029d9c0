//! SentencePiece's spelling of tokens: a space as U+2581, a byte as `<0xNN>`.

/// The spelling of a space in a piece.
pub(super) const SPACE: &str = "\u{2581}";
/// [`SPACE`] as a character.
pub(super) const SPACE_CHAR: char = '\u{2581}';

/// The byte of a token spelled `<0xNN>`.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// True if the byte can occur in valid UTF-8 (RFC 3629).
pub(super) fn is_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xc0 | 0xc1 | 0xf5..=0xff)
}

/// Appends a text with its spaces as U+2581.
pub(super) fn push_escaped(text: &str, out: &mut String) {
    for (n, part) in text.split(' ').enumerate() {
        if n > 0 {
            out.push_str(SPACE);
        }
        out.push_str(part);
    }
}

/// Appends the text of an ordinary piece.
pub(super) fn push_text(piece: &str, out: &mut Vec<u8>) {
    for (n, part) in piece.split(SPACE).enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::byte_token;

    #[test]
    fn byte_tokens_are_two_hexadecimal_digits() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        assert_eq!(byte_token("<0xff>"), Some(255));
        for other in ["<0x>", "<0x0>", "<0x+1>", "<0x00A>", "0x0A", "<0xé>"] {
            assert_eq!(byte_token(other), None, "{other}");
        }
    }
}
