//! A vocabulary, checked and indexed.

use super::algorithms::TOKENIZER_FAMILIES;
use super::bpe::Bpe;
use super::byte_alphabet::push_bytes;
use super::ends::{correct_kinds, end_of_generation};
use super::special::SpecialTokens;
use super::spelling::{byte_token, push_text};
use super::spm::Spm;
use super::unigram::Unigram;
use super::wordpiece::WordPiece;
use super::{TokenKind, TokenizerError, VocabData};
use crate::text::pretokenizer::PreTokenizer;

/// A checked vocabulary with its look-up tables.
pub(super) struct Vocabulary {
    pub(super) algorithm: Algorithm,
    pub(super) tokens: Vec<String>,
    pub(super) kinds: Vec<TokenKind>,
    /// The decoded bytes of all tokens, concatenated, and the end of each.
    pub(super) decoded: Vec<u8>,
    pub(super) ends: Vec<usize>,
    /// Control, unknown and user-defined tokens; and the user-defined ones only.
    pub(super) special: SpecialTokens,
    pub(super) user_defined: SpecialTokens,
    /// Sorted.
    pub(super) end_of_generation: Vec<u32>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    pub(super) add_sep: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) unk: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) sep: Option<u32>,
    /// Special tokens that strip white space before or after them.
    pub(super) strip_before: Vec<u32>,
    pub(super) strip_after: Vec<u32>,
    pub(super) chat_template: Option<String>,
    pub(super) chat_template_problem: Option<String>,
}

/// The encoding tables of each algorithm.
pub(super) enum Algorithm {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    WordPiece(Box<WordPiece>),
    Unigram(Box<Unigram>),
}

impl Vocabulary {
    /// Checks a vocabulary and builds its tables.
    pub fn new(mut data: VocabData) -> Result<Vocabulary, TokenizerError> {
        if matches!(data.model.as_str(), "none" | "no_vocab" | "") {
            return Err(TokenizerError::NoTokenizer(data.model));
        }
        if !TOKENIZER_FAMILIES.iter().any(|(name, _)| *name == data.model) {
            return Err(TokenizerError::UnknownModel(data.model));
        }
        if data.model == "gemma4" {
            data.pre = Some("gemma4".to_owned());
        }
        data.drop_ids_out_of_range();
        check_shape(&data)?;
        let ends = end_of_generation(&data);
        let has_bytes = matches!(data.model.as_str(), "llama" | "t5" | "gemma4");
        let mut kinds = kinds_of(&data, has_bytes);
        correct_kinds(&data, &ends, has_bytes, &mut kinds);
        let pre = PreTokenizer::by_name(data.pre.as_deref());
        let in_byte_alphabet = data.model == "gpt2" && pre.is_some_and(|pre| !pre.characters);
        let mut decoded = Vec::with_capacity(data.tokens.iter().map(String::len).sum());
        let mut token_ends = Vec::with_capacity(data.tokens.len());
        for (text, &kind) in data.tokens.iter().zip(&kinds) {
            match (kind, byte_token(text)) {
                (TokenKind::Byte, Some(byte)) => decoded.push(byte),
                (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined, _) => {
                    decoded.extend_from_slice(text.as_bytes());
                }
                _ if in_byte_alphabet => push_bytes(text, &mut decoded),
                _ => push_text(text, &mut decoded),
            }
            token_ends.push(decoded.len());
        }
        let bytes_of =
            |id: usize| &decoded[id.checked_sub(1).map_or(0, |before| token_ends[before])..token_ends[id]];
        let algorithm = match data.model.as_str() {
            "llama" => Algorithm::Spm(Box::new(Spm::new(&data, &kinds)?)),
            "bert" => Algorithm::WordPiece(Box::new(WordPiece::new(&data, &kinds)?)),
            "t5" => Algorithm::Unigram(Box::new(Unigram::new(&data, &kinds)?)),
            _ => Algorithm::Bpe(Box::new(Bpe::new(&data, &kinds, bytes_of)?)),
        };
        let (adds_bos, adds_eos) = match &algorithm {
            Algorithm::Bpe(bpe) => (bpe.adds_bos(), false),
            Algorithm::Spm(_) | Algorithm::WordPiece(_) => (true, false),
            Algorithm::Unigram(_) => (false, true),
        };
        let adds_sep = matches!(algorithm, Algorithm::WordPiece(_)) && data.add_sep.unwrap_or(true);
        let chosen = |wanted: fn(TokenKind) -> bool| {
            let texts = data.tokens.iter().map(String::as_str).zip(0..);
            SpecialTokens::new(texts.filter(|&(_, id)| wanted(kinds[id as usize])))
        };
        let user_defined = chosen(|kind| kind == TokenKind::UserDefined);
        let special = chosen(|kind| kind.is_structure() || kind == TokenKind::UserDefined);
        Ok(Vocabulary {
            end_of_generation: ends,
            add_bos: data.add_bos.unwrap_or(adds_bos),
            add_eos: data.add_eos.unwrap_or(adds_eos),
            add_sep: adds_sep,
            bos: data.bos,
            eos: data.eos,
            eot: data.eot,
            unk: data.unk,
            pad: data.pad,
            sep: data.sep,
            strip_before: data.strip_before,
            strip_after: data.strip_after,
            chat_template: data.chat_template,
            chat_template_problem: data.chat_template_problem,
            tokens: data.tokens,
            algorithm,
            kinds,
            decoded,
            ends: token_ends,
            special,
            user_defined,
        })
    }
}

/// Checks the lengths and ids that all algorithms rely on.
fn check_shape(data: &VocabData) -> Result<(), TokenizerError> {
    let n_vocab = data.tokens.len();
    match n_vocab {
        0 => return Err(TokenizerError::NoTokens),
        _ if n_vocab > i32::MAX as usize => return Err(TokenizerError::TooManyTokens(n_vocab)),
        _ => {}
    }
    for (key, found) in [
        ("tokenizer.ggml.scores", data.scores.as_ref().map(Vec::len)),
        ("tokenizer.ggml.token_type", data.kinds.as_ref().map(Vec::len)),
    ] {
        if let Some(found) = found.filter(|&found| found != n_vocab) {
            return Err(TokenizerError::Length { key, found, expected: n_vocab });
        }
    }
    let model = TOKENIZER_FAMILIES.iter().find(|(name, _)| *name == data.model).map_or("", |(name, _)| name);
    if data.add_bos == Some(true) && data.bos.is_none() {
        return Err(TokenizerError::Missing { key: "tokenizer.ggml.bos_token_id", model });
    }
    if data.add_eos == Some(true) && data.eos.is_none() {
        return Err(TokenizerError::Missing { key: "tokenizer.ggml.eos_token_id", model });
    }
    Ok(())
}

/// Each token's kind. In a file without kinds, the tokens that the metadata name are structure.
fn kinds_of(data: &VocabData, has_bytes: bool) -> Vec<TokenKind> {
    if let Some(kinds) = &data.kinds {
        return kinds.clone();
    }
    let kind_of = |text: &String| match byte_token(text) {
        Some(_) if has_bytes => TokenKind::Byte,
        _ => TokenKind::Normal,
    };
    let mut kinds: Vec<TokenKind> = data.tokens.iter().map(kind_of).collect();
    for id in data.named_ids().into_iter().filter_map(|(_, id)| id) {
        kinds[id as usize] = TokenKind::Control;
    }
    if let Some(unk) = data.unk {
        kinds[unk as usize] = TokenKind::Unknown;
    }
    kinds
}
