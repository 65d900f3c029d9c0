//! The chain: from logits to a token.
//!
//! Order: the logit bias, the stages, the draw. Of equal logits the lowest id comes first. The same seed, logits and
//! history give the same token; nothing allocates after construction.
//!
//! The scores of the whole vocabulary stay an array of logits as long as stages only change them; the first stage that
//! needs more makes candidates of them. A temperature is kept beside the logits as their factor.

use super::candidates::{Candidate, Candidates, Scratch, by_logit, subtract};
use super::history::Past;
use super::mirostat::{Mirostat, keep_at_most_surprising};
use super::stage::ActiveStage;
use super::top_k::MOST_NEEDED;
use super::{ParamError, Rng, SampleError, SamplerParams};
use crate::text::Tokenizer;

/// The logits that a sampler needs; the others can stay on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Needs {
    /// All logits.
    #[default]
    Logits,
    /// The id of the largest; of equal ones the lowest.
    Largest,
    /// The ids and values of this many largest logits, largest first, of equal ones the lowest id first.
    Top(usize),
}

/// The state that each draw changes.
#[derive(Clone)]
struct Chance {
    rng: Rng,
    /// Mirostat's µ: the largest surprise that a token may have, in bits.
    mu: f64,
}

/// Chooses tokens, and records accepted ones for the stages. A clone continues independently from the same point.
#[derive(Clone)]
pub struct Sampler {
    params: SamplerParams,
    n_vocab: usize,
    needs: Needs,
    /// The number of needed logits that are left after the bias.
    kept: usize,
    /// The stages that can change the choice, in order.
    stages: Vec<Box<dyn ActiveStage>>,
    /// Number of leading stages that only change scores, and whether one of them rules tokens out.
    n_changing: usize,
    rules_out: bool,
    /// True if the next stage makes candidates of the scores itself.
    gathers: bool,
    /// The logits after the bias and the leading stages.
    scores: Scratch<f32>,
    candidates: Candidates,
    chance: Chance,
    /// The state when the last token was accepted, and before each token that can be rewound.
    chance_accepted: Chance,
    chances: Past<Chance>,
}

impl Sampler {
    /// A sampler over `n_vocab` tokens without their texts; DRY cannot have sequence breakers.
    ///
    /// # Errors
    /// [`ParamError`] if a setting is out of range, `n_vocab` is 0 or exceeds 32-bit ids, or DRY acts and has sequence
    /// breakers.
    pub fn new(params: SamplerParams, n_vocab: usize) -> Result<Sampler, ParamError> {
        Sampler::with(params, n_vocab, None)
    }

    /// A sampler over the `n_vocab` tokens of a model, with their texts from the tokenizer.
    ///
    /// # Errors
    /// [`ParamError`] if a setting is out of range, or `n_vocab` is 0 or exceeds 32-bit ids.
    pub fn for_tokenizer(
        params: SamplerParams,
        n_vocab: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Sampler, ParamError> {
        Sampler::with(params, n_vocab, Some(tokenizer))
    }

    fn with(
        params: SamplerParams,
        n_vocab: usize,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Sampler, ParamError> {
        params.check()?;
        match n_vocab {
            0 => return Err(ParamError::EmptyVocabulary),
            _ if u32::try_from(n_vocab).is_err() => return Err(ParamError::VocabularyTooLarge(n_vocab)),
            _ => {}
        }
        if tokenizer.is_none() && params.dry.needs_text() {
            return Err(ParamError::BreakersWithoutText);
        }
        if let Some(&(token, _)) = params.logit_bias.iter().find(|(token, _)| *token as usize >= n_vocab) {
            return Err(ParamError::BiasedToken { token, n_vocab });
        }
        let active = params.active();
        let settings = || active.iter().map(|&stage| params.stage(stage));
        let n_changing = settings().take_while(|stage| stage.changes_scores()).count();
        // The stage that makes candidates of the scores bounds their number.
        let gathered = settings().nth(n_changing).and_then(|stage| stage.gathers(n_vocab));
        let (most, left) = gathered.unwrap_or((n_vocab, n_vocab));
        let in_order = if settings().any(|stage| stage.sorts()) { left } else { 0 };
        let first = settings().next().filter(|_| params.mirostat.is_none());
        let unbiased = first.map_or(Needs::Logits, |first| first.needs(n_vocab));
        let chance = Chance { rng: Rng::new(params.seed), mu: first_mu(&params) };
        Ok(Sampler {
            n_vocab,
            needs: biased(unbiased, &params.logit_bias, n_vocab),
            kept: unbiased.count(n_vocab),
            stages: settings().map(|stage| stage.start(tokenizer)).collect(),
            n_changing,
            rules_out: settings().take(n_changing).any(|stage| stage.rules_out()),
            gathers: gathered.is_some(),
            scores: Scratch::with_capacity(n_vocab),
            candidates: Candidates::with_room(most, in_order, params.min_keep),
            chances: Past::new(&chance),
            chance_accepted: chance.clone(),
            chance,
            params,
        })
    }

    /// The settings.
    pub fn params(&self) -> &SamplerParams {
        &self.params
    }

    /// The least part of the logits that the sampler needs.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Records a token of the text, of the prompt and the answer alike.
    pub fn accept(&mut self, token: u32) {
        self.chances.push(&self.chance_accepted);
        self.chance_accepted.clone_from(&self.chance);
        self.stages.iter_mut().for_each(|stage| stage.accept(token));
    }

    /// Rewinds the last `n` accepted tokens: the penalties' history, the random state and Mirostat's µ return to their
    /// values right after the token before them was accepted, so the same draws come again. `n` = 0 undoes only the
    /// draws since the last accepted token.
    ///
    /// At most the last 256 tokens can be rewound, back to the last [`forget`](Self::forget) or [`reset`](Self::reset).
    ///
    /// # Errors
    /// [`SampleError::Rewind`] if `n` is larger; nothing changes then.
    pub fn rewind(&mut self, n: usize) -> Result<(), SampleError> {
        let kept = self.chances.len();
        if n > kept {
            return Err(SampleError::Rewind { asked: n, kept });
        }
        if let Some(chance) = self.chances.rewind(n) {
            self.chance_accepted.clone_from(chance);
        }
        self.chance.clone_from(&self.chance_accepted);
        self.stages.iter_mut().for_each(|stage| stage.rewind(n));
        Ok(())
    }

    /// Forgets the text: the penalties' history and Mirostat's µ. The random state is kept.
    pub fn forget(&mut self) {
        self.stages.iter_mut().for_each(|stage| stage.clear());
        self.chance.mu = first_mu(&self.params);
        self.start();
    }

    /// Starts a text, with an empty history.
    fn start(&mut self) {
        self.chances.clear();
        self.chance_accepted.clone_from(&self.chance);
    }

    /// Forgets the text, and reseeds the random numbers.
    pub fn reset(&mut self) {
        self.forget();
        self.chance.rng = Rng::new(self.params.seed);
        self.start();
    }

    /// Chooses a token without [`accept`](Self::accept)ing it.
    ///
    /// # Errors
    /// [`SampleError`] for a number of logits other than `n_vocab`, a NaN or +∞, or if all are −∞ after the bias.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        self.distribution(logits)?;
        self.draw()
    }

    /// Chooses a token as [`sample`](Self::sample) does, from the largest logits in the order of [`Needs::Top`]: the
    /// same token for the same logits. Logits beyond [`Sampler::needs`] change nothing.
    ///
    /// # Errors
    /// As [`sample`](Self::sample), for the given candidates; [`SampleError::TooFew`] for fewer than are needed.
    pub fn sample_top(&mut self, ids: &[i32], logits: &[f32]) -> Result<u32, SampleError> {
        let needed = self.needs.count(self.n_vocab);
        let found = match self.needs {
            // A list of the largest logits cannot replace all of them in vocabulary order.
            Needs::Logits => 0,
            _ => ids.len().min(logits.len()),
        };
        if found < needed {
            return Err(SampleError::TooFew { found: ids.len(), needed });
        }
        let (ids, logits) = (&ids[..needed], &logits[..needed]);
        let possible = |logit: f32| logit < f32::INFINITY;
        if let Some((&id, _)) = ids.iter().zip(logits).find(|(_, logit)| !possible(**logit)) {
            return Err(SampleError::NotFinite { token: id as u32 });
        }
        let candidate = |(&id, &logit): (&i32, &f32)| Candidate { id: id as u32, logit: logit + 0.0, p: 0.0 };
        self.candidates.scale = 1.0;
        self.candidates.list.clear();
        self.candidates.list.extend(ids.iter().zip(logits).map(candidate));
        self.bias_candidates();
        if self.candidates.list.iter().all(|candidate| candidate.logit == f32::NEG_INFINITY) {
            return Err(SampleError::NothingPossible);
        }
        self.filter(1);
        self.draw()
    }

    /// Adds the bias to the needed candidates, and keeps the largest of them.
    fn bias_candidates(&mut self) {
        if self.params.logit_bias.is_empty() {
            return;
        }
        for &(token, bias) in &self.params.logit_bias {
            for candidate in self.candidates.list.iter_mut().filter(|candidate| candidate.id == token) {
                add_bias(&mut candidate.logit, bias);
            }
        }
        self.candidates.list.sort_unstable_by(by_logit);
        self.candidates.list.truncate(self.kept);
    }

    /// Draws one of the remaining candidates.
    fn draw(&mut self) -> Result<u32, SampleError> {
        let list = &self.candidates.list;
        let mut chosen = list.first().copied();
        if list.len() > 1 {
            let mut rest = self.chance.rng.next_unit();
            // Rounding may leave the sum just below 1: then the last possible token is taken.
            for &candidate in list.iter().filter(|candidate| candidate.p > 0.0) {
                chosen = Some(candidate);
                if rest < candidate.p {
                    break;
                }
                rest -= candidate.p;
            }
        }
        let chosen = chosen.ok_or(SampleError::NothingPossible)?;
        if let Some(mirostat) = self.params.mirostat {
            self.chance.mu = mirostat.next_mu(self.chance.mu, chosen.p);
        }
        Ok(chosen.id)
    }

    /// The tokens that [`sample`](Self::sample) would choose from, with their probabilities. Their order is unspecified
    /// but deterministic. XTC draws a random number here if it acts.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn distribution(&mut self, logits: &[f32]) -> Result<&[Candidate], SampleError> {
        self.load(logits)?;
        self.candidates.scale = 1.0;
        let (changing, others) = self.stages.split_at_mut(self.n_changing);
        changing.iter_mut().for_each(|stage| stage.change_scores(&mut self.scores));
        match others.first_mut().filter(|_| self.gathers) {
            Some(stage) => stage.gather(&self.scores, &mut self.candidates),
            None => self.candidates.take_all(&self.scores),
        }
        if self.rules_out {
            self.candidates.list.retain(|candidate| candidate.logit > f32::NEG_INFINITY);
        }
        self.filter(self.n_changing + usize::from(self.gathers));
        Ok(&self.candidates.list)
    }

    /// Applies the stages from number `first` on to the candidates, and sets their probabilities.
    fn filter(&mut self, first: usize) {
        for stage in &mut self.stages[first..] {
            stage.apply(&mut self.candidates, &mut self.chance.rng);
        }
        if self.params.mirostat.is_some() {
            keep_at_most_surprising(&mut self.candidates, self.chance.mu);
        }
        self.candidates.softmax();
    }

    /// Checks and copies the logits, and adds the bias.
    fn load(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        if logits.len() != self.n_vocab {
            return Err(SampleError::Length { found: logits.len(), expected: self.n_vocab });
        }
        let possible = |logit: f32| logit < f32::INFINITY;
        // No early exit, so that the loop is vectorized: the error is rare.
        let all_possible = logits.iter().fold(true, |all, &logit| all & possible(logit));
        if !all_possible && let Some(token) = logits.iter().position(|&logit| !possible(logit)) {
            return Err(SampleError::NotFinite { token: token as u32 });
        }
        self.scores.clear();
        // Adding 0 turns -0 into 0, so that the two tie and the lower id wins.
        self.scores.extend(logits.iter().map(|logit| logit + 0.0));
        for &(token, bias) in &self.params.logit_bias {
            if let Some(score) = self.scores.get_mut(token as usize) {
                add_bias(score, bias);
            }
        }
        if self.scores.iter().all(|&score| score == f32::NEG_INFINITY) {
            return Err(SampleError::NothingPossible);
        }
        Ok(())
    }
}

impl Needs {
    /// The number of needed logits.
    fn count(self, n_vocab: usize) -> usize {
        match self {
            Needs::Logits => n_vocab,
            Needs::Largest => 1,
            Needs::Top(k) => k,
        }
    }
}

/// The needs of a sampler with a bias. A bias that only lowers logits moves at most as many tokens out of the largest
/// ones as it names, so these are found among so many more; a raised logit may be anywhere.
fn biased(needs: Needs, bias: &[(u32, f32)], n_vocab: usize) -> Needs {
    if bias.is_empty() || needs == Needs::Logits {
        return needs;
    }
    let raises = bias.iter().any(|&(_, bias)| bias > 0.0);
    match needs.count(n_vocab).saturating_add(bias.len()) {
        k if k <= MOST_NEEDED.min(n_vocab) && !raises => Needs::Top(k),
        _ => Needs::Logits,
    }
}

fn add_bias(logit: &mut f32, bias: f32) {
    match bias {
        f32::NEG_INFINITY => *logit = bias,
        _ => subtract(logit, -f64::from(bias)),
    }
}

/// Mirostat's µ at the start of a text.
fn first_mu(params: &SamplerParams) -> f64 {
    params.mirostat.map_or(0.0, Mirostat::first_mu)
}
