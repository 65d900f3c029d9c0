//! `rfgraph serve`: the HTTP server.
//!
//! `access` has the options for keys and limits, `load` those of each model; `library` has the models that it serves without
//! a MODEL.

mod access;
#[cfg(feature = "hub")]
mod library;
mod load;
#[cfg(feature = "hub")]
mod models;

use clap::Args;

use self::access::AccessArgs;
use self::load::LoadArgs;
#[cfg(feature = "hub")]
use self::models::ModelsArgs;
use super::error::{CliError, eprintln_quietly};
use super::options::ModelArg;
use super::sampling::SamplingArgs;
use crate::serve::{ModelNames, ServeError, ServeOptions, Server, thoughts_apart};

/// The help of the argument MODEL, which has another default here.
pub(super) const MODEL: &str = "GGUF file (the first part of a split model), or name of a model on this machine, as \
    `rfgraph list` shows it [default: all models on this machine, loaded on request]";

/// Serve models over HTTP, many answers at once
///
/// Speaks the interfaces of OpenAI, Anthropic, ollama and llama-server, and serves a chat page at /. Without MODEL, all
/// models on this machine are served, as `rfgraph list` shows them: each is loaded for the first request that names it. If
/// there are none, the demo model is served. On the CPU answers do not depend on other requests: a greedy or seeded one is
/// the same alone and among many. Ctrl-C or SIGTERM ends the server when the running answers are done; a second one ends
/// it at once.
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
    /// Name of MODEL in requests and answers. May be repeated: the first is the id [default: the file's name]
    #[arg(long, alias = "served-model-name", value_name = "NAME", value_delimiter = ',')]
    alias: Vec<String>,
    /// Thoughts in chats whose request has no reasoning_format: apart from the text (auto, deepseek), or in it (none)
    #[arg(
        long = "reasoning-format",
        value_name = "FORMAT",
        default_value = "auto",
        action = clap::ArgAction::Set,
        value_parser = thoughts_apart
    )]
    thoughts_apart: bool,
    #[command(flatten)]
    load: LoadArgs,
    #[cfg(feature = "hub")]
    #[command(flatten)]
    models: ModelsArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl ServeArgs {
    fn options(&self) -> Result<ServeOptions, CliError> {
        let options = ServeOptions {
            host: self.host.clone(),
            port: self.port,
            thoughts_apart: self.thoughts_apart,
            ..self.access.options()?
        };
        #[cfg(feature = "hub")]
        let options = self.models.set(options);
        Ok(options)
    }

    /// The names of the given model.
    fn names(&self) -> ModelNames {
        let mut names = self.alias.iter().cloned();
        ModelNames { id: names.next().unwrap_or_else(|| self.model.stem()), aliases: names.collect() }
    }
}

pub(super) fn run(args: &ServeArgs) -> Result<(), CliError> {
    args.sampling.params()?;
    #[cfg(feature = "hub")]
    let library = library::of(args)?;
    let server = Server::start(args.options()?).map_err(explain)?;
    eprintln_quietly(&format!("listening on http://{}", server.address()));
    #[cfg(feature = "hub")]
    match library {
        Some(library) => library.serve(&server)?,
        None => keep(args, &server)?,
    }
    #[cfg(not(feature = "hub"))]
    keep(args, &server)?;
    eprintln_quietly("ready");
    server.run_until_signal();
    Ok(())
}

/// Loads the model while the server already answers that it is loading, and keeps it.
fn keep(args: &ServeArgs, server: &Server) -> Result<(), CliError> {
    let names = args.names();
    let on_step = server.on_step(&names.id);
    match args.load.load(&args.model, &args.sampling, names, on_step) {
        Ok(loaded) => server.set_model(Ok(loaded)),
        Err(error) => {
            server.set_model(Err(error.to_string()));
            return Err(error);
        }
    }
    Ok(())
}

fn explain(error: ServeError) -> CliError {
    match error {
        ServeError::Open { .. } => {
            CliError::Usage(format!("{error}; --api-key-file FILE sets keys, and --insecure goes without"))
        }
        error => CliError::Check(error.to_string()),
    }
}
