//! The engine's handle: starts the thread, checks requests and passes them on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::clock::Wall;
use super::job::{Job, MOST_UNREAD, Task};
use super::request::{AnswerWork, Request, Work};
use super::shared::{Command, Shared};
use super::worker::Worker;
use super::{EngineError, EngineOptions, Generation, Reply, Running, Stats};
use crate::model::{Model, ModelError, Pooled, Session};
use crate::sampling::Sampler;
use crate::text::Tokenizer;

/// Many answers at once: one thread owns a session, and computes the requests of any number of callers in shared
/// steps.
///
/// A handle can be cloned and sent to other threads. When the last one is dropped, the engine computes the requests
/// whose replies are still there, and ends.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rfgraph::{Engine, EngineOptions, Event, Message, Model, Request, SamplerParams};
///
/// let model = Model::open("model.gguf")?;
/// let engine = Engine::start(&model, EngineOptions::default())?;
/// let template = model.chat_template(engine.tokenizer())?;
/// let ask = |question: &str| {
///     let text = template.render(&[Message::new("user", question)], true)?;
///     let prompt = engine.tokenizer().encode_chat(&text);
///     Ok::<_, Box<dyn std::error::Error>>(engine.submit(Request::answer(prompt, SamplerParams::default()))?)
/// };
/// let replies = [ask("What is 347 + 285?")?, ask("What is 12 + 7?")?];
/// for reply in replies {
///     for event in reply {
///         if let Event::Text(piece) = event {
///             print!("{}", piece.text);
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    model: Model,
    tokenizer: Tokenizer,
    sizes: SessionSizes,
    max_queue: usize,
}

/// The sizes of the engine's session.
#[derive(Clone, Copy, Debug)]
struct SessionSizes {
    /// The most tokens of a request.
    n_ctx: usize,
    n_sequences: usize,
}

impl Engine {
    /// Starts an engine: makes the session on a thread of its own, and returns when it is ready.
    ///
    /// # Errors
    /// As [`Session::with`]; if the file's tokenizer cannot be used, or the thread cannot be started.
    pub fn start(model: &Model, options: EngineOptions) -> Result<Engine, ModelError> {
        let tokenizer = model.tokenizer()?;
        let shared = Arc::new(Shared::default());
        let (commands, received) = channel();
        let (ready, made) = sync_channel(1);
        let max_queue = options.max_queue;
        let thread = {
            let (model, shared) = (model.clone(), Arc::clone(&shared));
            let work = move || run(&model, options, received, shared, &ready);
            std::thread::Builder::new().name("rfgraph-engine".to_string()).spawn(work)
        };
        let thread = thread.map_err(|error| ModelError::Thread { error })?;
        // A thread that ends without an answer has panicked.
        let sizes = made.recv().unwrap_or_else(|_| {
            Err(ModelError::Thread {
                error: std::io::Error::other("the engine's thread ended while it started"),
            })
        })?;
        let inner = Inner {
            commands,
            shared,
            thread: Mutex::new(Some(thread)),
            model: model.clone(),
            tokenizer,
            sizes,
            max_queue,
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// Submits a request. It is checked here, on the caller's thread.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if too many requests wait, [`EngineError::Stopped`]; [`EngineError::Model`] for a request
    /// without tokens, with unknown ones or more than the context holds, or with settings out of range.
    pub fn submit(&self, request: Request) -> Result<Reply, EngineError> {
        if let Some(stopped) = self.inner.shared.stopped() {
            return Err(stopped);
        }
        let (job, reply) = job_of(&self.inner.model, &self.inner.tokenizer, self.n_ctx(), request)?;
        self.inner.shared.enter_queue(self.inner.max_queue)?;
        match self.inner.commands.send(Command::Submit(Box::new(job))) {
            Ok(()) => Ok(reply),
            Err(_) => Err(self.ended()),
        }
    }

    fn ended(&self) -> EngineError {
        let reason = "its thread ended".to_string();
        self.inner.shared.stopped().unwrap_or(EngineError::Stopped { reason })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.inner.model
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The most tokens of a request, prompt and answer together.
    pub fn n_ctx(&self) -> usize {
        self.inner.sizes.n_ctx
    }

    /// The most requests that are computed at a time.
    pub fn n_sequences(&self) -> usize {
        self.inner.sizes.n_sequences
    }

    /// Counts of the engine's work.
    pub fn stats(&self) -> Stats {
        self.inner.shared.stats()
    }

    /// The requests that are computed now, as of the last step's beginning.
    pub fn running(&self) -> Vec<Running> {
        self.inner.shared.running()
    }

    /// Ends all requests with [`EngineError::Stopped`], and waits until the session is closed and its memory is free.
    pub fn stop(&self) {
        // A thread that ended needs no command.
        let _ = self.inner.commands.send(Command::Stop);
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics are caught and recorded.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("sizes", &self.inner.sizes).field("stats", &self.stats()).finish()
    }
}

/// Checks a request, and makes its job and its reply.
pub(super) fn job_of(
    model: &Model,
    tokenizer: &Tokenizer,
    n_ctx: usize,
    request: Request,
) -> Result<(Job, Reply), ModelError> {
    let Request { tokens, work, salt } = request;
    check(model, n_ctx, &tokens)?;
    let task = match work {
        Work::Answer(answer) => answer_task(model, tokenizer, &tokens, *answer)?,
        Work::Embedding(pooling) => {
            Task::Embedding(Pooled::new(pooling, model.architecture().shape().n_embd, tokens.len()))
        }
    };
    let (sender, events) = mpsc::channel(MOST_UNREAD);
    Ok((Job::new(tokens, salt, task, sender), Reply::new(events)))
}

fn check(model: &Model, n_ctx: usize, tokens: &[u32]) -> Result<(), ModelError> {
    let shape = model.architecture().shape();
    let (n_vocab, n_ctx_train) = (shape.n_vocab, shape.n_ctx_train);
    if tokens.is_empty() {
        return Err(ModelError::NoTokens { wanted: "answer" });
    }
    if let Some(&token) = tokens.iter().find(|&&token| token as usize >= n_vocab) {
        return Err(ModelError::Token { token, n_vocab });
    }
    if tokens.len() > n_ctx {
        return Err(ModelError::ContextFull { wanted: tokens.len(), n_ctx, n_ctx_train });
    }
    Ok(())
}

/// The task of an answer, whose sampler has seen the prompt.
fn answer_task(
    model: &Model,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    work: AnswerWork,
) -> Result<Task, ModelError> {
    let n_vocab = model.architecture().shape().n_vocab;
    let mut sampler = Sampler::for_tokenizer(work.sampling, n_vocab, tokenizer)?;
    prompt.iter().for_each(|&token| sampler.accept(token));
    let generation = Generation::new(tokenizer, sampler, work.limits)?;
    let generation = match work.parser {
        Some(parser) => generation.in_parts(parser),
        None => generation,
    };
    #[cfg(feature = "grammar")]
    let generation = match work.constraint {
        Some(constraint) => generation.constrained(constraint),
        None => generation,
    };
    Ok(Task::answer(generation, work.prompt_logprobs))
}

/// The body of the engine's thread.
fn run(
    model: &Model,
    options: EngineOptions,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    ready: &SyncSender<Result<SessionSizes, ModelError>>,
) {
    let session = match Session::with(model, &options.session, &options.extras) {
        Ok(session) => session,
        Err(error) => {
            // The caller waits for it.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let (n_ctx, n_sequences) = (session.states().n_ctx(), session.states().n_sequences());
    let _ = ready.send(Ok(SessionSizes { n_ctx, n_sequences }));
    let mut worker = Worker::new(session, Wall::start(), options, commands, Arc::clone(&shared));
    if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
        shared.stop("its thread panicked");
    }
}
