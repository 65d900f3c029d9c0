//! `gpt2`: learned positions, layer norms, biases everywhere, a feed-forward part without a gate.
//!
//! Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.

use super::decoder::Sizes;
use crate::graph::Tensor;
use crate::model::{Architecture, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::UnaryKind;

/// The hyper-parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2 {
    sizes: Sizes,
    eps: f32,
}

impl Gpt2 {
    /// Reads the hyper-parameters.
    pub fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        let sizes = Sizes::read(keys)?;
        Ok(Box::new(Gpt2 { eps: keys.positive("attention.layer_norm_epsilon")?, sizes }))
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, sizes) = (|part: &str| format!("blk.{il}.{part}"), &self.sizes);
        let h = b.layer_norm(x, &name("attn_norm"), self.eps);
        let [q, k, v] = sizes.qkv(b, il, h);
        let attended = b.attend(il, (q, k, v), b.causal(sizes.scale()));

        let [attended, x] = [attended, x].map(|x| sizes.wanted(b, il, x));
        let x = sizes.attn_output(b, il, attended).add(x).named(name("ffn_inp"));
        let h = b.layer_norm(x, &name("ffn_norm"), self.eps);
        sizes.ffn(b, il, h, UnaryKind::Gelu).add(x).named(name("out"))
    }
}

impl Architecture for Gpt2 {
    fn shape(&self) -> ModelShape {
        ModelShape { n_positions: Some(self.sizes.n_ctx_train), ..self.sizes.shape() }
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let embeddings = || {
            let table = b.weight("position_embd.weight", [self.sizes.n_embd, self.sizes.n_ctx_train]);
            self.sizes.embeddings(b).add(table.get_rows(b.position(0)))
        };
        let x = self.sizes.stack(b, embeddings, |il, x| self.layer(b, il, x));
        b.head(x, |x| b.layer_norm(x, "output_norm", self.eps), |x| self.sizes.logits(b, x))
    }
}
