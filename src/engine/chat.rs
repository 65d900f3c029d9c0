//! One conversation in its own session: an answer computes only the new tokens of its prompt.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::generation::wanted_output;
use super::{GenerateOptions, Generation, Next, Stop};
use crate::model::{
    ContextShift, DeviceChoice, Model, ModelError, Output, Rows, SequenceId, Session, SessionExtras,
    SessionOptions,
};
use crate::sampling::{Sampler, SamplerParams, TokenLogprobs};
#[cfg(feature = "grammar")]
use crate::text::Constraint;
use crate::text::{AnswerFormat, ChatTemplate, Delta, Message, Part, PartKind, Tokenizer, ToolCall};

/// Settings for choosing the tokens of a chat's answers.
#[derive(Clone, Debug, Default)]
pub struct ChatOptions {
    /// The samplers.
    pub sampling: SamplerParams,
    /// A grammar or JSON schema that every answer must match.
    #[cfg(feature = "grammar")]
    pub constraint: Option<Constraint>,
    /// Log-probabilities will be requested ([`GenerateOptions::logprobs`]).
    pub logprobs: bool,
    /// Answers are not divided into thoughts, text and tool calls: all is text, and markers are shown.
    pub plain: bool,
}

impl ChatOptions {
    /// True if all logits are needed, whatever the sampler needs.
    fn needs_logits(&self) -> bool {
        #[cfg(feature = "grammar")]
        if self.constraint.is_some() {
            return true;
        }
        self.logprobs
    }
}

/// End conditions and progress callback of one answer.
#[derive(Default)]
pub struct AnswerOptions<'a> {
    /// Limits and stop strings.
    pub generate: GenerateOptions,
    /// Set to true to end the answer before its next token.
    pub interrupt: Option<&'a AtomicBool>,
    /// Context shift to apply when the context is full; `None` ends the answer there.
    pub context_shift: Option<ContextShift>,
    /// Called with the number of prompt tokens computed so far and the number to compute.
    pub on_prompt: Option<&'a mut dyn FnMut(usize, usize)>,
}

/// An answer with its token counts and times.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The text for the user: that of the parts of kind [`PartKind::Text`].
    pub text: String,
    /// All of the answer, by parts.
    pub parts: Vec<Part>,
    /// The generated tokens.
    pub tokens: Vec<u32>,
    /// Log-probabilities of each token, if requested.
    pub logprobs: Vec<TokenLogprobs>,
    /// Reason for the end.
    pub stop: Stop,
    /// Number of tokens in the prompt.
    pub prompt_tokens: usize,
    /// Number of prompt tokens that were computed: less than the prompt if the cache held a prefix, or after an
    /// interrupt.
    pub computed_tokens: usize,
    /// Number of single-token steps.
    pub decode_runs: usize,
    /// Time until the prompt was computed.
    pub prompt_time: Duration,
    /// Time after the prompt.
    pub decode_time: Duration,
}

impl Answer {
    /// The text of the model's thoughts; `None` if it had none.
    pub fn thoughts(&self) -> Option<String> {
        let thoughts = self.parts.iter().filter(|part| part.kind == PartKind::Thoughts);
        let texts: Vec<&str> =
            thoughts.map(|part| part.text.as_str()).filter(|text| !text.is_empty()).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    }

    /// The answer as a message of the conversation, for the chat template.
    pub fn message(&self) -> Message {
        let calls = self.parts.iter().flat_map(|part| &part.calls);
        let call_of = |call: &ToolCall| {
            let function = serde_json::json!({"name": call.name, "arguments": call.arguments});
            match &call.id {
                Some(id) => serde_json::json!({"id": id, "type": "function", "function": function}),
                None => serde_json::json!({"type": "function", "function": function}),
            }
        };
        Message {
            reasoning_content: self.thoughts(),
            tool_calls: calls.map(call_of).collect(),
            ..Message::new("assistant", self.text.clone())
        }
    }
}

/// A conversation in its own session.
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
    format: AnswerFormat,
    sampler: Sampler,
    #[cfg(feature = "grammar")]
    constraint: Option<Constraint>,
    /// Compiled by the first call of [`Chat::ask`].
    template: Option<ChatTemplate>,
    messages: Vec<Message>,
}

impl Chat {
    /// A chat with the model in a file, on the device of [`DeviceChoice::Auto`], with the samplers' settings that the
    /// file suggests and default options.
    ///
    /// On a GPU its kernels are compiled by every process: the library keeps no compiled kernels unless
    /// [`HipOptions::from_env`](crate::exec::HipOptions::from_env) or [`JitOptions::cache`](crate::hip::JitOptions::cache)
    /// is given.
    ///
    /// # Errors
    /// [`ModelError`] if the file cannot be read or run.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Chat, ModelError> {
        Chat::with_model(&Model::open(path)?)
    }

    /// A chat with the demo model that is built into the library.
    ///
    /// # Errors
    /// [`ModelError`] if there is not enough memory for the model.
    #[cfg(feature = "demo")]
    pub fn demo() -> Result<Chat, ModelError> {
        Chat::with_model(&Model::demo()?)
    }

    fn with_model(model: &Model) -> Result<Chat, ModelError> {
        let defaults = SessionOptions::default();
        let n_ctx = defaults.n_ctx.min(model.architecture().shape().n_ctx_train);
        let options = SessionOptions { n_ctx, device: DeviceChoice::Auto, ..defaults };
        let mut choice = ChatOptions::default();
        model.suggest_sampling(&mut choice.sampling);
        Chat::new(model, &options, &SessionExtras::default(), choice)
    }

    /// An empty conversation in a new session.
    ///
    /// # Errors
    /// As [`Session::with`]; if the file's tokenizer or the samplers' settings cannot be used.
    pub fn new(
        model: &Model,
        options: &SessionOptions,
        extras: &SessionExtras,
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
        let want = if needs_logits { Output::Logits } else { wanted_output(sampler.needs()) };
        let mut session = Session::with(model, options, &SessionExtras { want, ..extras.clone() })?;
        let sequence = session.open()?;
        let format = match choice.plain {
            true => AnswerFormat::plain(&tokenizer),
            false => AnswerFormat::of(&tokenizer),
        };
        Ok(Chat {
            session,
            sequence,
            tokenizer,
            format,
            sampler,
            #[cfg(feature = "grammar")]
            constraint: choice.constraint,
            template: None,
            messages: Vec::new(),
        })
    }

    /// Sends a user message and returns the answer's text, without the model's thoughts. Message and answer become part
    /// of the conversation, as the chat template keeps them.
    ///
    /// # Errors
    /// [`ModelError`] if the file has no usable chat template, or the answer fails.
    pub fn ask(&mut self, text: &str) -> Result<String, ModelError> {
        self.messages.push(Message::new("user", text));
        match self.answer_messages() {
            Ok(answer) => {
                self.messages.push(answer.message());
                Ok(answer.text)
            }
            Err(error) => {
                self.messages.pop();
                Err(error)
            }
        }
    }

    fn answer_messages(&mut self) -> Result<Answer, ModelError> {
        let template = match self.template.take() {
            Some(template) => template,
            None => self.session.model().chat_template(&self.tokenizer)?,
        };
        let rendered = self.template.insert(template).render(&self.messages, true)?;
        let prompt = self.tokenizer.encode_chat(&rendered);
        self.answer(&prompt, AnswerOptions::default(), |_| Ok::<(), ModelError>(()))
    }

    /// Answers a prompt, passing each piece of the answer to `each` as it is decided. The prompt is the whole conversation; a
    /// prefix shared with the previous prompt and answer is not computed again. With a context shift, a prompt that is
    /// too long is shortened first.
    ///
    /// # Errors
    /// As [`Session::step`], and those of `each`.
    pub fn answer<E: From<ModelError>>(
        &mut self,
        prompt: &[u32],
        mut options: AnswerOptions<'_>,
        mut each: impl FnMut(&Delta) -> Result<(), E>,
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
            parts: Vec::new(),
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
        // The next answer continues the same stream of random numbers.
        self.sampler = generation.into_sampler();
        result.map(|()| answer)
    }

    /// A generation whose penalties see exactly the prompt, which may lack earlier messages.
    fn generation(&mut self, prompt: &[u32], options: GenerateOptions) -> Result<Generation, ModelError> {
        let mut sampler = self.sampler.clone();
        sampler.forget();
        prompt.iter().for_each(|&token| sampler.accept(token));
        let generation =
            Generation::new(&self.tokenizer, sampler, options)?.in_parts(self.format.parser(prompt));
        #[cfg(feature = "grammar")]
        if let Some(constraint) = &self.constraint {
            return Ok(generation.constrained(constraint.clone()));
        }
        Ok(generation)
    }

    /// Computes the rows that the generation requests until it stops.
    fn generate<E: From<ModelError>>(
        &mut self,
        generation: &mut Generation,
        options: &AnswerOptions<'_>,
        answer: &mut Answer,
        each: &mut impl FnMut(&Delta) -> Result<(), E>,
    ) -> Result<(), E> {
        let (text, parts) = (&mut answer.text, &mut answer.parts);
        let mut give = |deltas: &[Delta]| {
            deltas.iter().try_for_each(|delta| {
                if delta.kind == PartKind::Text {
                    text.push_str(&delta.text);
                }
                Part::collect(parts, delta);
                each(delta)
            })
        };
        while generation.stop().is_none() {
            let outputs = self.session.outputs()?;
            let step = generation.advance(outputs.last(0))?;
            give(step.deltas)?;
            let Next::Token(token) = step.next else { break };
            if interrupted(options.interrupt) {
                generation.end(Stop::Interrupted);
                return give(generation.deltas());
            }
            if let Some(stop) = self.make_room(options)? {
                generation.end(stop);
                return give(generation.deltas());
            }
            answer.decode_runs += 1;
            self.session.step(&[Rows::of(self.sequence, &[token]).want(generation.wants())])?;
        }
        Ok(())
    }

    /// Makes room in the context for one token, or returns the reason why the answer ends.
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

    /// Computes the prompt from token `reused` on; the sequence already holds the tokens before it. An interrupt or an
    /// error leaves only a part of the prompt computed.
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

    /// The prompt, shortened as the context shift would.
    fn shorten<'p>(&self, prompt: &'p [u32], shift: ContextShift) -> Result<Cow<'p, [u32]>, ModelError> {
        let n_ctx = self.n_ctx();
        let left = shift.shorten(prompt, n_ctx)?;
        if left.len() < prompt.len() {
            let (n, dropped) = (prompt.len(), prompt.len() - left.len());
            tracing::warn!("a prompt of {n} tokens is shortened by {dropped} to fit a context of {n_ctx}");
        }
        Ok(left)
    }

    /// Context size in tokens.
    pub fn n_ctx(&self) -> usize {
        self.session.states().n_ctx()
    }

    /// The file's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat's session.
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

    /// An answer depends on its prompt alone: tokens of earlier answers that are not in the prompt are forgotten.
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
            Chat::new(&model, &options, &SessionExtras::default(), choice).unwrap()
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
            // First a cleared conversation, then one that continues after an answer that the limit may have cut.
            for _ in 0..2 {
                let found = answer(&mut one, &prompt);
                assert_eq!(found, answer(&mut chat(), &prompt), "{question}");
                prompt.extend(&found);
            }
        }
    }

    #[test]
    fn ask_keeps_earlier_messages() {
        let mut chat = Chat::demo().unwrap();
        assert_eq!(chat.ask("What is 347 + 285?").unwrap(), "632");
        assert_eq!(chat.messages.len(), 2);
        let held = chat.session.states().len(chat.sequence).unwrap();
        chat.ask("What is 12 + 7?").unwrap();
        assert!(chat.session.states().len(chat.sequence).unwrap() > held);
    }
}
