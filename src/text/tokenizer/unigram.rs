//! SentencePiece's unigram model (`tokenizer.ggml.model` = `t5`).
//!
//! Text is normalized by a table of replacements, and its spaces are written as U+2581; of all ways to cut it into
//! pieces, the one with the highest sum of scores, which are log-probabilities, is chosen (Viterbi 1967). A character
//! that is not a piece scores ten less than the worst piece; it becomes byte tokens if the vocabulary has them,
//! otherwise adjacent ones become one unknown token. Kudo 2018 (arXiv 1804.10959).

use super::charsmap::Charsmap;
use super::merge::NO_TOKEN;
use super::special::SpecialTokens;
use super::spelling::{SPACE, byte_token};
use super::{TokenKind, TokenizerError, VocabData};

/// The difference between the worst piece's score and that of an unknown character.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The longest piece, in bytes, which bounds the search at each position of a text. Real vocabularies stay below 256.
const LONGEST_PIECE: usize = 1024;

/// The tables of one vocabulary.
pub(super) struct Unigram {
    pieces: SpecialTokens,
    scores: Vec<f32>,
    unknown: u32,
    unknown_score: f64,
    /// The token of each byte, if every byte has one.
    bytes: Option<Box<[u32; 256]>>,
    charsmap: Charsmap,
    add_space_prefix: bool,
    remove_extra_spaces: bool,
}

/// The best way to cut the text up to some position.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// The start and id of the last piece; [`NO_TOKEN`] for an unknown character.
    start: usize,
    id: u32,
}

impl Unigram {
    /// Checks and indexes a vocabulary.
    pub fn new(data: &VocabData, kinds: &[TokenKind]) -> Result<Unigram, TokenizerError> {
        let missing = |key| TokenizerError::Missing { key, model: "t5" };
        let scores = data.scores_or_zeros().into_owned();
        if let Some(index) = scores.iter().position(|score| score.is_nan()) {
            return Err(TokenizerError::NanScore(index));
        }
        if let Some(index) = scores.iter().position(|score| score.is_infinite()) {
            return Err(TokenizerError::InfiniteScore(index));
        }
        let mut bytes = Box::new([NO_TOKEN; 256]);
        for ((text, &kind), id) in data.tokens.iter().zip(kinds).zip(0..) {
            if let (TokenKind::Byte, Some(byte)) = (kind, byte_token(text)) {
                bytes[usize::from(byte)] = id;
            }
        }
        let is_piece = |kind: TokenKind| !kind.is_structure() && kind != TokenKind::Byte;
        let normal = || (0..scores.len()).filter(|&id| kinds[id] == TokenKind::Normal).map(|id| scores[id]);
        let long = |(text, &kind): (&String, &TokenKind)| is_piece(kind) && text.len() > LONGEST_PIECE;
        if let Some(index) = data.tokens.iter().zip(kinds).position(long) {
            let bytes = data.tokens[index].len();
            return Err(TokenizerError::LongPiece { index, bytes, most: LONGEST_PIECE });
        }
        let pieces = data.tokens.iter().map(String::as_str).zip(0..);
        Ok(Unigram {
            pieces: SpecialTokens::new(pieces.filter(|&(_, id)| is_piece(kinds[id as usize]))),
            unknown: data.unk.ok_or(missing("tokenizer.ggml.unknown_token_id"))?,
            unknown_score: f64::from(normal().fold(0.0, f32::min)) - UNKNOWN_PENALTY,
            bytes: Some(bytes).filter(|bytes| !bytes.contains(&NO_TOKEN)),
            charsmap: Charsmap::new(&data.precompiled_charsmap)?,
            add_space_prefix: data.add_space_prefix.unwrap_or(true),
            remove_extra_spaces: data.remove_extra_spaces.unwrap_or(true),
            scores,
        })
    }

    /// True if encoding puts a space before the text, which decoding removes.
    pub fn adds_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// Appends the tokens of a piece of text at the start or after a special token.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = self.normalise(text);
        let first = ids.len();
        let best = self.best_cuts(&text);
        let mut end = text.len();
        while end > 0 {
            let Best { start, id, .. } = best[end];
            match (&self.bytes, id) {
                (Some(bytes), NO_TOKEN) => {
                    ids.extend(
                        text.as_bytes()[start..end].iter().rev().map(|&byte| bytes[usize::from(byte)]),
                    );
                }
                (None, NO_TOKEN) if ids.len() > first && ids.last() == Some(&self.unknown) => {}
                (None, NO_TOKEN) => ids.push(self.unknown),
                _ => ids.push(id),
            }
            end = start;
        }
        ids[first..].reverse();
    }

    /// The best way to cut the text up to each character boundary.
    fn best_cuts(&self, text: &str) -> Vec<Best> {
        let mut best = vec![Best { score: f64::NEG_INFINITY, start: 0, id: NO_TOKEN }; text.len() + 1];
        best[0].score = 0.0;
        for (start, character) in text.char_indices() {
            let so_far = best[start].score;
            let mut offer = |len: usize, id: u32, score: f64| {
                let end = &mut best[start + len];
                if so_far + score > end.score {
                    *end = Best { score: so_far + score, start, id };
                }
            };
            let mut whole = false;
            self.pieces.prefixes(&text.as_bytes()[start..], |len, id| {
                whole |= len == character.len_utf8();
                offer(len, id, f64::from(self.scores[id as usize]));
            });
            if !whole {
                offer(character.len_utf8(), NO_TOKEN, self.unknown_score);
            }
        }
        best
    }

    /// The text with replacements applied, spaces as U+2581, and the leading space if the model adds one.
    fn normalise(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        let mut after_space = self.remove_extra_spaces;
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let len = character.len_utf8();
            let (len, piece) = self.charsmap.longest(rest).unwrap_or((len, &rest[..len]));
            rest = &rest[len..];
            let piece = if after_space { piece.trim_start_matches(' ') } else { piece };
            if piece.is_empty() {
                continue;
            }
            if out.is_empty() && self.add_space_prefix {
                out.push_str(SPACE);
            }
            for part in piece.chars() {
                match part {
                    ' ' => out.push_str(SPACE),
                    _ => out.push(part),
                }
            }
            after_space = self.remove_extra_spaces && piece.ends_with(' ');
        }
        if self.remove_extra_spaces {
            out.truncate(out.trim_end_matches(SPACE).len());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_scores_and_pieces_are_refused() {
        let refused = |change: fn(&mut VocabData)| {
            let mut data = VocabData {
                model: "t5".into(),
                tokens: vec!["<unk>".into(), "a".into(), "b".into()],
                scores: Some(vec![0.0, -1.0, -2.0]),
                unk: Some(0),
                ..VocabData::default()
            };
            change(&mut data);
            Unigram::new(&data, &[TokenKind::Unknown, TokenKind::Normal, TokenKind::Normal]).err()
        };
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|data| data.tokens[2] = "b".repeat(LONGEST_PIECE)), None);
        let long = TokenizerError::LongPiece { index: 2, bytes: LONGEST_PIECE + 1, most: LONGEST_PIECE };
        assert_eq!(refused(|data| data.tokens[2] = "b".repeat(LONGEST_PIECE + 1)), Some(long));
        let infinite = Some(TokenizerError::InfiniteScore(1));
        assert_eq!(refused(|data| data.scores = Some(vec![0.0, f32::INFINITY, -2.0])), infinite);
        assert_eq!(refused(|data| data.scores = Some(vec![0.0, f32::NEG_INFINITY, -2.0])), infinite);
    }
}
