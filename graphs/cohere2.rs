//! `cohere2`: Command R7B and A. As Command R; three of four layers have a window and rotary positions, the fourth has
//! neither.
//!
//! Cohere Team, "Command A: An Enterprise-Ready Large Language Model", 2025.

use super::decoder::{Sizes, windows};
use super::rotary::Rotary;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Attention, RopeKind, UnaryKind};

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohere2 {
    sizes: Sizes,
    windows: Vec<Option<usize>>,
    logit_scale: f32,
    eps: f32,
    rotary: Rotary,
}

impl Cohere2 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Cohere2 {
            windows: windows(keys, sizes.n_layer, |il| (il + 1) % 4 != 0)?,
            logit_scale: keys.opt_positive("logit_scale")?.unwrap_or(1.0),
            eps: keys.positive("attention.layer_norm_epsilon")?,
            rotary: Rotary::read(keys, RopeKind::Norm, sizes.head_dim_k, sizes.head_dim_k)?,
            sizes,
        }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.layer_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let window = self.windows[il];
        let [q, k] = [q, k].map(|x| if window.is_some() { self.rotary.turn(b, x) } else { x });
        let attended = b.attend(il, (q, k, v), Attention { window, ..b.causal(sizes.scale()) });

        let [attended, h, x] = [attended, h, x].map(|x| sizes.wanted(b, il, x));
        let attended = sizes.attn_output(b, il, attended);
        sizes.gated_ffn(b, il, h, UnaryKind::Silu).add(attended).add(x).named(name("out"))
    }
}

impl Architecture for Cohere2 {
    fn shape(&self) -> ModelShape {
        self.sizes.shape()
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let x = self.sizes.stack(b, || self.sizes.embeddings(b), |il, x| self.layer(b, il, x));
        let norm = |x| b.layer_norm(x, "output_norm", self.eps);
        b.head(x, norm, |x| {
            let logits = self.sizes.logits(b, x);
            logits.scale(self.logit_scale)
        })
    }
}
