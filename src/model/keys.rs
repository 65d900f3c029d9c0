//! Hyper-parameters from metadata: every error names the key.

use std::ops::RangeInclusive;

use super::ModelError;
use crate::gguf::Gguf;
use crate::tensor::Shape;

/// Reads the metadata of one architecture: `keys.count("block_count", 1..=1000)` reads
/// `llama.block_count`.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    /// The keys of a file whose architecture has this name.
    pub fn new(gguf: &'a Gguf, architecture: &'a str) -> Keys<'a> {
        Keys { gguf, architecture }
    }

    /// The whole key.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A count that must be there and lie in this range.
    pub fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize, ModelError> {
        let value = self.gguf.metadata().u64(&self.name(key))?;
        self.in_range(key, value, range)
    }

    /// A count that may be missing.
    pub fn opt_count(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, ModelError> {
        let value = self.gguf.metadata().opt_u64(&self.name(key))?;
        value.map(|value| self.in_range(key, value, range)).transpose()
    }

    fn in_range(&self, key: &str, value: u64, range: RangeInclusive<usize>) -> Result<usize, ModelError> {
        match usize::try_from(value) {
            Ok(value) if range.contains(&value) => Ok(value),
            _ => {
                Err(self.refuse(key, value, format!("it must be from {} to {}", range.start(), range.end())))
            }
        }
    }

    /// A real number that may be missing; it must be finite and greater than zero.
    pub fn opt_positive(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.gguf.metadata().opt_f32(&self.name(key))? {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(self.refuse(key, value, "it must be finite and greater than 0"))
            }
            value => Ok(value),
        }
    }

    /// A real number that must be there, finite and greater than zero.
    pub fn positive(&self, key: &str) -> Result<f32, ModelError> {
        self.gguf.metadata().f32(&self.name(key))?;
        Ok(self.opt_positive(key)?.unwrap_or_default())
    }

    /// A text that may be missing.
    pub fn opt_str(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        Ok(self.gguf.metadata().opt_str(&self.name(key))?)
    }

    /// The shape of a tensor of the file.
    pub fn tensor_shape(&self, name: &str) -> Option<Shape> {
        self.gguf.tensor(name).map(|info| info.shape)
    }

    /// The number of tokens of the file's vocabulary, if it has one.
    pub fn vocabulary(&self) -> Result<Option<usize>, ModelError> {
        Ok(self.gguf.metadata().opt_strings("tokenizer.ggml.tokens")?.map(|tokens| tokens.len()))
    }

    /// An error about a key's value.
    pub fn refuse(&self, key: &str, value: impl std::fmt::Display, reason: impl Into<String>) -> ModelError {
        ModelError::Value { key: self.name(key), value: value.to_string(), reason: reason.into() }
    }
}
