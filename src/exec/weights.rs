//! Where weights come from.

use std::collections::BTreeMap;

use super::AlignedBuffer;
use crate::tensor::Desc;

/// Weights by name. The bytes must stay where they are while the source lives; a memory-mapped file is
/// one, [`WeightMap`] another.
pub trait WeightSource: Send + Sync {
    /// A weight's description and bytes, or `None` if there is none of this name. An executor asks once for
    /// each plan that it loads, and keeps to that answer.
    fn weight(&self, name: &str) -> Option<(Desc, &[u8])>;
}

/// Weights held in memory.
#[derive(Debug, Default)]
pub struct WeightMap {
    weights: BTreeMap<String, (Desc, AlignedBuffer)>,
}

impl WeightMap {
    /// No weights.
    pub fn new() -> WeightMap {
        WeightMap::default()
    }

    /// Adds a weight, in its dtype's format, without gaps. Gives false, and adds nothing, if the bytes
    /// are not as many as the description says, or there is no memory.
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
