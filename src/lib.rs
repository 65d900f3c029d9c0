//! rfgraph: a graph-compiled tensor runtime that runs GGUF models, on the CPU or on a GPU through HIP. An experimental
//! alpha.
//!
//! A first answer:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut chat = rfgraph::Chat::open("model.gguf")?;
//! println!("{}", chat.ask("What is 347 + 285?")?);
//! # Ok(())
//! # }
//! ```
//!
//! The crate's root has the names that most programs need:
//!
//! - **Answers.** [`Chat`] is one conversation with a model. [`Engine`] computes many answers at once, for many callers.
//!   [`Generation`] is one answer in progress, independent of a
//!   session: it takes the outputs of rows, chooses tokens with a [`Sampler`], and returns text and its next row.
//! - **Models.** A [`Session`] is a [`Model`] with the states of its sequences on the devices of a [`DeviceChoice`].
//!   [`Session::step`] computes [`Rows`] of any sequences in one batch and returns each row's [`Output`].
//! - **Graphs.** A [`Graph`] is written with the methods of [`Tensor`], [`compile`]d to a [`Plan`], and run by an
//!   [`Executor`]: [`CpuExecutor`] or [`HipExecutor`]. A custom operator implements [`Operator`].
//!
//! The modules have the rest: samplers' settings ([`sampling`]), templates and grammars ([`text`]), the building blocks
//! of architectures ([`model`]), operators by name ([`ops`]), devices ([`hip`], [`cpu`]), files ([`gguf`],
//! [`quantize`]). The README and the folder `examples` have complete programs; `ARCHITECTURE.md` explains how the parts
//! fit together.
//!
//! Enums that may get further variants, such as errors, are `#[non_exhaustive]`. Structs of options are not, so that
//! `SessionOptions { n_ctx: 512, ..Default::default() }` compiles outside of the crate; a new field needs a new minor
//! version. The message of an error is complete: it includes the messages of its sources
//! ([`source`](std::error::Error::source)).
#![deny(missing_docs)]

// Public because `src/main.rs`, a crate of its own, calls it.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod cpu;
pub mod device;
pub mod engine;
pub mod exec;
pub mod gguf;
pub mod graph;
#[path = "../graphs/mod.rs"]
pub mod graphs;
pub mod hip;
#[cfg(feature = "hub")]
pub mod hub;
pub mod model;
pub mod ops;
pub mod plan;
pub mod quantize;
mod remedy;
pub mod sampling;
#[cfg(feature = "serve")]
pub mod serve;
pub mod tensor;
pub mod text;

pub use cpu::physical_cores;
pub use device::PlatformKind;
pub use engine::{
    Answer, AnswerOptions, Chat, ChatOptions, Engine, EngineError, EngineOptions, Event, GenerateOptions,
    Generation, Next, OnStep, Reply, Request, Stop,
};
pub use exec::{Budget, CpuExecutor, ExecError, Executor, HipExecutor, HipOptions, PlanId, WeightMap};
pub use gguf::{Gguf, GgufError};
pub use graph::{Graph, GraphDef, GraphError, Operator, Tensor};
pub use model::{
    CacheTypes, DeviceChoice, Model, ModelError, Output, Rewind, RowOutput, Rows, SequenceId, Session,
    SessionExtras, SessionOptions,
};
pub use plan::{CompileError, Plan, compile};
pub use remedy::Remedy;
pub use sampling::{Sampler, SamplerParams};
pub use tensor::{DType, Desc, Shape};
pub use text::{AnswerFormat, AnswerParser, ChatTemplate, Delta, Message, Part, PartKind, Tokenizer};

/// The README's programs are tests.
#[cfg(all(doctest, feature = "demo"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// That of the page on the engine.
#[cfg(all(doctest, feature = "demo"))]
#[doc = include_str!("../docs/engine.md")]
struct EnginePage;

/// That of the page on names.
#[cfg(all(doctest, feature = "hub"))]
#[doc = include_str!("../docs/models-by-name.md")]
struct NamesPage;

/// And so is that of the page on sessions.
#[cfg(all(doctest, feature = "demo"))]
#[doc = include_str!("../docs/sessions.md")]
struct Sessions;
