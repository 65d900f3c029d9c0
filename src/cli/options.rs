//! Options shared by several commands.

use std::cell::OnceCell;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::device::DeviceArg;
use super::error::CliError;
use super::names::{Located, locate};
#[cfg(feature = "hub")]
use super::pull::obtain;
use crate::exec::Budget;
use crate::gguf::Gguf;
#[cfg(feature = "hub")]
use crate::hub::{Preset, Reference};
use crate::model::{CacheLayout, CacheTypes, DeviceChoice, Model, ModelError, SessionOptions};
use crate::sampling::SamplerParams;
use crate::tensor::DType;
use crate::text::{Tokenizer, VocabData};

/// The model.
#[derive(Debug, Args)]
pub(super) struct ModelArg {
    /// GGUF file (the first part of a split model), or name of a model on this machine, as `rfgraph list` shows it
    /// [default: the demo model built into rfgraph]
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// In place of MODEL: a model on Hugging Face, USER/REPO[:QUANT], which is downloaded if it is not in the cache;
    /// -hf is the same
    #[cfg(feature = "hub")]
    #[arg(
        long,
        visible_alias = "hf-repo",
        value_name = "REPO",
        conflicts_with = "model",
        hide_short_help = true
    )]
    hf: Option<Reference>,
    /// Do not download
    #[cfg(feature = "hub")]
    #[arg(long, hide_short_help = true)]
    offline: bool,
    /// The file that was found.
    #[arg(skip)]
    located: OnceCell<Option<Located>>,
    /// Refuse a file with keys of its architecture that rfgraph does not know [default: warn and ignore them]
    #[arg(long)]
    strict: bool,
}

impl ModelArg {
    /// Opens the model.
    pub(super) fn open(&self) -> Result<Model, CliError> {
        let model = self.open_leniently()?;
        self.check(&model)?;
        Ok(model)
    }

    /// Refuses the opened model if `--strict` does.
    pub(super) fn check(&self, model: &Model) -> Result<(), CliError> {
        if self.strict {
            model.refuse_unknown_keys()?;
        }
        Ok(())
    }

    /// Opens the model, whatever `--strict` says.
    pub(super) fn open_leniently(&self) -> Result<Model, CliError> {
        match self.located()? {
            Some(located) => Ok(Model::open(&located.path)?),
            #[cfg(feature = "demo")]
            None => Ok(Model::demo()?),
            #[cfg(not(feature = "demo"))]
            None => Err(CliError::Usage("no MODEL was given, and this build has no demo model in it".into())),
        }
    }

    /// Opens the model's file, even if its architecture is not supported.
    pub(super) fn open_file(&self) -> Result<Arc<Gguf>, CliError> {
        match self.located()? {
            Some(located) => Ok(Arc::new(Gguf::open(&located.path)?)),
            None => Ok(Arc::clone(self.open()?.gguf())),
        }
    }

    /// The tokenizer of the model's file, as for [`ModelArg::open_file`].
    pub(super) fn open_tokenizer(&self) -> Result<Tokenizer, CliError> {
        if self.strict {
            self.open()?;
        }
        let vocabulary = VocabData::from_metadata(self.open_file()?.metadata()).map_err(ModelError::from)?;
        Ok(Tokenizer::new(vocabulary).map_err(ModelError::from)?)
    }

    /// A model that was found. `strict` is as `--strict`.
    #[cfg(all(feature = "hub", feature = "serve"))]
    pub(super) fn found(located: Option<Located>, strict: bool) -> ModelArg {
        let located = OnceCell::from(located);
        ModelArg { model: None, hf: None, offline: true, located, strict }
    }

    /// True if a model was named.
    #[cfg(all(feature = "hub", feature = "serve"))]
    pub(super) fn is_given(&self) -> bool {
        self.hf.is_some() || self.model.is_some()
    }

    /// The value of `--strict`.
    #[cfg(all(feature = "hub", feature = "serve"))]
    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    /// The model's name for clients: its file's without the ending and the number of a part.
    #[cfg(feature = "serve")]
    pub(super) fn stem(&self) -> String {
        let name = self.label();
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        let part = stem.rsplit_once("-00001-of-").map(|(stem, _)| stem);
        part.unwrap_or(stem).to_string()
    }

    /// The file of the path, name or repository; `None` if none was given. Looked for once.
    pub(super) fn located(&self) -> Result<Option<&Located>, CliError> {
        if self.located.get().is_none() {
            // A value that was set meanwhile is the same one.
            let _ = self.located.set(self.locate()?);
        }
        Ok(self.located.get().and_then(Option::as_ref))
    }

    fn locate(&self) -> Result<Option<Located>, CliError> {
        #[cfg(feature = "hub")]
        if let Some(reference) = &self.hf {
            return Ok(Some(Located::at(obtain(reference, self.offline)?.path)));
        }
        self.model.as_deref().map(locate).transpose()
    }

    /// The context size of the model's preset.
    fn preset_ctx(&self) -> Option<usize> {
        #[cfg(feature = "hub")]
        return self.preset()?.n_ctx;
        #[cfg(not(feature = "hub"))]
        None
    }

    /// Sets the samplers' settings of the model's preset, and returns their names.
    pub(super) fn preset_sampling(&self, params: &mut SamplerParams) -> Vec<&'static str> {
        #[cfg(feature = "hub")]
        return self.preset().map_or_else(Vec::new, |preset| preset.set(params));
        #[cfg(not(feature = "hub"))]
        {
            let _ = params;
            Vec::new()
        }
    }

    #[cfg(feature = "hub")]
    fn preset(&self) -> Option<&Preset> {
        self.located.get()?.as_ref()?.preset.as_ref()
    }

    /// The model's name in tables.
    pub(super) fn label(&self) -> String {
        #[cfg(feature = "hub")]
        if let Some(reference) = &self.hf {
            return reference.to_string();
        }
        let name = self.model.as_ref().and_then(|path| path.file_name());
        name.map_or_else(|| "demo".into(), |name| name.to_string_lossy().into_owned())
    }
}

/// Context size.
#[derive(Clone, Debug, Args)]
pub(super) struct ContextArg {
    /// Context size in tokens; 0: the size the model was trained with [default: the trained size, at most 4096]
    #[arg(short = 'c', long = "ctx", value_name = "CTX", value_parser = context)]
    ctx: Option<usize>,
}

fn context(text: &str) -> Result<usize, String> {
    let tokens: usize = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    let most = CacheLayout::MAX_N_CTX;
    if tokens <= most { Ok(tokens) } else { Err(format!("a context has at most {most} tokens")) }
}

impl ContextArg {
    /// The context size for an opened model that was trained for `trained` tokens: the option's, else its preset's.
    pub(super) fn size(&self, trained: usize, model: &ModelArg) -> usize {
        match self.ctx.or_else(|| model.preset_ctx()) {
            None => SessionOptions::default().n_ctx.min(trained),
            Some(0) => trained,
            Some(n) => n,
        }
    }
}

/// Parses a count.
pub(super) fn one_or_more(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected 1 or more".into())
}

/// Number of threads.
#[derive(Clone, Debug, Args)]
pub(super) struct ThreadsArg {
    /// Number of threads [default: one per physical core]
    #[arg(short, long, value_parser = one_or_more)]
    threads: Option<NonZeroUsize>,
}

impl ThreadsArg {
    /// The number of threads, if given.
    pub(super) fn given(&self) -> Option<NonZeroUsize> {
        self.threads
    }

    /// The number of threads, or the default.
    pub(super) fn count(&self) -> NonZeroUsize {
        self.threads.unwrap_or_else(crate::cpu::physical_cores)
    }
}

/// The types of the KV cache.
#[derive(Clone, Debug, Args)]
pub(super) struct CacheArgs {
    /// KV cache type: f16, bf16, f32, or q8_0 or q4_0 in blocks of 32 elements
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = cache_type)]
    cache_type: DType,
    /// Type of the cached keys [default: --cache-type]
    #[arg(long, value_name = "TYPE", value_parser = cache_type)]
    cache_type_k: Option<DType>,
    /// Type of the cached values [default: --cache-type]
    #[arg(long, value_name = "TYPE", value_parser = cache_type)]
    cache_type_v: Option<DType>,
}

impl CacheArgs {
    /// The types of keys and of values.
    pub(super) fn types(&self) -> CacheTypes {
        CacheTypes {
            k: self.cache_type_k.unwrap_or(self.cache_type),
            v: self.cache_type_v.unwrap_or(self.cache_type),
        }
    }
}

fn cache_type(text: &str) -> Result<DType, String> {
    let dtype = DType::from_name(text).filter(|dtype| CacheTypes::ALL.contains(dtype));
    dtype.ok_or_else(|| {
        let [others @ .., last] = CacheTypes::ALL.map(|dtype| dtype.name().to_lowercase());
        format!("expected {} or {last}", others.join(", "))
    })
}

/// Options of a session, except for its context size.
#[derive(Clone, Debug, Args)]
pub(super) struct SessionArgs {
    #[command(flatten)]
    threads: ThreadsArg,
    /// Prompt tokens per batch (ubatch): a larger batch is faster and takes more memory [default: 512; on a GPU as many as
    /// take about 200 ms, from 64 to 2048]
    #[arg(long, alias = "ubatch-size", value_name = "N", value_parser = one_or_more)]
    ubatch: Option<NonZeroUsize>,
    /// Compute each sequence with the same bits alone and in any batch, whatever its prompt's chunks. Slower
    #[arg(long)]
    deterministic: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Fraction of the free memory to use at most, above 0 and up to 1
    #[arg(long, value_name = "SHARE", default_value_t = Budget::FRACTION, value_parser = fraction)]
    memory_fraction: f64,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The device and its options.
#[derive(Clone, Copy, Debug, Args)]
struct DeviceArgs {
    /// Device: auto (a GPU if one is found and the model has 64 MiB or more, else the CPU), cpu, hip, or hip:N for GPU
    /// number N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceArg,
    /// Layers to run on the GPU, counted from the last; the others run on the CPU [default: as many as fit the GPU's
    /// memory]
    #[arg(long, alias = "n-gpu-layers", value_name = "N")]
    gpu_layers: Option<usize>,
    /// Time limit of one batch on the GPU in seconds; past it the GPU counts as hung [default: 120]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<NonZeroU32>,
}

fn fraction(text: &str) -> Result<f64, String> {
    let value: Result<f64, _> = text.parse();
    value
        .ok()
        .filter(|value| *value > 0.0 && *value <= 1.0)
        .ok_or_else(|| "expected a number above 0 and up to 1".into())
}

impl SessionArgs {
    /// The options of a model's session with a context of `n_ctx` tokens, on the requested device.
    pub(super) fn options(&self, model: &Model, n_ctx: usize) -> Result<SessionOptions, CliError> {
        let DeviceArgs { device, gpu_layers, timeout } = self.device;
        if device == DeviceArg::Cpu && (gpu_layers.is_some() || timeout.is_some()) {
            let reason = "--gpu-layers and --timeout are about a GPU, and --device cpu takes none";
            return Err(CliError::Usage(reason.into()));
        }
        let device = device.resolve(model)?;
        if device == DeviceChoice::Cpu && gpu_layers.is_some_and(|n| n > 0) {
            tracing::warn!(
                "the CPU computes all layers, whatever --gpu-layers says; --device hip takes a GPU"
            );
        }
        Ok(SessionOptions { device, ..self.options_for_cpu(n_ctx) })
    }

    /// The options of a session on the CPU.
    pub(super) fn options_for_cpu(&self, n_ctx: usize) -> SessionOptions {
        SessionOptions {
            n_ctx,
            n_sequences: 1,
            n_tokens: None,
            ubatch: self.ubatch.map(NonZeroUsize::get),
            deterministic: self.deterministic,
            threads: self.threads.given(),
            cache_types: self.cache.types(),
            memory_fraction: self.memory_fraction,
            device: DeviceChoice::Cpu,
            gpu_layers: self.device.gpu_layers,
            timeout: self.device.timeout.map(|seconds| Duration::from_secs(seconds.get().into())),
        }
    }

    /// The types of the KV cache.
    pub(super) fn cache_types(&self) -> CacheTypes {
        self.cache.types()
    }

    /// Number of threads.
    pub(super) fn threads(&self) -> NonZeroUsize {
        self.threads.count()
    }
}
