//! `rfgraph quantize`: a model file with its matrices converted to other types.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use serde::Serialize;

use super::error::CliError;
use super::interrupt::{Second, listen};
use super::names::locate;
use super::options::ThreadsArg;
use super::output::{print, print_json};
use super::output_file::{Unfinished, refuse_target};
use super::progress::{Progress, Unit};
use super::remedies::with_options;
use crate::exec::Bytes;
use crate::gguf::Gguf;
use crate::quantize::{Mix, Quantization, QuantizeError, Recipe};
use crate::tensor::DType;
use crate::tensor::blocks::WRITABLE;

/// Write a model file with its weights in fewer bits
///
/// TYPE names a mix of types, as in llama.cpp: most matrices get the type in the name, and those most sensitive to
/// rounding get more bits. Vectors keep their type, and the metadata is kept. A matrix whose rows are not a multiple
/// of the type's block size gets a type with smaller blocks. The output file appears under its name only once it is
/// complete.
#[derive(Debug, Args)]
pub(super) struct QuantizeArgs {
    /// GGUF file in F32, F16 or BF16 (the first part of a split model), or its name
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Output file; an existing file is replaced
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// One of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, IQ4_NL,
    /// IQ4_XS, MXFP4_MOE, F16, BF16, F32; Q4_K means Q4_K_M, and so on
    #[arg(value_name = "TYPE", value_parser = mix)]
    mix: Mix,
    /// Type of the output matrix, also if it is shared with the token embeddings
    #[arg(long, value_name = "TYPE", value_parser = writable)]
    output_type: Option<DType>,
    /// Type of the token embeddings
    #[arg(long, value_name = "TYPE", value_parser = writable)]
    embedding_type: Option<DType>,
    /// Give every matrix the type in the name
    #[arg(long)]
    pure: bool,
    /// Accept a quantized input file, although rounding errors add up
    #[arg(long)]
    allow_requantize: bool,
    #[command(flatten)]
    threads: ThreadsArg,
    /// Print one JSON object with sizes and the type of each tensor
    #[arg(long)]
    json: bool,
}

fn mix(text: &str) -> Result<Mix, String> {
    let names = || Mix::all().map(Mix::name).collect::<Vec<_>>().join(", ");
    Mix::from_name(text).ok_or_else(|| format!("expected one of {}", names()))
}

fn writable(text: &str) -> Result<DType, String> {
    let names = || WRITABLE.map(DType::name).join(", ");
    let known = DType::from_name(text).filter(|dtype| WRITABLE.contains(dtype));
    known.ok_or_else(|| format!("expected one of {}", names()))
}

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    mix: &'static str,
    parameters: u64,
    /// Size of the tensors' data in the input.
    bytes_before: u64,
    bytes: u64,
    bits_per_weight: f64,
    types: BTreeMap<&'static str, TypeReport>,
    tensors: Vec<TensorReport>,
}

#[derive(Default, Serialize)]
struct TypeReport {
    tensors: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    shape: Vec<usize>,
    from: &'static str,
    to: &'static str,
    bytes: usize,
}

pub(super) fn run(args: &QuantizeArgs) -> Result<(), CliError> {
    let gguf = Gguf::open(&locate(&args.input)?.path)?;
    refuse_target("OUT", &args.output, gguf.paths())?;
    let recipe = Recipe {
        mix: args.mix,
        output_type: args.output_type,
        embedding_type: args.embedding_type,
        pure: args.pure,
    };
    let quantization = Quantization::new(&gguf, &recipe, args.allow_requantize).map_err(explain)?;
    write(args, &quantization)?;
    let report = Report::of(args, &gguf, &quantization);
    if args.json { print_json(&report) } else { print(report.text()) }
}

fn explain(error: QuantizeError) -> CliError {
    match error {
        QuantizeError::Stopped => CliError::Interrupted,
        other => CliError::Input(with_options(&other, other.remedies())),
    }
}

fn write(args: &QuantizeArgs, quantization: &Quantization<'_>) -> Result<(), CliError> {
    let failed = |source| CliError::Path { verb: "write", path: args.output.clone(), source };
    let stop = listen(Second::Waits);
    let (unfinished, file) = Unfinished::create(&args.output).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let total = usize::try_from(quantization.elements()).unwrap_or(usize::MAX);
    let mut progress = Progress::new("quantizing", Unit::Weights, total);
    let written = quantization.write(&mut out, args.threads.given(), |done| {
        progress.set(done as usize);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    written.map_err(explain)?;
    out.flush().map_err(failed)?;
    unfinished.finish(out.get_ref()).map_err(failed)
}

impl Report {
    fn of(args: &QuantizeArgs, gguf: &Gguf, quantization: &Quantization<'_>) -> Report {
        let mut types: BTreeMap<&'static str, TypeReport> = BTreeMap::new();
        for conversion in quantization.conversions() {
            let report = types.entry(conversion.dtype.name()).or_default();
            report.tensors += 1;
            report.bytes += conversion.bytes() as u64;
        }
        let tensors = quantization.conversions().iter().map(|conversion| TensorReport {
            name: conversion.info.name.clone(),
            shape: conversion.info.shape.sizes().to_vec(),
            from: conversion.info.dtype.name(),
            to: conversion.dtype.name(),
            bytes: conversion.bytes(),
        });
        let (parameters, bytes) = (quantization.elements(), quantization.bytes());
        Report {
            file: args.output.clone(),
            mix: args.mix.name(),
            parameters,
            bytes_before: gguf.tensors().iter().map(|info| info.bytes as u64).sum(),
            bytes,
            bits_per_weight: 8.0 * bytes as f64 / parameters.max(1) as f64,
            types,
            tensors: tensors.collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, TypeReport { tensors, bytes }) in &self.types {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<8} {tensors:>5} tensors  {:>10}", Bytes(*bytes).to_string());
        }
        let (before, after) = (Bytes(self.bytes_before), Bytes(self.bytes));
        let _ = writeln!(text, "{before} -> {after}, {:.2} bits per weight", self.bits_per_weight);
        text
    }
}
