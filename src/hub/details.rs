//! Facts of a model's file, for lists.

use std::path::Path;

use crate::gguf::{Gguf, GgufError};

/// A few facts from a file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// `general.architecture`; empty if the file lacks it.
    pub architecture: String,
    /// The dtype with the largest share of the bytes, such as `Q4_K`.
    pub format: String,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the context that the model was trained with.
    pub n_ctx_train: Option<u64>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// True if the file has a chat template.
    pub has_chat_template: bool,
}

impl Details {
    /// Reads the header of a file, and those of its further parts.
    ///
    /// # Errors
    /// The file is no valid GGUF file, or a part is missing.
    pub fn read(path: &Path) -> Result<Details, GgufError> {
        Ok(Details::of(&Gguf::open(path)?))
    }

    /// The facts of an open file.
    pub fn of(gguf: &Gguf) -> Details {
        let metadata = gguf.metadata();
        let architecture =
            metadata.opt_str("general.architecture").ok().flatten().unwrap_or_default().to_owned();
        Details {
            format: gguf.main_dtype().map_or_else(String::new, |dtype| dtype.name().to_owned()),
            parameters: gguf.parameters(),
            n_ctx_train: metadata.opt_u64(&format!("{architecture}.context_length")).ok().flatten(),
            has_chat_template: metadata.get("tokenizer.chat_template").is_some(),
            bytes: gguf.tensor_bytes(),
            architecture,
        }
    }
}
