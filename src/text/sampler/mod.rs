//! Choosing the next token from logits.
//!
//! In order: the logit bias, the stages of [`SamplerParams::order`], the draw. Equal logits: the lowest id. The same
//! seed, logits and history give the same token; after construction nothing allocates.
//!
//! The scores of a whole vocabulary stay an array of logits for as long as the stages only change them; the first
//! stage that needs more makes candidates of them. A temperature is kept beside the logits, as what they are
//! multiplied by.

mod dry;
mod filters;
mod history;
mod params;

use super::{Rng, Tokenizer};
use dry::Dry;
use filters::{Keep, Keyed, at_most_surprising, entropy, keep_largest, room, softmax};
use history::History;
pub use params::{DryParams, Mirostat, ParamError, SamplerParams, Stage};

pub(super) use filters::top_k;

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit after the bias and the penalties.
    pub logit: f32,
    /// Its probability among the candidates that are left.
    pub p: f64,
}

/// Why no token can be chosen. Logits like these mean that a computation went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// As many logits are needed as there are tokens.
    #[error("got {found} logits for a vocabulary of {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// The size of the vocabulary.
        expected: usize,
    },
    /// A logit that no computation should give. (−∞ is fine: that token is ruled out.)
    #[error("the logit of token {token} is NaN or +infinity")]
    NotFinite {
        /// Its token.
        token: u32,
    },
    /// Every token is ruled out.
    #[error("every logit is -infinity: no token is possible")]
    NothingPossible,
}

/// What a sampler must know of the logits: where they lie far away, the rest can stay there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needs {
    /// All of them.
    #[default]
    Logits,
    /// The id of the largest, of equal ones the lowest.
    Largest,
    /// The ids and values of so many largest, the largest first, of equal ones the lowest id first.
    Top(usize),
}

/// The most candidates that are worth choosing where the logits are.
const MOST_TOP: usize = 256;

/// Chooses tokens, and remembers those the penalties look at.
pub struct Sampler {
    params: SamplerParams,
    /// The stages that can change what is chosen.
    stages: Vec<Stage>,
    n_vocab: usize,
    rng: Rng,
    /// The logits after the bias and what the first stages did to them.
    scores: Vec<f32>,
    candidates: Vec<Candidate>,
    /// What the temperature multiplies the logits by.
    scale: f64,
    heap: Vec<Keyed>,
    history: History,
    dry: Dry,
    /// Mirostat's µ: the most surprise that a token may have, in bits.
    mu: f64,
}

impl Sampler {
    /// A sampler over `n_vocab` tokens, of which it knows no text: DRY has no sequence breakers here.
    ///
    /// # Errors
    /// [`ParamError`] if a setting is out of its range, `n_vocab` is 0 or more than ids can name, or DRY acts and has
    /// sequence breakers.
    pub fn new(params: SamplerParams, n_vocab: usize) -> Result<Sampler, ParamError> {
        if params.dry.acts() && !params.dry.sequence_breakers.is_empty() {
            return Err(ParamError::BreakersWithoutText);
        }
        Sampler::with(params, n_vocab, None)
    }

    /// A sampler over the `n_vocab` tokens of a model, whose texts are the tokenizer's.
    ///
    /// # Errors
    /// [`ParamError`] if a setting is out of its range or `n_vocab` is 0 or more than ids can name.
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
        if let Some(&(token, _)) = params.logit_bias.iter().find(|(token, _)| *token as usize >= n_vocab) {
            return Err(ParamError::BiasedToken { token, n_vocab });
        }
        let stages = params.active();
        // The first stage that makes candidates of the scores says how many there can be.
        let changes = |stage: &&Stage| matches!(stage, Stage::Penalties | Stage::Dry | Stage::TopNSigma);
        let (most, heaped) = match stages.iter().find(|stage| !changes(stage)) {
            Some(Stage::TopK) => (room(params.top_k, n_vocab), params.top_k.min(n_vocab)),
            Some(Stage::Temperature) if params.temperature == 0.0 && params.dynatemp_range == 0.0 => (1, 0),
            _ => (n_vocab, n_vocab),
        };
        let needs_heap = stages.iter().any(|stage| matches!(stage, Stage::TopP | Stage::TypicalP));
        let acts = |stage| stages.contains(&stage);
        Ok(Sampler {
            rng: Rng::new(params.seed),
            scores: Vec::with_capacity(n_vocab),
            candidates: Vec::with_capacity(most),
            scale: 1.0,
            heap: Vec::with_capacity(if needs_heap { heaped } else { 0 }),
            history: History::new(if acts(Stage::Penalties) { params.penalty_last_n } else { 0 }),
            dry: match acts(Stage::Dry) {
                true => Dry::new(&params.dry, tokenizer),
                false => Dry::new(&DryParams::default(), None),
            },
            mu: first_mu(&params),
            n_vocab,
            stages,
            params,
        })
    }

    /// The settings.
    pub fn params(&self) -> &SamplerParams {
        &self.params
    }

    /// What [`Sampler::sample`] would need of the next logits at least.
    pub fn needs(&self) -> Needs {
        let k = self.params.top_k.min(self.n_vocab);
        if !self.params.logit_bias.is_empty() || self.params.mirostat.is_some() {
            return Needs::Logits;
        }
        match self.stages.first() {
            Some(Stage::Temperature) if self.takes_largest() => Needs::Largest,
            Some(Stage::TopK) if k <= MOST_TOP => Needs::Top(k),
            _ => Needs::Logits,
        }
    }

    /// Tells the penalties that this token is now part of the text: prompt and answer alike.
    pub fn accept(&mut self, token: u32) {
        self.history.push(token);
        self.dry.push(token);
    }

    /// Forgets the text: what the penalties look at, and Mirostat's µ. The random numbers go on.
    pub fn forget(&mut self) {
        self.history.clear();
        self.dry.clear();
        self.mu = first_mu(&self.params);
    }

    /// Forgets the text, and starts the random numbers over.
    pub fn reset(&mut self) {
        self.forget();
        self.rng = Rng::new(self.params.seed);
    }

    /// Chooses a token. It does not [`accept`](Self::accept) it.
    ///
    /// # Errors
    /// [`SampleError`] if there are not `n_vocab` logits, if one is NaN or +∞, or if all are −∞, be it by the bias.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        self.distribution(logits)?;
        self.draw()
    }

    /// Chooses a token as [`sample`](Self::sample) does, from the candidates that [`Needs::Top`] asked for: the same
    /// token from the same logits.
    ///
    /// # Errors
    /// As [`sample`](Self::sample), as far as the candidates show it.
    pub fn sample_top(&mut self, ids: &[i32], logits: &[f32]) -> Result<u32, SampleError> {
        let possible = |logit: f32| logit < f32::INFINITY;
        if let Some((&id, _)) = ids.iter().zip(logits).find(|(_, logit)| !possible(**logit)) {
            return Err(SampleError::NotFinite { token: id as u32 });
        }
        if logits.iter().all(|&logit| logit == f32::NEG_INFINITY) {
            return Err(SampleError::NothingPossible);
        }
        self.scale = 1.0;
        self.candidates.clear();
        let candidates = ids.iter().zip(logits);
        let candidate = |(&id, &logit): (&i32, &f32)| Candidate { id: id as u32, logit: logit + 0.0, p: 0.0 };
        self.candidates.extend(candidates.map(candidate));
        self.filter(1);
        self.draw()
    }

    /// Draws one of the candidates.
    fn draw(&mut self) -> Result<u32, SampleError> {
        let mut chosen = self.candidates.first().copied();
        if self.candidates.len() > 1 {
            let mut rest = self.rng.next_unit();
            // Rounding may leave a sum just below 1: then the last token that is possible at all is taken.
            for &candidate in self.candidates.iter().filter(|candidate| candidate.p > 0.0) {
                chosen = Some(candidate);
                if rest < candidate.p {
                    break;
                }
                rest -= candidate.p;
            }
        }
        let chosen = chosen.ok_or(SampleError::NothingPossible)?;
        if let Some(Mirostat { tau, eta }) = self.params.mirostat {
            self.mu -= f64::from(eta) * (-chosen.p.log2() - f64::from(tau));
        }
        Ok(chosen.id)
    }

    /// The tokens that [`sample`](Self::sample) would choose from, with the probabilities it would use.
    /// Their order is not specified, but always the same. XTC, where it acts, takes a random number for it.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn distribution(&mut self, logits: &[f32]) -> Result<&[Candidate], SampleError> {
        self.load(logits)?;
        self.scale = 1.0;
        let done = self.change_scores();
        let done = match self.stages.get(done) {
            Some(Stage::TopK) => {
                top_k(&self.scores, self.params.top_k, &mut self.candidates);
                done + 1
            }
            Some(Stage::Temperature) if self.takes_largest() => {
                self.take_largest();
                self.stages.len()
            }
            _ => {
                top_k(&self.scores, 0, &mut self.candidates);
                done
            }
        };
        if self.stages[..done].contains(&Stage::TopNSigma) {
            self.candidates.retain(|candidate| candidate.logit > f32::NEG_INFINITY);
        }
        self.filter(done);
        Ok(&self.candidates)
    }

    /// Does the stages that only change scores, as far as they come first, and says how many they are.
    fn change_scores(&mut self) -> usize {
        for (done, stage) in self.stages.iter().enumerate() {
            match stage {
                Stage::Penalties => {
                    for (token, count) in self.history.counts() {
                        if let Some(score) = self.scores.get_mut(token as usize) {
                            penalize(&self.params, score, count, 1.0);
                        }
                    }
                }
                Stage::Dry => {
                    for (token, penalty) in self.dry.penalties() {
                        if let Some(score) = self.scores.get_mut(token as usize) {
                            subtract(score, penalty);
                        }
                    }
                }
                Stage::TopNSigma => {
                    let possible = || self.scores.iter().copied().filter(|score| score.is_finite());
                    let lowest = filters::sigma_bar(possible, self.params.top_n_sigma);
                    for score in self.scores.iter_mut().filter(|score| f64::from(**score) < lowest) {
                        *score = f32::NEG_INFINITY;
                    }
                }
                _ => return done,
            }
        }
        self.stages.len()
    }

    /// Does the stages from number `first` on with the candidates, and gives them their probabilities.
    fn filter(&mut self, first: usize) {
        for i in first..self.stages.len() {
            self.filter_by(self.stages[i]);
        }
        if self.params.mirostat.is_some() {
            at_most_surprising(&mut self.candidates, self.mu, self.scale);
        }
        softmax(&mut self.candidates, self.scale);
    }

    fn filter_by(&mut self, stage: Stage) {
        let params = &self.params;
        let candidates = &mut self.candidates;
        let keep = Keep { scale: self.scale, at_least: params.min_keep };
        match stage {
            Stage::Penalties => {
                for candidate in candidates {
                    let count = self.history.count(candidate.id);
                    penalize(params, &mut candidate.logit, count, self.scale);
                }
            }
            Stage::Dry => {
                for (token, penalty) in self.dry.penalties() {
                    for candidate in candidates.iter_mut().filter(|candidate| candidate.id == token) {
                        subtract(&mut candidate.logit, penalty / self.scale);
                    }
                }
            }
            Stage::TopNSigma => filters::top_n_sigma(candidates, params.top_n_sigma),
            Stage::TopK => filters::keep_top(candidates, params.top_k),
            Stage::TypicalP => filters::typical(candidates, &mut self.heap, params.typical_p, keep),
            Stage::TopP => filters::top_p(candidates, &mut self.heap, params.top_p, keep),
            Stage::MinP => filters::min_p(candidates, params.min_p, keep),
            Stage::Xtc => {
                if candidates.len() >= 2 && self.rng.next_unit() < f64::from(params.xtc_probability) {
                    filters::xtc(candidates, params.xtc_threshold, keep);
                }
            }
            Stage::Temperature => match self.temperature() {
                0.0 => keep_largest(&mut self.candidates),
                temperature => self.scale /= temperature,
            },
        }
    }

    /// The temperature for these candidates.
    fn temperature(&mut self) -> f64 {
        let (fixed, range) = (f64::from(self.params.temperature), f64::from(self.params.dynatemp_range));
        let possible = self.candidates.iter().filter(|candidate| candidate.logit.is_finite()).count();
        if range == 0.0 || possible < 2 {
            return fixed;
        }
        softmax(&mut self.candidates, self.scale);
        // Rounding may lift an even distribution's share above 1.
        let share = (entropy(&self.candidates) / (possible as f64).ln()).clamp(0.0, 1.0);
        let (low, high) = ((fixed - range).max(0.0), fixed + range);
        low + (high - low) * share.powf(f64::from(self.params.dynatemp_exponent))
    }

    /// Whether the temperature leaves the most probable token alone, whatever the logits.
    fn takes_largest(&self) -> bool {
        self.params.temperature == 0.0 && self.params.dynatemp_range == 0.0
    }

    /// Checks and copies the logits, and adds the bias.
    fn load(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        if logits.len() != self.n_vocab {
            return Err(SampleError::Length { found: logits.len(), expected: self.n_vocab });
        }
        let possible = |logit: f32| logit < f32::INFINITY;
        // Without an early end, so that the loop can be vectorized: the error is rare.
        let all_possible = logits.iter().fold(true, |all, &logit| all & possible(logit));
        if !all_possible && let Some(token) = logits.iter().position(|&logit| !possible(logit)) {
            return Err(SampleError::NotFinite { token: token as u32 });
        }
        self.scores.clear();
        // Adding 0 turns -0 into 0, which it equals: ties go by id.
        self.scores.extend(logits.iter().map(|logit| logit + 0.0));
        for &(token, bias) in &self.params.logit_bias {
            if let Some(score) = self.scores.get_mut(token as usize) {
                match bias {
                    f32::NEG_INFINITY => *score = bias,
                    _ => subtract(score, -f64::from(bias)),
                }
            }
        }
        if self.scores.iter().all(|&score| score == f32::NEG_INFINITY) {
            return Err(SampleError::NothingPossible);
        }
        Ok(())
    }

    /// Makes the first of the largest scores the only candidate.
    fn take_largest(&mut self) {
        let largest = self.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let first = self.scores.iter().zip(0..).find(|&(&score, _)| score == largest);
        self.candidates.clear();
        self.candidates.extend(first.map(|(&logit, id)| Candidate { id, logit, p: 1.0 }));
    }
}

/// Takes from a logit, if its token is possible.
fn subtract(logit: &mut f32, penalty: f64) {
    if *logit > f32::NEG_INFINITY {
        // Extreme settings overflow; within f32 they still order tokens.
        *logit = (f64::from(*logit) - penalty).clamp(f32::MIN.into(), f32::MAX.into()) as f32 + 0.0;
    }
}

/// The three penalties on a token that is `count` times in the window, its logit being multiplied by `scale` later.
fn penalize(params: &SamplerParams, logit: &mut f32, count: u32, scale: f64) {
    if count > 0 && *logit > f32::NEG_INFINITY {
        let repeat = f64::from(params.repeat_penalty);
        let (frequency, presence) = (f64::from(params.frequency_penalty), f64::from(params.presence_penalty));
        let repeated = if *logit > 0.0 { f64::from(*logit) / repeat } else { f64::from(*logit) * repeat };
        *logit = repeated.clamp(f32::MIN.into(), f32::MAX.into()) as f32;
        subtract(logit, (f64::from(count) * frequency + presence) / scale);
    }
}

/// Mirostat begins at twice the mean that is wanted.
fn first_mu(params: &SamplerParams) -> f64 {
    params.mirostat.map_or(0.0, |mirostat| 2.0 * f64::from(mirostat.tau))
}
