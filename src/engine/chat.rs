//! One conversation in a session of its own: only what is new since the last turn is computed.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::generation::wish;
use super::{GenerateOptions, Generation, Next, Stop};
use crate::model::{
    ContextShift, DeviceChoice, Model, ModelError, Output, Rows, SequenceId, Session, SessionOptions, Setup,
};
use crate::sampling::{Sampler, SamplerParams, TokenLogprobs};
#[cfg(feature = "grammar")]
use crate::text::Constraint;
use crate::text::{ChatTemplate, Message, Tokenizer};

/// How the tokens of a chat's answers are chosen.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// The samplers.
    pub sampling: SamplerParams,
    /// What every answer satisfies.
    #[cfg(feature = "grammar")]
    pub constraint: Option<Constraint>,
    /// Whether log-probabilities will be asked for.
    pub logprobs: bool,
}

impl ChatOptions {
    /// Whether all logits are needed, whatever the sampler says.
    fn needs_logits(&self) -> bool {
        #[cfg(feature = "grammar")]
        if self.constraint.is_some() {
            return true;
        }
        self.logprobs
    }
}

/// How one answer ends, and who is told of its progress.
#[derive(Default)]
pub struct AnswerOptions<'a> {
    /// When the answer ends.
    pub generate: GenerateOptions,
    /// Ends the answer before its next token once it is true.
    pub interrupt: Option<&'a AtomicBool>,
    /// What is dropped when the context is full; `None`: that ends the answer.
    pub context_shift: Option<ContextShift>,
    /// Told how many tokens of the prompt are computed, of how many that must be.
    pub on_prompt: Option<&'a mut dyn FnMut(usize, usize)>,
}

/// An answer and what it took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// All of its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Of each token, if they were asked for.
    pub logprobs: Vec<TokenLogprobs>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were computed: the cache may have held some, and an interrupt may have left some.
    pub computed_tokens: usize,
    /// Steps of one token each.
    pub decode_runs: usize,
    /// Time until the prompt was computed.
    pub prompt_time: Duration,
    /// Time after it.
    pub decode_time: Duration,
}

/// A conversation in a session of its own.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut chat = rfgraph::Chat::open("model.gguf")?;
/// println!("{}", chat.ask("What is 347 + 285?")?);
/// # Ok(())
/// # }
/// ```
pub struct Chat {
    session: Session,
    sequence: SequenceId,
    tokenizer: Tokenizer,
    sampler: Sampler,
    #[cfg(feature = "grammar")]
    constraint: Option<Constraint>,
    /// Made when it is first asked.
    template: Option<ChatTemplate>,
    messages: Vec<Message>,
}

impl Chat {
    /// A chat with the model in a file, with the default options, on the device of [`DeviceChoice::Auto`].
    ///
    /// # Errors
    /// [`ModelError`] if the file cannot be read or run.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Chat, ModelError> {
        Chat::with_model(&Model::open(path)?)
    }

    /// A chat with the demo model that is built into the library.
    ///
    /// # Errors
    /// [`ModelError`] if there is no memory for it.
    #[cfg(feature = "demo")]
    pub fn demo() -> Result<Chat, ModelError> {
        Chat::with_model(&Model::demo()?)
    }

    fn with_model(model: &Model) -> Result<Chat, ModelError> {
        let defaults = SessionOptions::default();
        let n_ctx = defaults.n_ctx.min(model.architecture().shape().n_ctx_train);
        let options = SessionOptions { n_ctx, device: DeviceChoice::Auto, ..defaults };
        Chat::new(model, &options, &Setup::default(), ChatOptions::default())
    }

    /// An empty conversation in a session of its own.
    ///
    /// # Errors
    /// As [`Session::with`]; if the file's tokenizer or the samplers' settings cannot be used.
    pub fn new(
        model: &Model,
        options: &SessionOptions,
        setup: &Setup,
        choice: ChatOptions,
    ) -> Result<Chat, ModelError> {
        let shape = model.architecture().shape();
        if options.n_ctx > shape.n_ctx_train {
            let (n_ctx, trained) = (options.n_ctx, shape.n_ctx_train);
            tracing::warn!(
                "a context of {n_ctx} tokens is more than the {trained} that the model was trained for"
            );
        }
        let tokenizer = model.tokenizer()?;
        let needs_logits = choice.needs_logits();
        let sampler = Sampler::for_tokenizer(choice.sampling, shape.n_vocab, &tokenizer)?;
        let want = if needs_logits { Output::Logits } else { wish(sampler.needs()) };
        let mut session = Session::with(model, options, &Setup { want, ..setup.clone() })?;
        let sequence = session.open()?;
        Ok(Chat {
            session,
            sequence,
            tokenizer,
            sampler,
            #[cfg(feature = "grammar")]
            constraint: choice.constraint,
            template: None,
            messages: Vec::new(),
        })
    }

    /// Says something in the conversation, and gives the answer's text. Both are part of what is said next.
    ///
    /// # Errors
    /// [`ModelError`] if the file has no template that can be used, or the answer fails.
    pub fn ask(&mut self, text: &str) -> Result<String, ModelError> {
        self.messages.push(Message::new("user", text));
        let answer = self.answer_messages();
        match &answer {
            Ok(text) => self.messages.push(Message::new("assistant", text.clone())),
            Err(_) => drop(self.messages.pop()),
        }
        answer
    }

    fn answer_messages(&mut self) -> Result<String, ModelError> {
        if self.template.is_none() {
            self.template = Some(self.session.model().chat_template(&self.tokenizer)?);
        }
        let Some(template) = &self.template else { return Ok(String::new()) };
        let prompt = self.tokenizer.encode_chat(&template.render(&self.messages, true)?);
        let answer = self.answer(&prompt, AnswerOptions::default(), |_| Ok::<(), ModelError>(()))?;
        Ok(answer.text)
    }

    /// Answers a prompt, giving the pieces of text to `each` as they come. The prompt is the whole
    /// conversation; the tokens that it shares with earlier ones are not computed again. With a context shift, a prompt
    /// that is too long loses what the shift drops.
    ///
    /// # Errors
    /// As [`Session::step`], and those of `each`.
    pub fn answer<E: From<ModelError>>(
        &mut self,
        prompt: &[u32],
        mut options: AnswerOptions<'_>,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Answer, E> {
        let start = Instant::now();
        let prompt = match options.context_shift {
            Some(shift) => self.shorten(prompt, shift)?,
            None => Cow::Borrowed(prompt),
        };
        let reused = self.session.reuse(self.sequence, &prompt)?;
        let done = self.prefill(&prompt, reused, &mut options)?;
        let mut answer = Answer {
            text: String::new(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            stop: Stop::Interrupted,
            prompt_tokens: prompt.len(),
            computed_tokens: self.session.states().len(self.sequence)? - reused,
            decode_runs: 0,
            prompt_time: start.elapsed(),
            decode_time: Duration::ZERO,
        };
        if done.is_break() {
            return Ok(answer);
        }
        let mut generation = self.generation(&prompt, options.generate.clone())?;
        let result = self.generate(&mut generation, &options, &mut answer, &mut each);
        answer.stop = generation.stop().unwrap_or(Stop::Interrupted);
        answer.tokens = generation.tokens().to_vec();
        answer.logprobs = generation.logprobs().to_vec();
        answer.decode_time = start.elapsed() - answer.prompt_time;
        // The random numbers go on in the next answer.
        self.sampler = generation.into_sampler();
        result.map(|()| answer)
    }

    /// A generation whose text so far is the prompt, whatever the sampler saw of earlier turns: some of those may be
    /// gone from it.
    fn generation(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<Generation, ModelError> {
        let mut sampler = self.sampler.clone();
        sampler.forget();
        prompt.iter().for_each(|&token| sampler.accept(token));
        let generation = Generation::new(&self.tokenizer, sampler, options)?;
        #[cfg(feature = "grammar")]
        if let Some(constraint) = &self.constraint {
            return Ok(generation.constrained(constraint.clone()));
        }
        Ok(generation)
    }

    /// Computes the rows that a generation asks for, until it is over.
    fn generate<E: From<ModelError>>(
        &mut self,
        generation: &mut Generation,
        options: &AnswerOptions<'_>,
        answer: &mut Answer,
        each: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut give = |text: &str| {
            answer.text.push_str(text);
            each(text)
        };
        while generation.stop().is_none() {
            let outputs = self.session.outputs()?;
            let step = generation.advance(outputs.last(0))?;
            give(step.text)?;
            let Next::Token(token) = step.next else { break };
            if interrupted(options.interrupt) {
                return give(generation.end(Stop::Interrupted));
            }
            if let Some(stop) = self.make_room(options)? {
                return give(generation.end(stop));
            }
            answer.decode_runs += 1;
            self.session.step(&[Rows::of(self.sequence, &[token]).want(generation.wants())])?;
        }
        Ok(())
    }

    /// Sees to it that the context has room for a token, or says why the answer is over.
    fn make_room(&mut self, options: &AnswerOptions<'_>) -> Result<Option<Stop>, ModelError> {
        let states = self.session.states();
        if states.len(self.sequence)? < states.n_ctx() {
            return Ok(None);
        }
        let Some(shift) = options.context_shift else { return Ok(Some(Stop::ContextFull)) };
        let goes_on = |_| match interrupted(options.interrupt) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let shifted = self.session.shift(self.sequence, shift, goes_on)?;
        Ok(shifted.is_break().then_some(Stop::Interrupted))
    }

    /// Computes the prompt from token `reused` on, up to which the sequence holds it; less of it after an interrupt or
    /// an error.
    fn prefill(
        &mut self,
        prompt: &[u32],
        reused: usize,
        options: &mut AnswerOptions<'_>,
    ) -> Result<ControlFlow<()>, ModelError> {
        let fresh = prompt.get(reused..).unwrap_or_default();
        let interrupt = options.interrupt;
        let mut on_prompt = options.on_prompt.take();
        self.session.prefill_with(self.sequence, fresh, |done| {
            if let Some(on_prompt) = &mut on_prompt {
                on_prompt(done, fresh.len());
            }
            match interrupted(interrupt) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    }

    /// A prompt without what a shift drops of it.
    fn shorten<'p>(&self, prompt: &'p [u32], shift: ContextShift) -> Result<Cow<'p, [u32]>, ModelError> {
        let n_ctx = self.n_ctx();
        let left = shift.shorten(prompt, n_ctx)?;
        if left.len() < prompt.len() {
            let (n, dropped) = (prompt.len(), prompt.len() - left.len());
            tracing::warn!("a prompt of {n} tokens is shortened by {dropped} to fit a context of {n_ctx}");
        }
        Ok(left)
    }

    /// Tokens that the context holds.
    pub fn n_ctx(&self) -> usize {
        self.session.states().n_ctx()
    }

    /// The file's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The session.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

fn interrupted(flag: Option<&AtomicBool>) -> bool {
    flag.is_some_and(|flag| flag.load(Ordering::Relaxed))
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat").field("session", &self.session).finish_non_exhaustive()
    }
}

#[cfg(feature = "demo")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::{Penalties, Temperature};

    /// Each answer is that of its prompt alone: what an earlier turn said, and is not in the prompt, is forgotten.
    #[test]
    fn penalties_see_the_prompt_alone() {
        let model = Model::demo().unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let template = model.chat_template(&tokenizer).unwrap();
        let chat = || {
            let penalties = Penalties { frequency: 3.0, ..Penalties::default() };
            let sampling =
                SamplerParams { temperature: Temperature::fixed(0.0), penalties, ..SamplerParams::default() };
            let choice = ChatOptions { sampling, ..ChatOptions::default() };
            let options = SessionOptions { n_ctx: 256, ..SessionOptions::default() };
            Chat::new(&model, &options, &Setup::default(), choice).unwrap()
        };
        let answer = |chat: &mut Chat, prompt: &[u32]| {
            let generate = GenerateOptions { max_tokens: Some(12), ..GenerateOptions::default() };
            let options = AnswerOptions { generate, ..AnswerOptions::default() };
            chat.answer(prompt, options, |_| Ok::<(), ModelError>(())).unwrap().tokens
        };
        let questions = ["What is 347 + 285?", "What is 12 + 7?", "What is 347 + 285?"];
        let mut one = chat();
        for question in questions {
            let rendered = template.render(&[Message::new("user", question)], true).unwrap();
            let mut prompt = tokenizer.encode_chat(&rendered);
            // Once cleared, and once going on after an answer that the limit may have ended.
            for _ in 0..2 {
                let found = answer(&mut one, &prompt);
                assert_eq!(found, answer(&mut chat(), &prompt), "{question}");
                prompt.extend(&found);
            }
        }
    }

    #[test]
    fn what_was_said_is_part_of_what_is_asked_next() {
        let mut chat = Chat::demo().unwrap();
        assert_eq!(chat.ask("What is 347 + 285?").unwrap(), "632");
        assert_eq!(chat.messages.len(), 2);
        let held = chat.session.states().len(chat.sequence).unwrap();
        chat.ask("What is 12 + 7?").unwrap();
        assert!(chat.session.states().len(chat.sequence).unwrap() > held);
    }
}
