//! The memory that a session would take, computed without allocating it.

use super::plans::whole_graph;
use super::{Session, SessionOptions};
use crate::graph::StateKind;
use crate::model::{BatchShape, CacheLayout, Model, ModelError, Output};
use crate::plan::{DeviceDesc, Plan, StateSlot, compile};

/// A state of a model, for all tokens and sequences of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateNeed {
    /// The state's name in the graph: `cache_k.0` for the keys of layer 0.
    pub name: String,
    /// Paged (slots addressed by position) or recurrent (one slot per sequence).
    pub kind: StateKind,
    /// The sizes of one slot, and the number of slots.
    pub shape: [usize; 4],
    /// Bytes.
    pub bytes: u64,
}

/// Bytes that a session of a model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The weights, which stay in the file's memory map.
    pub weights: u64,
    /// All states, without the block tables: five bytes for each token.
    pub kv_cache: u64,
    /// The arena of the widest plan.
    pub arena: u64,
    /// The states that `kv_cache` is the sum of.
    pub states: Vec<StateNeed>,
}

impl MemoryNeed {
    /// The memory that [`Session::new`](super::Session::new) with these options would take. Plans are compiled, but
    /// nothing is allocated for them.
    ///
    /// # Errors
    /// Those of `Session::new` if the model's graph cannot be built or compiled.
    pub fn of(model: &Model, options: &SessionOptions) -> Result<MemoryNeed, ModelError> {
        let n_ctx = model.architecture().shape().context(options.n_ctx)?;
        let layout = CacheLayout::pooled(n_ctx, options.n_sequences, options.n_tokens)?;
        let threads = options.threads.unwrap_or_else(crate::cpu::physical_cores).get();
        let device = DeviceDesc::cpu(threads).with_deterministic(options.deterministic);
        let ubatch = options.ubatch.unwrap_or(SessionOptions::UBATCH).min(layout.most_rows());
        let n_vocab = model.architecture().shape().n_vocab;
        // The CPU computes all logits for every kind of output.
        let shapes = BatchShape::first(ubatch, layout.n_sequences, Output::Logits, n_vocab);
        let plan = |shape: BatchShape| -> Result<Plan, ModelError> {
            Ok(compile(&whole_graph(model, shape, layout, options.cache_types)?, &device)?)
        };
        let plans = shapes.into_iter().map(plan).collect::<Result<Vec<Plan>, ModelError>>()?;
        let arena = plans.iter().map(|plan| plan.arena as u64).max().unwrap_or(0);
        let need = |state: &StateSlot| StateNeed {
            name: state.name.clone(),
            kind: state.kind,
            shape: state.desc.shape.ne(),
            bytes: state.desc.extent() as u64,
        };
        // Every plan lists all states.
        let states: Vec<StateNeed> =
            plans.first().map_or(Vec::new(), |plan| plan.states.iter().map(need).collect());
        let weights = model.gguf().tensor_bytes();
        let kv_cache = states.iter().map(|state| state.bytes).sum();
        Ok(MemoryNeed { weights, kv_cache, arena, states })
    }
}

impl Session {
    /// Bytes of paged state that each token of a sequence takes, on all devices.
    ///
    /// # Errors
    /// [`ModelError::Exec`] if an executor does not know a plan of its own.
    pub fn bytes_per_token(&self) -> Result<u64, ModelError> {
        let n_slots = self.states().layout().n_slots().max(1) as u64;
        let paged = self.state_slots()?.filter(|state| state.kind == StateKind::Paged);
        Ok(paged.map(|state| state.desc.extent() as u64 / n_slots).sum())
    }
}
