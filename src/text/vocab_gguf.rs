//! The vocabulary in a GGUF file's metadata.

use crate::gguf::Metadata;

use super::{TokenKind, TokenizerError, VocabData};

impl VocabData {
    /// Reads the `tokenizer.*` keys. What must be there, and fit together, [`Tokenizer::new`] checks.
    ///
    /// # Errors
    /// [`TokenizerError::Metadata`] names a key whose value has another type than it should, and
    /// [`TokenizerError::UnknownKind`] a token with a kind that does not exist.
    ///
    /// [`Tokenizer::new`]: super::Tokenizer::new
    pub fn from_metadata(metadata: &Metadata) -> Result<VocabData, TokenizerError> {
        let owned = |key| metadata.opt_str(key).map(|text| text.map(str::to_owned));
        let list = |key| {
            let strings = metadata.opt_strings(key)?;
            Ok::<_, TokenizerError>(
                strings.map(|s| s.iter().map(str::to_owned).collect()).unwrap_or_default(),
            )
        };
        let kind_of = |(index, &number): (usize, &i32)| {
            TokenKind::from_number(number.into()).ok_or(TokenizerError::UnknownKind { index, number })
        };
        let kinds = metadata.opt_i32s("tokenizer.ggml.token_type")?;
        Ok(VocabData {
            model: owned("tokenizer.ggml.model")?.unwrap_or_default(),
            pre: owned("tokenizer.ggml.pre")?,
            tokens: list("tokenizer.ggml.tokens")?,
            scores: metadata.opt_f32s("tokenizer.ggml.scores")?.map(|scores| scores.into_owned()),
            kinds: kinds.map(|kinds| kinds.iter().enumerate().map(kind_of).collect()).transpose()?,
            merges: list("tokenizer.ggml.merges")?,
            bos: metadata.opt_u32("tokenizer.ggml.bos_token_id")?,
            eos: metadata.opt_u32("tokenizer.ggml.eos_token_id")?,
            eot: metadata.opt_u32("tokenizer.ggml.eot_token_id")?,
            unk: metadata.opt_u32("tokenizer.ggml.unknown_token_id")?,
            pad: metadata.opt_u32("tokenizer.ggml.padding_token_id")?,
            add_bos: metadata.opt_bool("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.opt_bool("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: metadata.opt_bool("tokenizer.ggml.add_space_prefix")?,
            chat_template: owned("tokenizer.chat_template")?,
        })
    }
}
