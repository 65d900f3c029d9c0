//! Which device computes which part of a model.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::batch::{MAX_PARTS, bucket, graph_of};
use super::builder::{Portion, Request, Want};
use super::{CacheLayout, GgufWeights, Model, ModelError, SessionOptions};
use crate::exec::{Budget, CpuExecutor, ExecError, Executor, HipExecutor, HipOptions, OnLoading};
use crate::hip::{Context, PlatformKind};
use crate::plan::{DeviceDesc, compile};
use crate::text::Needs;

/// Where a model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// On the CPU.
    #[default]
    Cpu,
    /// On a GPU, as far as it has room.
    Hip {
        /// Whose libraries.
        platform: PlatformKind,
        /// The device's number there.
        ordinal: u32,
    },
}

/// How the GPU is used, and who is told of long work.
#[derive(Clone, Default)]
pub struct Setup {
    /// How the GPU's executor works.
    pub hip: HipOptions,
    /// What generating will want of a token's logits: on a GPU, the plan for it is made with the session.
    pub want: Needs,
    /// Told how far kernels and weights are.
    pub on_loading: Option<OnLoading>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("hip", &self.hip).finish_non_exhaustive()
    }
}

/// A device with its part of the model.
pub(super) struct Part {
    pub portion: Portion,
    pub backend: Backend,
}

/// Who computes.
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

/// What a session asks of its devices.
pub(super) struct Demand<'a> {
    pub model: &'a Model,
    pub options: &'a SessionOptions,
    pub layout: CacheLayout,
    /// Tokens of a prompt that are computed at once.
    pub ubatch: usize,
    /// Bytes that the session itself takes.
    pub tables: u64,
}

/// Opens the devices, and says which has which part of the model.
pub(super) fn place(demand: &Demand<'_>, setup: &Setup) -> Result<Vec<Part>, ModelError> {
    let n_layer = demand.model.architecture().shape().layers.len();
    let whole = Portion::whole(n_layer);
    let DeviceChoice::Hip { platform, ordinal } = demand.options.device else {
        return Ok(vec![Part { portion: whole, backend: cpu(demand)? }]);
    };
    let failed = |error| ModelError::Device { platform, ordinal, error };
    let context = Context::open(platform, ordinal).map_err(failed)?;
    let (free, total) = context.memory_info().map_err(failed)?;
    let budget = Budget::gpu(free, total, demand.options.memory_fraction);
    let on_gpu = match demand.options.gpu_layers {
        Some(n) => n.min(n_layer),
        None => layers_that_fit(demand, &context, &budget, n_layer)?,
    };
    if on_gpu == 0 {
        tracing::warn!(
            "no layer of the model is on {} ({free} of {total} bytes free): it runs on the CPU",
            context.name()
        );
        return Ok(vec![Part { portion: whole, backend: cpu(demand)? }]);
    }
    let gpu = hip(demand, &context, budget, setup)?;
    if on_gpu == n_layer {
        host(demand)?;
        tracing::info!("all {n_layer} layers on {}", context.name());
        return Ok(vec![Part { portion: whole, backend: gpu }]);
    }
    tracing::info!("{on_gpu} of {n_layer} layers on {}, the others on the CPU", context.name());
    // A portion need not use all of the file's tensors; together they must.
    graph_of(demand.model, &request(demand, 1, 1, whole), Want::LOGITS)?;
    let [first, last] = Portion::split(n_layer, n_layer - on_gpu);
    let parts = vec![Part { portion: first, backend: cpu(demand)? }, Part { portion: last, backend: gpu }];
    debug_assert!(parts.len() <= MAX_PARTS, "a batch has a plan for each part");
    Ok(parts)
}

/// The host's budget, less what the session itself takes wherever its layers are.
fn host(demand: &Demand<'_>) -> Result<Budget, ModelError> {
    let mut budget = Budget::host(demand.options.memory_fraction);
    budget.hold("block tables and batch", demand.tables).map_err(ExecError::from)?;
    Ok(budget)
}

fn cpu(demand: &Demand<'_>) -> Result<Backend, ModelError> {
    let threads: NonZeroUsize = demand.options.threads.unwrap_or_else(crate::cpu::physical_cores);
    let budget = host(demand)?;
    let weights = Arc::new(GgufWeights(Arc::clone(demand.model.gguf())));
    Ok(Backend::Cpu(Box::new(CpuExecutor::new(threads, weights, budget)?)))
}

fn hip(demand: &Demand<'_>, context: &Context, budget: Budget, setup: &Setup) -> Result<Backend, ModelError> {
    let weights = Arc::new(GgufWeights(Arc::clone(demand.model.gguf())));
    let mut options = setup.hip.clone();
    if let Some(timeout) = demand.options.timeout {
        options.timeout = timeout;
    }
    let mut executor = HipExecutor::new(context.clone(), weights, budget, options)?;
    if let Some(on_loading) = &setup.on_loading {
        executor.set_on_loading(Arc::clone(on_loading));
    }
    Ok(Backend::Hip(Box::new(executor)))
}

fn request(demand: &Demand<'_>, n_tokens: usize, n_outputs: usize, portion: Portion) -> Request {
    let (cache, cache_types) = (demand.layout, demand.options.cache_types);
    Request { n_tokens, n_outputs, cache, cache_types, portion }
}

/// The most layers, counted from the last, that the budget holds with the head and all that they need.
fn layers_that_fit(
    demand: &Demand<'_>,
    context: &Context,
    budget: &Budget,
    n_layer: usize,
) -> Result<usize, ModelError> {
    let device = DeviceDesc::hip(context.target().clone());
    let fits = |on_gpu: usize| -> Result<bool, ModelError> {
        let [_, last] = Portion::split(n_layer, n_layer - on_gpu);
        let portion = if on_gpu == n_layer { Portion::whole(n_layer) } else { last };
        Ok(gpu_bytes(demand, &device, &portion)? <= budget.available())
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

/// Pinned memory of uploads, and what the plans' inputs and outputs take, with room to spare.
const STAGING: u64 = 96 << 20;

/// Bytes on the GPU that a portion takes, with the plans that a session makes first.
fn gpu_bytes(demand: &Demand<'_>, device: &DeviceDesc, portion: &Portion) -> Result<u64, ModelError> {
    let widest = bucket(demand.ubatch);
    let (mut leaves, mut arenas, mut ports) = (0, (0, 0), 0);
    for n_tokens in [1, widest] {
        let graph = graph_of(demand.model, &request(demand, n_tokens, 1, portion.clone()), Want::LOGITS)?;
        let plan = compile(&graph, device)?;
        let slots =
            plan.weights.iter().chain(&plan.states).chain(plan.constants.iter().map(|(slot, _)| slot));
        leaves = slots.map(|slot| slot.desc.extent() as u64).sum();
        let all_ports = plan.inputs.iter().chain(&plan.outputs);
        ports += all_ports.map(|port| port.operand.desc.extent() as u64).sum::<u64>();
        arenas = (arenas.1, plan.arena as u64);
    }
    Ok(leaves + arenas.0.max(arenas.1) + ports + STAGING)
}
