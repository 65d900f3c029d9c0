//! WordPiece (`tokenizer.ggml.model` = `bert`).
//!
//! Text is cleaned and cut into words at white space, punctuation and Chinese characters; a word becomes the longest
//! piece that it starts with, then the longest piece that continues it, and so on, or the unknown token if that fails.
//! Devlin et al. 2018 (arXiv 1810.04805). GGUF writes U+2581 before a piece that starts a word, and a continuing piece
//! without the `##` of the model's original vocabulary.

use unicode_normalization::UnicodeNormalization;

use super::special::SpecialTokens;
use super::spelling::SPACE;
use super::{TokenKind, TokenizerError, VocabData};
use crate::text::pretokenizer::{PUNCTUATION, is_accent, is_control};

/// Longer words are unknown, as in the model's original tokenizer.
const LONGEST_WORD: usize = 100;

/// The tables of one vocabulary.
pub(super) struct WordPiece {
    pieces: SpecialTokens,
    unknown: u32,
    lowercase: bool,
    strip_accents: bool,
}

/// The blocks that BERT treats as Chinese characters, each a word.
fn is_chinese(character: char) -> bool {
    matches!(
        character,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}

impl WordPiece {
    /// Checks and indexes a vocabulary.
    pub fn new(data: &VocabData, kinds: &[TokenKind]) -> Result<WordPiece, TokenizerError> {
        let missing = TokenizerError::Missing { key: "tokenizer.ggml.unknown_token_id", model: "bert" };
        let pieces = data.tokens.iter().map(String::as_str).zip(0..);
        let lowercase = data.lowercase.unwrap_or(true);
        Ok(WordPiece {
            pieces: SpecialTokens::new(pieces.filter(|&(_, id)| !kinds[id as usize].is_structure())),
            unknown: data.unk.ok_or(missing)?,
            lowercase,
            strip_accents: data.strip_accents.unwrap_or(lowercase),
        })
    }

    /// Appends the tokens of a piece of text.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut word = String::from(SPACE);
        for character in text.chars() {
            if character.is_whitespace() {
                self.end_word(&mut word, ids);
            } else if character == char::REPLACEMENT_CHARACTER || is_control(character) {
            } else if is_chinese(character) {
                self.end_word(&mut word, ids);
                self.push(character, &mut word, ids);
                self.end_word(&mut word, ids);
            } else {
                self.push(character, &mut word, ids);
            }
        }
        self.end_word(&mut word, ids);
    }

    /// Adds a character to a word, decomposed without accents and in lower case if the model requires it.
    fn push(&self, character: char, word: &mut String, ids: &mut Vec<u32>) {
        match self.strip_accents {
            true => std::iter::once(character)
                .nfd()
                .filter(|&part| !is_accent(part))
                .for_each(|part| self.push_part(part, word, ids)),
            false => self.push_part(character, word, ids),
        }
    }

    fn push_part(&self, part: char, word: &mut String, ids: &mut Vec<u32>) {
        let mark = part.is_ascii_punctuation() || PUNCTUATION.has(part);
        if mark {
            self.end_word(word, ids);
        }
        match self.lowercase {
            true => word.extend(part.to_lowercase()),
            false => word.push(part),
        }
        if mark {
            self.end_word(word, ids);
        }
    }

    /// Appends the tokens of a word, which starts with U+2581, and starts the next word.
    fn end_word(&self, word: &mut String, ids: &mut Vec<u32>) {
        if word.len() > SPACE.len() {
            let start = ids.len();
            if !self.encode_word(word, ids) {
                ids.truncate(start);
                ids.push(self.unknown);
            }
            word.truncate(SPACE.len());
        }
    }

    /// Appends the pieces of a word; false if a part of it matches no piece.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) -> bool {
        if word.chars().count() > LONGEST_WORD + 1 {
            return false;
        }
        let mut at = 0;
        while at < word.len() {
            let Some((len, id)) = self.pieces.longest_prefix(&word.as_bytes()[at..]) else { return false };
            ids.push(id);
            at += len;
        }
        true
    }
}
