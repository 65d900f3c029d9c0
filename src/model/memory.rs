//! How much memory a session would take, known without taking any.

use super::batch::{bucket, whole_graph};
use super::{CacheLayout, Model, ModelError, SessionOptions};
use crate::plan::{DeviceDesc, compile};
use crate::text::Needs;

/// Bytes that a session of a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The weights, which stay in the file's memory map.
    pub weights: u64,
    /// The KV cache, without its block tables: five bytes for each token.
    pub kv_cache: u64,
    /// The arena of the widest plan.
    pub arena: u64,
}

impl MemoryNeed {
    /// What [`Session::new`](super::Session::new) with these options would take. Plans are made, nothing
    /// is allocated for them.
    ///
    /// # Errors
    /// As `Session::new`, where the model's graph cannot be built or has no plan.
    pub fn of(model: &Model, options: &SessionOptions) -> Result<MemoryNeed, ModelError> {
        let n_ctx = model.architecture().shape().context(options.n_ctx)?;
        let layout = CacheLayout::new(n_ctx, options.n_sequences)?;
        let device = DeviceDesc::cpu(options.threads.unwrap_or_else(crate::cpu::physical_cores).get());
        let several = bucket(layout.n_sequences);
        let (mut kv_cache, mut arena) = (0, 0);
        for (n_tokens, n_outputs) in [(bucket(options.ubatch.min(n_ctx)), 1), (1, 1), (several, several)] {
            let graph = whole_graph(model, n_tokens, n_outputs, layout, options.cache_types, Needs::Logits)?;
            let plan = compile(&graph, &device)?;
            arena = arena.max(plan.arena as u64);
            kv_cache = plan.states.iter().map(|state| state.desc.extent() as u64).sum();
        }
        let weights = model.gguf().tensors().iter().map(|info| info.bytes as u64).sum();
        Ok(MemoryNeed { weights, kv_cache, arena })
    }
}
