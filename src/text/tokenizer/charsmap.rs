//! SentencePiece's normalization table (`tokenizer.ggml.precompiled_charsmap`).
//!
//! Format: the size in bytes of a double array, the array, then the replacements, each ended by a zero byte. The array
//! is a trie of the replaced strings, in the form of the library Darts-clone: a unit of 32 bits has a label (bits 0 to
//! 7 and 31), a flag that a value follows (bit 8), and the offset of its children (bits 10 to 30, times 256 with bit
//! 9); the value, in the unit at that offset, is the start of the replacement.

use super::TokenizerError;

/// The table of one vocabulary. An empty one replaces nothing.
#[derive(Default)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

/// The longest replacement, in bytes, which bounds the growth of a text. In Unicode's NFKC, the source of these tables,
/// the longest is that of U+FDFA: 33 bytes.
const LONGEST_REPLACEMENT: usize = 64;

/// The offset of a unit's children, relative to it by exclusive or.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

impl Charsmap {
    /// Reads the table's bytes.
    pub fn new(bytes: &[u8]) -> Result<Charsmap, TokenizerError> {
        let damaged = TokenizerError::DamagedCharsmap { bytes: bytes.len() };
        if bytes.is_empty() {
            return Ok(Charsmap::default());
        }
        let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return Err(damaged) };
        let size = u32::from_le_bytes(*size) as usize;
        let (array, odd) = rest.get(..size).ok_or(damaged.clone())?.as_chunks::<4>();
        let replacements = &rest[size..];
        if !odd.is_empty() || array.is_empty() || std::str::from_utf8(replacements).is_err() {
            return Err(damaged);
        }
        let longest = replacements.split(|&byte| byte == 0).map(<[u8]>::len).max();
        if let Some(bytes) = longest.filter(|&bytes| bytes > LONGEST_REPLACEMENT) {
            return Err(TokenizerError::LongReplacement { bytes, most: LONGEST_REPLACEMENT });
        }
        let units = array.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Charsmap { units, replacements: replacements.to_vec() })
    }

    /// The longest prefix of `text` that is replaced: its length, and its replacement.
    pub fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut at = offset(*self.units.first()?);
        let mut found = None;
        for (index, &byte) in text.as_bytes().iter().enumerate() {
            at ^= usize::from(byte);
            let Some(&unit) = self.units.get(at) else { break };
            if byte == 0 || unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            at ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = self.units.get(at).map_or(u32::MAX, |unit| unit & (u32::MAX >> 1));
                found = Some((index + 1, value as usize));
            }
        }
        let (len, start) = found.filter(|&(len, _)| text.is_char_boundary(len))?;
        let replacement = self.replacements.get(start..)?.split(|&byte| byte == 0).next()?;
        Some((len, std::str::from_utf8(replacement).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for bytes in [
            &[1u8, 0][..],
            &[8, 0, 0, 0, 1, 2, 3, 4],
            &[0, 0, 0, 0],
            &[3, 0, 0, 0, 1, 2, 3],
            &[4, 0, 0, 0, 1, 2, 3, 4, 0xff],
        ] {
            assert!(Charsmap::new(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(Charsmap::new(&[]).unwrap().longest("a"), None);
    }

    #[test]
    fn long_replacements_are_refused() {
        let table = |len: usize| [&[4, 0, 0, 0, 0, 0, 0, 0][..], b"ab\0", &vec![b'a'; len], b"\0"].concat();
        assert!(Charsmap::new(&table(LONGEST_REPLACEMENT)).is_ok());
        let error = Charsmap::new(&table(LONGEST_REPLACEMENT + 1)).err();
        assert_eq!(error, Some(TokenizerError::LongReplacement { bytes: 65, most: 64 }));
    }

    proptest! {
        #[test]
        fn any_table_is_refused_or_gives_part_of_the_text(
            units in prop::collection::vec(any::<u32>(), 1..300),
            replacements in "[a-z\0]{0,20}",
            text in any::<String>(),
        ) {
            let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
            bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
            bytes.extend(replacements.as_bytes());
            if let Some((len, _)) = Charsmap::new(&bytes).unwrap().longest(&text) {
                prop_assert!(len > 0 && text.is_char_boundary(len));
            }
        }
    }
}
