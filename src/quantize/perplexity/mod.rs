//! How well a model foretells a text, and how far it is from another model.
//!
//! The text's tokens are cut into chunks of `n_ctx`. Each is given to the model alone, its first token replaced by the
//! BOS token where the tokenizer adds one, and the tokens of its second half are what the model has to foretell: each
//! from all tokens of the chunk before it. Perplexity is the exponential of their mean negative log-likelihood. This is
//! the definition of llama.cpp's tool, so that numbers can be compared.
//!
//! - `statistics`: means with their standard errors, of likelihoods and of divergences.
//! - `base`: the file that holds the log-probabilities of a model, to compare others with.

mod base;
mod statistics;

pub use base::{BaseError, BaseHeader, BaseReader, BaseWriter};
pub use statistics::{Divergences, Likelihood, LogProbs, Mean, Summary};

use crate::model::{ModelError, SequenceId, Session};
use crate::sampling::SampleError;

/// The tokens of a text, cut into chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    tokens: Vec<u32>,
    n_ctx: usize,
    bos: Option<u32>,
}

impl Chunks {
    /// The fewest tokens of a chunk: the first two are given, so that one is left to be foretold.
    pub const MIN_CTX: usize = 3;

    /// Cuts tokens into chunks of `n_ctx`; what is left at the end is not used. `bos` replaces the first token of each
    /// chunk.
    ///
    /// # Errors
    /// `n_ctx` is below [`Chunks::MIN_CTX`], or the tokens do not fill two chunks: fewer say little.
    pub fn new(mut tokens: Vec<u32>, n_ctx: usize, bos: Option<u32>) -> Result<Chunks, ModelError> {
        if n_ctx < Chunks::MIN_CTX {
            let reason = format!("chunks of {n_ctx} tokens; they must have at least {}", Chunks::MIN_CTX);
            return Err(ModelError::Session(reason));
        }
        let n_chunk = tokens.len() / n_ctx;
        if n_chunk < 2 {
            let reason = format!(
                "the text has {} tokens; two chunks of {n_ctx} take {}: take a longer text or a smaller context",
                tokens.len(),
                n_ctx.saturating_mul(2)
            );
            return Err(ModelError::Session(reason));
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

    /// Tokens of a chunk that are to be foretold.
    pub fn scored(&self) -> usize {
        self.n_ctx - self.n_ctx / 2 - 1
    }

    /// Gives chunk `i` to the model, in a sequence that is emptied first, and each token to be foretold with the logits
    /// before it to `row`, in order. There is no chunk past the last: nothing is done.
    ///
    /// # Errors
    /// As [`Session::prefill`]; a logit is NaN or +∞: a mean with it says nothing.
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
    fn what_does_not_fill_a_chunk_is_left_out() {
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
