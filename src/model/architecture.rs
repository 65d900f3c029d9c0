//! The interface of an architecture, its sizes, and the table of architectures.

use std::fmt;

use super::{Head, Keys, ModelBuilder, ModelError};

/// An architecture with its hyper-parameters. The files in `graphs/` implement it.
pub trait Architecture: fmt::Debug + Send + Sync {
    /// The sizes that a session needs.
    fn shape(&self) -> ModelShape;

    /// Builds the graph of one batch and returns the end of the model, which [`ModelBuilder::head`] makes from the last
    /// layer's output.
    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g>;
}

/// The sizes of a model that a session needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// The context that the model was trained with, in tokens.
    pub n_ctx_train: usize,
    /// The number of positions, if they are learned or their scaling is known for so many only; `None`: unlimited.
    pub n_positions: Option<usize>,
    /// Width of the embedding.
    pub n_embd: usize,
    /// The number of layers.
    pub n_layer: usize,
    /// Positions of a row for its rotary embedding, 1 to 4 (M-RoPE: Wang et al., "Qwen2-VL", 2024).
    pub n_pos: usize,
}

impl ModelShape {
    /// The context of a session for which `n_ctx` tokens are requested; 0 requests the trained size.
    ///
    /// # Errors
    /// [`ModelError::Positions`] if the model has fewer positions.
    pub(super) fn context(&self, n_ctx: usize) -> Result<usize, ModelError> {
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
    /// Known models of the architecture.
    pub models: &'static str,
    /// Reads the hyper-parameters; errors name the key.
    pub read: fn(&Keys<'_>) -> Result<Box<dyn Architecture>, ModelError>,
}

/// The architectures among which a file's is looked up: the built-in ones, and a user's own.
#[derive(Clone, Debug)]
pub struct Architectures {
    rows: Vec<ArchitectureRow>,
}

impl Architectures {
    /// The architectures of [`graphs::TABLE`](crate::graphs::TABLE).
    pub fn built_in() -> Architectures {
        Architectures { rows: crate::graphs::TABLE.to_vec() }
    }

    /// Adds an architecture, in place of one with the same name.
    #[must_use]
    pub fn with(mut self, row: ArchitectureRow) -> Architectures {
        self.rows.retain(|known| known.name != row.name);
        self.rows.push(row);
        self
    }

    /// The architecture with this name.
    ///
    /// # Errors
    /// [`ModelError::Architecture`] lists the known names.
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
