//! The tokenizer: one vocabulary, checked and indexed, both ways.

use super::bpe::{Bpe, BpeEncoder, is_structure};
use super::byte_alphabet::push_bytes;
use super::special::SpecialTokens;
use super::spm::{Spm, SpmEncoder, byte_token, push_text};
use super::unigram::Unigram;
use super::wordpiece::WordPiece;
use super::{PreTokenizer, StreamDecoder, TOKENIZER_FAMILIES, TokenKind, TokenizerError, VocabData};

/// What [`Tokenizer::encode`] does beyond the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Puts BOS before and EOS or the separator after the text, where the vocabulary says so.
    pub add_special: bool,
    /// Recognises control tokens that are spelled out in the text. Without it, text never becomes
    /// structure. User-defined tokens are recognised either way.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    /// Nothing added, special tokens recognised.
    fn default() -> Self {
        EncodeOptions { add_special: false, parse_special: true }
    }
}

/// Turns text into token ids and back.
pub struct Tokenizer {
    algorithm: Algorithm,
    tokens: Vec<String>,
    kinds: Vec<TokenKind>,
    /// What every token decodes to, one after the other, and where each ends.
    decoded: Vec<u8>,
    ends: Vec<usize>,
    /// Control, unknown and user-defined tokens; and the user-defined ones alone.
    special: SpecialTokens,
    user_defined: SpecialTokens,
    end_of_generation: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    sep: Option<u32>,
    /// Special tokens that take white space before or after them away.
    strip_before: Vec<u32>,
    strip_after: Vec<u32>,
    chat_template: Option<String>,
}

enum Algorithm {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    WordPiece(Box<WordPiece>),
    Unigram(Box<Unigram>),
}

/// What the models of the field end a turn or a text with, beside what their files state.
const END_NAMES: &[&str] = &[
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|EOT|>",
    "<end_of_turn>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
    "[EOT]",
    "<EOT>",
    "_<EOT>",
];

impl Tokenizer {
    /// Checks a vocabulary and builds its tables.
    ///
    /// # Errors
    /// [`TokenizerError`] if the algorithm or its pre-tokenizer is not supported, or if the vocabulary
    /// contradicts itself: an array of the wrong length, an id that no token has, a merge that yields no
    /// token, a byte that nothing expresses.
    pub fn new(mut data: VocabData) -> Result<Tokenizer, TokenizerError> {
        if matches!(data.model.as_str(), "none" | "no_vocab" | "") {
            return Err(TokenizerError::NoTokenizer(data.model));
        }
        if !TOKENIZER_FAMILIES.iter().any(|(name, _)| *name == data.model) {
            return Err(TokenizerError::UnknownModel(data.model));
        }
        if data.model == "gemma4" {
            data.pre = Some("gemma4".to_owned());
        }
        check_shape(&data)?;
        let kinds = kinds_of(&data);
        let pre = PreTokenizer::by_name(data.pre.as_deref());
        let in_byte_alphabet = data.model == "gpt2" && pre.is_some_and(|pre| !pre.characters);
        let mut decoded = Vec::with_capacity(data.tokens.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(data.tokens.len());
        for (text, &kind) in data.tokens.iter().zip(&kinds) {
            match (kind, byte_token(text)) {
                (TokenKind::Byte, Some(byte)) => decoded.push(byte),
                (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined, _) => {
                    decoded.extend_from_slice(text.as_bytes());
                }
                _ if in_byte_alphabet => push_bytes(text, &mut decoded),
                _ => push_text(text, &mut decoded),
            }
            ends.push(decoded.len());
        }
        let bytes_of = |id: usize| &decoded[id.checked_sub(1).map_or(0, |before| ends[before])..ends[id]];
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
        let special = chosen(|kind| is_structure(kind) || kind == TokenKind::UserDefined);
        Ok(Tokenizer {
            end_of_generation: end_of_generation(&data, &kinds),
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
            tokens: data.tokens,
            algorithm,
            kinds,
            decoded,
            ends,
            special,
            user_defined,
        })
    }

    /// The tokens of a text. A character that is no token becomes the tokens of its bytes, and a byte
    /// that has none the unknown token; a byte-level vocabulary that has neither (some lack a few control
    /// characters) leaves that byte out, as its own tokenizer does.
    ///
    /// Time grows as n log n with the longest word, and linearly otherwise.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        ids.extend(self.bos.filter(|_| options.add_special && self.add_bos));
        self.encode_onto(text, options.parse_special, &mut ids);
        ids.extend(self.eos.filter(|_| options.add_special && self.add_eos));
        ids.extend(self.sep.filter(|_| options.add_special && self.add_sep));
        ids
    }

    /// The tokens of a conversation that a chat template rendered: special tokens recognised, and BOS in
    /// front, where the vocabulary asks for it, unless the template already wrote it.
    pub fn encode_chat(&self, rendered: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(rendered.len() / 3 + 1);
        self.encode_onto(rendered, true, &mut ids);
        if let Some(bos) = self.bos.filter(|bos| self.add_bos && ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        ids
    }

    fn encode_onto(&self, text: &str, parse_special: bool, ids: &mut Vec<u32>) {
        let special = if parse_special { &self.special } else { &self.user_defined };
        match &self.algorithm {
            Algorithm::Bpe(bpe) => {
                let mut encoder = BpeEncoder::new(bpe);
                self.between(special, text, ids, |piece, ids| encoder.encode(piece, ids));
            }
            Algorithm::Spm(spm) => {
                let mut encoder = SpmEncoder::new(spm);
                self.between(special, text, ids, |piece, ids| encoder.encode(piece, ids));
            }
            Algorithm::WordPiece(wordpiece) => {
                self.between(special, text, ids, |piece, ids| wordpiece.encode(piece, ids));
            }
            Algorithm::Unigram(unigram) => {
                self.between(special, text, ids, |piece, ids| unigram.encode(piece, ids));
            }
        }
    }

    /// Pushes the special tokens of a text, and gives what is between them to `encode`, without the white space that a
    /// special token takes away.
    fn between<'t>(
        &self,
        special: &SpecialTokens,
        mut text: &'t str,
        ids: &mut Vec<u32>,
        mut encode: impl FnMut(&'t str, &mut Vec<u32>),
    ) {
        while let Some((start, end, id)) = special.find(text) {
            let before = &text[..start];
            encode(if self.strip_before.contains(&id) { before.trim_end() } else { before }, ids);
            ids.push(id);
            text = &text[end..];
            if self.strip_after.contains(&id) {
                text = text.trim_start();
            }
        }
        encode(text, ids);
    }

    /// The text of a sequence of tokens. Control tokens and the unknown token show only with
    /// `keep_special`; bytes that are no UTF-8 become U+FFFD; the space that encoding put before the text
    /// is taken away.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> String {
        let mut stream = StreamDecoder::from_start(self, keep_special);
        let mut text = String::new();
        for &id in ids {
            text.push_str(stream.push(id));
        }
        text.push_str(stream.finish());
        text
    }

    /// Appends the bytes that one token stands for, without allocating if `out` has room. They may be
    /// part of a character. Control tokens and the unknown token add their name with `keep_special`, else
    /// nothing; an id that is not below [`n_vocab`](Self::n_vocab) adds nothing.
    pub fn decode_into(&self, id: u32, keep_special: bool, out: &mut Vec<u8>) {
        let index = id as usize;
        let (Some(&end), Some(&kind)) = (self.ends.get(index), self.kinds.get(index)) else { return };
        if keep_special || !is_structure(kind) {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            out.extend_from_slice(&self.decoded[start..end]);
        }
    }

    /// A token's text in the file's own spelling, such as `Ġthe`, `▁the` or `<|im_end|>`.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The id of the control or user-defined token that is spelled so.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.special
            .find(text)
            .filter(|&(start, end, _)| start == 0 && end == text.len())
            .map(|(_, _, id)| id)
    }

    /// What a token is for.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    /// The number of tokens; ids are below it.
    pub fn n_vocab(&self) -> usize {
        self.tokens.len()
    }

    /// What a text starts with.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// What a text ends with.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// What a turn ends with, if the file states it.
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// The token for what the vocabulary cannot express.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// What separates two texts (`bert`).
    pub fn sep(&self) -> Option<u32> {
        self.sep
    }

    /// The token that fills up batches.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether the model expects BOS at the start of a text.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether the answer is over once the model produced this token: EOS, end of turn, or a special
    /// token with one of the names that models use for either.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.contains(&id)
    }

    /// The file's chat template, as Jinja source.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Whether encoding puts a space before the text.
    pub(super) fn adds_space_prefix(&self) -> bool {
        match &self.algorithm {
            Algorithm::Bpe(_) => false,
            Algorithm::Spm(spm) => spm.adds_space_prefix(),
            Algorithm::Unigram(unigram) => unigram.adds_space_prefix(),
            // Every word has one.
            Algorithm::WordPiece(_) => true,
        }
    }
}

/// Checks what all algorithms rely on: lengths and ids.
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
    for (key, id) in named_ids(data) {
        if let Some(id) = id.filter(|&id| id as usize >= n_vocab) {
            return Err(TokenizerError::IdOutOfRange { key, id, n_vocab });
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

/// The ids that metadata names, with their keys.
fn named_ids(data: &VocabData) -> [(&'static str, Option<u32>); 6] {
    [
        ("tokenizer.ggml.bos_token_id", data.bos),
        ("tokenizer.ggml.eos_token_id", data.eos),
        ("tokenizer.ggml.eot_token_id", data.eot),
        ("tokenizer.ggml.unknown_token_id", data.unk),
        ("tokenizer.ggml.padding_token_id", data.pad),
        ("tokenizer.ggml.seperator_token_id", data.sep),
    ]
}

/// Each token's kind. A file without kinds still says which tokens are structure: those it names.
fn kinds_of(data: &VocabData) -> Vec<TokenKind> {
    if let Some(kinds) = &data.kinds {
        return kinds.clone();
    }
    let has_bytes = matches!(data.model.as_str(), "llama" | "t5" | "gemma4");
    let kind_of = |text: &String| match byte_token(text) {
        Some(_) if has_bytes => TokenKind::Byte,
        _ => TokenKind::Normal,
    };
    let mut kinds: Vec<TokenKind> = data.tokens.iter().map(kind_of).collect();
    for id in named_ids(data).into_iter().filter_map(|(_, id)| id) {
        kinds[id as usize] = TokenKind::Control;
    }
    if let Some(unk) = data.unk {
        kinds[unk as usize] = TokenKind::Unknown;
    }
    kinds
}

/// The tokens that end an answer.
fn end_of_generation(data: &VocabData, kinds: &[TokenKind]) -> Vec<u32> {
    let is_special =
        |id: u32| is_structure(kinds[id as usize]) || kinds[id as usize] == TokenKind::UserDefined;
    let named = |name: &str| {
        data.tokens.iter().zip(0..).find(|&(text, id)| text == name && is_special(id)).map(|(_, id)| id)
    };
    let mut ids: Vec<u32> = data.eos.into_iter().chain(data.eot).collect();
    ids.extend(END_NAMES.iter().filter_map(|name| named(name)));
    // Where an answer ends with <|return|> or <|call|> (the harmony format), <|end|> only closes one of
    // its messages.
    if named("<|return|>").is_some() && named("<|call|>").is_some() {
        let message_end = named("<|end|>");
        ids.retain(|&id| Some(id) != message_end || Some(id) == data.eos || Some(id) == data.eot);
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}
