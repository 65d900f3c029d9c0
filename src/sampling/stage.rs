//! A sampler of the chain: the settings that describe it, and the stage at work in one text.

use super::candidates::Candidates;
use super::{Needs, ParamError, Parameter, Rng};
use crate::text::Tokenizer;

/// The settings of a stage: what it is called, what it is told, and whether it acts.
pub(super) trait Settings {
    /// Its name, as the command line's `--samplers` spells it.
    fn name() -> &'static str
    where
        Self: Sized;

    /// Other spellings of its name, with `_` for `-`.
    fn aliases() -> &'static [&'static str]
    where
        Self: Sized,
    {
        &[]
    }

    /// Its parameters, with their ranges, their help and their values.
    fn parameters(&mut self) -> Vec<Parameter<'_>>;

    /// Checks what the ranges of the parameters do not say.
    fn check(&self) -> Result<(), ParamError> {
        Ok(())
    }

    /// Whether it can change anything.
    fn acts(&self) -> bool;

    /// Whether the most probable token is always among those that it keeps, and stays the most probable.
    fn keeps_largest(&self) -> bool {
        false
    }

    /// Whether it leaves the most probable token alone, whatever the logits.
    fn takes_largest(&self) -> bool {
        false
    }

    /// Whether it only changes scores or rules tokens out, each by itself: [`ActiveStage::change_scores`] does its work
    /// on the whole vocabulary.
    fn changes_scores(&self) -> bool {
        false
    }

    /// Whether [`ActiveStage::change_scores`] rules tokens out, as −∞.
    fn rules_out(&self) -> bool {
        false
    }

    /// Whether [`ActiveStage::gather`] does its work on the whole vocabulary: then the most candidates that there are
    /// meanwhile, and the most that are left.
    fn gathers(&self, _n_vocab: usize) -> Option<(usize, usize)> {
        None
    }

    /// Whether it takes candidates in an order, for which it needs [`Candidates::keep_until`]'s working memory.
    fn sorts(&self) -> bool {
        false
    }

    /// The part of the logits that is enough where it is the first stage.
    fn needs(&self, _n_vocab: usize) -> Needs {
        Needs::Logits
    }

    /// The stage at work, at the start of a text of this tokenizer's tokens.
    fn start(&self, tokenizer: Option<&Tokenizer>) -> Box<dyn ActiveStage>;

    /// Settings under which it acts, also on candidates alone.
    #[cfg(test)]
    fn strategy() -> proptest::strategy::BoxedStrategy<Self>
    where
        Self: Sized;

    /// Its definition, plainly and in f64, after a text.
    #[cfg(test)]
    fn reference(&self, chain: &mut super::tests::Chain, text: &[u32]);
}

/// A stage at work. Those that look at no text have only [`apply`](Self::apply).
pub(super) trait ActiveStage: Send + Sync {
    /// Does its work on the scores of the whole vocabulary.
    fn change_scores(&mut self, _scores: &mut [f32]) {}

    /// Makes candidates of the scores of the whole vocabulary: those that it keeps.
    fn gather(&mut self, scores: &[f32], candidates: &mut Candidates) {
        candidates.take_all(scores);
    }

    /// Does its work on candidates.
    fn apply(&mut self, candidates: &mut Candidates, rng: &mut Rng);

    /// Takes the next token of the text.
    fn accept(&mut self, _token: u32) {}

    /// Takes back the last `n` tokens, at most [`MAX_REWIND`](super::history::MAX_REWIND) and those since the last
    /// [`clear`](Self::clear).
    fn rewind(&mut self, _n: usize) {}

    /// Forgets the text.
    fn clear(&mut self) {}

    /// The same stage at the same place of the text.
    fn boxed(&self) -> Box<dyn ActiveStage>;
}

impl Clone for Box<dyn ActiveStage> {
    fn clone(&self) -> Box<dyn ActiveStage> {
        self.boxed()
    }
}
