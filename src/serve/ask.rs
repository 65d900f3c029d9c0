//! The questions of interfaces to the engine, and the replies.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::app::App;
use super::error::ApiError;
use super::models::Held;
use super::request_log::RequestLog;
use super::settings::Settings;
use crate::engine::{Event, Reply, Request};
use crate::model::Pooling;
use crate::text::{AnswerParser, Constraint};

/// An answer to a prompt.
pub(super) struct Ask {
    pub prompt: Vec<u32>,
    pub settings: Settings,
    /// Divides the answer into parts; `None`: all of it is text.
    pub parser: Option<AnswerParser>,
    pub constraint: Option<Constraint>,
    /// Log-probabilities of the prompt, with those of this many most probable tokens.
    pub prompt_logprobs: Option<usize>,
}

/// The client of a request, for salts and for the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    /// The number of its key.
    pub key: Option<usize>,
    pub request_id: String,
    pub path: &'static str,
}

impl Ask {
    /// An answer that is plain text.
    pub fn plain(prompt: Vec<u32>, settings: Settings) -> Ask {
        Ask { prompt, settings, parser: None, constraint: None, prompt_logprobs: None }
    }

    /// The request of choice number `choice`: another seed for each.
    fn request(&self, app: &App, client: &Client, choice: usize) -> Request {
        let mut sampling = self.settings.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(choice as u64);
        let salt = match self.settings.shares_prefix {
            true => app.salt(client.key, self.settings.cache_salt.as_deref()),
            false => app.random(),
        };
        let mut request =
            Request::answer(self.prompt.clone(), sampling).limits(self.settings.limits.clone()).salt(salt);
        if let Some(parser) = &self.parser {
            request = request.in_parts(parser.clone());
        }
        if let Some(constraint) = &self.constraint {
            request = request.constrained(constraint.clone());
        }
        match self.prompt_logprobs {
            Some(n) => request.prompt_logprobs(n),
            None => request,
        }
    }
}

/// Submits each of the asked answers `n` times. Choice `i` of ask `j` has the number `j * n + i`.
pub(super) fn submit(
    app: &Arc<App>,
    loaded: &Arc<Held>,
    client: &Client,
    asks: &[Ask],
    n: usize,
) -> Result<Replies, ApiError> {
    let mut replies = Vec::with_capacity(asks.len() * n);
    for ask in asks {
        for choice in 0..n {
            let submitted = loaded.engine.submit(ask.request(app, client, choice));
            replies.push(submitted.inspect_err(|error| app.metrics.rejected(&loaded.names.id, error))?);
        }
    }
    Ok(Replies::new(replies, RequestLog::new(app, loaded, client), loaded))
}

/// Submits texts to embed.
pub(super) fn submit_embeddings(
    app: &Arc<App>,
    loaded: &Arc<Held>,
    client: &Client,
    texts: Vec<Vec<u32>>,
    pooling: Pooling,
) -> Result<Replies, ApiError> {
    let mut replies = Vec::with_capacity(texts.len());
    for tokens in texts {
        let submitted = loaded.engine.submit(Request::embedding(tokens, pooling));
        replies.push(submitted.inspect_err(|error| app.metrics.rejected(&loaded.names.id, error))?);
    }
    Ok(Replies::new(replies, RequestLog::new(app, loaded, client), loaded))
}

/// The replies of one HTTP request. Dropping them cancels what is not over.
pub(super) struct Replies {
    replies: Vec<Option<Reply>>,
    /// The reply that is asked first, so that none waits for the others.
    next: usize,
    log: RequestLog,
    /// The model stays loaded until all is over.
    _held: Arc<Held>,
}

impl Replies {
    fn new(replies: Vec<Reply>, log: RequestLog, held: &Arc<Held>) -> Replies {
        let replies = replies.into_iter().map(Some).collect();
        Replies { replies, next: 0, log, _held: Arc::clone(held) }
    }

    /// The number of choices.
    pub fn len(&self) -> usize {
        self.replies.len()
    }

    /// The next event of any choice, with the choice's number; `None` after the last event of all.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Event)>> {
        let n = self.replies.len();
        let mut is_open = false;
        for i in (self.next..n).chain(0..self.next) {
            let Some(reply) = &mut self.replies[i] else { continue };
            match reply.poll_recv(context) {
                Poll::Ready(Some(event)) => {
                    self.next = (i + 1) % n;
                    self.log.event(i, &event);
                    return Poll::Ready(Some((i, event)));
                }
                Poll::Ready(None) => self.replies[i] = None,
                Poll::Pending => is_open = true,
            }
        }
        if is_open { Poll::Pending } else { Poll::Ready(None) }
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Option<(usize, Event)> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}
