//! Embeddings: one vector for a text, from the hidden states of its tokens.

use super::Session;
use crate::model::{Model, ModelError, SequenceId};

/// The reduction of a text's hidden states to its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The mean of all hidden states.
    Mean,
    /// The last token's hidden state, the only one that depends on the whole text if attention is causal.
    Last,
    /// The first token's hidden state, as models with bidirectional attention are trained to use (CLS).
    Cls,
}

impl Pooling {
    /// All kinds of pooling.
    pub const ALL: [Pooling; 3] = [Pooling::Mean, Pooling::Last, Pooling::Cls];

    /// The name: `mean`, `last` or `cls`.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Last => "last",
            Pooling::Cls => "cls",
        }
    }

    /// The pooling that a model's file requests with `ARCHITECTURE.pooling_type` (0 none, 1 mean, 2 CLS, 3 last, 4
    /// rank); the mean if it requests none.
    ///
    /// # Errors
    /// [`ModelError::Pooling`] for an unknown number, and for that of a reranking model, which scores pairs of texts.
    /// [`ModelError::Metadata`] if the key is not a number.
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
    /// The embedding of a text, `n_embd` numbers: the hidden states after the model's last norm, pooled. It is computed
    /// in chunks of at most `ubatch`, in a temporary sequence.
    ///
    /// # Errors
    /// [`ModelError::NoTokens`], [`ModelError::NoFreeSequence`]; [`ModelError::ContextFull`] if the text is too long.
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
        let n_embd = self.model().architecture().shape().n_embd;
        let mut pooled = Pooled::new(pooling, n_embd, tokens.len());
        self.all_states(id, tokens, |state| pooled.add(state))?;
        Ok(pooled.vector())
    }
}

/// The embedding of a text whose hidden states arrive one by one.
#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    pooling: Pooling,
    sum: Vec<f64>,
    n: usize,
    n_tokens: usize,
}

impl Pooled {
    /// Begins with a text of `n_tokens` tokens.
    pub(crate) fn new(pooling: Pooling, n_embd: usize, n_tokens: usize) -> Pooled {
        Pooled { pooling, sum: vec![0.0; n_embd], n: 0, n_tokens }
    }

    /// Adds the next token's hidden state.
    pub(crate) fn add(&mut self, state: &[f32]) {
        self.n += 1;
        let takes = match self.pooling {
            Pooling::Mean => true,
            Pooling::Cls => self.n == 1,
            Pooling::Last => self.n == self.n_tokens,
        };
        if takes {
            self.sum.iter_mut().zip(state).for_each(|(sum, &x)| *sum += f64::from(x));
        }
    }

    /// The embedding, after the last token.
    pub(crate) fn vector(&self) -> Vec<f32> {
        let of = if self.pooling == Pooling::Mean { self.n as f64 } else { 1.0 };
        self.sum.iter().map(|sum| (sum / of) as f32).collect()
    }
}

/// Scales a vector to the L2 norm 1, unless its norm is 0. The cosine of two such vectors is their dot product.
pub fn l2_normalize(x: &mut [f32]) {
    let norm = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}
