//! Generating: sample a token, give its text, compute the next logits.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ContextShift, ModelError, Next, SequenceId, Session};
use crate::text::{Sampler, StreamDecoder, Tokenizer};

/// When a generation ends, besides where the model ends it.
#[derive(Clone, Copy, Debug, Default)]
pub struct GenerateOptions<'a> {
    /// The most tokens to generate; `None`: no limit but the context's.
    pub max_tokens: Option<usize>,
    /// Ends the generation before its next token once it is true.
    pub interrupt: Option<&'a AtomicBool>,
    /// What is dropped when the context is full; `None`: that ends the generation.
    pub context_shift: Option<ContextShift>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model said that the answer is over.
    EndOfGeneration,
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
    sampler: &'a mut Sampler,
    options: GenerateOptions<'a>,
    decoder: StreamDecoder<'a>,
    tokens: Vec<u32>,
    runs: usize,
    stop: Option<Stop>,
    /// An error ended the answer.
    failed: bool,
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
        let cache = session.cache();
        let room = cache.n_ctx().saturating_sub(cache.len(sequence)?) + 1;
        let most = options.max_tokens.map_or(room, |max| max.min(room));
        let decoder = StreamDecoder::new(tokenizer, false);
        let tokens = Vec::with_capacity(most);
        Ok(Generation {
            session,
            sequence,
            tokenizer,
            sampler,
            options,
            decoder,
            tokens,
            runs: 0,
            stop: None,
            failed: false,
        })
    }

    /// Generates one token and gives the text that is complete now; it is empty while a character is
    /// not whole. `None` after the end, of which [`Generation::stop`] gives the reason.
    ///
    /// After an error the answer is over.
    pub fn next_piece(&mut self) -> Result<Option<&str>, ModelError> {
        if self.stop.is_some() || self.failed {
            return Ok(None);
        }
        match self.next_token() {
            Ok(Ok(token)) => Ok(Some(self.decoder.push(token))),
            Ok(Err(stop)) => {
                self.stop = Some(stop);
                // The beginning of a character that never came.
                let rest = self.decoder.finish();
                Ok(if rest.is_empty() { None } else { Some(rest) })
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    /// The next token, or why there is none.
    fn next_token(&mut self) -> Result<Result<u32, Stop>, ModelError> {
        if self.options.max_tokens.is_some_and(|max| self.tokens.len() >= max) {
            return Ok(Err(Stop::Limit));
        }
        if interrupted(self.options.interrupt) {
            return Ok(Err(Stop::Interrupted));
        }
        let next = match self.tokens.last().copied() {
            None => Next::Logits(self.session.logits()?.row(0)),
            Some(token) => {
                if let Some(stop) = self.make_room()? {
                    return Ok(Err(stop));
                }
                self.runs += 1;
                self.session.decode_for(self.sequence, token, self.sampler.needs())?
            }
        };
        let token = match next {
            Next::Logits(logits) => self.sampler.sample(logits)?,
            Next::Largest(token) => token,
            Next::Top(ids, logits) => self.sampler.sample_top(ids, logits)?,
        };
        if self.tokenizer.is_end_of_generation(token) {
            return Ok(Err(Stop::EndOfGeneration));
        }
        self.sampler.accept(token);
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

    /// The tokens so far, without the one that ended the answer.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
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
