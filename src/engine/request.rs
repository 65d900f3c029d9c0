//! A request to the engine: the tokens to compute, and the results that its caller wants.

use super::GenerateOptions;
use crate::model::Pooling;
use crate::sampling::SamplerParams;
use crate::text::AnswerParser;
#[cfg(feature = "grammar")]
use crate::text::Constraint;

/// A request: an answer to a prompt, or the embedding of a text.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) tokens: Vec<u32>,
    pub(super) work: Work,
    pub(super) salt: u64,
}

/// The kind of a request's result.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Answer(Box<AnswerWork>),
    Embedding(Pooling),
}

/// Settings of an answer.
#[derive(Clone, Debug)]
pub(super) struct AnswerWork {
    pub sampling: SamplerParams,
    pub limits: GenerateOptions,
    /// Divides the answer into parts; `None`: all of it is text.
    pub parser: Option<AnswerParser>,
    #[cfg(feature = "grammar")]
    pub constraint: Option<Constraint>,
    /// The number of most probable tokens to report at each position of the prompt; `None`: no log-probabilities.
    pub prompt_logprobs: Option<usize>,
}

impl Request {
    /// An answer to a prompt: its tokens, and the samplers that choose the answer's tokens.
    pub fn answer(prompt: Vec<u32>, sampling: SamplerParams) -> Request {
        let answer = AnswerWork {
            sampling,
            limits: GenerateOptions::default(),
            parser: None,
            #[cfg(feature = "grammar")]
            constraint: None,
            prompt_logprobs: None,
        };
        Request { tokens: prompt, work: Work::Answer(Box::new(answer)), salt: 0 }
    }

    /// The embedding of a text, given as tokens.
    pub fn embedding(tokens: Vec<u32>, pooling: Pooling) -> Request {
        Request { tokens, work: Work::Embedding(pooling), salt: 0 }
    }

    fn with(mut self, change: impl FnOnce(&mut AnswerWork)) -> Request {
        if let Work::Answer(answer) = &mut self.work {
            change(answer);
        }
        self
    }

    /// Sets the end conditions of an answer. An embedding has none.
    #[must_use]
    pub fn limits(self, limits: GenerateOptions) -> Request {
        self.with(|answer| answer.limits = limits)
    }

    /// Divides an answer into thoughts, text and tool calls ([`AnswerFormat::parser`](crate::text::AnswerFormat)).
    #[must_use]
    pub fn in_parts(self, parser: AnswerParser) -> Request {
        self.with(|answer| answer.parser = Some(parser))
    }

    /// Restricts an answer to a constraint, which must not have accepted any token yet. In an answer with parts it
    /// begins after the thoughts.
    #[cfg(feature = "grammar")]
    #[must_use]
    pub fn constrained(self, constraint: Constraint) -> Request {
        self.with(|answer| answer.constraint = Some(constraint))
    }

    /// Requests the log-probabilities of the prompt's tokens, from the second on, each with those of the `n` most
    /// probable tokens at its position. The prompt is then computed whole, without a shared prefix.
    #[must_use]
    pub fn prompt_logprobs(self, n: usize) -> Request {
        self.with(|answer| answer.prompt_logprobs = Some(n))
    }

    /// Shares computed prefixes only with requests of the same salt.
    #[must_use]
    pub fn salt(self, salt: u64) -> Request {
        Request { salt, ..self }
    }
}
