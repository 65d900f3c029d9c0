//! Perplexity of a model on a text, and divergence from another model.
//!
//! The text's tokens are split into chunks of `n_ctx`. The model computes each chunk alone, with the first token
//! replaced by the BOS token if the tokenizer adds one. The tokens of its second half are scored, each predicted from
//! all earlier tokens of the chunk. Perplexity is the exponential of their mean negative log-likelihood. This is the
//! definition of llama.cpp's tool, so that the numbers can be compared.
//!
//! - `statistics`: means with their standard errors, of likelihoods and of divergences.
//! - `base`: the file with the log-probabilities of a model, with which other models are compared.

mod base;
mod statistics;

pub use base::{BaseError, BaseHeader, BaseReader, BaseWriter};
pub use statistics::{Divergences, Likelihood, LogProbs, Mean, Summary};

use crate::Remedy;
use crate::model::{ModelError, SequenceId, Session};
use crate::sampling::SampleError;

/// The tokens of a text, split into chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    tokens: Vec<u32>,
    n_ctx: usize,
    bos: Option<u32>,
}

/// The reason why a text cannot be split into chunks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunksError {
    /// Chunks that are too small to score a token.
    #[error("chunks of {n_ctx} tokens; they must have at least {}", Chunks::MIN_CTX)]
    Small {
        /// The requested size in tokens.
        n_ctx: usize,
    },
    /// A text that does not fill two chunks.
    #[error(
        "the text has {n_tokens} tokens; two chunks of {n_ctx} take {}: take a longer text or a smaller context",
        n_ctx.saturating_mul(2)
    )]
    TooFewTokens {
        /// The number of tokens of the text.
        n_tokens: usize,
        /// The size of a chunk in tokens.
        n_ctx: usize,
    },
}

impl ChunksError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            ChunksError::Small { .. } => &[],
            ChunksError::TooFewTokens { .. } => &[Remedy::SmallerContext],
        }
    }
}

impl Chunks {
    /// The smallest chunk: the first two tokens are given, and one is scored.
    pub const MIN_CTX: usize = 3;

    /// Splits tokens into chunks of `n_ctx`; an incomplete chunk at the end is not used. `bos` replaces the first token
    /// of each chunk.
    ///
    /// # Errors
    /// `n_ctx` is below [`Chunks::MIN_CTX`], or the tokens do not fill two chunks, which would be too few for
    /// statistics.
    pub fn new(mut tokens: Vec<u32>, n_ctx: usize, bos: Option<u32>) -> Result<Chunks, ChunksError> {
        if n_ctx < Chunks::MIN_CTX {
            return Err(ChunksError::Small { n_ctx });
        }
        let n_chunk = tokens.len() / n_ctx;
        if n_chunk < 2 {
            return Err(ChunksError::TooFewTokens { n_tokens: tokens.len(), n_ctx });
        }
        tokens.truncate(n_chunk * n_ctx);
        Ok(Chunks { tokens, n_ctx, bos })
    }

    /// The number of chunks.
    pub fn count(&self) -> usize {
        self.tokens.len() / self.n_ctx
    }

    /// Tokens of a chunk.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// All tokens of all chunks, as in the text.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The number of scored tokens of a chunk.
    pub fn scored(&self) -> usize {
        self.n_ctx - self.n_ctx / 2 - 1
    }

    /// Computes chunk `i` in a sequence, which is emptied first, and calls `row` for each scored token in order, with
    /// the logits before it. Past the last chunk it does nothing.
    ///
    /// # Errors
    /// See [`Session::prefill`]; also if a logit is NaN or +∞, since means would be meaningless.
    pub fn score(
        &self,
        session: &mut Session,
        id: SequenceId,
        i: usize,
        mut row: impl FnMut(&[f32], u32),
    ) -> Result<(), ModelError> {
        let Some(chunk) = self.tokens.chunks_exact(self.n_ctx).nth(i) else { return Ok(()) };
        let mut given = chunk.to_vec();
        if let Some(bos) = self.bos {
            given[0] = bos;
        }
        let first = self.n_ctx / 2;
        let _ = session.rewind(id, 0)?;
        session.prefill(id, &given[..first])?;
        let mut targets = chunk[first + 1..].iter();
        let mut wrong = None;
        session.all_logits(id, &given[first..self.n_ctx - 1], |logits| {
            wrong =
                wrong.or_else(|| logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY));
            if let (Some(&target), None) = (targets.next(), wrong) {
                row(logits, target);
            }
        })?;
        match wrong {
            Some(token) => Err(SampleError::NotFinite { token: token as u32 }.into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_chunk_is_left_out() {
        let chunks = Chunks::new((0..23).collect(), 5, None).unwrap();
        assert_eq!((chunks.count(), chunks.tokens().len(), chunks.scored()), (4, 20, 2));
        assert_eq!(Chunks::new(vec![0; 6], Chunks::MIN_CTX, None).unwrap().scored(), 1);
        assert_eq!(Chunks::new(vec![0; 100], 50, None).unwrap().scored(), 24);
    }

    #[test]
    fn too_few_tokens_are_refused() {
        for (tokens, n_ctx) in [(7, 4), (100, 2), (100, 0), (0, 4), (100, usize::MAX)] {
            assert!(Chunks::new(vec![0; tokens], n_ctx, None).is_err(), "{tokens} by {n_ctx}");
        }
    }
}
