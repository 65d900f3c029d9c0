//! Tables that several algorithms build from a vocabulary.

use super::TokenizerError;
use super::merge::NO_TOKEN;

/// A table that is looked up once or more a word. Its hash is seeded anew in each process and fast on short keys.
pub(super) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Words up to this many bytes are remembered within a call: longer ones hardly come twice.
pub(super) const CACHED_WORD: usize = 32;

/// At most so many words are remembered, which bounds the memory of a long text.
pub(super) const CACHED_WORDS: usize = 1 << 17;

/// Refuses a table in which a byte that is needed has no token.
pub(super) fn check_bytes(
    byte_ids: &[u32; 256],
    is_needed: impl Fn(u8) -> bool,
) -> Result<(), TokenizerError> {
    let missing = (0..=255).find(|&byte| is_needed(byte) && byte_ids[byte as usize] == NO_TOKEN);
    missing.map_or(Ok(()), |byte| Err(TokenizerError::MissingByte(byte)))
}
