//! The options on several models.

use std::path::PathBuf;

use clap::Args;

use crate::serve::{KeepAlive, ServeOptions};

/// Options on several models.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Several models")]
pub(super) struct ModelsArgs {
    /// Folder of GGUF files to serve, besides the models that `rfgraph list` shows
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "hf"])]
    pub(super) models_dir: Option<PathBuf>,
    /// Models that are loaded at a time; 0: as many as fit. The least recently used one makes room
    #[arg(long, value_name = "N", default_value_t = 4)]
    models_max: usize,
    /// Time that a model stays loaded after its last answer, such as 5m or 90 (seconds); -1: until its room is needed. A
    /// request's keep_alive wins [default: 5m; MODEL stays loaded unless this is given]
    #[arg(long, alias = "sleep-idle-seconds", value_name = "TIME", allow_negative_numbers = true)]
    pub(super) keep_alive: Option<KeepAlive>,
    /// Let clients download models from Hugging Face and give models further names (/api/pull, /api/copy)
    #[arg(long, conflicts_with_all = ["model", "hf"])]
    allow_pull: bool,
    /// Let clients delete models (/api/delete)
    #[arg(long, conflicts_with_all = ["model", "hf"])]
    allow_delete: bool,
}

impl ModelsArgs {
    pub(super) fn set(&self, options: ServeOptions) -> ServeOptions {
        ServeOptions {
            max_models: self.models_max,
            keep_alive: self.keep_alive.unwrap_or(options.keep_alive),
            allow_pull: self.allow_pull,
            allow_delete: self.allow_delete,
            ..options
        }
    }
}
