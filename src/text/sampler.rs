//! Choosing the next token from logits.
//!
//! In order: penalties, top-k, typical, top-p, min-p, temperature, the draw. With temperature 0 the
//! penalties act and the most probable token is taken. Equal logits: the lowest id. The same seed, logits
//! and history give the same token; after construction nothing allocates.

use std::collections::HashMap;

use super::sampler_filters::{Keyed, min_p, room, softmax, top_k, top_p, typical};
use super::{ParamError, Rng, SamplerParams};

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit after the penalties.
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
    n_vocab: usize,
    rng: Rng,
    /// The logits after the penalties.
    scores: Vec<f32>,
    candidates: Vec<Candidate>,
    heap: Vec<Keyed>,
    history: History,
}

/// The last tokens, and how often each is among them.
struct History {
    /// A ring: `next` is the oldest once it is full.
    ring: Vec<u32>,
    next: usize,
    length: usize,
    counts: HashMap<u32, u32>,
}

impl History {
    fn new(length: usize) -> History {
        // One more than the window: a token enters before the oldest leaves. Twice that, since a map
        // that loses and gains keys may otherwise grow to clean up.
        let counts = HashMap::with_capacity(2 * (length + 1));
        History { ring: Vec::with_capacity(length), next: 0, length, counts }
    }

    fn push(&mut self, token: u32) {
        if self.length == 0 {
            return;
        }
        *self.counts.entry(token).or_insert(0) += 1;
        if self.ring.len() < self.length {
            return self.ring.push(token);
        }
        let oldest = std::mem::replace(&mut self.ring[self.next], token);
        self.next = (self.next + 1) % self.length;
        if let Some(count) = self.counts.get_mut(&oldest) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
    }

    fn clear(&mut self) {
        self.ring.clear();
        self.counts.clear();
        self.next = 0;
    }
}

impl Sampler {
    /// A sampler over `n_vocab` tokens.
    ///
    /// # Errors
    /// [`ParamError`] if a setting is out of its range or `n_vocab` is 0 or more than ids can name.
    pub fn new(params: SamplerParams, n_vocab: usize) -> Result<Sampler, ParamError> {
        params.check()?;
        match n_vocab {
            0 => return Err(ParamError::EmptyVocabulary),
            _ if u32::try_from(n_vocab).is_err() => return Err(ParamError::VocabularyTooLarge(n_vocab)),
            _ => {}
        }
        let greedy = params.temperature == 0.0;
        let needs_heap = !greedy && (params.top_p < 1.0 || params.typical_p < 1.0);
        let after_top_k = if params.top_k == 0 { n_vocab } else { params.top_k.min(n_vocab) };
        Ok(Sampler {
            rng: Rng::new(params.seed),
            scores: Vec::with_capacity(n_vocab),
            candidates: Vec::with_capacity(room(params.top_k, n_vocab)),
            heap: Vec::with_capacity(if needs_heap { after_top_k } else { 0 }),
            history: History::new(if params.penalizes() { params.penalty_last_n } else { 0 }),
            n_vocab,
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
        match self.params.temperature {
            _ if self.params.penalizes() => Needs::Logits,
            0.0 => Needs::Largest,
            _ if (1..=MOST_TOP).contains(&k) => Needs::Top(k),
            _ => Needs::Logits,
        }
    }

    /// Tells the penalties that this token is now part of the text: prompt and answer alike.
    pub fn accept(&mut self, token: u32) {
        self.history.push(token);
    }

    /// Forgets the text, and starts the random numbers over.
    pub fn reset(&mut self) {
        self.history.clear();
        self.rng = Rng::new(self.params.seed);
    }

    /// Chooses a token. It does not [`accept`](Self::accept) it.
    ///
    /// # Errors
    /// [`SampleError`] if there are not `n_vocab` logits, if one is NaN or +∞, or if all are −∞.
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
        self.candidates.clear();
        let candidates = ids.iter().zip(logits);
        let candidate = |(&id, &logit): (&i32, &f32)| Candidate { id: id as u32, logit: logit + 0.0, p: 0.0 };
        self.candidates.extend(candidates.map(candidate));
        self.filter();
        self.draw()
    }

    /// Draws one of the candidates.
    fn draw(&mut self) -> Result<u32, SampleError> {
        let first = self.candidates.first().map(|candidate| candidate.id);
        if self.candidates.len() == 1 {
            return first.ok_or(SampleError::NothingPossible);
        }
        let mut rest = self.rng.next_unit();
        let mut chosen = first;
        // Rounding may leave a sum just below 1: then the last token that is possible at all is taken.
        for candidate in self.candidates.iter().filter(|candidate| candidate.p > 0.0) {
            chosen = Some(candidate.id);
            if rest < candidate.p {
                break;
            }
            rest -= candidate.p;
        }
        chosen.ok_or(SampleError::NothingPossible)
    }

    /// The tokens that [`sample`](Self::sample) would choose from, with the probabilities it would use.
    /// Their order is not specified, but always the same.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn distribution(&mut self, logits: &[f32]) -> Result<&[Candidate], SampleError> {
        self.load(logits)?;
        self.penalize();
        if self.params.temperature == 0.0 {
            self.keep_largest();
        } else {
            top_k(&self.scores, self.params.top_k, &mut self.candidates);
            self.filter();
        }
        Ok(&self.candidates)
    }

    /// What follows top-k.
    fn filter(&mut self) {
        let candidates = &mut self.candidates;
        typical(candidates, &mut self.heap, self.params.typical_p);
        top_p(candidates, &mut self.heap, self.params.top_p);
        min_p(candidates, self.params.min_p);
        softmax(candidates, self.params.temperature);
    }

    /// Checks and copies the logits.
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
        if logits.iter().all(|&logit| logit == f32::NEG_INFINITY) {
            return Err(SampleError::NothingPossible);
        }
        self.scores.clear();
        // Adding 0 turns -0 into 0, which it equals: ties go by id.
        self.scores.extend(logits.iter().map(|logit| logit + 0.0));
        Ok(())
    }

    fn penalize(&mut self) {
        let params = &self.params;
        for (&token, &count) in &self.history.counts {
            let Some(score) = self.scores.get_mut(token as usize) else { continue };
            if *score == f32::NEG_INFINITY {
                continue;
            }
            let repeated =
                if *score > 0.0 { *score / params.repeat_penalty } else { *score * params.repeat_penalty };
            let penalty = count as f32 * params.frequency_penalty + params.presence_penalty;
            // Extreme settings overflow; within f32 they still order tokens.
            *score = (repeated - penalty).clamp(f32::MIN, f32::MAX) + 0.0;
        }
    }

    /// Makes the first of the largest scores the only candidate.
    fn keep_largest(&mut self) {
        let largest = self.scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let first = self.scores.iter().zip(0..).find(|&(&score, _)| score == largest);
        self.candidates.clear();
        self.candidates.extend(first.map(|(&logit, id)| Candidate { id, logit, p: 1.0 }));
    }
}
