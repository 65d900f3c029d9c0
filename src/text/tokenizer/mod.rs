//! Tokenizers: text to token ids and back, with the vocabulary of a GGUF file.
//!
//! [`VocabData`] is a vocabulary as stored in a file; [`Tokenizer`] is that vocabulary checked and indexed, for one of
//! the algorithms of [`TOKENIZER_FAMILIES`]: byte-pair encoding (`bpe`, on the words that `pretokenizer` cuts) and
//! SentencePiece's score-driven merging (`spm`), which both merge in `merge`; `wordpiece`; and `unigram`.
//! [`StreamDecoder`] decodes ids to text one by one.
//!
//! This folder knows `pretokenizer` and the metadata of `gguf`. It knows no chat, no sampling and no model.

mod algorithms;
mod bpe;
mod byte_alphabet;
mod charsmap;
mod ends;
mod error;
mod merge;
mod special;
mod spelling;
mod spm;
mod stream;
mod tables;
mod unigram;
mod vocab_data;
mod vocab_gguf;
mod vocabulary;
mod wordpiece;

use std::sync::Arc;

pub use algorithms::TOKENIZER_FAMILIES;
use bpe::BpeEncoder;
pub use ends::{END_NAMES, EndName};
pub use error::TokenizerError;
use special::SpecialTokens;
use spm::SpmEncoder;
pub use stream::StreamDecoder;
pub use vocab_data::{TokenKind, VocabData};
use vocabulary::{Algorithm, Vocabulary};

/// Options of [`Tokenizer::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Adds BOS before the text, and EOS or the separator after it, if the vocabulary requires them.
    pub add_special: bool,
    /// Recognizes control tokens spelled out in the text. Otherwise text never becomes structure. User-defined tokens
    /// are always recognized.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    /// Adds no special tokens, and recognizes those in the text.
    fn default() -> Self {
        EncodeOptions { add_special: false, parse_special: true }
    }
}

/// Encodes text to token ids and decodes them. Clones share one vocabulary and are cheap.
#[derive(Clone)]
pub struct Tokenizer {
    vocab: Arc<Vocabulary>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("n_vocab", &self.n_vocab()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Checks a vocabulary and builds its tables.
    ///
    /// # Errors
    /// [`TokenizerError`] if the algorithm or its pre-tokenizer is not supported, or the vocabulary is inconsistent: an
    /// array of the wrong length, an id out of range, a merge whose result is not a token, a byte without a token.
    pub fn new(data: VocabData) -> Result<Tokenizer, TokenizerError> {
        Ok(Tokenizer { vocab: Arc::new(Vocabulary::new(data)?) })
    }

    /// The tokens of a text. A character that is not a token becomes the tokens of its bytes, and a byte without a
    /// token becomes the unknown token; a byte-level vocabulary without an unknown token (some lack a few control
    /// characters) omits that byte, as its original tokenizer does.
    ///
    /// Time is O(n log n) in the longest word and linear otherwise.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        ids.extend(self.vocab.bos.filter(|_| options.add_special && self.vocab.add_bos));
        self.encode_onto(text, options.parse_special, &[], &mut ids);
        ids.extend(self.vocab.eos.filter(|_| options.add_special && self.vocab.add_eos));
        ids.extend(self.vocab.sep.filter(|_| options.add_special && self.vocab.add_sep));
        ids
    }

    /// The tokens of a conversation rendered by a chat template: special tokens are recognized, and BOS is added in
    /// front if the vocabulary requires it and the template did not write it.
    pub fn encode_chat(&self, rendered: &str) -> Vec<u32> {
        self.encode_chat_with(rendered, &[])
    }

    /// [`encode_chat`](Self::encode_chat) of a text in which no special token begins at the bytes `literal`, in order.
    pub(in crate::text) fn encode_chat_with(&self, rendered: &str, literal: &[usize]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(rendered.len() / 3 + 1);
        self.encode_onto(rendered, true, literal, &mut ids);
        if let Some(bos) = self.vocab.bos.filter(|bos| self.vocab.add_bos && ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        ids
    }

    fn encode_onto(&self, text: &str, parse_special: bool, literal: &[usize], ids: &mut Vec<u32>) {
        let special = if parse_special { &self.vocab.special } else { &self.vocab.user_defined };
        match &self.vocab.algorithm {
            Algorithm::Bpe(bpe) => {
                let mut encoder = BpeEncoder::new(bpe);
                self.between(special, text, literal, ids, |piece, ids| encoder.encode(piece, ids));
            }
            Algorithm::Spm(spm) => {
                let mut encoder = SpmEncoder::new(spm);
                self.between(special, text, literal, ids, |piece, ids| encoder.encode(piece, ids));
            }
            Algorithm::WordPiece(wordpiece) => {
                self.between(special, text, literal, ids, |piece, ids| wordpiece.encode(piece, ids));
            }
            Algorithm::Unigram(unigram) => {
                self.between(special, text, literal, ids, |piece, ids| unigram.encode(piece, ids));
            }
        }
    }

    /// Pushes the special tokens of a text but for those at `literal`, and passes the text between them to `encode`, without the white space that
    /// a special token strips.
    fn between<'t>(
        &self,
        special: &SpecialTokens,
        text: &'t str,
        literal: &[usize],
        ids: &mut Vec<u32>,
        mut encode: impl FnMut(&'t str, &mut Vec<u32>),
    ) {
        // The start of the text that is not encoded yet, and that of the search.
        let (mut done, mut from) = (0, 0);
        while let Some((start, end, id)) = special.find(&text[from..]) {
            let (start, end) = (from + start, from + end);
            if literal.binary_search(&start).is_ok() {
                from = start + text[start..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            let before = &text[done..start];
            encode(if self.vocab.strip_before.contains(&id) { before.trim_end() } else { before }, ids);
            ids.push(id);
            done = end;
            if self.vocab.strip_after.contains(&id) {
                done += text[end..].len() - text[end..].trim_start().len();
            }
            from = done;
        }
        encode(&text[done..], ids);
    }

    /// The text of a sequence of tokens. Control tokens and the unknown token appear only with `keep_special`; bytes
    /// that are not UTF-8 become U+FFFD; the space that encoding put before the text is removed.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> String {
        let mut stream = StreamDecoder::from_start(self, keep_special);
        let mut text = String::new();
        for &id in ids {
            text.push_str(stream.push(id));
        }
        text.push_str(stream.finish());
        text
    }

    /// Appends the bytes of one token, without allocating if `out` has room. They may be part of a character. Control
    /// tokens and the unknown token append their name with `keep_special`, otherwise nothing; an id of
    /// [`n_vocab`](Self::n_vocab) or more appends nothing.
    pub fn decode_into(&self, id: u32, keep_special: bool, out: &mut Vec<u8>) {
        if keep_special || self.kind(id).is_some_and(|kind| !kind.is_structure()) {
            out.extend_from_slice(self.token_bytes(id));
        }
    }

    /// The bytes of one token; for a control token or the unknown token, its name. They may be part of a character.
    /// Empty for an id of [`n_vocab`](Self::n_vocab) or more.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let index = id as usize;
        let Some(&end) = self.vocab.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).map_or(0, |before| self.vocab.ends[before]);
        &self.vocab.decoded[start..end]
    }

    /// A token's text in the file's own spelling, such as `Ġthe`, `▁the` or `<|im_end|>`.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.tokens.get(id as usize).map(String::as_str)
    }

    /// The id of the control or user-defined token with this spelling.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.vocab
            .special
            .find(text)
            .filter(|&(start, end, _)| start == 0 && end == text.len())
            .map(|(_, _, id)| id)
    }

    /// The control and user-defined tokens in a text, with their places.
    pub(in crate::text) fn special_tokens_in(&self, text: &str) -> Vec<(std::ops::Range<usize>, u32)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((range, id)) = self.special_token_from(text, at) {
            at = range.end;
            found.push((range, id));
        }
        found
    }

    /// The first control or user-defined token of a text from a byte on.
    pub(in crate::text) fn special_token_from(
        &self,
        text: &str,
        at: usize,
    ) -> Option<(std::ops::Range<usize>, u32)> {
        let (start, end, id) = self.vocab.special.find(&text[at..])?;
        Some((at + start..at + end, id))
    }

    /// The kind of a token.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.vocab.kinds.get(id as usize).copied()
    }

    /// The number of tokens; all ids are below it.
    pub fn n_vocab(&self) -> usize {
        self.vocab.tokens.len()
    }

    /// The token at the start of a text.
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The token at the end of a text.
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// The token at the end of a message, if the file names one.
    pub fn eot(&self) -> Option<u32> {
        self.vocab.eot
    }

    /// The token for text that the vocabulary cannot express.
    pub fn unk(&self) -> Option<u32> {
        self.vocab.unk
    }

    /// The token that separates two texts (`bert`).
    pub fn sep(&self) -> Option<u32> {
        self.vocab.sep
    }

    /// The token that pads batches.
    pub fn pad(&self) -> Option<u32> {
        self.vocab.pad
    }

    /// True if the model expects BOS at the start of a text.
    pub fn adds_bos(&self) -> bool {
        self.vocab.add_bos
    }

    /// True if the token ends an answer: the file names it as the end of a text or of a message, or it has one of the
    /// names that models use for either ([`END_NAMES`]).
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.vocab.end_of_generation.binary_search(&id).is_ok()
    }

    /// The tokens that end an answer, in the order of their ids.
    pub fn end_tokens(&self) -> &[u32] {
        &self.vocab.end_of_generation
    }

    /// The file's chat template, as Jinja source.
    pub fn chat_template(&self) -> Option<&str> {
        self.vocab.chat_template.as_deref()
    }

    /// The reason why the file's chat template cannot be read, if it has one.
    pub fn chat_template_problem(&self) -> Option<&str> {
        self.vocab.chat_template_problem.as_deref()
    }

    /// True if encoding puts a space before the text.
    pub(super) fn adds_space_prefix(&self) -> bool {
        match &self.vocab.algorithm {
            Algorithm::Bpe(_) => false,
            Algorithm::Spm(spm) => spm.adds_space_prefix(),
            Algorithm::Unigram(unigram) => unigram.adds_space_prefix(),
            // Each word starts with one.
            Algorithm::WordPiece(_) => true,
        }
    }
}
