//! A custom architecture, added from outside of the crate: it opens files, has sessions and generates like a built-in
//! one.
//!
//! `cargo run --release --example own_architecture` makes a tiny file with random weights and computes a prompt with it.

use std::error::Error;

use rfgraph::gguf::GgufWriter;
use rfgraph::model::{Architecture, ArchitectureRow, Architectures, Head, Keys, ModelBuilder, ModelShape};
use rfgraph::ops::{Rope, RopeKind};
use rfgraph::{
    DType, Gguf, Model, ModelError, Output, RowOutput, Rows, Session, SessionOptions, Shape, Tensor,
};

/// Embeddings, layers of attention without a feed-forward part, a norm, and the output matrix.
#[derive(Debug)]
struct AttentionOnly {
    n_vocab: usize,
    n_ctx_train: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
}

impl AttentionOnly {
    /// Reads the hyper-parameters, each within its range; errors name the key.
    fn read(keys: &Keys<'_>) -> Result<Box<dyn Architecture>, ModelError> {
        Ok(Box::new(AttentionOnly {
            n_vocab: keys.count("vocab_size", 1..=1 << 20)?,
            n_ctx_train: keys.count("context_length", 1..=1 << 20)?,
            n_embd: keys.count("embedding_length", 32..=1 << 14)?,
            n_layer: keys.count("block_count", 1..=1024)?,
            n_head: keys.count("attention.head_count", 1..=256)?,
        }))
    }

    /// One layer: input and output are `[n_embd, n_rows]`.
    fn layer<'g>(&self, b: &ModelBuilder<'g, '_>, il: usize, x: Tensor<'g>) -> Tensor<'g> {
        let (name, n_rows, head_dim) =
            (|part: &str| format!("blk.{il}.{part}"), x.dim(1), self.n_embd / self.n_head);
        let h = b.rms_norm(x, &name("attn_norm"), 1e-5);
        let [q, k, v] = ["attn_q", "attn_k", "attn_v"]
            .map(|part| b.linear(h, &name(part), self.n_embd).reshape([head_dim, self.n_head, n_rows]));
        let rope = Rope::new(RopeKind::Neox, head_dim, 10_000.0);
        let [q, k] = [q, k].map(|x| b.rope(x, "rope_freqs.weight", &rope));
        let attended = b.attend(il, (q, k, v), b.causal(1.0 / (head_dim as f32).sqrt()));
        b.linear(attended, &name("attn_output"), self.n_embd).add(x)
    }
}

impl Architecture for AttentionOnly {
    fn shape(&self) -> ModelShape {
        ModelShape {
            n_vocab: self.n_vocab,
            n_ctx_train: self.n_ctx_train,
            n_positions: None,
            n_embd: self.n_embd,
            n_layer: self.n_layer,
            n_pos: 1,
        }
    }

    fn build<'g>(&self, b: &ModelBuilder<'g, '_>) -> Head<'g> {
        let embeddings =
            || b.weight("token_embd.weight", [self.n_embd, self.n_vocab]).get_rows(b.batch().tokens);
        let x = b.layers(self.n_layer).fold(b.embed(self.n_embd, embeddings), |x, il| self.layer(b, il, x));
        // Only the rows with an output go on.
        let x = b.wanted_rows(x);
        b.head(x, |x| b.rms_norm(x, "output_norm", 1e-5), |x| b.linear(x, "output", self.n_vocab))
    }
}

/// A file of the architecture with random weights.
fn file() -> Result<Vec<u8>, Box<dyn Error>> {
    let (n_vocab, n_embd, n_layer) = (64, 32, 2);
    let mut file = GgufWriter::new();
    file.set("general.architecture", "attention-only")?;
    for (key, value) in [
        ("vocab_size", n_vocab),
        ("context_length", 128),
        ("embedding_length", n_embd),
        ("block_count", n_layer),
        ("attention.head_count", 2),
    ] {
        file.set(&format!("attention-only.{key}"), value as u32)?;
    }
    let mut seed = 1u32;
    let mut add = |name: &str, shape: &[usize]| -> Result<(), Box<dyn Error>> {
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| noise()).collect();
        file.tensor(
            name,
            DType::F32,
            Shape::new(shape).ok_or("no shape")?,
            bytemuck::cast_slice(&values).to_vec(),
        )?;
        Ok(())
    };
    add("token_embd.weight", &[n_embd, n_vocab])?;
    for il in 0..n_layer {
        add(&format!("blk.{il}.attn_norm.weight"), &[n_embd])?;
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            add(&format!("blk.{il}.{part}.weight"), &[n_embd, n_embd])?;
        }
    }
    add("output_norm.weight", &[n_embd])?;
    add("output.weight", &[n_embd, n_vocab])?;
    let mut bytes = Vec::new();
    file.write(&mut bytes)?;
    Ok(bytes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let row = ArchitectureRow { name: "attention-only", models: "this example", read: AttentionOnly::read };
    let model = Model::from_gguf_with(Gguf::from_bytes(file()?)?, &Architectures::built_in().with(row))?;
    let options = SessionOptions { n_ctx: 128, ..SessionOptions::default() };
    let mut session = Session::new(&model, &options)?;
    let sequence = session.open()?;
    let outputs = session.step(&[Rows::of(sequence, &[1, 2, 3]).want(Output::Logits)])?;
    let RowOutput::Logits(logits) = outputs.last(0) else { return Err("no logits".into()) };
    assert!(logits.len() == 64 && logits.iter().all(|logit| logit.is_finite()));
    println!("{}: {} logits, the first is {}", model.architecture_name(), logits.len(), logits[0]);
    Ok(())
}
