//! Embeddings: one vector for a text, from the hidden states of its tokens.

use super::Session;
use crate::model::{Model, ModelError, SequenceId};

/// Which of a text's hidden states make its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The last token's: it is the only one that has seen the whole text if attention is causal.
    Last,
    /// The first token's, which models that see a text from both sides are trained to use (CLS).
    Cls,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Pooling; 3] = [Pooling::Mean, Pooling::Last, Pooling::Cls];

    /// The name: `mean`, `last` or `cls`.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Last => "last",
            Pooling::Cls => "cls",
        }
    }

    /// What a model's file asks for with `ARCHITECTURE.pooling_type` (0 none, 1 mean, 2 CLS, 3 last, 4 rank); the mean
    /// if it asks for none.
    ///
    /// # Errors
    /// [`ModelError::Pooling`] for a number that is no pooling, and for a reranking model's, which makes scores of pairs
    /// of texts. [`ModelError::Metadata`] if the key is no number.
    pub fn of(model: &Model) -> Result<Pooling, ModelError> {
        let key = format!("{}.pooling_type", model.architecture_name());
        match model.gguf().metadata().opt_u64(&key)? {
            None | Some(0 | 1) => Ok(Pooling::Mean),
            Some(2) => Ok(Pooling::Cls),
            Some(3) => Ok(Pooling::Last),
            Some(value) => Err(ModelError::Pooling { key, value }),
        }
    }
}

impl Session {
    /// The embedding of a text, `n_embd` numbers: the hidden states after the model's last norm, pooled. It is computed in
    /// chunks of at most `ubatch`, in a sequence that is open for as long.
    ///
    /// # Errors
    /// [`ModelError::NoTokens`], [`ModelError::NoFreeSequence`]; [`ModelError::ContextFull`] if it is too
    /// long.
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>, ModelError> {
        if tokens.is_empty() {
            return Err(ModelError::NoTokens { wanted: "embedding" });
        }
        let id = self.open()?;
        let pooled = self.pool(id, tokens, pooling);
        self.close(id)?;
        pooled
    }

    fn pool(&mut self, id: SequenceId, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>, ModelError> {
        let mut sum = vec![0f64; self.model().architecture().shape().n_embd];
        let mut n = 0;
        self.all_states(id, tokens, |state| {
            n += 1;
            let takes = match pooling {
                Pooling::Mean => true,
                Pooling::Cls => n == 1,
                Pooling::Last => n == tokens.len(),
            };
            if takes {
                sum.iter_mut().zip(state).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        })?;
        let of = if pooling == Pooling::Mean { n as f64 } else { 1.0 };
        Ok(sum.into_iter().map(|sum| (sum / of) as f32).collect())
    }
}

/// Gives a vector the length 1 (L2), but for one of length 0. The cosine of two such vectors is their product.
pub fn l2_normalize(x: &mut [f32]) {
    let norm = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}
