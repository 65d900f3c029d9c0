//! `rfgraph inspect`: the contents of a model file and the memory it needs.

use std::collections::BTreeMap;
use std::fmt;

use clap::Args;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::error::CliError;
use super::options::{ContextArg, ModelArg, SessionArgs};
use super::output::{print, print_json};
use crate::exec::{Budget, Bytes};
use crate::gguf::{Gguf, Value};
use crate::model::{
    Assumed, CacheTypes, KeyReport, MemoryNeed, Model, ModelShape, SessionOptions, StateNeed,
};

/// Show the contents of a model file and the memory it needs
///
/// Each key of the metadata is obeyed, ignored (it cannot change an answer of this model) or unknown. Values that are
/// assumed where the file lacks a key follow. Long strings and arrays are truncated. The memory is what `rfgraph run` needs with the same
/// options.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    #[command(flatten)]
    model: ModelArg,
    /// List the tensors
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ctx: ContextArg,
    #[command(flatten)]
    session: SessionArgs,
}

/// The full report.
#[derive(Serialize)]
struct Report {
    file: FileReport,
    metadata: Vec<Pair>,
    /// `null` if the architecture does not accept the file.
    keys: Option<KeyReport>,
    types: Vec<TypeReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<TensorReport>>,
    /// `null` if rfgraph cannot run the model; `problem` then has the reason.
    hyper_parameters: Option<HyperParameters>,
    memory: Option<MemoryReport>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct FileReport {
    name: String,
    version: u32,
    alignment: usize,
    parts: usize,
    bytes: u64,
    tensors: usize,
    parameters: u64,
}

#[derive(Serialize)]
struct Pair {
    key: String,
    value: Json,
    #[serde(skip)]
    shown: String,
}

#[derive(Serialize)]
struct TypeReport {
    dtype: String,
    tensors: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
    part: usize,
    offset: usize,
}

#[derive(Serialize)]
struct HyperParameters {
    architecture: String,
    n_vocab: usize,
    n_ctx_train: usize,
    n_embd: usize,
    n_layer: usize,
    n_head_kv: Vec<usize>,
    head_dim_k: Vec<usize>,
    head_dim_v: Vec<usize>,
}

#[derive(Serialize)]
struct MemoryReport {
    n_ctx: usize,
    cache_types: CacheTypes,
    ubatch: usize,
    threads: usize,
    weights: u64,
    kv_cache: u64,
    arena: u64,
    total: u64,
    /// The memory that may be used now; `null` if the system does not report free memory.
    budget: Option<u64>,
}

pub(super) fn run(args: &InspectArgs) -> Result<(), CliError> {
    let gguf = args.model.open_file()?;
    let opened = args.model.open_leniently();
    let keys = opened.as_ref().ok().map(|model| model.keys().clone());
    let (runnable, problem) = match opened.and_then(|model| model_report(args, &model)) {
        Ok(both) => (Some(both), None),
        Err(problem @ CliError::Model(_)) => (None, Some(problem.to_string())),
        Err(other) => return Err(other),
    };
    let (hyper_parameters, memory) = runnable.unzip();
    let report = Report {
        file: FileReport::of(&gguf, args.model.label()),
        metadata: gguf.metadata().iter().map(|(key, value)| Pair::of(key, value)).collect(),
        keys,
        types: types(&gguf),
        tensors: args.tensors.then(|| tensors(&gguf)),
        hyper_parameters,
        memory,
        problem,
    };
    if args.json { print_json(&report) } else { print(&report) }
}

/// The part of the report that needs a supported model.
fn model_report(args: &InspectArgs, model: &Model) -> Result<(HyperParameters, MemoryReport), CliError> {
    args.model.check(model)?;
    let shape = model.architecture().shape();
    let options = args.session.options_for_cpu(args.ctx.size(shape.n_ctx_train, &args.model));
    let need = MemoryNeed::of(model, &options)?;
    let threads = args.session.threads().get();
    let limit = Budget::host(options.memory_fraction).limit();
    let memory = MemoryReport {
        n_ctx: options.n_ctx,
        cache_types: options.cache_types,
        ubatch: options.ubatch.unwrap_or(SessionOptions::UBATCH),
        threads,
        weights: need.weights,
        kv_cache: need.kv_cache,
        arena: need.arena,
        total: need.weights + need.kv_cache + need.arena,
        budget: (limit != u64::MAX).then_some(limit),
    };
    Ok((HyperParameters::of(model, &shape, &need.states), memory))
}

impl FileReport {
    fn of(gguf: &Gguf, name: String) -> FileReport {
        FileReport {
            name,
            version: gguf.version(),
            alignment: gguf.alignment(),
            parts: gguf.shard_count(),
            bytes: gguf.total_bytes(),
            tensors: gguf.tensors().len(),
            parameters: gguf.parameters(),
        }
    }
}

impl Pair {
    /// The most characters shown of a text.
    const TEXT: usize = 1000;
    /// The most elements shown of an array.
    const ELEMENTS: usize = 8;

    fn of(key: &str, value: &Value) -> Pair {
        Pair { key: key.into(), value: Pair::json(value), shown: value.to_string() }
    }

    fn json(value: &Value) -> Json {
        match value {
            Value::U8(n) => json!(n),
            Value::I8(n) => json!(n),
            Value::U16(n) => json!(n),
            Value::I16(n) => json!(n),
            Value::U32(n) => json!(n),
            Value::I32(n) => json!(n),
            Value::U64(n) => json!(n),
            Value::I64(n) => json!(n),
            // Through text, so that 0.1 as f32 becomes 0.1 in JSON.
            Value::F32(x) => x.to_string().parse::<f64>().map_or(Json::Null, |x| json!(x)),
            Value::F64(x) => json!(x),
            Value::Bool(b) => json!(b),
            Value::String(text) => json!(text.chars().take(Pair::TEXT).collect::<String>()),
            Value::NotUtf8(text) => {
                json!(String::from_utf8_lossy(text).chars().take(Pair::TEXT).collect::<String>())
            }
            Value::Array(array) => {
                let first = (0..Pair::ELEMENTS).map_while(|i| array.get(i)).map(|value| Pair::json(&value));
                json!({
                    "array_of": array.element_type().name(),
                    "length": array.len(),
                    "first": first.collect::<Vec<_>>(),
                })
            }
        }
    }
}

impl HyperParameters {
    fn of(model: &Model, shape: &ModelShape, states: &[StateNeed]) -> HyperParameters {
        let size = |state: &str, dim: usize| -> Vec<usize> {
            let of_layer = |il: usize| states.iter().find(|need| need.name == format!("{state}.{il}"));
            (0..shape.n_layer).map(|il| of_layer(il).map_or(0, |need| need.shape[dim])).collect()
        };
        HyperParameters {
            architecture: model.architecture_name().into(),
            n_vocab: shape.n_vocab,
            n_ctx_train: shape.n_ctx_train,
            n_embd: shape.n_embd,
            n_layer: shape.n_layer,
            n_head_kv: size("cache_k", 1),
            head_dim_k: size("cache_k", 0),
            head_dim_v: size("cache_v", 0),
        }
    }
}

/// The treatment of a key, in a word.
fn fate(keys: &KeyReport, key: &str) -> &'static str {
    let is_in = |list: &[String]| list.iter().any(|name| name == key);
    match () {
        _ if is_in(&keys.unknown) => "unknown",
        _ if is_in(&keys.ignored) => "ignored",
        _ => "obeyed",
    }
}

/// Tensors and bytes by element type, largest share first.
fn types(gguf: &Gguf) -> Vec<TypeReport> {
    let mut types = BTreeMap::new();
    for info in gguf.tensors() {
        let (tensors, bytes) = types.entry(info.dtype).or_insert((0, 0));
        *tensors += 1;
        *bytes += info.bytes as u64;
    }
    let report = |(dtype, (tensors, bytes)): (crate::tensor::DType, _)| TypeReport {
        dtype: dtype.to_string(),
        tensors,
        bytes,
    };
    let mut types: Vec<_> = types.into_iter().map(report).collect();
    types.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    types
}

fn tensors(gguf: &Gguf) -> Vec<TensorReport> {
    let row = |info: &crate::gguf::TensorInfo| TensorReport {
        name: info.name.clone(),
        dtype: info.dtype.to_string(),
        shape: info.shape.sizes().to_vec(),
        bytes: info.bytes,
        part: info.shard,
        offset: info.offset,
    };
    gguf.tensors().iter().map(row).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        writeln!(f, "{}: GGUF version {}, alignment {}", file.name, file.version, file.alignment)?;
        let parts = if file.parts == 1 { String::new() } else { format!(" in {} files", file.parts) };
        writeln!(
            f,
            "{}{parts}, {} tensors, {} parameters",
            Bytes(file.bytes),
            file.tensors,
            file.parameters
        )?;
        writeln!(f, "\nmetadata, {} pairs", self.metadata.len())?;
        let width = self.metadata.iter().map(|pair| pair.key.chars().count()).max().unwrap_or(0).min(44);
        for Pair { key, shown, .. } in &self.metadata {
            let fate = self.keys.as_ref().map_or("", |keys| fate(keys, key));
            writeln!(f, "  {fate:8}{:width$}  {shown}", key.escape_debug().to_string())?;
        }
        for assumed in self.keys.iter().flat_map(|keys| &keys.assumed) {
            let Assumed { key, value, reason } = assumed;
            writeln!(f, "  assumed {key:width$}  {value}: {reason}")?;
        }
        writeln!(f, "\nelement types")?;
        for row in &self.types {
            writeln!(
                f,
                "  {:8} {:>5} tensors  {:>10}",
                row.dtype,
                row.tensors,
                Bytes(row.bytes).to_string()
            )?;
        }
        if let Some(tensors) = &self.tensors {
            writeln!(f, "\ntensors")?;
            let width = tensors.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
            for row in tensors {
                let (name, shape) = (row.name.escape_debug().to_string(), format!("{:?}", row.shape));
                write!(f, "  {name:width$}  {:7} {shape:20} {:>11} bytes at ", row.dtype, row.bytes)?;
                let part = if file.parts == 1 { String::new() } else { format!(" of part {}", row.part + 1) };
                writeln!(f, "{}{part}", row.offset)?;
            }
        }
        match (&self.hyper_parameters, &self.memory) {
            (Some(shape), Some(memory)) => write!(f, "\n{shape}\n{memory}"),
            _ => writeln!(
                f,
                "\nrfgraph cannot run this model: {}",
                self.problem.as_deref().unwrap_or_default()
            ),
        }
    }
}

impl fmt::Display for HyperParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "hyper-parameters")?;
        writeln!(f, "  architecture  {}", self.architecture)?;
        for (name, value) in [
            ("n_vocab", self.n_vocab),
            ("n_ctx_train", self.n_ctx_train),
            ("n_embd", self.n_embd),
            ("n_layer", self.n_layer),
        ] {
            writeln!(f, "  {name:12}  {value}")?;
        }
        let lists = [
            ("n_head_kv", &self.n_head_kv),
            ("head_dim_k", &self.head_dim_k),
            ("head_dim_v", &self.head_dim_v),
        ];
        for (name, values) in lists {
            match values.first() {
                Some(first) if values.iter().all(|value| value == first) => {
                    writeln!(f, "  {name:12}  {first}")?
                }
                _ => writeln!(f, "  {name:12}  {values:?}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryReport { n_ctx, cache_types, ubatch, threads, .. } = self;
        let s = if *threads == 1 { "" } else { "s" };
        writeln!(
            f,
            "memory for a context of {n_ctx} tokens in {cache_types}, ubatch {ubatch}, {threads} thread{s}"
        )?;
        let rows = [
            ("weights", self.weights),
            ("KV cache", self.kv_cache),
            ("arena", self.arena),
            ("total", self.total),
        ];
        for (name, bytes) in rows {
            writeln!(f, "  {name:9} {:>10}", Bytes(bytes).to_string())?;
        }
        match self.budget {
            Some(budget) => writeln!(f, "  {:9} {:>10}", "budget", Bytes(budget).to_string()),
            None => Ok(()),
        }
    }
}
