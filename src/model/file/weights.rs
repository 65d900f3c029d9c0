//! The weights of a GGUF file, read in place from its memory map.

use std::sync::Arc;

use crate::exec::WeightSource;
use crate::gguf::Gguf;
use crate::tensor::Desc;

/// A GGUF file as a source of weights.
#[derive(Clone, Debug)]
pub struct GgufWeights(pub Arc<Gguf>);

impl WeightSource for GgufWeights {
    fn weight(&self, name: &str) -> Option<(Desc, &[u8])> {
        let info = self.0.tensor(name)?;
        let desc = Desc::contiguous(info.dtype, info.shape).ok()?;
        Some((desc, self.0.data(info)))
    }
}
