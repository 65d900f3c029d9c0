//! What an architecture tells about itself.

use std::fmt;

use super::{Keys, ModelBuilder, ModelError};
use crate::graph::Tensor;

/// An architecture with its hyper-parameters. The files in `graphs/` implement it.
pub trait Architecture: fmt::Debug + Send + Sync {
    /// The sizes that a session must know.
    fn shape(&self) -> ModelShape;

    /// Builds the graph of one batch and gives what [`ModelBuilder::head`] makes of the last layer's output: the
    /// logits, F32 `[n_vocab, n_outputs]`, where these are wanted.
    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Tensor<'g>;
}

/// The sizes that a session must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Tokens that the model was trained to see at once.
    pub n_ctx_train: usize,
    /// Positions that there are, where each has a learned vector; `None`: as many as one likes.
    pub n_positions: Option<usize>,
    /// Width of the embedding.
    pub n_embd: usize,
    /// What each layer keeps in the KV cache.
    pub layers: Vec<CacheShape>,
}

impl ModelShape {
    /// The context that a session has where so many tokens are asked for; 0: the trained size.
    ///
    /// # Errors
    /// [`ModelError::Session`] for more tokens than there are positions.
    pub(super) fn context(&self, n_ctx: usize) -> Result<usize, ModelError> {
        let n_ctx = if n_ctx == 0 { self.n_ctx_train } else { n_ctx };
        match self.n_positions.filter(|&n| n < n_ctx) {
            Some(n) => Err(ModelError::Session(format!(
                "a context of {n_ctx} tokens is more than the {n} positions that the model has learned; give at most {n} \
                 (-c {n}, or n_ctx: {n} in SessionOptions), or 0 for the trained size"
            ))),
            None => Ok(n_ctx),
        }
    }
}

/// What one layer keeps for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Key and value heads.
    pub n_head_kv: usize,
    /// Elements of a key.
    pub head_dim_k: usize,
    /// Elements of a value.
    pub head_dim_v: usize,
}

/// One row of the table of architectures.
#[derive(Clone, Copy, Debug)]
pub struct ArchitectureRow {
    /// The name in `general.architecture`.
    pub name: &'static str,
    /// The models that are known to be of it.
    pub models: &'static str,
    /// Reads the hyper-parameters; errors name the key.
    pub read: fn(&Keys<'_>) -> Result<Box<dyn Architecture>, ModelError>,
}
