//! Generating: sample a token, give its text, compute the next logits.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ContextShift, ModelError, Next, SequenceId, Session};
use crate::text::{Needs, Sampler, StopStrings, StreamDecoder, TokenLogprobs, Tokenizer};

#[cfg(feature = "grammar")]
use crate::text::Constraint;

/// When a generation ends, besides where the model ends it, and what it tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct GenerateOptions<'a> {
    /// The most tokens to generate; `None`: no limit but the context's.
    pub max_tokens: Option<usize>,
    /// Ends the generation before its next token once it is true.
    pub interrupt: Option<&'a AtomicBool>,
    /// What is dropped when the context is full; `None`: that ends the generation.
    pub context_shift: Option<ContextShift>,
    /// Texts that end the answer. They are no part of it, wherever the borders of the tokens are: text that may yet
    /// become one of them is held back.
    pub stop: &'a [String],
    /// Keeps each token's log-probability and those of so many of its best alternatives.
    pub logprobs: Option<usize>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The answer is over: the model said so, or a grammar allows nothing more.
    EndOfGeneration,
    /// One of [`GenerateOptions::stop`] came.
    StopString,
    /// [`GenerateOptions::max_tokens`] were generated.
    Limit,
    /// The context has no room for another token.
    ContextFull,
    /// [`GenerateOptions::interrupt`] was set.
    Interrupted,
}

impl Stop {
    /// The reason in one word, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Stop::EndOfGeneration => "end",
            Stop::StopString => "stop",
            Stop::Limit => "limit",
            Stop::ContextFull => "context",
            Stop::Interrupted => "interrupted",
        }
    }
}

/// An answer as it is generated: each call of [`Generation::next_piece`] is one token.
///
/// It starts from the logits that the session's last batch gave, which must be those after the last
/// token of the sequence: call [`Session::prefill`] first. The sequence then holds the prompt and all
/// tokens but the last one, whose logits nobody asked for.
pub struct Generation<'a> {
    session: &'a mut Session,
    sequence: SequenceId,
    tokenizer: &'a Tokenizer,
    chooser: Chooser<'a>,
    options: GenerateOptions<'a>,
    decoder: StreamDecoder<'a>,
    stops: StopStrings,
    piece: String,
    tokens: Vec<u32>,
    runs: usize,
    stop: Option<Stop>,
    /// An error ended the answer.
    failed: bool,
}

/// What chooses the tokens.
struct Chooser<'a> {
    sampler: &'a mut Sampler,
    #[cfg(feature = "grammar")]
    constraint: Option<&'a mut Constraint>,
    /// Working memory: the logits that the constraint leaves.
    #[cfg(feature = "grammar")]
    masked: Vec<f32>,
    /// How many alternatives are told of.
    n_logprobs: Option<usize>,
    logprobs: Vec<TokenLogprobs>,
}

impl Chooser<'_> {
    /// What it must know of the next logits at least.
    fn needs(&self) -> Needs {
        #[cfg(feature = "grammar")]
        if self.constraint.is_some() {
            return Needs::Logits;
        }
        if self.n_logprobs.is_some() { Needs::Logits } else { self.sampler.needs() }
    }

    fn choose(&mut self, next: Next<'_>) -> Result<u32, ModelError> {
        match next {
            Next::Logits(logits) => {
                let token = self.sample(logits)?;
                if let Some(n) = self.n_logprobs {
                    self.logprobs.push(TokenLogprobs::new(logits, token, n));
                }
                Ok(token)
            }
            Next::Largest(token) => Ok(token),
            Next::Top(ids, logits) => Ok(self.sampler.sample_top(ids, logits)?),
        }
    }

    fn sample(&mut self, logits: &[f32]) -> Result<u32, ModelError> {
        #[cfg(feature = "grammar")]
        if let Some(constraint) = &mut self.constraint {
            self.masked.clear();
            self.masked.extend_from_slice(logits);
            constraint.mask(&mut self.masked)?;
            return Ok(self.sampler.sample(&self.masked)?);
        }
        Ok(self.sampler.sample(logits)?)
    }

    /// Tells all who remember the text of a token that belongs to it.
    fn accept(&mut self, token: u32) -> Result<(), ModelError> {
        #[cfg(feature = "grammar")]
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
        }
        self.sampler.accept(token);
        Ok(())
    }

    /// Whether nothing can follow.
    fn is_complete(&self) -> bool {
        #[cfg(feature = "grammar")]
        return self.constraint.as_ref().is_some_and(|constraint| constraint.is_complete());
        #[cfg(not(feature = "grammar"))]
        false
    }
}

impl<'a> Generation<'a> {
    /// Begins an answer after the last token of a sequence.
    pub fn new(
        session: &'a mut Session,
        sequence: SequenceId,
        tokenizer: &'a Tokenizer,
        sampler: &'a mut Sampler,
        options: GenerateOptions<'a>,
    ) -> Result<Generation<'a>, ModelError> {
        if options.stop.iter().any(String::is_empty) {
            let reason = "a stop string is empty: every answer would end before it begins";
            return Err(ModelError::Session(reason.into()));
        }
        let cache = session.cache();
        let room = cache.n_ctx().saturating_sub(cache.len(sequence)?) + 1;
        let most = options.max_tokens.map_or(room, |max| max.min(room));
        let decoder = StreamDecoder::new(tokenizer, false);
        let tokens = Vec::with_capacity(most);
        let chooser = Chooser {
            sampler,
            #[cfg(feature = "grammar")]
            constraint: None,
            #[cfg(feature = "grammar")]
            masked: Vec::new(),
            n_logprobs: options.logprobs,
            logprobs: Vec::new(),
        };
        Ok(Generation {
            session,
            sequence,
            tokenizer,
            chooser,
            options,
            decoder,
            stops: StopStrings::new(options.stop),
            piece: String::new(),
            tokens,
            runs: 0,
            stop: None,
            failed: false,
        })
    }

    /// Lets only such tokens be chosen as the constraint allows. It must not have seen the answer of another
    /// generation.
    #[cfg(feature = "grammar")]
    #[must_use]
    pub fn constrained(mut self, constraint: &'a mut Constraint) -> Generation<'a> {
        self.chooser.constraint = Some(constraint);
        self
    }

    /// Generates one token and gives the text that is certain now; it is empty while a character is
    /// not whole, or may begin a stop string. `None` after the end, of which [`Generation::stop`] gives the reason.
    ///
    /// After an error the answer is over.
    pub fn next_piece(&mut self) -> Result<Option<&str>, ModelError> {
        if self.stop.is_some() || self.failed {
            return Ok(None);
        }
        self.piece.clear();
        match self.next_token() {
            Ok(Ok(token)) => self.piece.push_str(self.stops.push(self.decoder.push(token))),
            Ok(Err(stop)) => {
                self.stop = Some(stop);
                // The beginning of a character that never came, and what might have become a stop string.
                self.piece.push_str(self.stops.push(self.decoder.finish()));
                self.piece.push_str(self.stops.finish());
            }
            Err(error) => {
                self.failed = true;
                return Err(error);
            }
        }
        if self.stops.found().is_some() {
            self.stop = Some(Stop::StopString);
        }
        Ok(if self.stop.is_some() && self.piece.is_empty() { None } else { Some(&self.piece) })
    }

    /// The next token, or why there is none.
    fn next_token(&mut self) -> Result<Result<u32, Stop>, ModelError> {
        if self.options.max_tokens.is_some_and(|max| self.tokens.len() >= max) {
            return Ok(Err(Stop::Limit));
        }
        if interrupted(self.options.interrupt) {
            return Ok(Err(Stop::Interrupted));
        }
        if self.chooser.is_complete() {
            return Ok(Err(Stop::EndOfGeneration));
        }
        let next = match self.tokens.last().copied() {
            None => Next::Logits(self.session.logits()?.row(0)),
            Some(token) => {
                if let Some(stop) = self.make_room()? {
                    return Ok(Err(stop));
                }
                self.runs += 1;
                self.session.decode_for(self.sequence, token, self.chooser.needs())?
            }
        };
        let token = self.chooser.choose(next)?;
        if self.tokenizer.is_end_of_generation(token) {
            return Ok(Err(Stop::EndOfGeneration));
        }
        self.chooser.accept(token)?;
        self.tokens.push(token);
        Ok(Ok(token))
    }

    /// Sees to it that the context has room for a token, or says why the answer is over.
    fn make_room(&mut self) -> Result<Option<Stop>, ModelError> {
        let cache = self.session.cache();
        if cache.len(self.sequence)? < cache.n_ctx() {
            return Ok(None);
        }
        let Some(shift) = self.options.context_shift else { return Ok(Some(Stop::ContextFull)) };
        let interrupt = self.options.interrupt;
        let goes_on =
            |_| if interrupted(interrupt) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let shifted = self.session.shift(self.sequence, shift, goes_on)?;
        Ok(shifted.is_break().then_some(Stop::Interrupted))
    }

    /// Runs of the model for one token each.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// The tokens so far, without the one that ended the answer. A stop string's are among them.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The log-probabilities of the [`tokens`](Self::tokens), if [`GenerateOptions::logprobs`] asks for them.
    pub fn logprobs(&self) -> &[TokenLogprobs] {
        self.chooser.logprobs.get(..self.tokens.len()).unwrap_or_default()
    }

    /// Why the answer is over; `None` while it is not, and after an error.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }
}

fn interrupted(flag: Option<&AtomicBool>) -> bool {
    flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
}

impl std::fmt::Debug for Generation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("tokens", &self.tokens)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}
