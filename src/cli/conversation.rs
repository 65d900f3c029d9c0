//! One sequence that is answered again and again: only what is new since the last turn is computed.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::device::setup;
use super::error::CliError;
use super::progress::{Progress, Unit};
use crate::model::{
    ContextShift, GenerateOptions, Generation, Model, SequenceId, Session, SessionOptions, Setup, Stop,
};
#[cfg(feature = "grammar")]
use crate::text::Constraint;
use crate::text::{Needs, Sampler, SamplerParams, TokenLogprobs, Tokenizer};

/// How the tokens of answers are chosen.
pub(super) struct Choice {
    pub(super) sampling: SamplerParams,
    /// What every answer satisfies.
    #[cfg(feature = "grammar")]
    pub(super) constraint: Option<Constraint>,
    /// Whether log-probabilities will be asked for.
    pub(super) logprobs: bool,
}

impl Choice {
    /// Whether all logits are needed, whatever the sampler says.
    fn needs_logits(&self) -> bool {
        #[cfg(feature = "grammar")]
        if self.constraint.is_some() {
            return true;
        }
        self.logprobs
    }
}

/// A sequence of a session that holds the conversation so far.
pub(super) struct Conversation<'m> {
    session: Session,
    sequence: SequenceId,
    tokenizer: &'m Tokenizer,
    sampler: Sampler,
    #[cfg(feature = "grammar")]
    constraint: Option<Constraint>,
}

/// An answer and what it took.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// Of each token, if they were asked for.
    pub(super) logprobs: Vec<TokenLogprobs>,
    pub(super) stop: Stop,
    /// Tokens of the prompt, and how many of them were computed: the cache may have held some, and an
    /// interrupt may have left some.
    pub(super) prompt_tokens: usize,
    pub(super) computed_tokens: usize,
    /// Runs of the model for one token each.
    pub(super) decode_runs: usize,
    pub(super) prompt_time: Duration,
    pub(super) decode_time: Duration,
}

impl<'m> Conversation<'m> {
    /// An empty sequence in a session of its own.
    pub(super) fn new(
        model: &Model,
        tokenizer: &'m Tokenizer,
        options: &SessionOptions,
        choice: Choice,
    ) -> Result<Conversation<'m>, CliError> {
        let shape = model.architecture().shape();
        if options.n_ctx > shape.n_ctx_train {
            let (n_ctx, trained) = (options.n_ctx, shape.n_ctx_train);
            tracing::warn!(
                "a context of {n_ctx} tokens is more than the {trained} that the model was trained for"
            );
        }
        let needs_logits = choice.needs_logits();
        let sampler = Sampler::for_tokenizer(choice.sampling, shape.n_vocab, tokenizer)?;
        let want = if needs_logits { Needs::Logits } else { sampler.needs() };
        let setup = Setup { want, ..setup() };
        let mut session = Session::with(model, options, &setup)?;
        let sequence = session.open()?;
        Ok(Conversation {
            session,
            sequence,
            tokenizer,
            sampler,
            #[cfg(feature = "grammar")]
            constraint: choice.constraint,
        })
    }

    /// Answers a prompt, giving the pieces of text to `each` as they come. The prompt is the whole
    /// conversation; the tokens that it shares with earlier ones are not computed again. With a context shift, a prompt
    /// that is too long loses what the shift drops.
    pub(super) fn answer(
        &mut self,
        prompt: &[u32],
        options: GenerateOptions<'_>,
        mut each: impl FnMut(&str) -> Result<(), CliError>,
    ) -> Result<Answer, CliError> {
        let start = Instant::now();
        let prompt = match options.context_shift {
            Some(shift) => self.shorten(prompt, shift)?,
            None => Cow::Borrowed(prompt),
        };
        let reused = self.session.reuse(self.sequence, &prompt)?;
        let done = self.prefill(&prompt, reused, options.interrupt)?;
        let prompt_time = start.elapsed();
        let mut answer = Answer {
            text: String::new(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            stop: Stop::Interrupted,
            prompt_tokens: prompt.len(),
            computed_tokens: self.session.cache().len(self.sequence)? - reused,
            decode_runs: 0,
            prompt_time,
            decode_time: Duration::ZERO,
        };
        if done.is_break() {
            return Ok(answer);
        }
        // The text is the prompt, whatever the sampler saw of earlier turns: some of those may be gone from it.
        self.sampler.forget();
        prompt.iter().for_each(|&token| self.sampler.accept(token));
        let mut generation =
            Generation::new(&mut self.session, self.sequence, self.tokenizer, &mut self.sampler, options)?;
        #[cfg(feature = "grammar")]
        if let Some(constraint) = &mut self.constraint {
            constraint.restart();
            generation = generation.constrained(constraint);
        }
        while let Some(piece) = generation.next_piece()? {
            answer.text.push_str(piece);
            each(piece)?;
        }
        answer.stop = generation.stop().unwrap_or(Stop::Interrupted);
        answer.tokens = generation.tokens().to_vec();
        answer.logprobs = generation.logprobs().to_vec();
        answer.decode_time = start.elapsed() - prompt_time;
        answer.decode_runs = generation.runs();
        Ok(answer)
    }

    /// Computes the prompt from token `reused` on, up to which the sequence holds it; less of it after an interrupt or
    /// an error.
    fn prefill(
        &mut self,
        prompt: &[u32],
        reused: usize,
        interrupt: Option<&AtomicBool>,
    ) -> Result<ControlFlow<()>, CliError> {
        let fresh = prompt.get(reused..).unwrap_or_default();
        let mut progress = Progress::new("prompt", Unit::Tokens, fresh.len());
        let done = self.session.prefill_with(self.sequence, fresh, |done| {
            progress.set(done);
            match interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        Ok(done?)
    }

    /// A prompt without what a shift drops of it.
    fn shorten<'p>(&self, prompt: &'p [u32], shift: ContextShift) -> Result<Cow<'p, [u32]>, CliError> {
        let n_ctx = self.n_ctx();
        let left = shift.shorten(prompt, n_ctx)?;
        if left.len() < prompt.len() {
            let (n, dropped) = (prompt.len(), prompt.len() - left.len());
            tracing::warn!("a prompt of {n} tokens is shortened by {dropped} to fit a context of {n_ctx}");
        }
        Ok(left)
    }

    /// Tokens that the context holds.
    pub(super) fn n_ctx(&self) -> usize {
        self.session.cache().n_ctx()
    }
}

#[cfg(feature = "demo")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Message;

    /// Each answer is that of its prompt alone: what an earlier turn said, and is not in the prompt, is forgotten.
    #[test]
    fn penalties_look_at_the_prompt_and_not_at_what_was_cleared() {
        let model = Model::demo().unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let template = model.chat_template(&tokenizer).unwrap();
        let conversation = || {
            let sampling =
                SamplerParams { temperature: 0.0, frequency_penalty: 3.0, ..SamplerParams::default() };
            let choice = Choice {
                sampling,
                #[cfg(feature = "grammar")]
                constraint: None,
                logprobs: false,
            };
            let options = SessionOptions { n_ctx: 256, ..SessionOptions::default() };
            Conversation::new(&model, &tokenizer, &options, choice).unwrap()
        };
        let answer = |conversation: &mut Conversation<'_>, prompt: &[u32]| {
            let options = GenerateOptions { max_tokens: Some(12), ..GenerateOptions::default() };
            conversation.answer(prompt, options, |_| Ok(())).unwrap().tokens
        };
        let questions = ["What is 347 + 285?", "What is 12 + 7?", "What is 347 + 285?"];
        let mut chat = conversation();
        for question in questions {
            let rendered = template.render(&[Message::new("user", question)], true).unwrap();
            let mut prompt = tokenizer.encode_chat(&rendered);
            // Once cleared, and once going on after an answer that the limit may have ended.
            for _ in 0..2 {
                let found = answer(&mut chat, &prompt);
                assert_eq!(found, answer(&mut conversation(), &prompt), "{question}");
                prompt.extend(&found);
            }
        }
    }
}
