//! SentencePiece's byte-pair model (`tokenizer.ggml.model` = `llama`).
//!
//! Spaces are written as U+2581; the text starts as one symbol per character, and the pair whose joint piece has the
//! highest score merges first, the leftmost among equals. A character that is not a piece becomes byte tokens. Kudo,
//! Richardson 2018 (arXiv 1808.06226).
//!
//! By definition the whole text merges as one. But if no piece of the vocabulary contains a given character followed by
//! a space, no merge crosses such a place: the text can be cut there, and frequent words are merged only once.

use super::merge::{Merge, Merger, NO_TOKEN};
use super::spelling::{SPACE, SPACE_CHAR, byte_token, is_in_utf8, push_escaped};
use super::tables::{CACHED_WORD, CACHED_WORDS, HashMap, check_bytes};
use super::{TokenKind, TokenizerError, VocabData};

/// The tables of one vocabulary.
pub(super) struct Spm {
    /// Pieces by their text, with their merge priority.
    pieces: HashMap<Box<str>, Merge>,
    /// The length in bytes of the longest piece: longer pairs need no look-up.
    longest: usize,
    /// The characters that precede a space in some piece, sorted.
    before_space: Vec<char>,
    /// The token of each byte, or the unknown token.
    byte_ids: [u32; 256],
    /// The unknown token, used once per character if there are no byte tokens.
    unknown: Option<u32>,
    add_space_prefix: bool,
}

/// A number that decreases as the score increases. The bits of floats order like integers once negative numbers are
/// inverted (IEEE 754).
fn priority(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

impl Spm {
    /// Checks and indexes a vocabulary.
    pub fn new(data: &VocabData, kinds: &[TokenKind]) -> Result<Spm, TokenizerError> {
        let scores = data.scores_or_zeros();
        if let Some(index) = scores.iter().position(|score| score.is_nan()) {
            return Err(TokenizerError::NanScore(index));
        }
        let mut byte_ids = [data.unk.unwrap_or(NO_TOKEN); 256];
        let mut pieces: HashMap<Box<str>, Merge> =
            HashMap::with_capacity_and_hasher(data.tokens.len(), Default::default());
        let mut has_bytes = false;
        for (((text, id), &kind), &score) in data.tokens.iter().zip(0u32..).zip(kinds).zip(scores.iter()) {
            match byte_token(text) {
                Some(byte) if kind == TokenKind::Byte => {
                    byte_ids[byte as usize] = id;
                    has_bytes = true;
                }
                _ if kind.is_structure() || text.is_empty() => {}
                _ => {
                    pieces.insert(text.as_str().into(), Merge { priority: priority(score), id });
                }
            }
        }
        check_bytes(&byte_ids, is_in_utf8)?;
        let longest = pieces.keys().map(|text| text.len()).max().unwrap_or(0);
        let mut before_space: Vec<char> =
            pieces.keys().flat_map(|text| characters_before_space(text)).collect();
        before_space.sort_unstable();
        before_space.dedup();
        let unknown = data.unk.filter(|_| !has_bytes);
        let add_space_prefix = data.add_space_prefix.unwrap_or(true);
        Ok(Spm { pieces, longest, before_space, byte_ids, unknown, add_space_prefix })
    }

    /// True if encoding puts a space before the text, which decoding removes.
    pub fn adds_space_prefix(&self) -> bool {
        self.add_space_prefix
    }
}

/// The characters that precede a space in a piece.
fn characters_before_space(piece: &str) -> impl Iterator<Item = char> {
    piece.chars().zip(piece.chars().skip(1)).filter(|&(_, next)| next == SPACE_CHAR).map(|(before, _)| before)
}

/// Working memory of one `encode` call.
pub(super) struct SpmEncoder<'v> {
    spm: &'v Spm,
    merger: Merger,
    escaped: String,
}

impl<'v> SpmEncoder<'v> {
    pub fn new(spm: &'v Spm) -> Self {
        SpmEncoder { spm, merger: Merger::default(), escaped: String::new() }
    }

    /// Appends the tokens of a piece of text at the start or after a special token.
    pub fn encode(&mut self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        self.escaped.clear();
        if self.spm.add_space_prefix {
            self.escaped.push_str(SPACE);
        }
        push_escaped(text, &mut self.escaped);
        // Start and end of each earlier word's tokens in `ids`.
        let mut seen: HashMap<&str, (usize, usize)> = HashMap::default();
        let mut rest = self.escaped.as_str();
        while !rest.is_empty() {
            let (word, after) = rest.split_at(self.spm.word_len(rest));
            rest = after;
            if let Some(&(start, end)) = seen.get(word) {
                ids.extend_from_within(start..end);
                continue;
            }
            let start = ids.len();
            self.spm.encode_word(word, &mut self.merger, ids);
            if word.len() <= CACHED_WORD && seen.len() < CACHED_WORDS {
                seen.insert(word, (start, ids.len()));
            }
        }
    }
}

impl Spm {
    /// The length in bytes of the prefix that no merge crosses: it ends before a space that no piece has after the
    /// preceding character.
    fn word_len(&self, text: &str) -> usize {
        let mut spaces = text.match_indices(SPACE).map(|(at, _)| at);
        let cut = spaces.find(|&at| {
            let before = text[..at].chars().next_back();
            before.is_some_and(|before| self.before_space.binary_search(&before).is_err())
        });
        cut.unwrap_or(text.len())
    }

    /// Appends the tokens of a part of the escaped text.
    fn encode_word(&self, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        merger.clear();
        let mut buffer = [0; 4];
        for character in word.chars() {
            let piece = self.pieces.get(&*character.encode_utf8(&mut buffer));
            merger.push(character.len_utf8(), piece.map_or(NO_TOKEN, |piece| piece.id));
        }
        let find = |start: usize, len: usize| match len <= self.longest {
            true => self.pieces.get(&word[start..start + len]).copied(),
            false => None,
        };
        merger.run(
            |a, b| find(a.start, a.len + b.len),
            |symbol| match (symbol.id, self.unknown) {
                (NO_TOKEN, Some(unknown)) => ids.push(unknown),
                (NO_TOKEN, None) => {
                    let bytes = &word.as_bytes()[symbol.start..symbol.start + symbol.len];
                    ids.extend(bytes.iter().map(|&byte| self.byte_ids[byte as usize]));
                }
                (id, _) => ids.push(id),
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn higher_scores_have_smaller_priority(a in any::<f32>(), b in any::<f32>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(priority(a).cmp(&priority(b)), b.partial_cmp(&a).unwrap());
        }
    }
}
