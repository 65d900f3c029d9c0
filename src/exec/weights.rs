//! Sources of weights.

use std::collections::BTreeMap;

use super::AlignedBuffer;
use crate::tensor::Desc;

/// Weights by name. Their addresses must not change while the source lives. A memory-mapped file is a source,
/// [`WeightMap`] another.
pub trait WeightSource: Send + Sync {
    /// A weight's description and bytes, or `None` if the name is unknown. An executor calls this once for each plan
    /// that it loads and keeps the result.
    fn weight(&self, name: &str) -> Option<(Desc, &[u8])>;
}

/// Weights held in memory.
#[derive(Debug, Default)]
pub struct WeightMap {
    weights: BTreeMap<String, (Desc, AlignedBuffer)>,
}

impl WeightMap {
    /// An empty map.
    pub fn new() -> WeightMap {
        WeightMap::default()
    }

    /// Adds a weight, contiguous and in its dtype's format. Returns false and adds nothing if `bytes` does not have the
    /// size of the description, or memory is short.
    pub fn insert(&mut self, name: impl Into<String>, desc: Desc, bytes: &[u8]) -> bool {
        if !desc.is_contiguous() || desc.extent() != bytes.len() {
            return false;
        }
        let Some(mut buffer) = AlignedBuffer::zeroed(bytes.len()) else { return false };
        buffer.bytes_mut().copy_from_slice(bytes);
        self.weights.insert(name.into(), (desc, buffer));
        true
    }
}

impl WeightSource for WeightMap {
    fn weight(&self, name: &str) -> Option<(Desc, &[u8])> {
        self.weights.get(name).map(|(desc, buffer)| (*desc, buffer.bytes()))
    }
}
