//! Tables that several algorithms build from a vocabulary.

use super::TokenizerError;
use super::merge::NO_TOKEN;

/// A table with one or more look-ups per word. Its hash is seeded randomly per process and fast on short keys.
pub(super) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Longest cached word in bytes: longer words rarely repeat.
pub(super) const CACHED_WORD: usize = 32;

/// Most cached words in a call, to bound the memory for a long text.
pub(super) const CACHED_WORDS: usize = 1 << 17;

/// Refuses a table in which a required byte has no token.
pub(super) fn check_bytes(
    byte_ids: &[u32; 256],
    is_needed: impl Fn(u8) -> bool,
) -> Result<(), TokenizerError> {
    let missing = (0..=255).find(|&byte| is_needed(byte) && byte_ids[byte as usize] == NO_TOKEN);
    missing.map_or(Ok(()), |byte| Err(TokenizerError::MissingByte(byte)))
}
