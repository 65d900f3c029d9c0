//! A vocabulary as a GGUF file states it, before any check.

/// What a token is for; the values of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// A piece of ordinary text.
    Normal = 1,
    /// Stands for what the vocabulary cannot express.
    Unknown = 2,
    /// Structure such as the start of a turn; not part of the text.
    Control = 3,
    /// A string that is always one token, wherever it stands in the text.
    UserDefined = 4,
    /// A row without a meaning.
    Unused = 5,
    /// One raw byte, written `<0xNN>` (SentencePiece's byte fallback).
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number in `tokenizer.ggml.token_type`, if there is one.
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
}

/// The `tokenizer.*` metadata of a GGUF file as plain values.
///
/// Token ids are positions in `tokens`. [`Tokenizer::new`](super::Tokenizer::new) checks everything.
#[derive(Clone, Debug, Default)]
pub struct VocabData {
    /// `tokenizer.ggml.model`: the algorithm, `gpt2` or `llama`.
    pub model: String,
    /// `tokenizer.ggml.pre`: how `gpt2` cuts text into words.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`: each token's text, in the algorithm's own spelling.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`: each token's log probability (`llama`), as many as tokens.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`: each token's kind, as many as tokens.
    pub kinds: Option<Vec<TokenKind>>,
    /// `tokenizer.ggml.merges`: pairs `left right` (`gpt2`), the first merges first.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`: what a text starts with.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`: what a text ends with.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: what a turn ends with.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; absent: the algorithm's default.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; absent: no.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix` (`llama`); absent: yes.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`: the Jinja source.
    pub chat_template: Option<String>,
}
