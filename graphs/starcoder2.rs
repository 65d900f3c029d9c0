//! `starcoder2`: layer norms and biases, rotary positions on halves, grouped-query attention, a feed-forward part
//! without a gate.
//!
//! Lozhkov et al., "StarCoder 2 and The Stack v2: The Next Generation", 2024.

use super::decoder::{Sizes, windows};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Attention, RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct StarCoder2 {
    sizes: Sizes,
    windows: Vec<Option<usize>>,
    eps: f32,
    rotary: Rotary,
}

impl StarCoder2 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(StarCoder2 {
            windows: windows(keys, sizes.n_layer, |_| true)?,
            eps: keys.positive("attention.layer_norm_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Neox, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.layer_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let [q, k] = [q, k].map(|x| self.rotary.turn(b, x));
        let attention = Attention { window: self.windows[il], ..b.causal(sizes.scale()) };
        let attended = b.attend(il, (q, k, v), attention);

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.layer_norm(x, &name("ffn_norm"), self.eps);
        sizes.ffn(b, il, h, UnaryKind::Gelu).add(x).named(name("out"))
    }
}

impl Architecture for StarCoder2 {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let norm = |x| b.layer_norm(x, "output_norm", self.eps);
        self.sizes.decode(b, |il, x| self.layer(b, il, x), norm)
    }
}
