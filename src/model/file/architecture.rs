//! What an architecture tells about itself.

use std::fmt;

use super::Keys;
use crate::model::{Head, ModelBuilder, ModelError};

/// An architecture with its hyper-parameters. The files in `graphs/` implement it.
pub trait Architecture: fmt::Debug + Send + Sync {
    /// The sizes that a session must know.
    fn shape(&self) -> ModelShape;

    /// Builds the graph of one batch and gives the model's end, which [`ModelBuilder::head`] makes of the last layer's
    /// output.
    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g>;
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
    /// Layers.
    pub n_layer: usize,
    /// Positions that a row carries for its rotary embedding, 1 to 4 (M-RoPE: Wang et al., "Qwen2-VL", 2024).
    pub n_pos: usize,
}

impl ModelShape {
    /// The context that a session has where so many tokens are asked for; 0: the trained size.
    ///
    /// # Errors
    /// [`ModelError::Positions`] for more tokens than there are positions.
    pub(in crate::model) fn context(&self, n_ctx: usize) -> Result<usize, ModelError> {
        let n_ctx = if n_ctx == 0 { self.n_ctx_train } else { n_ctx };
        match self.n_positions.filter(|&n| n < n_ctx) {
            Some(n_positions) => Err(ModelError::Positions { n_ctx, n_positions }),
            None => Ok(n_ctx),
        }
    }
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

/// The architectures that files are looked up in: the built-in ones, and a user's own.
#[derive(Clone, Debug)]
pub struct Architectures {
    rows: Vec<ArchitectureRow>,
}

impl Architectures {
    /// Those of [`graphs::TABLE`](crate::graphs::TABLE).
    pub fn built_in() -> Architectures {
        Architectures { rows: crate::graphs::TABLE.to_vec() }
    }

    /// The same with one more, which takes the place of another one of its name.
    #[must_use]
    pub fn with(mut self, row: ArchitectureRow) -> Architectures {
        self.rows.retain(|known| known.name != row.name);
        self.rows.push(row);
        self
    }

    /// The architecture of this name.
    ///
    /// # Errors
    /// [`ModelError::Architecture`] lists those that there are.
    pub(super) fn find(&self, name: &str) -> Result<&ArchitectureRow, ModelError> {
        let known = || self.rows.iter().map(|row| row.name).collect();
        let found = self.rows.iter().find(|row| row.name == name);
        found.ok_or_else(|| ModelError::Architecture { name: name.to_string(), known: known() })
    }
}

impl Default for Architectures {
    fn default() -> Architectures {
        Architectures::built_in()
    }
}
