//! The decoder that most architectures are: token embeddings, layers of attention and a feed-forward part, a final norm,
//! logits. An architecture overrides the parts in which it differs.

use std::fmt::Debug;

use super::common::Common;
use super::layer::{Layer, with_norms};
use crate::graph::Tensor;
use crate::model::{Architecture, ArchitectureRow, Head, Keys, ModelBuilder, ModelError, ModelShape};
use crate::ops::{Attention, UnaryKind};

/// An architecture: the hyper-parameters that only it has, and the parts in which it differs from the common decoder.
/// Methods are in the order of the computation.
pub(super) trait Decoder: Debug + Send + Sync + Sized + 'static {
    /// The layer's tensor with the weight of the norm before the feed-forward part.
    const FFN_NORM: &'static str = "ffn_norm";

    /// Reads the hyper-parameters: the common ones, and those that only this architecture has.
    fn read(keys: &Keys<'_>) -> Result<(Common, Self), ModelError>;

    /// The number of positions, if they are learned or their scaling is known for so many only.
    fn n_positions(&self, common: &Common) -> Option<usize> {
        common.rotary.as_ref().and_then(|rotary| rotary.n_positions)
    }

    /// The embeddings of the batch's tokens, F32 `[n_embd, n_tokens]`.
    fn embeddings<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
        token_embeddings(common, b)
    }

    /// One layer: maps `x`, `[n_embd, n_tokens]`, to the same shape.
    fn layer<'g>(&self, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
        let attended = self.attended(l, l.norm(x, "attn_norm"));
        let [attended, x] = l.wanted([attended, x]);
        let x = l.attn_output(attended).add(x).named(l.name("ffn_inp"));
        self.ffn(l, l.norm(x, Self::FFN_NORM)).add(x).named(l.name("out"))
    }

    /// The outputs of the attention heads, `[head_dim · n_head, n_tokens]`, before their projection.
    fn attended<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        let [q, k, v] = l.qkv(h);
        let [q, k] = self.positioned(l, [q, k]);
        l.b.attend(l.il, (q, k, v), self.attention(l))
    }

    /// Queries and keys, heads `[head_dim, n_head, n_tokens]`, as attention takes them: with their positions.
    fn positioned<'g>(&self, l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        qk.map(|x| l.rotate(x))
    }

    /// The settings of the layer's attention.
    fn attention(&self, l: &Layer<'_, '_>) -> Attention {
        l.causal()
    }

    /// The feed-forward part.
    fn ffn<'g>(&self, l: &Layer<'_, 'g>, h: Tensor<'g>) -> Tensor<'g> {
        l.gated_ffn(h, UnaryKind::Silu)
    }

    /// The logits of normed states.
    fn logits<'g>(&self, common: &Common, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        output(common, b, x)
    }
}

/// The rows of the table of token embeddings.
#[track_caller]
pub(super) fn token_embeddings<'g>(common: &Common, b: &ModelBuilder<'g, '_>) -> Tensor<'g> {
    let table = b.weight("token_embd.weight", [common.sizes.n_embd, common.sizes.n_vocab]);
    table.get_rows(b.batch().tokens).named("embeddings")
}

/// The product with the output matrix. A file without one uses the embeddings for it (tied).
#[track_caller]
pub(super) fn output<'g>(common: &Common, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
    let name = if b.has("output.weight") { "output" } else { "token_embd" };
    b.linear(x, name, common.sizes.n_vocab).named("logits")
}

/// Queries and keys, each head with the decoder's norm, then their positions.
pub(super) fn normed_and_positioned<'g>(l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
    with_norms(qk, |x, norm| l.rotate(l.norm(x, norm)))
}

/// Queries and keys, each head with a layer norm of its own if the file has them, then their positions.
pub(super) fn head_normed_and_positioned<'g>(l: &Layer<'_, 'g>, qk: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
    with_norms(qk, |x, norm| l.rotate(if l.has(norm) { l.head_norm(x, norm) } else { x }))
}

/// A layer with attention and the feed-forward part in parallel on one norm.
pub(super) fn parallel_layer<'g>(own: &impl Decoder, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
    let h = l.norm(x, "attn_norm");
    parallel_parts(own, l, x, [h, h])
}

/// Attention and the feed-forward part in parallel on `x`, each on its normed input.
pub(super) fn parallel_parts<'g>(
    own: &impl Decoder,
    l: &Layer<'_, 'g>,
    x: Tensor<'g>,
    [of_attention, h]: [Tensor<'g>; 2],
) -> Tensor<'g> {
    let attended = own.attended(l, of_attention);
    let [attended, h, x] = l.wanted([attended, h, x]);
    let attended = l.attn_output(attended);
    own.ffn(l, h).add(attended).add(x).named(l.name("out"))
}

/// A layer with norms before and after attention, and before and after the feed-forward part.
pub(super) fn layer_with_post_norms<'g>(own: &impl Decoder, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
    let attended = own.attended(l, l.norm(x, "attn_norm"));
    let [attended, x] = l.wanted([attended, x]);
    let attended = l.norm(l.attn_output(attended), "post_attention_norm");
    let x = attended.add(x).named(l.name("ffn_inp"));
    let h = own.ffn(l, l.norm(x, "ffn_norm"));
    l.norm(h, "post_ffw_norm").add(x).named(l.name("out"))
}

/// A layer with norms after attention and after the feed-forward part, and none before.
pub(super) fn layer_with_norms_after<'g>(own: &impl Decoder, l: &Layer<'_, 'g>, x: Tensor<'g>) -> Tensor<'g> {
    let attended = own.attended(l, x);
    let [attended, x] = l.wanted([attended, x]);
    let attended = l.norm(l.attn_output(attended), "post_attention_norm");
    let x = attended.add(x).named(l.name("ffn_inp"));
    l.norm(own.ffn(l, x), "post_ffw_norm").add(x).named(l.name("out"))
}

/// The row of an architecture in the table.
pub(super) const fn row<D: Decoder>(name: &'static str, models: &'static str) -> ArchitectureRow {
    ArchitectureRow { name, models, read: read::<D> }
}

fn read<D: Decoder>(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
    let (common, own) = D::read(keys)?;
    Ok(Box::new(Whole { common, own }))
}

/// A decoder with all of its hyper-parameters.
#[derive(Debug)]
struct Whole<D> {
    common: Common,
    own: D,
}

impl<D: Decoder> Architecture for Whole<D> {
    fn shape(&self) -> ModelShape {
        let sizes = &self.common.sizes;
        ModelShape {
            n_vocab: sizes.n_vocab,
            n_ctx_train: sizes.n_ctx_train,
            n_positions: self.own.n_positions(&self.common),
            n_embd: sizes.n_embd,
            n_layer: sizes.n_layer,
            n_pos: 1,
        }
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let Whole { common, own } = self;
        // Layers for multi-token prediction do not contribute to the next token.
        for il in common.sizes.n_layer..common.sizes.n_layer + common.sizes.n_layer_nextn {
            b.leave_out(&format!("blk.{il}."));
        }
        let x = b.embed(common.sizes.n_embd, || own.embeddings(common, b));
        let x = b.layers(common.sizes.n_layer).fold(x, |x, il| own.layer(&Layer { common, b, il }, x));
        b.head(x, |x| common.norm.of(b, x, "output_norm"), |x| own.logits(common, b, x))
    }
}
