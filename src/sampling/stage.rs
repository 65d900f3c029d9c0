//! A sampler of the chain: its settings, and the stage at work on a text.

use super::candidates::Candidates;
use super::{Needs, ParamError, Parameter, Rng};
use crate::text::Tokenizer;

/// The settings of a stage, and the stage's properties under them.
pub(super) trait Settings {
    /// The stage's name, as in the command line's `--samplers`.
    fn name() -> &'static str
    where
        Self: Sized;

    /// Alternative spellings of the name, with `_` for `-`.
    fn aliases() -> &'static [&'static str]
    where
        Self: Sized,
    {
        &[]
    }

    /// The parameters, with ranges, help and values.
    fn parameters(&mut self) -> Vec<Parameter<'_>>;

    /// Checks beyond the ranges of the parameters.
    fn check(&self) -> Result<(), ParamError> {
        Ok(())
    }

    /// True if the stage can change anything.
    fn acts(&self) -> bool;

    /// True if the stage always keeps the most probable token, as the most probable.
    fn keeps_largest(&self) -> bool {
        false
    }

    /// True if the stage keeps only the most probable token, whatever the logits.
    fn takes_largest(&self) -> bool {
        false
    }

    /// True if the stage only changes scores or rules tokens out, each independently: [`ActiveStage::change_scores`]
    /// runs on the whole vocabulary.
    fn changes_scores(&self) -> bool {
        false
    }

    /// True if [`ActiveStage::change_scores`] rules tokens out, as −∞.
    fn rules_out(&self) -> bool {
        false
    }

    /// For a stage whose [`ActiveStage::gather`] runs on the whole vocabulary: the most candidates at any time, and the
    /// most afterwards.
    fn gathers(&self, _n_vocab: usize) -> Option<(usize, usize)> {
        None
    }

    /// True if the stage takes candidates in an order, using [`Candidates::keep_until`]'s working memory.
    fn sorts(&self) -> bool {
        false
    }

    /// The part of the logits that suffices if this is the first stage.
    fn needs(&self, _n_vocab: usize) -> Needs {
        Needs::Logits
    }

    /// The stage at work, at the start of a text in the tokenizer's vocabulary.
    fn start(&self, tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage>;

    /// Settings under which the stage acts, also on candidates without the full logits.
    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<Self>
    where
        Self: Sized;

    /// The stage's definition after a text, in plain f64.
    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, text: &[u32]);
}

/// A stage at work. Stages that do not look at the text implement only [`apply`](Self::apply).
pub(super) trait ActiveStage: Send + Sync {
    /// Applies the stage to the scores of the whole vocabulary.
    fn change_scores(&mut self, _scores: &mut [f32]) {}

    /// Makes candidates of the scores that the stage keeps.
    fn gather(&mut self, scores: &[f32], candidates: &mut Candidates) {
        candidates.take_all(scores);
    }

    /// Applies the stage to candidates.
    fn apply(&mut self, candidates: &mut Candidates, rng: &mut Rng);

    /// Records the next token of the text.
    fn accept(&mut self, _token: u32) {}

    /// Rewinds the last `n` tokens: at most [`MAX_REWIND`](super::history::MAX_REWIND), and not beyond the last
    /// [`clear`](Self::clear).
    fn rewind(&mut self, _n: usize) {}

    /// Forgets the text.
    fn clear(&mut self) {}

    /// A copy of the stage with its state.
    fn boxed(&self) -> Box<dyn ActiveStage>;
}

impl Clone for Box<dyn ActiveStage> {
    fn clone(&self) -> Box<dyn ActiveStage> {
        self.boxed()
    }
}
