//! `rfgraph serve`: the HTTP server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::device::setup;
use super::error::{CliError, eprintln_quietly};
use super::options::{ContextArg, ModelArg, SessionArgs};
use super::progress::read_ahead;
use super::sampling::SamplingArgs;
use super::text::read_file;
use crate::engine::{Engine, EngineOptions};
use crate::model::{DeviceChoice, Pooling};
use crate::serve::{ApiKey, Loaded, ModelNames, ServeError, ServeOptions, Server};

/// Serve a model over HTTP, many answers at once
///
/// Speaks the interfaces of OpenAI, Anthropic, ollama and llama-server, and serves a chat page at /. On the CPU answers do
/// not depend on other requests: a greedy or seeded one is the same alone and among many. Ctrl-C or SIGTERM ends the
/// server when the running answers are done; a second one ends it at once.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Address or host name to listen on. An address that other machines can reach needs a key or --insecure
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0: a free one, which is printed
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Name of the model in requests and answers. May be repeated: the first is the id [default: the file's name]
    #[arg(long, alias = "served-model-name", value_name = "NAME", value_delimiter = ',')]
    alias: Vec<String>,
    #[command(flatten)]
    ctx: ContextArg,
    /// Answers that are computed at a time; further ones wait
    #[arg(long, value_name = "N", default_value_t = 32)]
    parallel: usize,
    /// Tokens that all answers may hold together [default: those of 4 whole contexts]
    #[arg(long, value_name = "TOKENS")]
    pool: Option<usize>,
    /// Requests that wait at most; further ones are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_queue: usize,
    /// Longest pause in running answers while prompts are computed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50)]
    step_time: u64,
    /// On the CPU too, an answer's last bits may depend on other requests, which is faster. On a GPU this is so unless
    /// --deterministic is given, which makes prompts more than 20 times slower there
    #[arg(long, conflicts_with = "deterministic")]
    no_deterministic: bool,
    /// Most tokens of an answer whose request sets no limit; -1: as many as the context holds
    #[arg(short = 'n', long, alias = "n-predict", value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    max_tokens: i64,
    /// Pooling of embeddings: mean, last or cls [default: the file's]
    #[arg(long, value_name = "KIND", value_parser = super::embed::pooling)]
    pooling: Option<Pooling>,
    /// Chat template to use in place of the file's
    #[arg(long, value_name = "FILE")]
    chat_template_file: Option<PathBuf>,
    /// llama-server's switches for what this server always does
    #[arg(long = "cont-batching", hide = true, action = clap::ArgAction::Count,
        aliases = ["jinja", "metrics", "slots", "kv-unified", "embedding", "embeddings"])]
    always: u8,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Options on who may use the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
struct AccessArgs {
    /// Key that clients must send. May be repeated. Other users of this machine can see it: better a file
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    api_key: Vec<String>,
    /// File with a key per line; `NAME:KEY` names it in the log
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen on any address without a key: everyone who can reach it can use the server
    #[arg(long)]
    insecure: bool,
    /// Further host name by which clients call the server. May be repeated
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    allowed_host: Vec<String>,
    /// Origin whose web pages may call the server, such as `https://chat.example`. May be repeated
    #[arg(long, alias = "cors-origins", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origin: Vec<String>,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_connections: usize,
    /// Largest body of a request in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    max_body: usize,
    /// Time that running answers have when the server is told to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// Also give the metrics under llama-server's names
    #[arg(long)]
    llama_metrics: bool,
    /// Do not answer /slots
    #[arg(long)]
    no_slots: bool,
    /// Do not serve the page
    #[arg(long, alias = "no-webui")]
    no_ui: bool,
}

impl AccessArgs {
    fn keys(&self) -> Result<Vec<ApiKey>, CliError> {
        let mut keys: Vec<ApiKey> = Vec::new();
        let given = self.api_key.iter().filter(|key| !key.is_empty());
        keys.extend(given.enumerate().map(|(i, key)| ApiKey::new(format!("key {}", i + 1), key)));
        let Some(path) = &self.api_key_file else { return Ok(keys) };
        let text = read_file(path)?;
        for (i, line) in text.lines().map(str::trim).enumerate() {
            match line.split_once(':') {
                _ if line.is_empty() || line.starts_with('#') => {}
                Some((name, key)) if !key.is_empty() => keys.push(ApiKey::new(name, key)),
                _ => keys.push(ApiKey::new(format!("line {}", i + 1), line)),
            }
        }
        if keys.is_empty() {
            return Err(CliError::Input(format!("{} has no key", path.display())));
        }
        Ok(keys)
    }

    fn options(&self, args: &ServeArgs) -> Result<ServeOptions, CliError> {
        Ok(ServeOptions {
            host: args.host.clone(),
            port: args.port,
            insecure: self.insecure,
            keys: self.keys()?,
            allowed_hosts: self.allowed_host.clone(),
            cors_origins: self.cors_origin.clone(),
            max_body: self.max_body << 20,
            max_connections: self.max_connections,
            drain_time: Duration::from_secs(self.drain),
            llama_metrics: self.llama_metrics,
            slots: !self.no_slots,
            page: !self.no_ui,
            ..ServeOptions::default()
        })
    }
}

pub(super) fn run(args: &ServeArgs) -> Result<(), CliError> {
    args.sampling.params()?;
    let server = Server::start(args.access.options(args)?).map_err(explain)?;
    eprintln_quietly(&format!("listening on http://{}", server.address()));
    match load(args, &server) {
        Ok(loaded) => server.set_model(Ok(loaded)),
        Err(error) => {
            server.set_model(Err(error.to_string()));
            return Err(error);
        }
    }
    eprintln_quietly("ready");
    server.run_until_signal();
    Ok(())
}

/// Loads the model while the server already answers that it is loading.
fn load(args: &ServeArgs, server: &Server) -> Result<Loaded, CliError> {
    let model = args.model.open()?;
    let tokenizer = model.tokenizer()?;
    let n_ctx = args.ctx.size(model.architecture().shape().n_ctx_train, &args.model);
    let mut session = args.session.options(&model, n_ctx)?;
    read_ahead(model.gguf(), session.device);
    session.n_sequences = args.parallel.max(1);
    session.n_tokens = Some(args.pool.unwrap_or(4 * n_ctx));
    // Measured on an H200: prompts of 2,048 tokens at 1,349 tokens/s with it, and at 31,013 without it.
    session.deterministic |= session.device == DeviceChoice::Cpu && !args.no_deterministic;
    let sampling = args.sampling.choose(&model, &tokenizer, &args.model)?.params;
    let options = EngineOptions {
        session,
        setup: setup(),
        max_queue: args.max_queue,
        step_time: Duration::from_millis(args.step_time),
        on_step: Some(server.on_step()),
        ..EngineOptions::default()
    };
    let engine = Engine::start(&model, options)?;
    let mut names = args.alias.iter().cloned();
    let names =
        ModelNames { id: names.next().unwrap_or_else(|| args.model.stem()), aliases: names.collect() };
    let mut loaded = Loaded::new(engine, names, sampling)?;
    loaded.limit_answers(usize::try_from(args.max_tokens).ok());
    if let Some(pooling) = args.pooling {
        loaded.set_pooling(pooling);
    }
    if let Some(path) = &args.chat_template_file {
        loaded.set_template(&read_file(path)?)?;
    }
    Ok(loaded)
}

fn explain(error: ServeError) -> CliError {
    match error {
        ServeError::Open { .. } => {
            CliError::Usage(format!("{error}; --api-key-file FILE sets keys, and --insecure goes without"))
        }
        error => CliError::Check(error.to_string()),
    }
}
