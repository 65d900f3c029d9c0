//! The assignment of a model's layers to devices.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::batch::BatchRows;
use super::plans::graph_of;
use super::{SessionExtras, SessionOptions, ubatch};
use crate::device::{PlatformKind, Target};
use crate::exec::{Budget, CpuExecutor, ExecError, Executor, HipExecutor};
use crate::hip::{Context, DeviceRequest, Pace, Selected, select};
use crate::model::{BatchShape, CacheLayout, GgufWeights, GraphRequest, Model, ModelError, Output, Portion};
use crate::plan::{DeviceDesc, Plan, compile};

/// The device that computes a model. A program that uses an AMD GPU opens its first session on the thread that ends the
/// process; see [`Device::probe`](crate::hip::Device::probe).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// On the CPU.
    #[default]
    Cpu,
    /// On a GPU if there is one, else on the CPU. A small model, for which starting a GPU takes longer than an answer,
    /// also runs on the CPU ([`DeviceChoice::SMALL_MODEL`]).
    Auto,
    /// On a GPU, with as many layers as fit.
    Hip {
        /// The platform of the device.
        platform: PlatformKind,
        /// The device's number on the platform.
        ordinal: u32,
    },
}

impl DeviceChoice {
    /// Bytes of weights below which [`DeviceChoice::Auto`] selects the CPU. The demo model (5 MB) answers a question in
    /// 22 ms on a CPU and in 430 ms on an H200, most of which is the GPU's start.
    pub const SMALL_MODEL: u64 = 64 << 20;

    /// The device that computes this model: for [`DeviceChoice::Auto`] the CPU or a GPU that opens, otherwise `self`.
    ///
    /// # Errors
    /// [`ModelError::Probe`] if `RFGRAPH_HIP_PLATFORM` names an unknown platform.
    pub fn resolve(self, model: &Model) -> Result<DeviceChoice, ModelError> {
        match self {
            DeviceChoice::Auto => Ok(self.open(model)?.0),
            DeviceChoice::Cpu | DeviceChoice::Hip { .. } => Ok(self),
        }
    }

    /// Like [`DeviceChoice::resolve`], with the GPU that was opened for it; `None` for the CPU.
    pub(crate) fn open(self, model: &Model) -> Result<(DeviceChoice, Option<Context>), ModelError> {
        match self {
            DeviceChoice::Cpu => Ok((self, None)),
            DeviceChoice::Auto => {
                let opened = open_best(model)?;
                let hip = |context: &Context| DeviceChoice::Hip {
                    platform: context.target().platform,
                    ordinal: context.ordinal(),
                };
                Ok((opened.as_ref().map_or(DeviceChoice::Cpu, hip), opened))
            }
            DeviceChoice::Hip { platform, ordinal } => {
                let failed = |error| ModelError::Device { platform, ordinal, error };
                Ok((self, Some(Context::open(platform, ordinal).map_err(failed)?)))
            }
        }
    }
}

/// The GPU of [`DeviceChoice::Auto`], opened; `None` for the CPU.
fn open_best(model: &Model) -> Result<Option<Context>, ModelError> {
    let weights = model.gguf().tensor_bytes();
    if weights < DeviceChoice::SMALL_MODEL {
        tracing::info!("device: the CPU (a model of {weights} bytes is faster there)");
        return Ok(None);
    }
    let selected = select(DeviceRequest::Auto)?;
    let (platform, ordinal) = match selected {
        Selected::Hip { platform, ordinal } => (platform, ordinal),
        Selected::Cpu { why } => {
            tracing::info!("device: the CPU ({why})");
            return Ok(None);
        }
    };
    match Context::open(platform, ordinal) {
        Ok(context) => Ok(Some(context)),
        Err(error) => {
            tracing::warn!(
                "GPU {ordinal} of platform {platform} does not open, so the CPU computes: {error}"
            );
            Ok(None)
        }
    }
}

/// A device with its part of the model.
pub(super) struct Part {
    pub portion: Portion,
    pub backend: Backend,
}

/// The executor of a part.
pub(super) enum Backend {
    Cpu(Box<CpuExecutor>),
    Hip(Box<HipExecutor>),
}

impl Backend {
    pub fn executor(&self) -> &dyn Executor {
        match self {
            Backend::Cpu(executor) => &**executor,
            Backend::Hip(executor) => &**executor,
        }
    }

    pub fn executor_mut(&mut self) -> &mut dyn Executor {
        match self {
            Backend::Cpu(executor) => &mut **executor,
            Backend::Hip(executor) => &mut **executor,
        }
    }
}

/// The requirements of a session on its devices.
pub(super) struct Demand<'a> {
    pub model: &'a Model,
    pub options: &'a SessionOptions,
    pub layout: CacheLayout,
    /// The output of a decoded row.
    pub want: Output,
}

/// The devices with their parts of the model, and the ubatch.
pub(super) struct Placed {
    pub parts: Vec<Part>,
    pub ubatch: usize,
}

impl Demand<'_> {
    fn n_layer(&self) -> usize {
        self.model.architecture().shape().n_layer
    }

    /// The requested ubatch, or `chosen`; at most the tokens that all sequences hold together.
    fn ubatch_or(&self, chosen: usize) -> usize {
        self.options.ubatch.unwrap_or(chosen).min(self.layout.most_rows())
    }

    /// Bytes of the session's own tables and batch.
    fn tables(&self, ubatch: usize) -> u64 {
        let n_sequences = self.layout.n_sequences;
        let batch = BatchRows::bytes(ubatch.max(n_sequences), n_sequences);
        self.layout.table_bytes().saturating_add(batch) as u64
    }
}

/// Opens the devices and assigns a part of the model to each.
pub(super) fn place(demand: &Demand<'_>, extras: &SessionExtras) -> Result<Placed, ModelError> {
    let n_layer = demand.n_layer();
    let whole = Portion::whole(n_layer);
    let default = demand.ubatch_or(ubatch::DEFAULT);
    let on_cpu =
        |portion, ubatch| Ok::<_, ModelError>(Part { portion, backend: cpu(demand, ubatch, extras)? });
    let (_, Some(context)) = demand.options.device.open(demand.model)? else {
        return Ok(Placed { parts: vec![on_cpu(whole, default)?], ubatch: default });
    };
    let (platform, ordinal) = (context.target().platform, context.ordinal());
    let failed = |error| ModelError::Device { platform, ordinal, error };
    let (free, total) = context.memory_info().map_err(failed)?;
    let budget = Budget::gpu(free, total, demand.options.memory_fraction);
    let mut target = context.target().clone();
    target.blas &= extras.hip.blas;
    let Fit { on_gpu, ubatch } = fit(demand, &target, context.pace(), &budget)?;
    if on_gpu == 0 {
        tracing::warn!(
            "no layer of the model is on {} ({free} of {total} bytes free): it runs on the CPU",
            context.name()
        );
        return Ok(Placed { parts: vec![on_cpu(whole, default)?], ubatch: default });
    }
    tracing::info!("{ubatch} tokens of a prompt are computed at once (ubatch)");
    let gpu = hip(demand, &context, budget, extras)?;
    if on_gpu == n_layer {
        host(demand, ubatch)?;
        tracing::info!("all {n_layer} layers on {}", context.name());
        return Ok(Placed { parts: vec![Part { portion: whole, backend: gpu }], ubatch });
    }
    tracing::info!("{on_gpu} of {n_layer} layers on {}, the others on the CPU", context.name());
    // A portion need not use all of the file's tensors, but the portions together must: check the whole graph.
    let one_token = BatchShape::decode(1, Output::Logits);
    graph_of(demand.model, &request(demand, one_token, whole))?;
    let [first, last] = Portion::split(n_layer, n_layer - on_gpu);
    let parts = vec![on_cpu(first, ubatch)?, Part { portion: last, backend: gpu }];
    Ok(Placed { parts, ubatch })
}

/// The host's budget without the session's own tables, which are on the host for any placement.
fn host(demand: &Demand<'_>, ubatch: usize) -> Result<Budget, ModelError> {
    let mut budget = Budget::host(demand.options.memory_fraction);
    budget.hold("block tables and batch", demand.tables(ubatch)).map_err(ExecError::from)?;
    Ok(budget)
}

fn cpu(demand: &Demand<'_>, ubatch: usize, extras: &SessionExtras) -> Result<Backend, ModelError> {
    let threads: NonZeroUsize = demand.options.threads.unwrap_or_else(crate::cpu::physical_cores);
    let budget = host(demand, ubatch)?;
    let weights = Arc::new(GgufWeights(Arc::clone(demand.model.gguf())));
    let mut executor = CpuExecutor::new(threads, weights, budget)?;
    executor.set_deterministic(demand.options.deterministic);
    extras.operators.iter().for_each(|row| executor.register(*row));
    Ok(Backend::Cpu(Box::new(executor)))
}

fn hip(
    demand: &Demand<'_>,
    context: &Context,
    budget: Budget,
    extras: &SessionExtras,
) -> Result<Backend, ModelError> {
    let weights = Arc::new(GgufWeights(Arc::clone(demand.model.gguf())));
    let mut options = extras.hip.clone();
    options.deterministic |= demand.options.deterministic;
    if let Some(timeout) = demand.options.timeout {
        options.timeout = timeout;
    }
    let mut executor = HipExecutor::new(context.clone(), weights, budget, options)?;
    extras.operators.iter().for_each(|row| executor.register(*row));
    if let Some(on_loading) = &extras.on_loading {
        executor.set_on_loading(Arc::clone(on_loading));
    }
    Ok(Backend::Hip(Box::new(executor)))
}

fn request(demand: &Demand<'_>, shape: BatchShape, portion: Portion) -> GraphRequest {
    let (cache, cache_types) = (demand.layout, demand.options.cache_types);
    let n_pos = demand.model.architecture().shape().n_pos;
    GraphRequest { shape, n_pos, cache, cache_types, portion }
}

/// The number of layers on the GPU, and the ubatch.
struct Fit {
    on_gpu: usize,
    ubatch: usize,
}

/// Layers come first: a ubatch above the default is used only if all layers still fit on the GPU. If the CPU computes
/// some layers, both use one ubatch.
fn fit(demand: &Demand<'_>, target: &Target, pace: Pace, budget: &Budget) -> Result<Fit, ModelError> {
    let n_layer = demand.n_layer();
    let whole = Portion::whole(n_layer);
    let device = DeviceDesc::hip(target.clone()).with_deterministic(demand.options.deterministic);
    let asked = demand.options.gpu_layers.map(|n| n.min(n_layer));
    let mut most = ubatch::DEFAULT;
    if demand.options.ubatch.is_none() {
        most = ubatch::of_gpu(target, pace, || {
            let chunk = BatchShape::prompt(ubatch::DEFAULT, Output::Logits);
            let plan = plan_of(demand, &device, &whole, chunk)?;
            Ok::<_, ModelError>(ubatch::flops_per_row(&plan, ubatch::DEFAULT))
        })?;
        let all = asked.unwrap_or(n_layer) == n_layer;
        let above = |ubatch: &usize| all && (ubatch::DEFAULT + 1..=most).contains(ubatch);
        for ubatch in ubatch::SIZES.into_iter().filter(above) {
            let ubatch = demand.ubatch_or(ubatch);
            if gpu_bytes(demand, &device, &whole, ubatch)? <= budget.available() {
                return Ok(Fit { on_gpu: n_layer, ubatch });
            }
        }
    }
    let ubatch = demand.ubatch_or(most.min(ubatch::DEFAULT));
    let on_gpu = match asked {
        Some(n) => n,
        None => layers_that_fit(demand, &device, budget, ubatch)?,
    };
    Ok(Fit { on_gpu, ubatch })
}

/// The most layers, counted from the last, that fit the budget with the head, states and arena.
fn layers_that_fit(
    demand: &Demand<'_>,
    device: &DeviceDesc,
    budget: &Budget,
    ubatch: usize,
) -> Result<usize, ModelError> {
    let n_layer = demand.n_layer();
    let fits = |on_gpu: usize| -> Result<bool, ModelError> {
        let [_, last] = Portion::split(n_layer, n_layer - on_gpu);
        let portion = if on_gpu == n_layer { Portion::whole(n_layer) } else { last };
        Ok(gpu_bytes(demand, device, &portion, ubatch)? <= budget.available())
    };
    if fits(n_layer)? {
        return Ok(n_layer);
    }
    // `few` fit, `many` do not.
    let (mut few, mut many) = (0, n_layer);
    while many - few > 1 {
        let middle = few.midpoint(many);
        if fits(middle)? { few = middle } else { many = middle }
    }
    Ok(few)
}

/// Bytes for pinned memory of uploads and for the plans' inputs and outputs, with a margin.
const STAGING: u64 = 96 << 20;

/// The plan of a batch for a portion of the model.
fn plan_of(
    demand: &Demand<'_>,
    device: &DeviceDesc,
    portion: &Portion,
    shape: BatchShape,
) -> Result<Plan, ModelError> {
    Ok(compile(&graph_of(demand.model, &request(demand, shape, portion.clone()))?, device)?)
}

/// Bytes of a portion on the GPU, with the plans that a session makes first.
fn gpu_bytes(
    demand: &Demand<'_>,
    device: &DeviceDesc,
    portion: &Portion,
    ubatch: usize,
) -> Result<u64, ModelError> {
    let n_vocab = demand.model.architecture().shape().n_vocab;
    let (mut leaves, mut arena, mut ports) = (0, 0, 0);
    for shape in BatchShape::first(ubatch, demand.layout.n_sequences, demand.want, n_vocab) {
        let plan = plan_of(demand, device, portion, shape)?;
        leaves = plan.leaves().map(|(_, desc)| desc.extent() as u64).sum();
        let all_ports = plan.inputs.iter().chain(&plan.outputs);
        ports += all_ports.map(|port| port.operand.desc.extent() as u64).sum::<u64>();
        arena = arena.max(plan.arena as u64);
    }
    Ok(leaves + arena + ports + STAGING)
}
