//! A vocabulary as stored in a GGUF file, unchecked.

use std::borrow::Cow;

/// The kind of a token; the values of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum TokenKind {
    /// A piece of ordinary text.
    Normal = 1,
    /// Represents text that the vocabulary cannot express.
    Unknown = 2,
    /// Structure such as the start of a turn; not part of the text.
    Control = 3,
    /// A string that is always one token, anywhere in the text.
    UserDefined = 4,
    /// An unused entry.
    Unused = 5,
    /// One raw byte, written `<0xNN>` (SentencePiece's byte fallback).
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number in `tokenizer.ggml.token_type`.
    pub fn from_number(number: i64) -> Option<TokenKind> {
        Some(match number {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => return None,
        })
    }

    /// True for structure, which ordinary text must never become.
    pub(super) fn is_structure(self) -> bool {
        matches!(self, TokenKind::Control | TokenKind::Unknown)
    }
}

/// The `tokenizer.*` metadata of a GGUF file as plain values.
///
/// Token ids are indices into `tokens`. [`Tokenizer::new`](super::Tokenizer::new) checks everything.
#[derive(Clone, Debug, Default)]
pub struct VocabData {
    /// `tokenizer.ggml.model`: the algorithm, one of [`TOKENIZER_FAMILIES`](super::TOKENIZER_FAMILIES).
    pub model: String,
    /// `tokenizer.ggml.pre`: the pre-tokenizer of `gpt2`.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`: each token's text, in the algorithm's spelling.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: each token's log-probability (`llama`, `t5`); absent: all are 0.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`: each token's kind.
    pub kinds: Option<Vec<TokenKind>>,
    /// `tokenizer.ggml.merges`: pairs `left right` (`gpt2`, `gemma4`), in the order of their priority.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`: the token at the start of a text.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`: the token at the end of a text.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: the token at the end of a message.
    pub eot: Option<u32>,
    /// Further tokens that end an answer: `tokenizer.ggml.eom_token_id`, `eos_token_ids` and other lists, and the tokens of
    /// filling in the middle that pad, separate files or name a repository.
    pub ends: Vec<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id`, GGUF's spelling: the token at the end of a text (`bert`).
    pub sep: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; absent: the algorithm's default.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; absent: the algorithm's default, yes for `t5` only.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_sep_token` (`bert`); absent: yes.
    pub add_sep: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix` (`llama`, `t5`); absent: yes.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces` (`t5`): collapses spaces and trims both ends; absent: yes.
    pub remove_extra_spaces: Option<bool>,
    /// `tokenizer.ggml.precompiled_charsmap` (`t5`): SentencePiece's table of replacements.
    pub precompiled_charsmap: Vec<u8>,
    /// `tokenizer.ggml.normalizer.lowercase` (`bert`); absent: yes.
    pub lowercase: Option<bool>,
    /// `tokenizer.ggml.normalizer.strip_accents` (`bert`); absent: the value of `lowercase`.
    pub strip_accents: Option<bool>,
    /// Special tokens that strip the white space before them. No metadata key lists these: the model's name decides.
    pub strip_before: Vec<u32>,
    /// Special tokens that strip the white space after them, likewise.
    pub strip_after: Vec<u32>,
    /// `tokenizer.chat_template`: the Jinja source.
    pub chat_template: Option<String>,
    /// The reason why the file's chat template cannot be read.
    pub chat_template_problem: Option<String>,
}

impl VocabData {
    /// Each token's score; all are 0 in a vocabulary without scores, as in llama.cpp.
    pub(super) fn scores_or_zeros(&self) -> Cow<'_, [f32]> {
        match &self.scores {
            Some(scores) => Cow::Borrowed(scores),
            None => {
                tracing::info!("tokenizer.ggml.scores is absent; all scores are assumed to be 0");
                Cow::Owned(vec![0.0; self.tokens.len()])
            }
        }
    }

    /// The ids of single tokens, with their keys.
    pub(super) fn named_ids(&self) -> [(&'static str, Option<u32>); 6] {
        [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.eot_token_id", self.eot),
            ("tokenizer.ggml.unknown_token_id", self.unk),
            ("tokenizer.ggml.padding_token_id", self.pad),
            ("tokenizer.ggml.seperator_token_id", self.sep),
        ]
    }

    /// Drops ids that are not a token's, and says so: the file counts as if it did not name them. Without a BOS or EOS
    /// none is added.
    pub(super) fn drop_ids_out_of_range(&mut self) {
        let n_vocab = self.tokens.len();
        let is_token = |id: u32| (id as usize) < n_vocab;
        for (key, id) in self.named_ids() {
            if let Some(id) = id.filter(|&id| !is_token(id)) {
                warn_out_of_range(key, i128::from(id), n_vocab);
            }
        }
        let adds_bos = self.bos.is_none_or(is_token);
        let adds_eos = self.eos.is_none_or(is_token);
        self.add_bos = self.add_bos.map(|add| add && adds_bos);
        self.add_eos = self.add_eos.map(|add| add && adds_eos);
        for id in [&mut self.bos, &mut self.eos, &mut self.eot, &mut self.unk, &mut self.pad, &mut self.sep] {
            *id = id.filter(|&id| is_token(id));
        }
        self.ends.retain(|&id| is_token(id));
    }
}

/// Says that a key's id is not a token's.
pub(super) fn warn_out_of_range(key: &str, id: i128, n_vocab: usize) {
    let last = n_vocab.saturating_sub(1);
    tracing::warn!("{key} is {id}, and ids go from 0 to {last}; the key is ignored");
}
