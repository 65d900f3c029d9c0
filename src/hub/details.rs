//! What a model's file says of itself, for lists.

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
    /// True if the file has a chat template.
    pub has_chat_template: bool,
}

impl Details {
    /// Reads the header of a file, and those of its further parts.
    ///
    /// # Errors
    /// The file is no valid GGUF file, or a part is missing.
    pub fn read(path: &Path) -> Result<Details, GgufError> {
        let gguf = Gguf::open(path)?;
        let metadata = gguf.metadata();
        let architecture =
            metadata.opt_str("general.architecture").ok().flatten().unwrap_or_default().to_owned();
        let mut bytes: Vec<(&'static str, u64)> = Vec::new();
        for info in gguf.tensors() {
            let name = info.dtype.name();
            match bytes.iter_mut().find(|(other, _)| *other == name) {
                Some((_, sum)) => *sum += info.bytes as u64,
                None => bytes.push((name, info.bytes as u64)),
            }
        }
        let largest = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
        Ok(Details {
            format: largest.map_or_else(String::new, |(name, _)| name.to_owned()),
            parameters: gguf.tensors().iter().map(|info| info.shape.elements() as u64).sum(),
            n_ctx_train: metadata.opt_u64(&format!("{architecture}.context_length")).ok().flatten(),
            has_chat_template: metadata.get("tokenizer.chat_template").is_some(),
            architecture,
        })
    }
}
